"""What SLURM says of our jobs: one query for all of them, and seldom.

`sacct` is asked where there is accounting, `squeue` where there is none or it does not answer: its ``-t all`` tells
how a job ended for as long as the controller remembers (``MinJobAge``). A word that is not known, or a job that is not
told of, is no end; a scheduler that does not answer is waited for. Sources: sacct(1), squeue(1), *JOB STATE CODES*.
"""

import logging
import os
import random
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from al_driver.errors import ConfigError

log = logging.getLogger(__name__)

ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"}
)
"""States a job never leaves: it is submitted so that SLURM does not requeue it."""

TAKEN = ENDED - {"CANCELLED", "COMPLETED", "FAILED"}
"""Those that the machine alone brings about."""

NEVER = frozenset(
    {"BadConstraints", "InvalidAccount", "InvalidQOS", "PartitionNodeLimit", "PartitionTimeLimit", "DeadLine",
     "QOSMaxWallDurationPerJobLimit", "AssocMaxWallDurationPerJobLimit", "QOSMaxCpuPerJobLimit",
     "QOSMaxNodePerJobLimit", "QOSMaxMemoryPerJob", "AssocMaxCpuPerJobLimit", "AssocMaxNodePerJobLimit"}
)  # fmt: skip
"""Reasons for which a job waits as long as it asks for what it does. Source: squeue(1), *JOB REASON CODES*."""

FIRST_WHY_SECONDS, WHY_SECONDS = 30.0, 300.0
LOST_SECONDS = 120.0
LOST_ANSWERS = 3
SHORTEST_INTERVAL, LONGEST_INTERVAL = 2.0, 60.0
PATIENCE_SECONDS = 30.0

TRANSIENT = (
    "unable to contact", "socket timed out", "connection refused", "connection timed out", "communication connection",
    "zero bytes were transmitted", "temporarily unable", "temporarily unavailable", "insane message length",
    "maxsubmitjob", "maxjobcount", "submitjoblimit", "job submit limit", "backup slurm controller",
    "unexpected message received",
)  # fmt: skip
"""What a scheduler says that may take the same job later: it is away, or has too many of this user's."""

Ask = Callable[[list[str]], str | None]


def ask_program(argv: list[str]) -> str | None:
    """Return what a program answers; None when it fails or takes too long."""
    try:
        run = subprocess.run(
            argv, capture_output=True, text=True, timeout=PATIENCE_SECONDS, stdin=subprocess.DEVNULL, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout if run.returncode == 0 else None


def sacct_command(ids: Iterable[str]) -> list[str]:
    return ["sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", ",".join(sorted(ids))]


def squeue_command() -> list[str]:
    """Return the query for all of this user's jobs: one that the controller forgot is left out, not an error."""
    return ["squeue", "-h", "-r", "-a", "-t", "all", "-o", "%i|%T", "-u", str(os.getuid())]


def pending_command() -> list[str]:
    """Return the query for why jobs of this user wait."""
    return ["squeue", "-h", "-a", "-t", "pending", "-o", "%i|%r", "-u", str(os.getuid())]


def find_command(name: str) -> list[str]:
    return ["squeue", "-h", "-a", "-t", "all", "-o", "%F", "-u", str(os.getuid()), f"--name={name}"]


def read_states(text: str) -> dict[str, str]:
    """Return the state of each job from lines ``JOBID|STATE``; what else a line says is left out.

    >>> read_states("12_3|CANCELLED by 1000\\n12_[5-6,9%2]|PENDING\\n")
    {'12_3': 'CANCELLED', '12_5': 'PENDING', '12_6': 'PENDING', '12_9': 'PENDING'}
    """
    states = {}
    for line in text.splitlines():
        job_ids, mark, state = line.partition("|")
        if mark and state.split():
            states.update(dict.fromkeys(expand_ids(job_ids.strip()), state.split()[0].rstrip("+")))
    return states


def read_reasons(text: str) -> dict[str, str]:
    """Return the reason of each job from lines ``JOBID|REASON``."""
    lines = (line.partition("|") for line in text.splitlines())
    return {job_id: reason.strip() for ids, _, reason in lines for job_id in expand_ids(ids.strip())}


def expand_ids(text: str) -> list[str]:
    """Return the single jobs of an array's waiting rest, ``12_[3-5,8%2]``; any other id as it is."""
    found = re.fullmatch(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]", text)
    if found is None:
        return [text]
    ids = []
    for part in found[2].split(","):
        bounds, _, step = part.partition(":")
        first, _, last = bounds.partition("-")
        ids += [f"{found[1]}_{index}" for index in range(int(first), int(last or first) + 1, int(step or 1))]
    return ids


def read_job_id(text: str) -> str | None:
    """Return the id from what ``sbatch --parsable`` prints, ``123`` or ``123;cluster``; None if there is none."""
    last = text.strip().rpartition("\n")[2].partition(";")[0]
    return last if last.isdecimal() else None


def is_transient(words: str) -> bool:
    """Say whether a refused submission may be repeated as it is; otherwise the site's settings are wrong."""
    return any(known in words.lower() for known in TRANSIENT)


def is_over(job_id: str, ask: Ask = ask_program) -> bool:
    """Say whether the scheduler tells that nothing of a job runs: it has ended, or waits to run again."""
    for argv in (["squeue", "-h", "-a", "-t", "all", "-o", "%A|%T", "-j", job_id], sacct_command([job_id])):
        state = read_states(ask(argv) or "").get(job_id)
        if state is not None:
            return state in ENDED or state == "PENDING"
    return False


@dataclass
class Watch:
    """What is known of the jobs of a batch. Asks when it is looked at, but never more often than its interval."""

    ask: Ask = ask_program
    clock: Callable[[], float] = time.monotonic
    states: dict[str, str] = field(default_factory=dict)
    """The last state that was told, by job id."""
    wanted: set[str] = field(default_factory=set)
    """The ids that are asked for."""
    waits: str = ""
    """Why jobs wait in the queue, once they have waited for a while."""
    _why_next: float = float("inf")
    _missing: dict[str, tuple[float, int]] = field(default_factory=dict)
    _accounting: bool = True
    _interval: float = SHORTEST_INTERVAL
    _next: float = 0.0
    _answered: float = float("-inf")

    def add(self, job_id: str) -> None:
        self.wanted.add(job_id)
        self._interval = SHORTEST_INTERVAL

    def forget(self, job_id: str) -> None:
        """Ask no more of a job that is done with."""
        self.wanted.discard(job_id)

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
        if answer is not None:
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
            self.waits, self._why_next = "", float("inf")
        elif self._why_next > now + WHY_SECONDS:
            self._why_next = now + FIRST_WHY_SECONDS
        elif now >= self._why_next:
            self._why_next = now + WHY_SECONDS
            told = read_reasons(self.ask(pending_command()) or "")
            reasons = {job_id: told[job_id] for job_id in pending & told.keys()}
            said = ", ".join(f"{n} × {reason}" for reason, n in sorted(Counter(reasons.values()).items()))
            if said and said != self.waits:
                log.info("jobs wait in the queue: %s", said)
            self.waits = said
            never = sorted(job_id for job_id, reason in reasons.items() if reason in NEVER)
            if never:
                self.ask(["scancel", "--quiet", *never])
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
    cancelled: bool = False
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

    def cancel(self) -> None:
        if not self.cancelled and self.cause() is None:
            self.watch.ask(["scancel", "--quiet", self.job_id])
        self.cancelled = True
