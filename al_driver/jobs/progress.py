"""Where a batch stands, and what became of it."""

import logging
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from al_driver.jobs.attempts import Failure
from al_driver.jobs.job import Job
from al_driver.jobs.task import Task
from al_driver.words import many

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Where a batch stands, in tasks."""

    total: int
    done: int
    running: int
    failed: int
    waits: str = ""
    """Why nothing moves, in a scheduler's words: why its jobs wait, what it does not take, that it does not answer."""


@dataclass(frozen=True)
class BatchResult:
    """What became of a batch that was not stopped."""

    done: tuple[Task, ...]
    """The published tasks, in the order they were handed in."""
    failed: dict[str, Failure]
    """Failures that stand, by task name."""


def log_taken_over(jobs: Collection[Job]) -> None:
    """Log that jobs of an earlier driver were found again and go on, if there are any."""
    if jobs:
        n_tasks = sum(len(job.open) for job in jobs)
        log.info("%s of an earlier driver found, with %s", many(len(jobs), "job"), many(n_tasks, "open task"))


def log_retries(again: Counter[str]) -> None:
    """Log how many tasks will be run again, and why, and forget it."""
    for detail, n in again.items():
        log.info("%s will run again: %s", many(n, "task"), detail)
    again.clear()
