"""``al stop``: ends a run's driver and its jobs, and nobody else's; the folder can be continued.

A driver is asked by a file that it looks for whenever it looks at its jobs: it may run on any host that sees the
folder, in a terminal or as a job. Jobs without a driver, killed or told to leave them, are ended from here.
"""

import os
import time
from pathlib import Path

from al_driver.errors import FolderLocked
from al_driver.files import read_json
from al_driver.jobs.slurm import ask_program
from al_driver.layout import WorkFolder
from al_driver.schema.resource import Resources
from al_driver.workflow.aside import end_jobs_below
from al_driver.workflow.history import find_work_folder
from al_driver.workflow.hold import hold_as_it_is
from al_driver.workflow.lock import read_holder
from al_driver.workflow.status import is_held

PATIENCE_SECONDS = 300.0


def stop(directory: Path | str = ".") -> int:
    """End what works for a folder; return the number of jobs that were left without a driver.

    Raises
    ------
    ConfigError
        If it is no work folder.
    FolderLocked
        If its driver did not end.
    """
    given = WorkFolder(Path(directory))
    folder = given if given.driver.exists() else find_work_folder(Path(directory), "al stop")
    held = is_held(folder.lock)
    if not held:
        _cancel_driver(folder)  # it may wait in the queue
    _ask_to_end(folder)
    if held:
        _cancel_driver(folder)
    if not folder.history.exists():  # its driver never began
        return 0
    with hold_as_it_is(folder, Resources(), None, "stop"):
        return end_jobs_below(folder.root)


def _ask_to_end(folder: WorkFolder) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while is_held(folder.lock):
        folder.stop.touch()
        if time.monotonic() > deadline:
            raise FolderLocked(
                f"the driver of {folder.root} ({read_holder(folder.lock)}) has not ended yet.\n"
                f"  {folder.stop} stays, and it ends when it finds that; or end the process yourself."
            )
        time.sleep(0.2)


def _cancel_driver(folder: WorkFolder) -> None:
    """Cancel a driver that `al submit` queued. Its name, which is nobody else's, says which."""
    if folder.driver.exists():
        ask_program(["scancel", "--quiet", f"--name={read_json(folder.driver)['name']}", f"--user={os.getuid()}"])
