"""Faults injected into batches, or whole runs, on a private cluster, again and again: what was lost, or done twice.

Drivers killed, jobs cancelled, nodes that die with their processes still writing, jobs of a partition that preempts,
time limits, a controller and an accounting daemon that are away for a moment, a disk that is full. After each run it
is checked that every result is there once, that SLURM took every array once, and that no attempt was handed out twice;
of a whole run that every selected frame was labelled, in order, and that the dataset is that of an undisturbed run,
unless a task went on from a restart file or checkpoint. Needs root.

Run: ``python tests/jobs/fault_campaign.py --faults 100 --seed 1``, and ``--runs`` for whole runs.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from ase.build import bulk
from faults import SHARES, Faults
from on_cluster import Cluster, run_cluster

from al_driver.data.frames import read_frames

sys.path.append(str(Path(__file__).parents[1] / "workflow"))
from small_run import AL, INIT, RUN, call_al, merge, read_datasets

N_TASKS = 24
N_SELECTED = 8
LIMIT_SECONDS = 3600.0
MOST_FAULTS = 20
"""A run is left alone after so many, so that it ends."""
SLURM = {"executor": "slurm", "retries": 1000}


class Batch:
    """Scripts that do not listen to SLURM's SIGTERM, and take back what a full disk did not take."""

    pause = (0.5, 3.0)
    most_faults = 10**6

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.argv = [sys.executable, str(Path(__file__).with_name("batch_program.py")), str(folder)]
        folder.mkdir()
        late = "trap '' TERM; sleep 1; echo {0} >> result || rm -f result"
        self.names = [f"t{i}" for i in range(N_TASKS)]
        batch = {"scripts": {name: late.format(name) for name in self.names}, "profile": SLURM | {"group_size": 2}}
        (folder / "batch.json").write_text(json.dumps(batch))

    def check(self) -> str:
        for name in self.names:
            assert (self.folder / name / "result").read_text() == f"{name}\n", f"{name}: another attempt wrote here"
        return "batch"


class WholeRun:
    """`al run` of silicon: two models, two iterations, eight labels in each; ``undisturbed`` is one that has ended."""

    pause = (1.0, 5.0)
    most_faults = MOST_FAULTS
    argv = (*AL, "run", "param.json", "resource.json")

    def __init__(self, folder: Path, undisturbed: Path) -> None:
        self.folder, self.undisturbed = folder, undisturbed
        shutil.copytree(undisturbed, folder, ignore=shutil.ignore_patterns("work"))
        (folder / "resource.json").write_text(json.dumps({"default": SLURM | {"env": {"OMP_NUM_THREADS": "1"}}}))

    def check(self) -> str:
        work = self.folder / "work"
        for step in sorted(work.glob("iter.[0-9][0-9][0-9][0-9]")):
            rows = [(row["task"], row["step"]) for row in csv.DictReader((step / "query/frames.csv").open())]
            assert len(rows) == len(set(rows)) == 10, "each frame of the dynamics counts once"
            sent, got = read_frames(step / "query/selected.extxyz"), read_frames(step / "label/labelled.extxyz")
            assert len(sent) == len(got) == len(list(step.glob("label/task.??????"))) == N_SELECTED
            assert all(np.allclose(a.positions, b.positions, atol=1e-12) for a, b in zip(sent, got, strict=True))
        if [path for path in work.rglob("continued.json") if ".try-" not in str(path)]:
            return "run that was continued"
        assert read_datasets(work) == read_datasets(self.undisturbed / "work"), "another dataset"
        return "run with the same dataset"

    @staticmethod
    def make_undisturbed(folder: Path) -> None:
        """Make first data, and a run on this machine."""
        folder.mkdir()
        bulk("Si", cubic=True, a=5.431).write(folder / "POSCAR", format="vasp")
        (folder / "init.json").write_text(json.dumps(INIT))
        (folder / "param.json").write_text(json.dumps(merge(RUN, {"query": {"max_select": N_SELECTED}})))
        (folder / "resource.json").write_text(json.dumps({"default": {"workers": 2, "env": {"OMP_NUM_THREADS": "1"}}}))
        for words in (("init_bulk", "init.json"), ("run", "param.json")):
            done = call_al(folder, *words, "resource.json")
            assert done.returncode == 0, done.stderr


class Campaign:
    """Batches, or whole runs, on a cluster; ``ends`` counts what came to its end, and how."""

    def __init__(self, cluster: Cluster, root: Path, faults: Faults, undisturbed: Path | None = None) -> None:
        self.cluster, self.root, self.faults, self.undisturbed = cluster, root, faults, undisturbed
        self.ends: Counter[str] = Counter()

    def run(self, n_faults: int) -> None:
        while self.faults.counts.total() < n_faults:
            folder = self.root / f"{self.ends.total():03d}"
            one = Batch(folder) if self.undisturbed is None else WholeRun(folder, self.undisturbed)
            self._drive(one, n_faults)
            self.check_submissions(folder)
            self.ends[one.check()] += 1
            sys.stderr.write(f"{dict(self.ends)} after {dict(self.faults.counts)}\n")
            shutil.rmtree(folder)

    def _drive(self, one: Batch | WholeRun, n_faults: int) -> None:
        """Run to the end while faults happen."""
        faults, before = self.faults, self.faults.counts.total()
        with tempfile.TemporaryFile() as log:
            driver, deadline = self._start(one, log), time.monotonic() + LIMIT_SECONDS
            while driver.poll() != 0:
                assert time.monotonic() < deadline, "it does not end"
                if driver.poll() is not None:
                    log.seek(0)
                    text = log.read().decode()
                    assert driver.returncode == -9 or "nothing can be written" in text, text
                    driver = self._start(one, log)
                time.sleep(faults.rng.uniform(*one.pause))
                if driver.poll() is None and faults.counts.total() < min(n_faults, before + one.most_faults):
                    faults.inject(driver)

    def _start(self, one: Batch | WholeRun, log) -> "subprocess.Popen[bytes]":
        log.truncate(log.seek(0))
        return subprocess.Popen(
            one.argv, cwd=one.folder, env=self.cluster.env | {"OMP_NUM_THREADS": "1"}, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip

    def check_submissions(self, folder: Path) -> None:
        """Check that SLURM took each array once, and that each attempt at a task was in one job alone."""
        arrays = list(folder.rglob("jobs/array.*/array.json"))
        names = {json.loads(file.read_text())["name"]: file.with_name("submitted.json").exists() for file in arrays}
        told = self.cluster.run("squeue", "-h", "-a", "-t", "all", "-o", "%F %j").splitlines()
        jobs = Counter(line.split()[1] for line in set(told))
        assert names, "no array"
        assert all(jobs[name] in ({1} if known else {0, 1}) for name, known in names.items()), "an array came in twice"
        rows = [
            (file.parents[2], row["task"], row["attempt"])
            for file in folder.rglob("jobs/*/group.json")
            for row in json.loads(file.read_text())["tasks"]
        ]
        assert len(rows) == len(set(rows)), "an attempt was handed out twice"


def run_campaign(
    root: Path, n_faults: int, seed: int, *, kinds: list[str], accounting: bool = False, disk: bool = False,
    runs: bool = False,
) -> Campaign:  # fmt: skip
    """Run batches or runs on a cluster of their own until so many faults have happened and the last one has ended."""
    with run_cluster(3, accounting=accounting) as cluster, ExitStack() as stack:
        os.environ["SLURM_CONF"] = cluster.env["SLURM_CONF"]
        stack.callback(os.environ.pop, "SLURM_CONF")
        undisturbed = None
        if runs:
            undisturbed = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "undisturbed"
            WholeRun.make_undisturbed(undisturbed)
        faults = Faults(cluster, np.random.default_rng(seed), root if disk else None, kinds)
        campaign = Campaign(cluster, root, faults, undisturbed)
        campaign.run(n_faults)
    return campaign


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", action="store_true", help="Whole runs instead of batches of scripts.")
    parser.add_argument("--no-accounting", action="store_true")
    parser.add_argument("--kinds", nargs="+", choices=list(SHARES), default=list(SHARES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        size = "256m" if options.runs else "24m"
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", name], check=True)
        try:
            done = run_campaign(
                Path(name), options.faults, options.seed, kinds=options.kinds,
                accounting=not options.no_accounting, disk=True, runs=options.runs,
            )  # fmt: skip
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)
    what = "whole runs" if options.runs else f"batches of {N_TASKS} tasks"
    sys.stdout.write(
        f"{done.faults.counts.total()} faults ({dict(done.faults.counts)}) over {done.ends.total()} {what} "
        f"({dict(done.ends)}): 0 lost, 0 counted twice, 0 submitted twice, every one ended\n"
    )
