"""From the folders of molecular dynamics to the lines of candidates: what every program of a query begins with."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from al_driver.errors import AlError, StateMismatch
from al_driver.explorers.base import Explorer
from al_driver.layout import QUERY_JOB_FILE
from al_driver.query.audit import Course
from al_driver.query.job import QueryJob
from al_driver.query.report import FramesFile
from al_driver.query.selection import Census
from al_driver.query.shortlist import Stretches
from al_driver.query.window import read_scored
from al_driver.schema.plugins import find_plugins, plugin_name
from al_driver.seeds import make_rng

EXIT_CODE = 3


def run_program(work: Callable[[Path], None], arguments: Sequence[str]) -> int:
    """Do the work of a program in the folder that its one argument names; return the exit code.

    An error that is foreseen is told in one to three lines.
    """
    try:
        if len(arguments) != 1:
            raise AlError(f"found {len(arguments)} arguments; expected one, the folder that holds {QUERY_JOB_FILE}.")
        work(Path(arguments[0]))
    except AlError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_CODE
    return 0


def read_job(path: Path) -> QueryJob:
    """Read the job, its tasks in the order of their names.

    Raises
    ------
    StateMismatch
        If the file is missing or damaged.
    """
    try:
        job = QueryJob.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StateMismatch(f"{path} is missing; `al run` writes it.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StateMismatch(f"{path}: {where}: {first['msg']}\n  `al run` writes this file: redo the query.") from error
    return job.model_copy(update={"tasks": tuple(sorted(job.tasks, key=lambda task: task.name))})


def find_explorer(name: str) -> type[Explorer]:
    """Return the class of the explorer that wrote the trajectories.

    Raises
    ------
    StateMismatch
        If it is not installed.
    """
    kinds = find_plugins(Explorer, "al_driver.explorers", "explorer")  # type: ignore[type-abstract]  # a base class
    for kind in kinds:
        if plugin_name(kind, "explorer") == name:
            return kind
    raise StateMismatch(f"no explorer is called {name!r}.\n  Install the package it came from.")


def take_census(
    directory: Path, job: QueryJob, explorer: type[Explorer], frames_file: FramesFile | None = None
) -> dict[str, Census]:
    """Read every trajectory; return what was seen of each structure, by name.

    Parameters
    ----------
    directory
        Where the job's paths start.
    frames_file
        Where frames are listed; None if they need not be.

    Raises
    ------
    AlError
        If a file of the molecular dynamics is missing or damaged.
    """
    census = {name: _make_census(job, name) for name in job.structures}
    for index, task in enumerate(job.tasks):
        _read_task(directory, job, explorer, index, census[task.structure], frames_file)
    return census


def _make_census(job: QueryJob, structure: str) -> Census:
    candidates = Stretches(job.shortlist_length(structure)) if job.compares else None
    return Census(job.cap(structure), job.n_audits, candidates)


def _read_task(
    directory: Path, job: QueryJob, explorer: type[Explorer], index: int, seen: Census, frames_file: FramesFile | None
) -> None:
    """Count, list and put in line the frames of one trajectory."""
    task = job.tasks[index]
    folder = directory / task.path
    factor = job.calibration.factor(task.structure, task.temperature) if job.calibration else None
    window, course = job.window(factor), Course()
    rng = None
    if job.query.choose == "random" and (factor or not job.calibration):  # no bound yet: the highest scores
        rng = make_rng(job.seed, job.iteration, "query", task.structure, task.name)
    steps = np.unique(np.array(explorer.frame_steps(folder), dtype=np.int64))
    deviations = folder / explorer.deviation_name
    halted_at = explorer.halted_at(folder)
    try:
        for scored in read_scored(deviations, window, steps=steps, halted_at=halted_at, factor=task.score_factor):
            marks = np.zeros(len(scored.rows), dtype=np.int64)
            if frames_file is not None:
                marks = frames_file.add(task, scored, window.column)
            seen.add(scored, index, marks, rng)
            if job.n_audits:
                course.add(scored, marks)
            if job.calibration and factor:
                seen.count_bounds(scored, job.calibration.threshold(factor), factor.largest)
    except FileNotFoundError as error:
        message = f"{error.filename} is missing.\n  Redo the molecular dynamics of this folder."
        raise StateMismatch(message) from error
    stretches = course.stretches(index, make_rng(job.seed, job.iteration, "audit", task.structure, task.name))
    seen.audits.add(stretches)
    seen.n_stretches += len(stretches)
