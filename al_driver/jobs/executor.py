"""Where jobs run. The only module that imports submitit, and only when something is submitted.

An executor starts the runner of a job folder and answers for it until the runner has taken the job (``claim``); from
then on pid, start time and journal decide, never a pickle of submitit's. On a cluster the scheduler's word decides.
"""

import json
import math
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from al_driver.errors import ConfigError
from al_driver.files import write_json
from al_driver.jobs.array import NotTaken, find_array, make_array, make_handles, submit_array
from al_driver.jobs.runner import Group, run_group
from al_driver.jobs.watch import SUBMISSION, Watch
from al_driver.layout import ARRAY_LOG, GROUP_FILE, SUBMITTED_FILE
from al_driver.schema.resource import Profile
from al_driver.words import many

ADVICE = ". It is asked again; if that goes on, lower max_jobs in the resource file"
NO_LIMIT_MINUTES = 60 * 24 * 3650  # submitit's own limit is never the one that acts; each task has its own


class Handle(Protocol):
    """A job this driver submitted."""

    @property
    def job_id(self) -> str: ...

    @property
    def log(self) -> Path | None:
        """What the job itself printed, where that is not in its folder."""

    decides: bool
    """Whether it knows of the job's end after the job has begun, too."""

    def cause(self) -> str | None:
        """Return the scheduler's word for how the job ended; None where there is none yet, or no scheduler."""

    def is_alive(self) -> bool:
        """Say whether the job may still start or run, as far as the executor knows."""

    def is_known_of(self, moment: float) -> bool:
        """Say whether what is known of the job was told after a moment of ``time.monotonic``."""

    def cancel(self, *others: Any) -> None:
        """End a job, and others of its executor, inside this process or on a cluster.

        Those of this machine are ended by signal.
        """


class Executor(Protocol):
    """Starts job folders."""

    max_jobs: int
    """Jobs in flight at once."""
    longest_wait: float
    """Seconds between two looks at a quiet job."""

    def submit(self, folders: Sequence[Path]) -> Sequence[Handle] | None:
        """Start job folders, one handle for each; None where they were not taken now and may be handed in again."""


class _Here:
    """What jobs on this machine have in common: no scheduler."""

    log = None
    decides = False

    def cause(self) -> None:
        return None

    def is_known_of(self, _moment: float) -> bool:
        return True


class Inline:
    """Runs jobs in a thread of the driver; their tasks are child processes all the same."""

    max_jobs = 1
    longest_wait = 0.1

    @dataclass
    class _Handle(_Here):
        group: Group
        job_id: str = "inline"

        def is_alive(self) -> bool:
            return not self.group.finished.is_set()

        def cancel(self, *others: "Inline._Handle") -> None:
            for handle in (self, *others):
                handle.group.cancel()

    def submit(self, folders: Sequence[Path]) -> Sequence[Handle]:
        handles = [self._Handle(Group(folder)) for folder in folders]
        for handle, folder in zip(handles, folders, strict=True):
            threading.Thread(target=handle.group.run, daemon=True).start()
            write_json(folder / SUBMITTED_FILE, {"executor": "inline", "job_id": handle.job_id})
        return handles


class Local:
    """Runs jobs on this machine through submitit. They outlive the driver, and a Ctrl-C does not reach them."""

    max_jobs = 1
    longest_wait = 0.1

    @dataclass
    class _Handle(_Here):
        process: "subprocess.Popen[bytes]"

        @property
        def job_id(self) -> str:
            return str(self.process.pid)

        def is_alive(self) -> bool:
            return self.process.poll() is None

        def cancel(self, *_others: "Local._Handle") -> None:
            return None

    def submit(self, folders: Sequence[Path]) -> Sequence[Handle]:
        return [self._submit(folder) for folder in folders]

    def _submit(self, folder: Path) -> Handle:
        if any(tag in str(folder) for tag in ("%j", "%t", "%A", "%a")):
            raise ConfigError(f"{folder} holds %j, %t, %A or %a, which submitit replaces.\n  Use another work_dir.")
        executor = _detached_executor()(folder)
        executor.update_parameters(timeout_min=NO_LIMIT_MINUTES)
        handle = self._Handle(executor.submit(run_group, str(folder))._process)
        write_json(folder / SUBMITTED_FILE, {"executor": "local", "job_id": handle.job_id})
        return handle


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


class Slurm:
    """Submits jobs to SLURM, an array at a time. submitit makes the script; `sbatch` and the watch are ours."""

    longest_wait = 5.0

    def __init__(self, profile: Profile, watch: Watch) -> None:
        self._profile, self._watch = profile, watch
        self._draft: tuple[Path, str] | None = None
        self._wait, self._next = 1.0, 0.0
        self.max_jobs = profile.max_jobs

    def submit(self, folders: Sequence[Path]) -> Sequence[Handle] | None:
        """Submit the folders as one array. While they were not taken, the same folders must be handed in again."""
        if time.monotonic() < self._next:
            return None
        again = self._draft is not None
        folder, name = self._draft = self._draft or make_array(folders)
        job_id = find_array(folder, name, self._watch) if again else None  # a lost answer may have been a yes
        if job_id is None:
            limits = [json.loads((group / GROUP_FILE).read_text())["limit"] for group in folders]
            script = render_script(self._profile, max(filter(None, limits), default=None), name=name)
            try:
                job_id = submit_array(folder, script, len(folders))
            except NotTaken as refusal:
                self._watch.note(
                    SUBMISSION, f"SLURM takes no array of {many(len(folders), 'job')} for now: {refusal}", ADVICE
                )
                self._wait = min(1.5 * self._wait, 60.0)
                self._next = time.monotonic() + self._wait
                return None
        self._watch.note(SUBMISSION, "")
        self._draft, self._wait, self._next = None, 1.0, 0.0
        return make_handles(folder, job_id, len(folders), self._watch)


def render_script(profile: Profile, limit: float | None, *, name: str = "al") -> str:
    """Return the script that is submitted for a profile.

    Parameters
    ----------
    limit
        Seconds a job may take; the partition's own limit where None.
    name
        The name of the jobs.
    """
    from submitit.core.utils import JobPaths
    from submitit.slurm.slurm import SlurmExecutor, _convert_mem

    class Script(SlurmExecutor):  # type: ignore[misc]
        @classmethod
        def affinity(cls) -> int:
            return 2  # a script can be shown where there is no SLURM

    n_cpus = profile.tasks_per_node * (profile.cpus_per_task or 1)
    parameters = {
        "job_name": name,
        "partition": profile.partition, "account": profile.account, "qos": profile.qos, "wckey": profile.wckey,
        "time": None if limit is None else math.ceil(limit / 60),
        "mem": None if profile.mem_gb is None else _convert_mem(profile.mem_gb),
        "nodes": profile.nodes, "ntasks_per_node": profile.tasks_per_node, "cpus_per_task": profile.cpus_per_task,
        "gpus_per_node": profile.gpus_per_node or None,
        "use_srun": profile.use_srun, "stderr_to_stdout": True,
        "srun_args": ["--nodes=1", "--ntasks=1", f"--cpus-per-task={n_cpus}", "--overlap"],
        "additional_parameters": {"output": ARRAY_LOG, "no-requeue": True, **profile.sbatch_extra()},
    }  # fmt: skip
    executor = Script(Path())
    python = f"{shlex.quote(sys.executable)} -E -P"  # what a module or a user sets for Python is not for ours
    command = f"{python} -m al_driver.jobs.runner ."
    executor.update_parameters(**parameters)
    text: str = executor._make_submission_file_text(command if profile.use_srun else f"exec {command}", "")
    text = text.replace(f"--output {shlex.quote(str(JobPaths(folder=Path()).stdout))} ", "")  # it prints where we do
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#SBATCH --signal="))  # it would reach the tasks


def make_executor(profile: Profile, watch: Watch) -> Executor:
    """Return the executor a profile names."""
    if profile.is_slurm:
        return Slurm(profile, watch)
    return Inline() if profile.executor == "inline" else Local()
