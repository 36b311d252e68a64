"""What is known of our jobs of SLURM: one query for all of them, and seldom.

`sacct` is asked where there is accounting, `squeue` where there is none or it does not answer: its ``-t all`` tells
how a job ended for as long as the controller remembers (``MinJobAge``). A word that is not known, or a job that is not
told of, is no end; a scheduler that does not answer is waited for.
"""

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from al_driver.errors import ConfigError
from al_driver.jobs.slurm import (
    ENDED,
    NEVER,
    Ask,
    ask_program,
    pending_command,
    read_reasons,
    read_states,
    sacct_command,
    squeue_command,
)

log = logging.getLogger(__name__)

FIRST_WHY_SECONDS, WHY_SECONDS = 30.0, 300.0
LOST_SECONDS = 120.0
LOST_ANSWERS = 3
SHORTEST_INTERVAL, LONGEST_INTERVAL = 2.0, 60.0
SILENT_SECONDS = 60.0
QUEUE, SUBMISSION, ANSWERS = "queue", "submission", "answers"
"""What a note of the watch is about."""


@dataclass
class Watch:
    """What is known of the jobs of a batch. Asks when it is looked at, but never more often than its interval."""

    ask: Ask = ask_program
    clock: Callable[[], float] = time.monotonic
    states: dict[str, str] = field(default_factory=dict)
    """The last state that was told, by job id."""
    wanted: set[str] = field(default_factory=set)
    """The ids that are asked for."""
    not_cancelled: int = 0
    """Jobs of which SLURM did not take the order to cancel them."""
    _notes: dict[str, str] = field(default_factory=dict)
    _why_next: float = float("inf")
    _missing: dict[str, tuple[float, int]] = field(default_factory=dict)
    _accounting: bool = True
    _interval: float = SHORTEST_INTERVAL
    _next: float = 0.0
    _answered: float = float("-inf")
    _silent_since: float | None = None

    def add(self, job_id: str) -> None:
        self.wanted.add(job_id)
        self._interval = SHORTEST_INTERVAL

    def forget(self, job_id: str) -> None:
        """Ask no more of a job that is done with."""
        self.wanted.discard(job_id)

    @property
    def waits(self) -> str:
        """Why nothing moves: why jobs wait in the queue, what SLURM does not take, or that it does not answer."""
        return "; ".join(words for words in self._notes.values() if words)

    def note(self, about: str, words: str, advice: str = "") -> None:
        """Keep why nothing moves, and log it where it is new; no words take the note back."""
        if words and words != self._notes.get(about):
            log.info("%s%s", words if about != QUEUE else f"jobs wait in the queue: {words}", advice)
        self._notes[about] = words

    def cancel(self, job_ids: Iterable[str]) -> None:
        """Cancel jobs, by one call for all of them."""
        ids = sorted(job_ids)
        if ids and self.ask(["scancel", "--quiet", *ids]) is None:
            self.not_cancelled += len(ids)
            log.warning("SLURM does not answer: %d jobs go on with what they run, and start nothing more", len(ids))

    def state(self, job_id: str) -> str | None:
        """Return the last known state of a job, after asking for all if it is time to."""
        if self.clock() >= self._next:
            self._look()
        return self.states.get(job_id)

    def is_known_of(self, moment: float) -> bool:
        """Say whether the scheduler has answered since a moment; if not, it is asked soon."""
        if self._answered >= moment:
            return True
        self._interval = SHORTEST_INTERVAL
        self._next = min(self._next, self.clock() + SHORTEST_INTERVAL)
        return False

    def is_lost(self, job_id: str) -> bool:
        """Say whether answers have left a job out for so long that nobody will tell how it ended."""
        since, answers = self._missing.get(job_id, (0.0, 0))
        return answers >= LOST_ANSWERS and self.clock() - since >= LOST_SECONDS

    def _look(self) -> None:
        open_ids = {job_id for job_id in self.wanted if self.states.get(job_id) not in ENDED}
        if not open_ids:
            return
        answer, asked = None, self.clock()
        if self._accounting:
            answer = self.ask(sacct_command({job_id.partition("_")[0] for job_id in open_ids}))
        if answer is None:
            self._accounting = False
            answer = self.ask(squeue_command())
        now = self.clock()
        told = {} if answer is None else read_states(answer)
        news = {job_id: told[job_id] for job_id in open_ids & told.keys() if told[job_id] != self.states.get(job_id)}
        self.states |= news
        if answer is None:
            self._silent_since = asked if self._silent_since is None else self._silent_since
            if now - self._silent_since >= SILENT_SECONDS:
                self.note(ANSWERS, f"SLURM does not answer: {len(open_ids)} of its jobs are waited for")
        else:
            self._silent_since = None
            self.note(ANSWERS, "")
            self._answered = asked
            for job_id in open_ids - told.keys():
                since, answers = self._missing.get(job_id, (now, 0))
                self._missing[job_id] = (since, answers + 1)
            for job_id in open_ids & told.keys():
                self._missing.pop(job_id, None)
            if open_ids - told.keys():
                self._accounting = not self._accounting  # the other program may know more
        self._ask_why({job_id for job_id in open_ids if self.states.get(job_id) == "PENDING"}, now)
        self._interval = SHORTEST_INTERVAL if news else min(1.5 * self._interval, LONGEST_INTERVAL)
        self._next = now + self._interval * random.uniform(0.8, 1.2)  # noqa: S311  spreads the load of many drivers

    def _ask_why(self, pending: set[str], now: float) -> None:
        """Learn, seldom, why jobs wait; take out of the queue those that never start.

        Raises
        ------
        ConfigError
            With the scheduler's word, if there are such jobs.
        """
        if not pending:
            self.note(QUEUE, "")
            self._why_next = float("inf")
        elif self._why_next > now + WHY_SECONDS:
            self._why_next = now + FIRST_WHY_SECONDS
        elif now >= self._why_next:
            self._why_next = now + WHY_SECONDS
            told = read_reasons(self.ask(pending_command()) or "")
            reasons = {job_id: told[job_id] for job_id in pending & told.keys()}
            self.note(QUEUE, ", ".join(f"{n} × {reason}" for reason, n in sorted(Counter(reasons.values()).items())))
            never = sorted(job_id for job_id, reason in reasons.items() if reason in NEVER)
            if never:
                self.cancel(never)
                raise ConfigError(
                    f"SLURM will not start {len(never)} jobs as they are: {reasons[never[0]]}. They left the queue.\n"
                    "  Correct the resource file (timeout_min, nodes, mem_gb, qos …); the same command then goes on."
                )


@dataclass
class SlurmHandle:
    """A group of an array job."""

    watch: Watch
    job_id: str
    """``ARRAY_INDEX``."""
    log: Path
    """What the job itself printed."""
    decides = True

    def __post_init__(self) -> None:
        self.watch.add(self.job_id)

    def is_alive(self) -> bool:
        return self.watch.state(self.job_id) not in ENDED and not self.watch.is_lost(self.job_id)

    def is_known_of(self, moment: float) -> bool:
        return self.watch.is_known_of(moment)

    def cause(self) -> str | None:
        """Return SLURM's word for how the job ended; None while, or where, it does not tell."""
        state = self.watch.states.get(self.job_id)
        return state if state in ENDED else None

    def cancel(self, *others: "SlurmHandle") -> None:
        self.watch.cancel(handle.job_id for handle in (self, *others) if handle.cause() is None)
