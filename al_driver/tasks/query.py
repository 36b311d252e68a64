"""Score the frames of an iteration and choose which are labelled: ``python -m al_driver.tasks.query FOLDER``.

It reads ``query.json`` in the folder and leaves ``frames.csv``, ``selected.extxyz`` and, last, ``summary.json``. An
error it foresees is told in one to three lines, with exit code 3.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from pydantic import ValidationError

from al_driver.data.dataset import find_systems, read_system, stored_key
from al_driver.data.gate import too_close
from al_driver.errors import AlError, StateMismatch
from al_driver.explorers.base import Explorer
from al_driver.files import write_json
from al_driver.layout import FRAMES_FILE, QUERY_JOB_FILE, SUMMARY_FILE
from al_driver.query.job import QueryJob
from al_driver.query.report import FramesFile, make_summary, write_selected
from al_driver.query.selection import Census, Choice, Chooser, choose_frames
from al_driver.query.window import Window, read_scored
from al_driver.schema.plugins import find_plugins, plugin_name
from al_driver.seeds import make_rng

EXIT_CODE = 3


def run_query(directory: Path) -> None:
    """Do what ``query.json`` in a folder asks for.

    Raises
    ------
    AlError
        If the job or a file of the molecular dynamics is damaged, or labelled data is missing.
    """
    job = _read_job(directory / QUERY_JOB_FILE)
    explorer = _find_explorer(job.explorer)
    census = {name: Census(job.cap(name)) for name in job.structures}
    with FramesFile(directory / FRAMES_FILE) as frames_file:
        for index, task in enumerate(job.tasks):
            _read_task(directory, job, explorer, index, census[task.structure], frames_file)
        choice = _choose(directory, job, explorer, census)
        frames_file.mark(choice.frames)
    write_selected(directory, job, choice)
    write_json(directory / SUMMARY_FILE, make_summary(job, census, choice))


def _read_job(path: Path) -> QueryJob:
    """Read the job, its tasks in the order of their names."""
    try:
        job = QueryJob.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StateMismatch(f"{path} is missing; `al run` writes it.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StateMismatch(f"{path}: {where}: {first['msg']}\n  `al run` writes this file: redo the query.") from error
    return job.model_copy(update={"tasks": tuple(sorted(job.tasks, key=lambda task: task.name))})


def _find_explorer(name: str) -> type[Explorer]:
    kinds = find_plugins(Explorer, "al_driver.explorers", "explorer")  # type: ignore[type-abstract]  # a base class
    for kind in kinds:
        if plugin_name(kind, "explorer") == name:
            return kind
    raise StateMismatch(f"no explorer is called {name!r}.\n  Install the package it came from.")


def _read_task(
    directory: Path, job: QueryJob, explorer: type[Explorer], index: int, seen: Census, frames_file: FramesFile
) -> None:
    """Count, list and put in line the frames of one trajectory."""
    task = job.tasks[index]
    folder = directory / task.path
    window = Window(job.query.metric, job.query.lower, job.query.upper, job.guard.max_force, job.stop_after)
    rng = None
    if job.query.choose == "random":
        rng = make_rng(job.seed, job.iteration, "query", task.structure, task.name)
    steps = np.unique(np.array(explorer.frame_steps(folder), dtype=np.int64))
    deviations = folder / explorer.deviation_name
    try:
        for scored in read_scored(deviations, window, steps=steps, halted_at=explorer.halted_at(folder)):
            marks = frames_file.add(task, scored, window.column)
            seen.add(scored, index, marks, rng)
    except FileNotFoundError as error:
        message = f"{error.filename} is missing.\n  Redo the molecular dynamics of this folder."
        raise StateMismatch(message) from error


def _choose(directory: Path, job: QueryJob, explorer: type[Explorer], census: dict[str, Census]) -> Choice:
    def read_frames(task: int, steps: set[int]) -> Iterator[tuple[int, Atoms]]:
        return explorer.read_frames(directory / job.tasks[task].path, steps, job.type_map)

    def is_too_close(atoms: Atoms) -> bool:
        return too_close(atoms, job.guard.min_distance) is not None

    labelled = {
        stored_key(atoms, job.type_map)
        for folder in job.labelled
        for system in find_systems(directory / folder)
        for atoms in read_system(system)
    }
    chooser = Chooser(read_frames, is_too_close, job.type_map, labelled)
    return choose_frames(census, budget=job.budget, chooser=chooser)


def main(arguments: list[str]) -> int:
    """Run a query; return the exit code."""
    try:
        if len(arguments) != 1:
            raise AlError(f"found {len(arguments)} arguments; expected one, the folder that holds {QUERY_JOB_FILE}.")
        run_query(Path(arguments[0]))
    except AlError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_CODE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
