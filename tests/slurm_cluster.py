"""A private SLURM cluster on this machine: nodes that are processes, a key, ports and a database of its own.

Needs root, and the Debian packages slurm-wlm, munge, slurmdbd and mariadb-server; nothing under /etc is touched.

Run as a program it is the guard of a cluster: ``python slurm_cluster.py FOLDER`` waits until its stdin is closed, as
the end of pytest closes it in whatever way, and kills what belongs to the cluster of that folder.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("sbatch", "slurmctld", "slurmd", "munged", "slurmdbd", "mariadbd")


class Cluster:
    """A cluster that runs; ``env`` is what its clients need."""

    def __init__(self, folder: Path, n_nodes: int, *, accounting: bool, n_cpus: int = 4) -> None:
        self.folder, self.n_nodes, self.accounting, self.n_cpus = folder, n_nodes, accounting, n_cpus
        self.host = socket.gethostname().partition(".")[0]
        self.ports = free_ports(3 + n_nodes)
        self.env = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a client and return what it prints."""
        run = subprocess.run(argv, env=self.env, capture_output=True, text=True, check=False, timeout=60)
        assert run.returncode == 0 or not check, f"{argv}: {run.stderr}"
        return run.stdout

    def start(self) -> None:
        for name in ("state", "spool", "munge", "db"):
            (self.folder / name).mkdir()
        key = self.folder / "munge/key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        socket_path = self.folder / "munge/socket"
        self.daemon("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket_path}",
                    f"--pid-file={self.folder}/munge/pid", f"--log-file={self.folder}/munge/log",
                    f"--seed-file={self.folder}/munge/seed")  # fmt: skip
        self._wait(lambda: self._answers("munge", "-S", str(socket_path), "-n"), "munged")
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        (self.folder / "slurm.conf").write_text(self._settings())
        if self.accounting:
            self._start_accounting()
        self.daemon("slurmctld", "-D")
        self._wait(lambda: self._answers("scontrol", "ping"), "slurmctld")
        for node in range(1, self.n_nodes + 1):
            self.daemon("slurmd", "-D", "-N", f"n{node}")
        idle = ["idle"] * self.n_nodes
        self._wait(lambda: self.run("sinfo", "-h", "-N", "-p", "debug", "-o", "%t").split() == idle, "idle nodes")

    def stop(self) -> None:
        """End the jobs, then the daemons, each by its own process."""
        uid = str(os.getuid())
        self.run("scancel", "--quiet", "-u", uid, check=False)
        deadline = time.monotonic() + 15
        while self.run("squeue", "-h", check=False).strip() and time.monotonic() < deadline:
            time.sleep(0.2)
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(timeout=15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def daemon(self, *argv: str) -> "subprocess.Popen[bytes]":
        """Start a daemon in the foreground of a session of its own."""
        with (self.folder / f"{argv[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                argv, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._daemons.append(process)
        return process

    def kill_node(self, node: str) -> None:
        """Kill a node's daemon; what it started goes on."""
        found = next(one for one in self._daemons if one.args[-1] == node and one.poll() is None)
        found.kill()
        found.wait()

    def _answers(self, *argv: str) -> bool:
        return subprocess.run(argv, env=self.env, capture_output=True, check=False).returncode == 0

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            if time.monotonic() > deadline:
                logs = [f"{log.name}: {log.read_text(errors='replace')[-500:]}" for log in self.folder.glob("*.log")]
                raise TimeoutError(f"{what} did not come up\n" + "\n".join(logs))
            time.sleep(0.1)

    def _settings(self) -> str:
        munge = f"socket={self.folder}/munge/socket,cred_expire=5"
        lines = [
            "ClusterName=tests", f"SlurmctldHost={self.host}(127.0.0.1)", f"SlurmctldPort={self.ports[0]}",
            "SlurmUser=root", "SlurmdUser=root", "AuthType=auth/munge", f"AuthInfo={munge}", "CredType=cred/munge",
            f"StateSaveLocation={self.folder}/state", f"SlurmdSpoolDir={self.folder}/spool/%n",
            f"SlurmctldPidFile={self.folder}/slurmctld.pid", f"SlurmdPidFile={self.folder}/slurmd-%n.pid",
            "ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none", "MpiDefault=none",
            "JobAcctGatherType=jobacct_gather/linux", "JobAcctGatherFrequency=1",
            "JobAcctGatherParams=OverMemoryKill",  # without cgroups it is this that enforces --mem
            "SelectType=select/cons_tres", "SelectTypeParameters=CR_Core_Memory", "DefMemPerCPU=4000",
            "SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0",
            "PreemptType=preempt/partition_prio", "PreemptMode=REQUEUE", "ReturnToService=2",
            "SlurmdParameters=config_overrides", "SlurmdTimeout=10", "KillWait=5", "MinJobAge=86400",
            "EnforcePartLimits=ALL",
            "AccountingStorageType=accounting_storage/" + ("slurmdbd" if self.accounting else "none"),
        ]  # fmt: skip
        if self.accounting:
            lines += ["AccountingStorageHost=127.0.0.1", f"AccountingStoragePort={self.ports[1]}",
                      f"AccountingStoragePass={self.folder}/munge/socket"]  # fmt: skip
        for node in range(1, self.n_nodes + 1):
            lines.append(
                f"NodeName=n{node} NodeHostname={self.host} NodeAddr=127.0.0.1 Port={self.ports[2 + node]} "
                f"CPUs={self.n_cpus} RealMemory={4000 * self.n_cpus} State=UNKNOWN"
            )
        nodes = f"Nodes=n[1-{self.n_nodes}] MaxTime=1000 State=UP"
        lines += [f"PartitionName=debug {nodes} Default=YES PriorityTier=1 PreemptMode=REQUEUE",
                  f"PartitionName=high {nodes} PriorityTier=10 PreemptMode=OFF"]  # fmt: skip
        return "\n".join(lines) + "\n"

    def _start_accounting(self) -> None:
        folder = self.folder / "db"
        shutil.chown(folder, "mysql")
        server = ["--no-defaults", "--user=mysql", f"--datadir={folder}/data"]
        subprocess.run(["mariadb-install-db", *server, "--auth-root-authentication-method=socket", "--skip-test-db"],
                       check=True, capture_output=True)  # fmt: skip
        sock = folder / "sock"
        self.daemon("mariadbd", *server, f"--socket={sock}", f"--pid-file={folder}/pid", "--bind-address=127.0.0.1",
                    f"--port={self.ports[2]}", "--skip-name-resolve", "--skip-log-bin",
                    "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M", "--innodb-lock-wait-timeout=900",
                    "--innodb-flush-log-at-trx-commit=0")  # fmt: skip
        client = ["--no-defaults", f"--socket={sock}", "-uroot"]
        self._wait(lambda: self._answers("mariadb-admin", *client, "ping"), "mariadbd")
        self.run("mariadb", *client, "-e", "create user slurm@'127.0.0.1' identified by 'slurm'; create database "
                 "slurm_acct; grant all on slurm_acct.* to slurm@'127.0.0.1';")  # fmt: skip
        settings = self.folder / "slurmdbd.conf"
        settings.write_text(
            f"AuthType=auth/munge\nAuthInfo=socket={self.folder}/munge/socket\nDbdHost={self.host}\n"
            f"DbdAddr=127.0.0.1\nDbdPort={self.ports[1]}\nSlurmUser=root\nPidFile={self.folder}/slurmdbd.pid\n"
            f"StorageType=accounting_storage/mysql\nStorageHost=127.0.0.1\nStoragePort={self.ports[2]}\n"
            "StorageUser=slurm\nStoragePass=slurm\nStorageLoc=slurm_acct\n"
        )
        settings.chmod(0o600)
        self.daemon("slurmdbd", "-D")
        self._wait(lambda: self._answers("sacctmgr", "-n", "show", "cluster"), "slurmdbd")
        self.run("sacctmgr", "-i", "add", "cluster", "tests", check=False)


def free_ports(n: int) -> list[int]:
    """Return ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


@contextmanager
def run_cluster(n_nodes: int = 1, *, accounting: bool, n_cpus: int = 4) -> Iterator[Cluster]:
    """Run a cluster, and leave nothing of it."""
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        cluster = Cluster(folder, n_nodes, accounting=accounting, n_cpus=n_cpus)
        guard = subprocess.Popen([sys.executable, __file__, name], stdin=subprocess.PIPE, start_new_session=True)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
            guard.communicate(timeout=30)


def kill_all(folder: Path) -> None:
    """Kill every process that was told of the cluster of a folder: daemons, the steps of jobs, what they run."""
    told = f"SLURM_CONF={folder}/slurm.conf".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if told in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)


if __name__ == "__main__":
    watched = Path(sys.argv[1])
    sys.stdin.read()
    kill_all(watched)
    shutil.rmtree(watched, ignore_errors=True)
