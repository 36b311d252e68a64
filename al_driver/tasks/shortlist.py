"""Write the candidates that are compared with each other: ``python -m al_driver.tasks.shortlist FOLDER``.

It reads ``query.json`` in the folder and leaves ``shortlist.npz``: the frames as the models see them, for a program
that imports nothing of ours, and with the task and step by which the query finds them again. Å.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms

from al_driver.data.dataset import stored_frame
from al_driver.layout import QUERY_JOB_FILE, SHORTLIST_FILE
from al_driver.query.job import QueryJob
from al_driver.query.reading import find_explorer, read_job, run_program, take_census


def write_shortlist(directory: Path) -> None:
    """Write the candidates of every structure.

    Arrays of n frames and N atoms in all: ``task``, ``step``, ``n_atoms``, ``periodic`` of shape (n,), ``cells``
    (n, 3, 3), ``kinds`` (N,) in the order of the type map, ``positions`` (N, 3).

    Raises
    ------
    AlError
        If the job or a file of the molecular dynamics is damaged.
    """
    job = read_job(directory / QUERY_JOB_FILE)
    found = list(_read_candidates(directory, job))
    frames = [frame for *_, frame in found]
    kinds = [job.type_map.index(symbol) for frame in frames for symbol in frame.symbols]
    temporary = directory / f".{SHORTLIST_FILE}"
    np.savez(
        temporary,
        task=np.array([task for task, *_ in found], dtype=np.int64),
        step=np.array([step for _, step, _ in found], dtype=np.int64),
        n_atoms=np.array([len(frame) for frame in frames], dtype=np.int64),
        periodic=np.array([frame.pbc.all() for frame in frames], dtype=bool),
        cells=np.array([frame.cell.array for frame in frames]).reshape(-1, 3, 3),
        kinds=np.array(kinds, dtype=np.int64),
        positions=np.concatenate([np.empty((0, 3)), *(frame.positions for frame in frames)]),
    )
    temporary.replace(directory / SHORTLIST_FILE)


def _read_candidates(directory: Path, job: QueryJob) -> Iterator[tuple[int, int, Atoms]]:
    """Yield task, step and frame of each candidate whose numbers are finite."""
    explorer = find_explorer(job.explorer)
    for seen in take_census(directory, job, explorer).values():
        line = seen.candidates.ranked()
        for task in np.unique(line["task"]).tolist():
            steps = set(line["step"][line["task"] == task].tolist())
            for step, atoms in explorer.read_frames(directory / job.tasks[task].path, steps, job.type_map):
                if np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all():
                    yield task, step, stored_frame(atoms, job.type_map)


if __name__ == "__main__":
    sys.exit(run_program(write_shortlist, sys.argv[1:]))
