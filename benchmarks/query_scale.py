"""The query program on trajectories of up to a million frames: time, memory, and what of it is left to the driver.

The program runs as a task, on a node. The driver looks at the end of each trajectory only; beside it stands what
reading the whole would take. Frames are of two atoms, scores random. Run: ``python benchmarks/query_scale.py``.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ase import Atoms

from al_driver.data.lammps import write_data
from al_driver.data.lammps_dump import dump_steps, last_step
from al_driver.layout import QUERY_JOB_FILE
from al_driver.query.job import QueryJob

FRAME = (
    "ITEM: TIMESTEP\n{0}\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 5.43\n0 5.43\n0 5.43\n"
    "ITEM: ATOMS id type x y z fx fy fz\n1 1 {1:.6f} {2:.6f} {3:.6f} 0 0 0\n2 1 2.7 2.7 2.7 0 0 0\n"
)


def write_trajectory(folder: Path, n_frames: int) -> None:
    folder.mkdir(parents=True)
    atoms = Atoms("Si2", [[0, 0, 0], [2.7, 2.7, 2.7]], cell=[5.43] * 3, pbc=True)
    write_data(folder / "structure.data", atoms, ["Si"])
    rng = np.random.default_rng(1)
    scores, places = rng.uniform(0.01, 0.35, n_frames), rng.uniform(0.0, 1.2, (n_frames, 3))
    with (folder / "traj.lammpstrj").open("w") as dump, (folder / "model_devi.out").open("w") as deviations:
        deviations.write("#       step         max_devi_v ...\n")
        for index, score in enumerate(scores):
            dump.write(FRAME.format(10 * index, *places[index]))
            deviations.write(f"{10 * index:12d}" + f" {score:18.6e}" * 6 + "\n")
    (folder / "output").write_text("LAMMPS (22 Jul 2025)\nTotal wall time: 0:00:01\n")


def write_job(folder: Path) -> None:
    folder.mkdir()
    md = {"path": "../explore/task.000000", "structure": "si", "temperature": [300.0, 300.0], "n_steps": 10**7}
    query = {"uncertainty": "committee", "lower": 0.1, "upper": 0.3, "max_select": 20}
    job = QueryJob.model_validate(
        {"query": query, "explorer": "lammps", "stop_after": 10**6, "type_map": ["Si"], "seed": 7, "iteration": 0,
         "structures": ["si"], "tasks": [md]}
    )  # fmt: skip
    (folder / QUERY_JOB_FILE).write_text(json.dumps(job.model_dump(mode="json")))


def run_query(folder: Path) -> tuple[float, float]:
    """Return seconds and the peak memory, MB, of the program."""
    code = (
        "import resource, sys; from al_driver.query.reading import run_program\n"
        "from al_driver.tasks.query import run_query\n"
        "code = run_program(run_query, sys.argv[1:])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3); sys.exit(code)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, float(told.stdout)


def main(largest: int) -> None:
    print("frames    task: CPU s   MB peak   driver: s   the whole read, s   ratio")
    for n_frames in (10**4, 10**5, 10**6):
        if n_frames > largest:
            break
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            write_trajectory(root / "explore/task.000000", n_frames)
            write_job(root / "query")
            seconds, memory = run_query(root / "query")
            assert json.loads((root / "query/summary.json").read_text())["frames"] == n_frames - 1
            dump = root / "explore/task.000000/traj.lammpstrj"
            begun = time.process_time()
            last = last_step(dump)
            middle = time.process_time()
            assert last == dump_steps(dump)[-1] == 10 * (n_frames - 1)
            tail, whole = middle - begun, time.process_time() - middle
        print(f"{n_frames:<9d} {seconds:11.1f} {memory:9.0f} {tail:11.4f} {whole:19.1f} {whole / max(tail, 1e-4):7.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=10**6)
    main(parser.parse_args().largest)
