"""What becomes of a batch whose disk takes nothing more: no task is blamed for it, and nothing that is whole is lost.

An attempt that failed for it is set aside by a rename, which needs no room, so that the next driver begins another.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

from al_driver.files import check_room
from al_driver.jobs.attempts import Attempt, Ending, judge
from al_driver.jobs.job import Job, end_jobs


def check_disk(attempt: Attempt) -> None:
    """Raise `OSError` where an attempt failed and its disk takes nothing more; the attempt is then set aside."""
    try:
        check_room(attempt.folder.parent)
    except OSError:
        _set_aside(attempt)
        raise


def leave_batch(jobs: Iterable[Job], attempt_of: Callable[[str], Attempt], *, keep: bool) -> None:
    """Publish what is whole, and set aside what the disk may have spoiled.

    Parameters
    ----------
    keep
        Leave what still runs alone: jobs of a cluster, which may have their own disks, and hours behind them.
    """
    jobs = list(jobs)
    if not keep:
        end_jobs(jobs)
    for job in jobs:
        ended = [event["task"] for event in job.read_ends()] if keep else [*job.open]
        for attempt in map(attempt_of, job.open.keys() & set(ended)):
            with suppress(OSError):
                if attempt.folder.is_dir() and judge(attempt, Ending(error="its disk took nothing more")) is not None:
                    _set_aside(attempt)


def _set_aside(attempt: Attempt) -> None:
    """Rename an attempt. Its number is used up: what may still write into it writes where nobody reads."""
    with suppress(OSError):  # a read-only disk keeps it as it is
        attempt.folder.rename(attempt.spoiled)
