"""What a batch of very many tasks costs: calls of the scheduler, memory and CPU time of the driver.

- ``--real`` (needs root and the programs that `tests/slurm_cluster.py` names): no-op tasks on a private cluster of
  three nodes; each is a process of its own.
- otherwise: programs called sbatch, squeue, sacct and scancel that answer as SLURM does, and write what the runners of
  jobs would; no task is a process, so that a hundred thousand end in minutes.

Prints a line of figures, and the ratio of scheduler calls to the one call a task, and one query a job and poll, that a
driver without arrays needs. Checked: every task is done, at most 20 calls of sbatch, at most one query a poll, less
than 300 MB, and no more than 20 MB of growth over the second half.

Run: ``python benchmarks/slurm_scale.py`` and ``python benchmarks/slurm_scale.py --real --tasks 10000``.
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
CALLS = "calls"
PROGRAMS = ("sbatch", "squeue", "sacct", "scancel")


def drive(folder: Path, n_tasks: int) -> None:
    """Run the batch, and print what it took as JSON."""
    from al_driver.errors import EngineError
    from al_driver.jobs.batch import run_batch
    from al_driver.jobs.task import Task
    from al_driver.schema.resource import Profile

    def verify(attempt: Path) -> None:
        if not (attempt / "output").exists():
            raise EngineError("no_output", attempt, "nothing")

    polls, memory, page = 0, [], os.sysconf("SC_PAGE_SIZE") / 1e6

    def count() -> None:
        nonlocal polls
        polls += 1

    def watch() -> None:
        while True:
            memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * page)
            time.sleep(0.5)

    threading.Thread(target=watch, daemon=True).start()
    begun = time.monotonic()
    tasks = [Task(folder / f"task.{i:06d}", ("true",), lambda _: None, verify) for i in range(n_tasks)]
    result = run_batch(tasks, Profile(executor="slurm", parallel_tasks=4), jobs_dir=folder / "jobs", check_held=count)
    used = resource.getrusage(resource.RUSAGE_SELF)
    threads, files = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    print(
        json.dumps(
            {
                "done": len(result.done), "polls": polls, "seconds": time.monotonic() - begun,
                "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss / 1e3, "threads": threads, "files": files,
                "growth": max(memory[len(memory) // 2 :]) - memory[len(memory) // 2],
            }
        )
    )  # fmt: skip


def answer(name: str, folder: Path, words: list[str]) -> None:
    """Be one of the scheduler's programs. Its jobs are the lines of ``FOLDER/jobs``: id, number of elements, folder."""
    book = folder / "jobs"
    if name == "sbatch":
        script, chdir = Path(words[-1]), next(word for word in words if word.startswith("--chdir="))
        n_elements = int(next(word for word in words if word.startswith("--array=")).rpartition("-")[2]) + 1
        job_id = 100 + len(book.read_text().splitlines()) if book.exists() else 100
        with book.open("a") as stream:
            stream.write(f"{job_id} {n_elements} {chdir.removeprefix('--chdir=')}\n")
        assert script.read_text().startswith("#!/bin/bash\n")
        subprocess.Popen(
            [sys.executable, __file__, "--play", str(folder / str(job_id)), chdir.removeprefix("--chdir=")],
            start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        print(job_id)
    elif name in ("squeue", "sacct"):
        for line in book.read_text().splitlines() if book.exists() else ():
            job_id, n_elements, _ = line.split(maxsplit=2)
            ended = len((folder / job_id).read_text().splitlines()) if (folder / job_id).exists() else 0
            for index in range(int(n_elements)):
                state = "COMPLETED" if index < ended else "RUNNING" if index < ended + 4 else "PENDING"
                print(f"{job_id}_{index}|{state}")


def play(ended: Path, array: Path) -> None:
    """Leave what the runners of an array's jobs would, one job after another."""
    from al_driver.jobs.journal import Journal, claim_job
    from al_driver.jobs.processes import this_process

    time.sleep(2)
    for name in json.loads((array / "array.json").read_text())["groups"]:
        folder = array.parent / name
        assert claim_job(folder, {"by": "runner", **this_process(), "host": "node"})
        journal = Journal(folder)
        for task in json.loads((folder / "group.json").read_text())["tasks"]:
            which = {"task": task["task"], "attempt": task["attempt"]}
            journal.write("begin", **which, pid=1, started="1@0")
            (Path(task["folder"]) / task["output"]).touch()
            journal.write("end", **which, code=0, seconds=0.0)
        journal.write("finished")
        with ended.open("a") as stream:
            stream.write("x\n")


def write_programs(folder: Path, *, real: bool) -> None:
    """Write the scheduler's programs so that each call leaves its name behind."""
    for name in PROGRAMS:
        rest = f'exec /usr/bin/{name} "$@"' if real else f'exec {sys.executable} {__file__} --answer {name} "$@"'
        (folder / name).write_text(f"#!/bin/sh\necho {name} >> {folder}/{CALLS}\n{rest}\n")
        (folder / name).chmod(0o755)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--real", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        (folder / "bin").mkdir()
        write_programs(folder / "bin", real=options.real)
        environment = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "AL_FAKE": str(folder / "bin")}
        if options.real:
            sys.path.append(str(ROOT / "tests"))
            from slurm_cluster import run_cluster

            environment["SLURM_CONF"] = stack.enter_context(run_cluster(3, accounting=True)).env["SLURM_CONF"]
        (folder / "work").mkdir()
        argv = [sys.executable, __file__, "--drive", str(folder / "work"), str(options.tasks)]
        told = json.loads(subprocess.run(argv, env=environment, check=True, stdout=subprocess.PIPE).stdout)
        calls = Counter((folder / "bin" / CALLS).read_text().split())
    n_queries = calls["squeue"] + calls["sacct"]
    print(
        f"{options.tasks} tasks in {told['seconds']:.0f} s: {calls['sbatch']} sbatch, {n_queries} queries in "
        f"{told['polls']} polls; driver: {told['cpu']:.1f} s of CPU, {told['peak']:.0f} MB at most "
        f"(+{told['growth']:.0f} MB in the second half), {told['threads']} threads, {told['files']} open files"
    )
    print(f"ratio: {options.tasks * (1 + told['polls']) / (calls['sbatch'] + n_queries):.0f} times fewer calls")
    assert told["done"] == options.tasks
    assert calls["sbatch"] <= 20 and n_queries <= told["polls"]
    assert told["peak"] < 300 and told["growth"] < 20


if __name__ == "__main__":
    if sys.argv[1:2] == ["--drive"]:
        drive(Path(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1:2] == ["--answer"]:
        answer(sys.argv[2], Path(os.environ["AL_FAKE"]), sys.argv[3:])
    elif sys.argv[1:2] == ["--play"]:
        play(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
