"""What the driver costs beyond what it drives: 64 tasks that do nothing, and one small iteration of the loop.

Run ``python benchmarks/overhead.py``. Times are wall times in seconds. Those of the 64 tasks are less one bare start of
the interpreter; the peers' figures of the same kind on two cores: dpdispatcher 2.7, submitit with one job a task 26.

The iteration is silicon with pw.x as the reference: 4 models × 200 steps, one trajectory of 100 steps, 3 labels.
It begins when the train step does and ends with the marker of the label step; ``outside`` is the part of it in which
no task's process ran. Two things are told apart: the start of ``al run``, once a run, and the query, which is a task
here and not with the peer. dpgen 0.14 needs 183 for the same, its start included, 59 of them outside. The iteration
needs pw.x, its silicon potential and the extra `local`.
"""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import submitit
from ase.build import bulk

from al_driver.jobs.batch import run_batch
from al_driver.jobs.task import Task
from al_driver.layout import task_name
from al_driver.schema.resource import Profile

N_TASKS = 64
N_SUBMITIT = 8
WORKERS = 2

N_ITERATIONS = 3
DPGEN_TOTAL, DPGEN_OUTSIDE = 183, 59
AL = [sys.executable, "-m", "al_driver"]
POTENTIAL = Path("/usr/share/espresso/pseudo/Si.pz-vbc.UPF")
SCF = """&system
  ecutwfc = 16, occupations = 'smearing', smearing = 'gaussian', degauss = 0.005
/
&electrons
  conv_thr = 1e-6
/
"""
LABEL = {"engine": "qe", "input": "scf.in", "pseudopotentials": {"Si": str(POTENTIAL)}, "kpoints": [1, 1, 1]}
INIT = {
    "seed": 1,
    "type_map": ["Si"],
    "label": LABEL,
    "structures": [
        {
            "path": "POSCAR",
            "scale": [round(0.98 + 0.004 * i, 3) for i in range(10)],
            "perturb": {"copies": 1, "atom_distance": 0.15},
        }
    ],
    "valid_fraction": 0,
}
RUN = {
    "seed": 1,
    "type_map": ["Si"],
    "init_data": [{"init_bulk": "init.json"}],
    "train": {
        "trainer": "deepmd",
        "models": 4,
        "input": {
            "model": {
                "descriptor": {
                    "type": "se_e2_a", "sel": [60], "rcut_smth": 2.0, "rcut": 5.0, "neuron": [8, 16], "axis_neuron": 4,
                },
                "fitting_net": {"neuron": [16, 16]},
            },
            "learning_rate": {"type": "exp", "start_lr": 0.005, "stop_lr": 1e-5, "decay_steps": 20},
            "loss": {"start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1},
            "training": {"training_data": {"batch_size": 1}, "numb_steps": 200, "disp_freq": 100, "save_freq": 200},
        },
    },
    "explore": {
        "explorer": "lammps",
        "structures": ["POSCAR"],
        "iterations": [[{"structures": 0, "ensemble": "nvt", "temperatures": 300, "n_steps": 100, "dump_every": 10}]],
    },
    "query": {"lower": 0.02, "upper": 50.0, "max_select": 3},
    "label": LABEL,
}  # fmt: skip
RESOURCE = {"default": {"workers": WORKERS, "env": {"OMP_NUM_THREADS": "1"}}}


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


def write_inputs(folder: Path) -> None:
    """Write what a user would write."""
    bulk("Si", cubic=True, a=5.43).write(folder / "POSCAR", format="vasp")
    (folder / "scf.in").write_text(SCF)
    for name, content in (("init", INIT), ("param", RUN), ("resource", RESOURCE)):
        (folder / f"{name}.json").write_text(json.dumps(content))


def time_iteration(folder: Path) -> dict[str, float]:
    """Run one iteration from scratch; return seconds of its parts."""
    shutil.rmtree(folder / "work", ignore_errors=True)
    iteration = folder / "work/iter.0000"
    marker = iteration / "label/step.json"
    called = time.time()
    driver = subprocess.Popen([*AL, "run", "param.json", "resource.json"], cwd=folder, stdout=subprocess.DEVNULL)
    while driver.poll() is None and not marker.exists():
        time.sleep(0.05)
    driver.send_signal(signal.SIGINT)  # the final training is no part of an iteration
    driver.wait()
    begun, ended = (file.stat().st_mtime for file in (iteration / "train/begun.json", marker))
    tasks = list(read_tasks(iteration))
    times = {"start": begun - called, "total": ended - begun}
    times["outside"] = times["total"] - seconds_covered(span for _, span in tasks)
    steps = ("train", "explore", "query", "label")
    return times | {step: seconds_covered(span for name, span in tasks if name == step) for step in steps}


def read_tasks(iteration: Path) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield step, and begin and end in seconds since 1970, of every process that an iteration's journals tell of."""
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    for journal in sorted(iteration.glob("*/jobs/*/journal.jsonl")):
        begun: dict[str, float] = {}
        for event in map(json.loads, journal.read_text().splitlines()):
            if event["event"] == "begin":  # `started` is in clock ticks since the boot
                begun[event["task"]] = boot + int(event["started"].split("@")[0]) / os.sysconf("SC_CLK_TCK")
            elif event["event"] == "end":
                first = begun[event["task"]]
                yield journal.parts[-4], (first, first + event["seconds"])


def seconds_covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals."""
    covered, reached = 0.0, 0.0
    for first, last in sorted(intervals):
        covered += max(last - max(first, reached), 0.0)
        reached = max(reached, last)
    return covered


def report_iterations(folder: Path) -> None:
    """Time a few iterations and print the median of each figure."""
    write_inputs(folder)
    subprocess.run([*AL, "init_bulk", "init.json", "resource.json"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    rows = []
    for _ in range(N_ITERATIONS):
        rows.append(time_iteration(folder))
        print("  ".join(f"{key} {value:.2f}" for key, value in rows[-1].items()), f" load {os.getloadavg()[0]:.1f}")
    middle = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    print(f"one iteration               {middle['total']:8.1f} s  (dpgen {DPGEN_TOTAL})")
    print(f"  outside any task          {middle['outside']:8.2f} s  (dpgen {DPGEN_OUTSIDE})")
    print(f"  in the query              {middle['query']:8.2f} s")
    print(f"start of `al run`           {middle['start']:8.2f} s")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        start = time_interpreter()
        ours = sorted(time_batch(Path(folder) / f"batch{i}") - start for i in range(5))
        peer = time_submitit(Path(folder) / "submitit") - start
    print(f"bare interpreter            {start:8.3f} s")
    print(f"{N_TASKS} tasks, one job           {ours[2]:8.3f} s  (of 5: {ours[0]:.3f} ... {ours[-1]:.3f})")
    print(f"{N_TASKS} tasks, a submitit job each {peer:7.3f} s  ({N_SUBMITIT} measured, scaled)")
    print(f"ratio                       {peer / ours[2]:8.1f}")
    if shutil.which("pw.x") is None or not POTENTIAL.exists():
        print(f"one iteration: not measured, since it needs pw.x and {POTENTIAL}")
        return
    with tempfile.TemporaryDirectory() as folder:
        report_iterations(Path(folder))


if __name__ == "__main__":
    main()
