"""An array of groups as it is submitted to SLURM: its folder, its script, and the jobs it became.

``array.NNNN/array.json`` stands before anything is submitted and holds a name of its own, by which the scheduler finds
the job again when a driver died before it could write down the id. The script names no path of the user's: the folder
is handed to `sbatch` as a word, and what the tasks are told lies in their ``group.json``.
"""

import os
import shlex
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from al_driver.errors import ConfigError
from al_driver.files import read_json, write_atomic, write_json
from al_driver.jobs.processes import find_program
from al_driver.jobs.slurm import PATIENCE_SECONDS, find_command, is_transient, read_job_id
from al_driver.jobs.watch import ANSWERS, SlurmHandle, Watch
from al_driver.layout import ARRAY_FILE, ARRAY_LOG, SUBMITTED_FILE, array_name

SCRIPT_FILE = "submit.sh"
KEPT = frozenset({"SLURM_CONF", "SLURM_CLUSTERS"})
"""Of a driver that is a job itself, nothing of that job reaches the jobs it submits, but where SLURM is."""


class NotTaken(Exception):
    """SLURM does not take a job now, and may take the same one later. In its words."""


def make_array(groups: Sequence[Path]) -> tuple[Path, str]:
    """Make the folder of an array beside those of its groups; return it and the array's name.

    Raises
    ------
    ConfigError
        If SLURM cannot write its log there.
    """
    jobs_dir = groups[0].parent
    check_folder(jobs_dir)
    folder = jobs_dir / array_name(sum(1 for _ in jobs_dir.glob(array_name("*"))))
    folder.mkdir()
    name = f"al-{uuid.uuid4().hex[:12]}"
    write_json(folder / ARRAY_FILE, {"name": name, "groups": [group.name for group in groups]})
    return folder, name


def check_folder(folder: Path) -> None:
    """Refuse a folder that SLURM cannot write its log in."""
    if any(sign in str(folder) for sign in "%\\"):
        raise ConfigError(f"{folder} holds a % or a backslash, which SLURM replaces.\n  Use another work_dir.")


def submit_array(folder: Path, script: str, n_groups: int) -> str:
    """Hand an array to `sbatch`; return its id, on disk already. Raises as `submit_script` does."""
    write_atomic(folder / SCRIPT_FILE, script)
    return _note(folder, submit_script(folder / SCRIPT_FILE, [*read_options(script), f"--array=0-{n_groups - 1}"]))


def read_options(script: str) -> list[str]:
    """Return the options of a script as words for `sbatch`: there they count more than ``SBATCH_…`` variables do.

    >>> read_options("#!/bin/bash\\n#SBATCH --account='a b'\\n#SBATCH --no-requeue\\nexec true\\n")
    ['--account=a b', '--no-requeue']
    """
    lines = [line for line in script.splitlines() if line.startswith("#SBATCH ")]
    return [option for line in lines for option in shlex.split(line)[1:]]


def submit_script(script: Path, options: Sequence[str], arguments: Sequence[str] = ()) -> str:
    """Hand a script to `sbatch`, to run in its own folder; return the job's id.

    Raises
    ------
    NotTaken
        If it may be tried again.
    ConfigError
        With the scheduler's words, if it will never take such a job.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_") or key in KEPT}
    argv = ["sbatch", "--parsable", f"--chdir={script.parent}", *options, str(script), *arguments]
    try:
        run = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL,
            env=environment, timeout=4 * PATIENCE_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise NotTaken("sbatch does not answer") from error
    except OSError as error:
        raise ConfigError(f"sbatch cannot be started: {error}.") from error
    job_id = read_job_id(run.stdout)
    if run.returncode == 0 and job_id is not None:
        return job_id
    said = [line.removeprefix("sbatch: error: ").strip() for line in (run.stderr or run.stdout).splitlines()]
    words = "; ".join(filter(None, said)) or f"exit status {run.returncode}"
    if is_transient(words):
        raise NotTaken(words)
    raise ConfigError(
        f"SLURM refused the job: {words}\n"
        f"  Correct the resource file (partition, account, qos, timeout_min, nodes …); {script}\n"
        f"  is what was submitted. Nothing of it runs; the same command goes on."
    )


def find_array(folder: Path, name: str, watch: Watch) -> str | None:
    """Return the id of an array that may have been submitted, by its name; None where there is none.

    A scheduler that does not answer is waited for: what it might have must not be submitted again.
    """
    wait = 1.0
    while (answer := watch.ask(find_command(name))) is None:
        watch.note(ANSWERS, "SLURM does not answer whether it has a job of ours: that is waited for")
        time.sleep(wait)
        wait = min(1.5 * wait, 60.0)
    watch.note(ANSWERS, "")
    ids = answer.split()
    return _note(folder, ids[0]) if ids else None


def find_handles(jobs_dir: Path, watch: Watch) -> dict[str, SlurmHandle]:
    """Return, by the name of its folder, each group that an earlier driver has, or may have, submitted to SLURM.

    None where there is no SLURM, as after a move to another machine: then what they write tells which of them live.
    """
    handles: dict[str, SlurmHandle] = {}
    if find_program("squeue") is None:
        return handles
    for file in sorted(jobs_dir.glob(f"{array_name('*')}/{ARRAY_FILE}")):
        folder, array = file.parent, read_json(file)
        if (folder / SUBMITTED_FILE).exists():
            job_id = read_json(folder / SUBMITTED_FILE)["job_id"]
        else:
            job_id = find_array(folder, array["name"], watch)
        if job_id is not None:
            names: list[str] = array["groups"]
            handles |= dict(zip(names, make_handles(folder, job_id, len(names), watch), strict=True))
    return handles


def make_handles(folder: Path, job_id: str, n_groups: int, watch: Watch) -> list[SlurmHandle]:
    return [
        SlurmHandle(watch, f"{job_id}_{index}", folder / ARRAY_LOG.replace("%a", str(index)))
        for index in range(n_groups)
    ]


def _note(folder: Path, job_id: str) -> str:
    write_json(folder / SUBMITTED_FILE, {"executor": "slurm", "job_id": job_id})
    return job_id
