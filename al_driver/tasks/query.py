"""Score the frames of an iteration and choose which are labelled: ``python -m al_driver.tasks.query FOLDER``.

It reads ``query.json`` in the folder and leaves ``frames.csv``, ``selected.extxyz`` and, last, ``summary.json``. An
error it foresees is told in one to three lines, with exit code 3.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from ase import Atoms

from al_driver.data.dataset import find_systems, read_system, stored_key
from al_driver.data.gate import too_close
from al_driver.errors import StateMismatch
from al_driver.explorers.base import Explorer
from al_driver.files import write_json
from al_driver.layout import FRAMES_FILE, QUERY_JOB_FILE, SUMMARY_FILE
from al_driver.query.diversity import DiverseOrders
from al_driver.query.features import Features
from al_driver.query.job import QueryJob
from al_driver.query.lines import Orders
from al_driver.query.lookahead import LookaheadOrders
from al_driver.query.reading import find_explorer, read_job, run_program, take_census
from al_driver.query.report import FramesFile, make_summary, write_selected
from al_driver.query.selection import Census, Choice, Chooser, choose_frames
from al_driver.query.window import CANDIDATE


def run_query(directory: Path) -> None:
    """Do what ``query.json`` in a folder asks for.

    Raises
    ------
    AlError
        If the job or a file of the molecular dynamics is damaged, or labelled data is missing.
    """
    job = read_job(directory / QUERY_JOB_FILE)
    explorer = find_explorer(job.explorer)
    with FramesFile(directory / FRAMES_FILE) as frames_file:
        census = take_census(directory, job, explorer, frames_file)
        choice = _choose(directory, job, explorer, census)
        frames_file.mark(choice.frames)
    write_selected(directory, job, choice)
    write_json(directory / SUMMARY_FILE, make_summary(job, census, choice))


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
    return choose_frames(census, budget=job.budget, chooser=chooser, orders=_make_orders(directory, job, census))


def _make_orders(directory: Path, job: QueryJob, census: dict[str, Census]) -> Orders | None:
    """Return how candidates are picked where they are compared; None where the first in line are taken."""
    if not job.compares or not any(seen.counts[CANDIDATE] for seen in census.values()):
        return None
    if job.features is None:
        raise StateMismatch(f"{directory / QUERY_JOB_FILE} names no features; `al run` describes candidates first.")
    features = Features(directory / job.features)
    if job.query.choose == "lookahead":
        return LookaheadOrders(features)
    return DiverseOrders(features, job.query.score_power)


if __name__ == "__main__":
    sys.exit(run_program(run_query, sys.argv[1:]))
