"""The faults of a cluster, let happen one at a time: to a driver, its jobs, their nodes, SLURM's daemons, the disk."""

import os
import re
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
from on_cluster import Cluster

SHARES = {
    "driver killed": 0.25, "scancel": 0.15, "node dead": 0.1, "preempted": 0.1, "controller restarted": 0.1,
    "accounting away": 0.1, "disk full": 0.1, "time limit": 0.1,
}  # fmt: skip
TIME_LIMIT_SECONDS = 180.0
FULL_SECONDS = 10.0


class Faults:
    """Draws faults of the kinds that are wanted, where there is accounting and a small disk; ``counts`` what happened.

    Parameters
    ----------
    disk
        A small file system of the drivers' own, which may be filled; None where there is none.
    kinds
        Those of `SHARES` that may happen.
    """

    def __init__(self, cluster: Cluster, rng: np.random.Generator, disk: Path | None, kinds: list[str]) -> None:
        self.cluster, self.rng, self.disk = cluster, rng, disk
        possible = {"accounting away": cluster.accounting, "disk full": disk is not None}
        self.kinds = [kind for kind in kinds if possible.get(kind, True)]
        self.counts: Counter[str] = Counter()

    def inject(self, driver: "subprocess.Popen[bytes]") -> None:
        """Let one happen, unless there is nothing that it could befall."""
        shares = np.array([SHARES[kind] for kind in self.kinds])
        kind = str(self.rng.choice(self.kinds, p=shares / shares.sum()))
        if getattr(self, "_" + kind.replace(" ", "_"))(driver):
            self.counts[kind] += 1

    def _running(self) -> tuple[str, str, str] | None:
        """Return a running job of ours: its id as an element of an array, its id alone, its node."""
        told = self.cluster.run("squeue", "-h", "-r", "-p", "debug", "-t", "running", "-o", "%i %A %N", check=False)
        lines = told.splitlines()
        return None if not lines else tuple(str(self.rng.choice(lines)).split())  # type: ignore[return-value]

    def _driver_killed(self, driver: "subprocess.Popen[bytes]") -> bool:
        driver.kill()
        return driver.wait() == -signal.SIGKILL

    def _scancel(self, _: "subprocess.Popen[bytes]") -> bool:
        job = self._running()
        if job is not None:
            self.cluster.run("scancel", job[0])
        return job is not None

    def _node_dead(self, _: "subprocess.Popen[bytes]") -> bool:
        """Let a node die whose processes go on, and come back a second later."""
        job = self._running()
        if job is None:
            return False
        node = job[2]
        self.cluster.kill_node(node)
        self.cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        time.sleep(1)
        self.cluster.daemon("slurmd", "-D", "-N", node)
        self.cluster.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        return True

    def _preempted(self, _: "subprocess.Popen[bytes]") -> bool:
        """Submit a job of the higher partition that needs all of a node on which a job of ours runs."""
        job = self._running()
        if job is not None:
            urgent = ["sbatch", "-p", "high", "-w", job[2], "-N1", "--ntasks-per-node=4", "-o/dev/null", "--wrap=true"]
            self.cluster.run(*urgent)
        return job is not None

    def _time_limit(self, _: "subprocess.Popen[bytes]") -> bool:
        """Let the programs of a job hang, and its time be up; SLURM looks at time limits twice a minute."""
        job = self._running()
        if job is None or not stop_programs(job[1]):
            return False
        self.cluster.run("scontrol", "update", f"jobid={job[0]}", "endtime=now+1", check=False)
        deadline, state = time.monotonic() + TIME_LIMIT_SECONDS, "RUNNING"
        while state in ("RUNNING", "COMPLETING", "") and time.monotonic() < deadline:
            time.sleep(0.5)
            state = self.cluster.run("squeue", "-h", "-t", "all", "-j", job[0], "-o", "%T", check=False).strip()
        return state == "TIMEOUT"

    def _controller_restarted(self, _: "subprocess.Popen[bytes]") -> bool:
        self._restart("slurmctld", 0.0, "scontrol", "ping")
        return True

    def _accounting_away(self, _: "subprocess.Popen[bytes]") -> bool:
        self._restart("slurmdbd", self.rng.uniform(0.0, 5.0), "sacctmgr", "-n", "show", "cluster")
        return True

    def _restart(self, name: str, seconds: float, *client: str) -> None:
        """End a daemon, start it again a moment later, and wait until its client is answered."""
        old = next(one for one in self.cluster._daemons if one.args[0] == name and one.poll() is None)
        old.send_signal(signal.SIGTERM)
        old.wait(timeout=60)
        time.sleep(seconds)
        self.cluster.daemon(name, "-D")
        self.cluster._wait(lambda: self.cluster._answers(*client), name)

    def _disk_full(self, driver: "subprocess.Popen[bytes]") -> bool:
        """Fill the disk for a while; the driver may end for it."""
        assert self.disk is not None
        waste = self.disk / "waste"
        with suppress(OSError), waste.open("wb") as stream:
            while True:
                stream.write(bytes(1 << 16))
        time.sleep(FULL_SECONDS)
        waste.unlink()
        assert driver.poll() in (None, 0, 2), "a full disk is no failure of a task"
        return True


def stop_programs(job_id: str) -> bool:
    """Stop, by SIGSTOP, what a job runs in the folders of attempts; False if it runs nothing there."""
    stopped = False
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            works = entry.name.isdecimal() and re.search(r"\.try-\d+$", str((entry / "cwd").readlink()))
            if works and f"SLURM_JOB_ID={job_id}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGSTOP)
                stopped = True
    return stopped
