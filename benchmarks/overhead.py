"""What it costs to run tasks, beyond the tasks: 64 that do nothing, beside one submitit job a task.

Run ``python benchmarks/overhead.py``. Time is wall time in seconds, less one bare start of the interpreter. The peers'
figures of the same kind on two cores: dpdispatcher 2.7 s, submitit with one job a task 26 s.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import submitit

from al_driver.jobs.batch import run_batch
from al_driver.jobs.task import Task
from al_driver.layout import task_name
from al_driver.schema.resource import Profile

N_TASKS = 64
N_SUBMITIT = 8
WORKERS = 2


def nothing(_: Path) -> None:
    """Write no inputs; check no outputs."""


def time_interpreter() -> float:
    """Return the median time of a bare start of the interpreter."""
    times = []
    for _ in range(7):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def time_batch(folder: Path) -> float:
    """Return the time of a batch of tasks that do nothing."""
    tasks = [Task(folder / task_name(i), ("true",), nothing, nothing) for i in range(N_TASKS)]
    begun = time.perf_counter()
    result = run_batch(tasks, Profile(executor="local", workers=WORKERS), jobs_dir=folder / "jobs")
    seconds = time.perf_counter() - begun
    assert len(result.done) == N_TASKS
    return seconds


def time_submitit(folder: Path) -> float:
    """Return the time of one submitit job a task, two at a time, scaled to the same number of tasks."""
    executor = submitit.LocalExecutor(folder)
    begun = time.perf_counter()
    for _ in range(N_SUBMITIT // WORKERS):
        for job in [executor.submit(nothing, folder) for _ in range(WORKERS)]:
            job.result()
    return (time.perf_counter() - begun) * N_TASKS / N_SUBMITIT


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        start = time_interpreter()
        ours = sorted(time_batch(Path(folder) / f"batch{i}") - start for i in range(5))
        peer = time_submitit(Path(folder) / "submitit") - start
    print(f"bare interpreter            {start:8.3f} s")
    print(f"{N_TASKS} tasks, one job           {ours[2]:8.3f} s  (of 5: {ours[0]:.3f} ... {ours[-1]:.3f})")
    print(f"{N_TASKS} tasks, a submitit job each {peer:7.3f} s  ({N_SUBMITIT} measured, scaled)")
    print(f"ratio                       {peer / ours[2]:8.1f}")


if __name__ == "__main__":
    main()
