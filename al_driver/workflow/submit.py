"""``al submit``: the driver as a small SLURM job.

Two minutes before its time is up SLURM tells the job's shell, which asks the driver to end and to leave its jobs
running, and has the job queued again; there the driver finds them. A node's failure or a preemption queue it again too.
"""

import shlex
import sys
import uuid
from pathlib import Path

from al_driver.errors import ConfigError, FolderLocked
from al_driver.files import read_json, write_atomic, write_json
from al_driver.jobs.array import NotTaken, check_folder, submit_script
from al_driver.jobs.slurm import ask_program
from al_driver.layout import WorkFolder
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.schema.load import kind_of, load_params
from al_driver.schema.resource import Resources
from al_driver.schema.run import RunParams
from al_driver.workflow.status import is_held
from al_driver.workflow.verbs import PARAMS, check

LOG = "driver.log"
MEMORY = "2G"
SCRIPT = """\
#!/bin/bash
again=
trap 'again=1; kill -TERM $driver' USR1
trap 'kill -TERM $driver' TERM
{python} -E -P -m al_driver {verb} --keep-jobs "$1" "$2" &
driver=$!
while kill -0 $driver 2>/dev/null; do wait $driver; done
wait $driver
code=$?
if [ "$again" ] && [ $code = 130 ]; then exec scontrol requeue "$SLURM_JOB_ID"; fi
exit $code
"""


def submit(
    param: Path | str, resource: Path | str, *, partition: str | None = None, minutes: int | None = None
) -> tuple[str, Path]:
    """Submit the driver; return the job's id, and where it prints.

    Raises
    ------
    ConfigError
        If something is wrong with the two files, or SLURM does not take the job.
    FolderLocked
        If a driver works in the folder, or waits to.
    """
    check(param, resource).raise_errors()
    kind = kind_of(Path(param))
    params, resources = load_params(Path(param), PARAMS[kind]), load_params(Path(resource), Resources)
    assert isinstance(params, RunParams | InitBulkParams)  # noqa: S101
    work_dir = params.work_dir.absolute()
    check_folder(work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    folder = WorkFolder(work_dir)
    _check_free(folder)
    name = f"al-driver-{uuid.uuid4().hex[:12]}"
    script = folder.root / "driver.sh"
    write_atomic(script, SCRIPT.format(python=shlex.quote(sys.executable), verb=kind))
    write_json(folder.driver, {"name": name})
    profile = resources.default
    options = {
        "job-name": name, "output": LOG, "open-mode": "append", "signal": "B:USR1@120", "nodes": 1, "ntasks": 1,
        "cpus-per-task": 1, "mem": MEMORY, "time": minutes, "partition": partition or profile.partition,
        "account": profile.account, "qos": profile.qos, "wckey": profile.wckey,
    }  # fmt: skip
    words = ["--requeue", *(f"--{key}={value}" for key, value in options.items() if value is not None)]
    try:
        job_id = submit_script(script, words, [str(Path(param).absolute()), str(Path(resource).absolute())])
    except NotTaken as refusal:
        raise ConfigError(f"SLURM does not take the job for now: {refusal}.\n  Give the command again later.") from None
    return job_id, folder.root / LOG


def _check_free(folder: WorkFolder) -> None:
    """Refuse a second driver."""
    if is_held(folder.lock):
        raise FolderLocked(f"a driver works in {folder.root}.\n  Stop it first: al stop {folder.root}")
    if folder.driver.exists():
        waiting = ask_program(["squeue", "-h", "-o", "%i", f"--name={read_json(folder.driver)['name']}"])
        if waiting is None:
            raise ConfigError(
                "squeue does not answer, so that nobody knows whether a driver waits.\n  Try again later."
            )
        if waiting.split():
            raise FolderLocked(
                f"a driver for {folder.root} is in the queue: job {waiting.split()[0]}.\n"
                f"  Wait for it, or take it out: al stop {folder.root}"
            )
