"""Surrogates as tasks of a screening: one process predicts for all candidates, or fits to those that are known."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from al_driver.data.frames import read_frames
from al_driver.errors import EngineError
from al_driver.files import link, read_json, write_atomic, write_json
from al_driver.jobs.task import Task
from al_driver.layout import (
    CANDIDATES_FILE,
    EVALUATION_FILE,
    FEATURES_FILE,
    KNOWN_FILE,
    MODEL_DIR,
    NOTES_FILE,
    PREDICTIONS_FILE,
    SURROGATE_JOB_FILE,
)
from al_driver.schema.screen import ScreenParams
from al_driver.screen.candidates import Candidate
from al_driver.screen.job import FitJob, PredictJob
from al_driver.screen.ranking import Predictions, add_columns
from al_driver.words import many
from al_driver.workflow.child import DIAGNOSIS_FILE
from al_driver.workflow.context import Context
from al_driver.workflow.step import Record, Step
from al_driver.workflow.surrogates import PROGRAM
from al_driver.workflow.unrelaxed import run_unrelaxed
from al_driver.workflow.whole import check_whole

TASK_DIR = "task"
UNIT = "eV/atom"  # of what energies of calculations become
PREDICTED = (PREDICTIONS_FILE, FEATURES_FILE)


def as_frame(candidate: Candidate) -> Atoms:
    """Return a candidate as a frame that tells its id, and what it was made from."""
    frame = candidate.atoms.copy()
    frame.info = {"id": candidate.id, **candidate.provenance}
    return frame


def run_predict(context: Context, step: Step, params: ScreenParams, made: Path, n_candidates: int) -> Record:
    """Write what each model of the param file says of every candidate.

    Parameters
    ----------
    made
        The folder of the candidates.
    """
    task_folder = step.folder / TASK_DIR

    def work() -> dict[str, Any]:
        source = Path(os.path.relpath(made / CANDIDATES_FILE, task_folder))
        job = PredictJob(
            models=params.surrogates, baselines=params.baselines, inputs=(source,), base=Path(), features=True
        )
        task = _make_task(task_folder, job, lambda directory: verify_predictions(directory, n_candidates))
        what = f"{many(n_candidates, 'candidate')} by {many(len(params.models), 'model')}"
        context.run_tasks(step, "screen", [task], stop_on_failure=True, what=what)
        link(task_folder / FEATURES_FILE, step.folder / FEATURES_FILE)
        columns = run_unrelaxed(context, step, params.unrelaxed, read_frames(made / CANDIDATES_FILE))
        table = (task_folder / PREDICTIONS_FILE).read_text(encoding="utf-8")
        write_atomic(step.folder / PREDICTIONS_FILE, add_columns(table, columns))
        return {"units": read_json(task_folder / NOTES_FILE)["units"] | dict.fromkeys(columns, UNIT)}

    return context.run_step(step, work, PREDICTED)


def read_predictions(folder: Path) -> Predictions:
    """Return what `run_predict` wrote.

    Raises
    ------
    StateMismatch
        If it was cut since.
    """
    check_whole(folder)
    with np.load(folder / FEATURES_FILE) as arrays:
        features = arrays["features"]
    return Predictions.parse((folder / PREDICTIONS_FILE).read_text(encoding="utf-8"), features)


def run_fit(context: Context, step: Step, job: FitJob, made: Path, n_candidates: int) -> None:
    """Fit a surrogate to the step's ``known.extxyz``, and predict every candidate by it: the step's ``model``.

    Parameters
    ----------
    job
        But for what it reads.
    made
        The folder of the candidates.
    """
    task_folder = step.folder / TASK_DIR
    sources = (step.folder / KNOWN_FILE, made / CANDIDATES_FILE)
    known, candidates = (Path(os.path.relpath(source, task_folder)) for source in sources)
    job = job.model_copy(update={"inputs": (known,), "predict": (candidates,)})
    task = _make_task(task_folder, job, lambda directory: _verify_fit(directory, n_candidates))
    what = f"{many(job.settings.members, 'network')} to fit"
    context.run_tasks(step, "screen", [task], stop_on_failure=True, what=what)
    (step.folder / MODEL_DIR).mkdir(exist_ok=True)
    for file in sorted((task_folder / MODEL_DIR).iterdir()):
        link(file, step.folder / MODEL_DIR / file.name)
    for name in PREDICTED:
        link(task_folder / name, step.folder / name)


def _make_task(folder: Path, job: PredictJob | FitJob, verify: Callable[[Path], None]) -> Task:
    return Task(
        folder=folder,
        argv=(sys.executable, "-I", "-m", PROGRAM, "."),
        write_inputs=lambda directory: write_json(directory / SURROGATE_JOB_FILE, job.model_dump(mode="json")),
        verify=verify,
    )


def verify_predictions(directory: Path, n_candidates: int) -> None:
    """Accept predictions of every candidate.

    Raises
    ------
    EngineError
        With what the program found wrong, or what is missing.
    """
    _check_left(directory, (*PREDICTED, NOTES_FILE))
    n_rows = (directory / PREDICTIONS_FILE).read_text(encoding="utf-8").count("\n") - 1
    if n_rows != n_candidates:
        raise EngineError("engine_error", directory, f"{PREDICTIONS_FILE} has {n_rows} rows, not {n_candidates}")


def _verify_fit(directory: Path, n_candidates: int) -> None:
    _check_left(directory, (f"{MODEL_DIR}/{EVALUATION_FILE}",))
    verify_predictions(directory, n_candidates)


def _check_left(directory: Path, names: Sequence[str]) -> None:
    if (directory / DIAGNOSIS_FILE).exists():
        raise EngineError("engine_error", directory, str(read_json(directory / DIAGNOSIS_FILE)["detail"]))
    for name in names:
        if not (directory / name).is_file():
            raise EngineError("no_output", directory, f"the program left no {name}")
