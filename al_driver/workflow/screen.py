"""``al screen``: candidates → predictions → filters → ranking; what comes first goes on.

Each is a step with a folder of its own, so that the same command goes on after an interruption, and a change of what
is wanted does not make candidates, or predict, again.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from al_driver.data.frames import read_frames, write_frames
from al_driver.data.sources import find_paths
from al_driver.errors import EngineError
from al_driver.files import hash_path, link, read_json, write_atomic, write_json
from al_driver.jobs.task import Task
from al_driver.layout import (
    FEATURES_FILE,
    NOTES_FILE,
    PREDICTIONS_FILE,
    RANKED_FILE,
    SCREEN_STAGES,
    SELECTED_FILE,
    STRUCTURES_DIR,
    SURROGATE_JOB_FILE,
    WorkFolder,
)
from al_driver.schema.base import Params, identity
from al_driver.schema.screen import ScreenParams
from al_driver.screen.candidates import Candidate, make_candidates
from al_driver.screen.equivalent import drop_equivalent
from al_driver.screen.filters import describe
from al_driver.screen.job import PredictJob
from al_driver.screen.properties import find_model
from al_driver.screen.ranking import Predictions, add_columns, check_properties, rank, write_table
from al_driver.words import many
from al_driver.workflow.aside import set_aside
from al_driver.workflow.child import DIAGNOSIS_FILE
from al_driver.workflow.context import Context
from al_driver.workflow.init_bulk import write_structures
from al_driver.workflow.plotter import Plotter
from al_driver.workflow.step import Record, Step
from al_driver.workflow.surrogates import PROGRAM
from al_driver.workflow.unrelaxed import run_unrelaxed

log = logging.getLogger(__name__)
CANDIDATES_FILE = "candidates.extxyz"
RULES = ("filters", "rank", "select", "per_composition", "intercalation")
"""Keys of the input that the ranking follows from."""


def run_screen(context: Context, params: ScreenParams) -> Path:
    """Run every step; return the folder of the structures that go on.

    Raises
    ------
    ConfigError
        If no candidate passes the filters, or a key names a property that no model predicts.
    StateMismatch
        If the folder was made from another input.
    """
    with Plotter(context.folder.root) as plotter:
        made = _make(context, params)
        predicted = _predict(context, params, made)
        _rank(context, params, made, predicted)
        plotter.finish()
    return context.folder.root / SCREEN_STAGES[-1] / STRUCTURES_DIR


def set_aside_screen(folder: WorkFolder, stage: str) -> list[Path]:
    """Rename a stage and all later ones to ``.bak.N``, the last first; return the names."""
    later = [folder.root / name for name in reversed(SCREEN_STAGES[SCREEN_STAGES.index(stage) :])]
    return [set_aside(path) for path in later if path.exists()]


def candidate_inputs(params: ScreenParams) -> dict[str, Any]:
    """Return what of the input the candidates follow from."""
    entries = [
        {key: value for key, value in identity(entry).items() if key != "path"}
        | {"path": [hash_path(path) for path in find_paths(entry.path)]}
        for entry in params.candidates
    ]
    return {"seed": params.seed, "candidates": entries}


def _make(context: Context, params: ScreenParams) -> Step:
    """Write the candidates of every entry, none equivalent to another."""
    step = Step("candidates", context.folder.root / "candidates", candidate_inputs(params), ())

    def work() -> dict[str, Any]:
        found, lines = list[Candidate](), list[str]()
        for entry in params.candidates:
            candidates, counts = make_candidates(entry, params.seed)
            found += candidates
            lines.append(f"{entry.called}: {counts.describe()}")
        kept, same = drop_equivalent(found)
        write_frames(step.folder / CANDIDATES_FILE, [_as_frame(candidate) for candidate in kept])
        return {"candidates": len(kept), "equivalent": same, "lines": lines}

    result = context.run_step(step, work, [CANDIDATES_FILE]).result
    for line in result["lines"]:
        log.info("candidates: %s", line)
    if result["equivalent"]:
        log.info("candidates: %s left out: the same crystal as another", many(len(result["equivalent"]), "one"))
    return step


def _as_frame(candidate: Candidate) -> Atoms:
    frame = candidate.atoms.copy()
    frame.info = {"id": candidate.id, **candidate.provenance}
    return frame


def _predict(context: Context, params: ScreenParams, made: Step) -> Step:
    """Write what each model says of every candidate."""
    record = Record.read(made.folder)
    assert record is not None  # noqa: S101  (it has just been made)
    inputs = {"models": [_identify(model) for model in params.models]}
    step = Step("predict", context.folder.root / "predict", inputs, (record.fingerprint,))
    task_folder = step.folder / "task"

    def work() -> dict[str, Any]:
        source = Path(os.path.relpath(made.folder / CANDIDATES_FILE, task_folder))
        job = PredictJob(
            models=params.surrogates, baselines=params.baselines, inputs=(source,), base=Path(), features=True
        )
        task = Task(
            folder=task_folder,
            argv=(sys.executable, "-I", "-m", PROGRAM, "."),
            write_inputs=lambda directory: write_json(directory / SURROGATE_JOB_FILE, job.model_dump(mode="json")),
            verify=lambda directory: verify_predictions(directory, record.result["candidates"]),
        )
        what = f"{many(record.result['candidates'], 'candidate')} by {many(len(params.models), 'model')}"
        context.run_tasks(step, "screen", [task], stop_on_failure=True, what=what)
        link(task_folder / FEATURES_FILE, step.folder / FEATURES_FILE)
        units = read_json(task_folder / NOTES_FILE)["units"]
        columns = run_unrelaxed(context, step, params.unrelaxed, read_frames(made.folder / CANDIDATES_FILE))
        table = (task_folder / PREDICTIONS_FILE).read_text(encoding="utf-8")
        write_atomic(step.folder / PREDICTIONS_FILE, add_columns(table, columns))
        return {"units": units | dict.fromkeys(columns, "eV/atom")}

    units = context.run_step(step, work, [PREDICTIONS_FILE, FEATURES_FILE]).result["units"]
    log.info("predict: %s", ", ".join(f"{name} ({unit})" if unit else name for name, unit in units.items()))
    return step


def _identify(model: str | Params) -> Any:
    """Return what decides a model's numbers."""
    return {"sha256": hash_path(find_model(model))} if isinstance(model, str) else identity(model)


def verify_predictions(directory: Path, n_candidates: int) -> None:
    """Accept predictions of every candidate.

    Raises
    ------
    EngineError
        With what the program found wrong, or what is missing.
    """
    if (directory / DIAGNOSIS_FILE).exists():
        raise EngineError("engine_error", directory, str(read_json(directory / DIAGNOSIS_FILE)["detail"]))
    for name in (PREDICTIONS_FILE, FEATURES_FILE, NOTES_FILE):
        if not (directory / name).is_file():
            raise EngineError("no_output", directory, f"the program left no {name}")
    n_rows = (directory / PREDICTIONS_FILE).read_text(encoding="utf-8").count("\n") - 1
    if n_rows != n_candidates:
        raise EngineError("engine_error", directory, f"{PREDICTIONS_FILE} has {n_rows} rows, not {n_candidates}")


def _rank(context: Context, params: ScreenParams, made: Step, predicted: Step) -> None:
    """Write the ranked table, and the structures that go on; a ranking by other rules is set aside, and kept."""
    record = Record.read(predicted.folder)
    assert record is not None  # noqa: S101  (it has just been made)
    rules = {
        name: identity(getattr(params, name))
        for name in ("filters", "rank", "select", "per_composition", "intercalation")
    }
    step = Step("rank", context.folder.root / "rank", rules, (record.fingerprint,))
    before = Record.read(step.folder)
    if before is not None and before.inputs != rules:
        log.info("rank: by other rules now; the old ranking is %s", set_aside(step.folder).name)

    def work() -> dict[str, Any]:
        frames = read_frames(made.folder / CANDIDATES_FILE)
        with np.load(predicted.folder / FEATURES_FILE) as arrays:
            features = arrays["features"]
        predictions = Predictions.parse((predicted.folder / PREDICTIONS_FILE).read_text(encoding="utf-8"), features)
        check_properties(params.filters, params.rank, list(predictions.values))
        ranking = rank(
            frames, predictions, params.filters, params.rank, params.select, per_composition=params.per_composition
        )
        write_atomic(step.folder / RANKED_FILE, write_table(frames, predictions, ranking))
        chosen = [_with_prediction(frames[index], predictions, index) for index in ranking.selected]
        write_frames(step.folder / SELECTED_FILE, chosen)
        write_structures(step.folder / STRUCTURES_DIR, chosen)
        counts = {"ranked": len(ranking.order), "selected": len(chosen)}
        unit = record.result["units"].get(params.rank.property, "")
        counts |= {"intercalation": rules["intercalation"]}
        return counts | {"property": params.rank.property, "unit": unit, "lines": describe(ranking.reasons)}

    result = context.run_step(step, work, [RANKED_FILE, SELECTED_FILE, STRUCTURES_DIR]).result
    log.info("rank: %s", result["lines"])
    log.info("rank: %s selected, in %s", many(result["selected"], "candidate"), step.folder / STRUCTURES_DIR)


def _with_prediction(frame: Atoms, predictions: Predictions, index: int) -> Atoms:
    predicted = {f"predicted_{name}": float(values[index]) for name, values in predictions.values.items()}
    chosen = frame.copy()
    chosen.info = frame.info | predicted
    return chosen
