"""Faults injected into batches on a private cluster, again and again; what was lost, counted twice, submitted twice.

Drivers killed, jobs cancelled, nodes that die with their processes still writing, jobs of a partition that preempts, a
controller that is away for a moment; with ``--accounting`` also an accounting daemon that is away, and a disk that is
full. Run: ``python tests/jobs/fault_campaign.py --faults 100 --seed 1``.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
from on_cluster import Cluster, run_cluster
from test_resume import start_driver

KINDS = ("driver killed", "scancel", "node dead", "preempted", "controller restarted")
SHARES = (0.4, 0.3, 0.1, 0.1, 0.1)
MORE_KINDS = (*KINDS, "accounting away", "disk full")
MORE_SHARES = (0.2, 0.1, 0.1, 0.1, 0.1, 0.2, 0.2)
N_TASKS = 24


class Campaign:
    """Batches and faults on a cluster; ``faults`` counts them, ``batches`` what came to its end."""

    def __init__(self, cluster: Cluster, root: Path, seed: int) -> None:
        self.cluster, self.root, self.rng = cluster, root, np.random.default_rng(seed)
        self.kinds, self.shares = (MORE_KINDS, MORE_SHARES) if cluster.accounting else (KINDS, SHARES)
        self.faults: Counter[str] = Counter()
        self.batches = 0

    def run(self, n_faults: int) -> None:
        while self.faults.total() < n_faults:
            self._run_batch(n_faults)

    def _run_batch(self, n_faults: int) -> None:
        """Run a batch to its end while faults befall it, and hold its result against what it must be."""
        folder = self.root / f"batch.{self.batches:03d}"
        folder.mkdir()
        # a process that does not listen to SLURM's SIGTERM, and takes back what a full disk did not take
        late = "trap '' TERM; sleep 1; echo {0} >> result || rm -f result"
        scripts = {f"t{i}": late.format(f"t{i}") for i in range(N_TASKS)}
        keys = {"executor": "slurm", "group_size": 2, "retries": 1000}
        driver = start_driver(folder, scripts, **keys)
        deadline = time.monotonic() + 900
        while driver.poll() is None:
            assert time.monotonic() < deadline, "the batch does not end"
            time.sleep(self.rng.uniform(0.5, 3.0))
            if self.faults.total() < n_faults and self._inject(driver):
                driver.wait()
                driver = start_driver(folder, scripts, **keys)
            if driver.poll() == 2 and "nothing can be written" in driver.stdout.read():  # it noticed late
                driver = start_driver(folder, scripts, **keys)
        assert driver.returncode == 0, driver.stdout.read()
        for name in scripts:
            assert (folder / name / "result").read_text() == f"{name}\n", f"{name}: another attempt wrote here"
        names = [json.loads(file.read_text())["name"] for file in folder.glob("jobs/array.*/array.json")]
        told = self.cluster.run("squeue", "-h", "-a", "-t", "all", "-o", "%F %j").splitlines()
        jobs = Counter(line.split()[1] for line in set(told))
        assert all(jobs[name] == 1 for name in names), "an array was submitted twice"
        self.batches += 1

    def _inject(self, driver: "subprocess.Popen[str]") -> bool:
        """Let a fault happen; say whether it ended the driver."""
        kind = str(self.rng.choice(self.kinds, p=self.shares))
        running = self.cluster.run("squeue", "-h", "-r", "-t", "running", "-o", "%i %N", check=False).split("\n")[:-1]
        if kind == "driver killed":
            driver.kill()
        elif kind == "controller restarted":
            self._restart("slurmctld", "scontrol", "ping")
        elif kind == "accounting away":
            self._restart("slurmdbd", "sacctmgr", "-n", "show", "cluster")
        elif kind == "disk full":
            self._fill_disk(driver)
        elif kind == "preempted":
            self.cluster.run(
                "sbatch", "-p", "high", "-N", "1", "--ntasks-per-node=4", "-o", "/dev/null", "--wrap", "true"
            )
        elif not running:
            return False
        elif kind == "scancel":
            self.cluster.run("scancel", str(self.rng.choice(running)).split()[0])
        else:
            self._kill_node(str(self.rng.choice(running)).split()[1])
        self.faults[kind] += 1
        return kind == "driver killed" or (kind == "disk full" and driver.poll() not in (None, 0))

    def _restart(self, name: str, *client: str) -> None:
        """End a daemon, start it again a moment later, and wait until its client is answered."""
        old = next(one for one in self.cluster._daemons if one.args[0] == name and one.poll() is None)
        old.send_signal(signal.SIGTERM)
        old.wait(timeout=60)
        time.sleep(self.rng.uniform(0.0, 5.0) if name == "slurmdbd" else 0.0)
        self.cluster.daemon(name, "-D")
        self.cluster._wait(lambda: self.cluster._answers(*client), name)

    def _fill_disk(self, driver: "subprocess.Popen[str]") -> None:
        """Fill the disk of the batches until the driver says so, or for a while."""
        waste = self.root / "waste"
        with suppress(OSError), waste.open("wb") as stream:
            while True:
                stream.write(bytes(1 << 16))
        with suppress(subprocess.TimeoutExpired):
            driver.wait(timeout=10)
        waste.unlink()
        assert driver.poll() in (None, 0, 2), "a full disk is no failure of a task"

    def _kill_node(self, node: str) -> None:
        self.cluster.kill_node(node)
        self.cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        time.sleep(1)
        self.cluster.daemon("slurmd", "-D", "-N", node)
        self.cluster.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)


def run_campaign(root: Path, n_faults: int, seed: int, *, accounting: bool = False) -> Campaign:
    """Run batches on a cluster of their own until so many faults have happened and the last batch has ended."""
    with run_cluster(3, accounting=accounting) as cluster:
        os.environ["SLURM_CONF"] = cluster.env["SLURM_CONF"]
        try:
            campaign = Campaign(cluster, root, seed)
            campaign.run(n_faults)
        finally:
            del os.environ["SLURM_CONF"]
    return campaign


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--accounting", action="store_true", help="With slurmdbd, on a small disk of its own.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.accounting:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", name], check=True)
        try:
            done = run_campaign(Path(name), options.faults, options.seed, accounting=options.accounting)
        finally:
            if options.accounting:
                subprocess.run(["umount", "--lazy", name], check=True)
    sys.stdout.write(
        f"{done.faults.total()} faults ({dict(done.faults)}) over {done.batches} batches of {N_TASKS} tasks: "
        "0 lost, 0 counted twice, 0 submitted twice, every batch ended\n"
    )
