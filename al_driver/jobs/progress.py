"""Where a batch stands, and what became of it."""

from dataclasses import dataclass

from al_driver.jobs.attempts import Failure
from al_driver.jobs.task import Task


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
