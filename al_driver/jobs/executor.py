"""Where jobs run. The only module that imports submitit, and only when something is submitted.

An executor starts the runner of a job folder and answers for it until the runner has taken the job (``claim``); from
then on pid, start time and journal decide, never a pickle of submitit's.
"""

import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from al_driver.errors import ConfigError
from al_driver.jobs.runner import Group, run_group
from al_driver.schema.resource import Profile

NO_LIMIT_MINUTES = 60 * 24 * 3650  # submitit's own limit is never the one that acts; each task has its own


class Handle(Protocol):
    """A job this driver submitted."""

    @property
    def job_id(self) -> str: ...

    def is_alive(self) -> bool:
        """Say whether the job may still start or run, as far as the executor knows."""

    def cancel(self) -> None:
        """End a job that runs inside this process; others are ended by signal."""


class Executor(Protocol):
    """Starts job folders."""

    max_jobs: int
    """Jobs in flight at once."""
    longest_wait: float
    """Seconds between two looks at a quiet job."""

    def submit(self, folder: Path) -> Handle: ...


class Inline:
    """Runs jobs in a thread of the driver; their tasks are child processes all the same."""

    max_jobs = 1
    longest_wait = 0.1

    @dataclass
    class _Handle:
        group: Group
        job_id: str = "inline"

        def is_alive(self) -> bool:
            return not self.group.finished.is_set()

        def cancel(self) -> None:
            self.group.cancel()

    def submit(self, folder: Path) -> Handle:
        group = Group(folder)
        threading.Thread(target=group.run, daemon=True).start()
        return self._Handle(group)


class Local:
    """Runs jobs on this machine through submitit. They outlive the driver, and a Ctrl-C does not reach them."""

    max_jobs = 1
    longest_wait = 0.1

    @dataclass
    class _Handle:
        process: "subprocess.Popen[bytes]"

        @property
        def job_id(self) -> str:
            return str(self.process.pid)

        def is_alive(self) -> bool:
            return self.process.poll() is None

        def cancel(self) -> None:
            return None

    def submit(self, folder: Path) -> Handle:
        if any(tag in str(folder) for tag in ("%j", "%t", "%A", "%a")):
            raise ConfigError(f"{folder} holds %j, %t, %A or %a, which submitit replaces.\n  Use another work_dir.")
        executor = _detached_executor()(folder)
        executor.update_parameters(timeout_min=NO_LIMIT_MINUTES)
        return self._Handle(executor.submit(run_group, str(folder))._process)


def _detached_executor() -> Callable[[Path], Any]:
    """Return submitit's local executor with what it lacks: a session of its own, and the user's GPUs.

    The runner is started without the controller that submitit puts above it, which would enforce a time limit nobody
    sets, and costs a second start of Python for each job.
    """
    from submitit.local.local import LocalExecutor, LocalJob

    class Detached(LocalExecutor):  # type: ignore[misc]
        def _submit_command(self, command: str) -> Any:
            environment = os.environ | {
                "SUBMITIT_EXECUTOR": "local",
                "SUBMITIT_LOCAL_NTASKS": "1",
                "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
                "SUBMITIT_LOCAL_NODEID": "0",
                "SUBMITIT_LOCAL_LOCALID": "0",
                "SUBMITIT_LOCAL_GLOBALID": "0",
            }
            script = f'export SUBMITIT_LOCAL_JOB_ID=$$; exec {command} >"$1/$$_0_log.out" 2>&1'  # $$ is the job's id
            process = subprocess.Popen(
                ["/bin/sh", "-c", script, "al", str(self.folder)],
                env=environment, start_new_session=True, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            return LocalJob(folder=self.folder, job_id=str(process.pid), process=process)

    def make(folder: Path) -> Any:
        return Detached(folder, python=f"{shlex.quote(sys.executable)} -P")

    return make


def make_executor(profile: Profile) -> Executor:
    """Return the executor a profile names."""
    return Inline() if profile.executor == "inline" else Local()
