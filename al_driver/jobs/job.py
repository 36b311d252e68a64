"""A submitted job as the driver sees it: a folder, a claim, a journal, and the attempts that are open in it."""

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

from al_driver.files import read_json
from al_driver.jobs.attempts import Ending
from al_driver.jobs.executor import Handle
from al_driver.jobs.group import read_log_tail
from al_driver.jobs.journal import JournalReader, claim_job, read_claim
from al_driver.jobs.processes import find_children, is_running, signal_group, this_process
from al_driver.jobs.slurm import TAKEN
from al_driver.layout import CLAIM_FILE, DRAIN_FILE, GROUP_FILE

STALE_SECONDS = 90.0
CANCEL_SECONDS = 5.0
CAUSE_SECONDS = 15.0
OVER_MEMORY = "Exceeded job memory limit"
ADVICE = dict.fromkeys(("OUT_OF_MEMORY", OVER_MEMORY), " (raise mem_gb)")


@dataclass
class Job:
    """A job folder with the attempts that have no end yet."""

    folder: Path
    open: dict[str, int]
    """Attempt numbers by task."""
    folders: dict[str, str]
    """Attempt folders by task, as the runner knows them."""
    handle: Handle | None = None
    """None for a job of an earlier driver on this machine."""
    begun: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    """pid and start of the children that have no end yet."""
    worked: bool = False
    """It started a task, or was told not to."""
    watched: bool = False
    """This driver has seen it alive, so that its death is news."""
    adopted: bool = False
    """An earlier driver submitted it."""
    side_by_side: int = 1
    """How many tasks it runs at once."""
    first: list[str] = field(default_factory=list)
    """The tasks that began with the job: nobody used up its time before them."""
    _said_end: bool = False
    _held: list[dict[str, Any]] = field(default_factory=list)
    _claim: dict[str, Any] | None = None
    _beat: tuple[int, float] = (-1, 0.0)

    def __post_init__(self) -> None:
        self._reader = JournalReader(self.folder)

    @classmethod
    def of_earlier_driver(
        cls, folder: Path, handle: Handle | None, is_current: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> "Job":
        """Return the job that an earlier driver wrote into a folder, with those of its attempts that are current."""
        group = read_json(folder / GROUP_FILE)
        rows = [row for row in group["tasks"] if is_current(row)]
        attempts, folders = ({row["task"]: row[key] for row in rows} for key in ("attempt", "folder"))
        return cls(folder.absolute(), attempts, folders, handle, adopted=True, side_by_side=group.get("workers", 1))

    @property
    def ended(self) -> bool:
        """Whether the runner said that it ended, and nothing waits for the scheduler to say why."""
        return self._said_end and not self._held

    @property
    def cause(self) -> str | None:
        """The scheduler's word for how the job ended; None where it has none."""
        return None if self.handle is None else self.handle.cause()

    @property
    def _ended_from_outside(self) -> bool:
        """Whether the scheduler says that the machine or somebody ended the job."""
        return self.cause in TAKEN or self.cause == "CANCELLED"

    @property
    def is_drained(self) -> bool:
        """Whether a driver told it to start nothing more, or to end."""
        return (self.folder / DRAIN_FILE).exists()

    def read_ends(self, *, alive: bool = True) -> list[dict[str, Any]]:
        """Return the ends of attempts that are new; beginnings are noted. A cancelled one waits for its cause.

        Of a job that is no longer alive they are the last.
        """
        ends, self._held = self._held, []
        for event in self._reader.read(surely=not alive):
            kind, name = event.get("event"), event.get("task", "")
            if kind in ("finished", "cancelled"):
                self._said_end = True
                self.worked |= kind == "cancelled"
            elif kind == "begin":
                self.worked = True
                self.begun[name] = (event["pid"], event["started"])
                if len(self.first) < self.side_by_side:
                    self.first.append(name)
            elif kind == "end":
                self.worked = True
                self.begun.pop(name, None)
                ends.append(event)
        if self._asks_scheduler and not self.is_drained:
            self._held = [event for event in ends if self._waits_for_cause(event)]
        elif self._asks_scheduler:  # a driver had it end: what a signal ended is its doing
            for event in ends:
                event["cancelled"] = event.get("cancelled") or _is_signalled(event)
        return [event for event in ends if event not in self._held]

    def _waits_for_cause(self, event: dict[str, Any]) -> bool:
        """Say whether the scheduler may yet tell why a task was ended; when it has, the end is the job's.

        A scheduler signals tasks and runner at once, so that a task may be seen to end before the runner is told.
        """
        if self.handle is None or not (event.get("cancelled") or _is_signalled(event)):
            return False
        if self.handle.is_alive():
            seen = event.setdefault("seen", time.monotonic())
            return bool(event.get("cancelled")) or not self.handle.is_known_of(seen + CAUSE_SECONDS)
        event["cancelled"] = event.get("cancelled") or self._ended_from_outside
        return False

    @property
    def _asks_scheduler(self) -> bool:
        return self.handle is not None and self.handle.decides

    def is_alive(self) -> bool:
        """Say whether its runner lives or may still start."""
        if self.ended:
            return False
        claim = self._claim or read_claim(self.folder)
        if claim is None:
            if self.handle is not None and self.handle.is_alive():
                return True
            claim = None if self.give_up() else read_claim(self.folder)
        self._claim = claim
        if claim is None or claim["by"] == "driver":
            return False
        if self._asks_scheduler and self.handle is not None:  # its word counts, as long as it has one
            return self.handle.is_alive() or (self.handle.cause() is None and self._is_beating())
        if claim == {"by": "runner", **this_process()}:  # inline
            return self.handle is not None and self.handle.is_alive()
        if claim["host"] == socket.gethostname():
            return is_running(claim["pid"], claim["started"])
        return self._is_beating()

    def _is_beating(self) -> bool:
        """Judge a runner on another host by the claim's time stamp: how long, by our own clock, it stood still."""
        stamp = (self.folder / CLAIM_FILE).stat().st_mtime_ns
        if stamp != self._beat[0]:
            self._beat = (stamp, time.monotonic())
        return time.monotonic() - self._beat[1] < STALE_SECONDS

    def leaves_running(self, name: str) -> bool:
        """Say whether a child that a killed runner left on this machine still works."""
        return not self._asks_scheduler and name in self.begun and is_running(*self.begun[name])

    def counts(self, name: str) -> bool:
        """Say whether the job's end is held against a task: not what a driver did, nor a limit that others used up."""
        if self.is_drained or (self.cause == "TIMEOUT" and name not in self.first):
            return False
        return self.watched or self.cause in TAKEN or (self.handle is not None and not self.adopted)

    def ending(self, otherwise: str) -> Ending:
        """Return the ending of an attempt whose runner is gone: in the scheduler's word, where it has one."""
        known = self.cause if self._ended_from_outside else self._find_memory_kill()
        said = otherwise if known is None else f"was ended by SLURM: {known}{ADVICE.get(known, '')}"
        return Ending(error=f"its job {said}", out_of_time=known in ("TIMEOUT", "DEADLINE"))

    def _find_memory_kill(self) -> str | None:
        """Return what SLURM wrote where it enforces memory without cgroups: its word is then FAILED alone."""
        logs = self.logs() if self.cause == "FAILED" else []
        said = any(OVER_MEMORY in log.read_text(errors="replace") for log in logs if log.is_file())
        return OVER_MEMORY if said else None

    def logs(self) -> list[Path]:
        """Return where the job itself printed."""
        own = None if self.handle is None else self.handle.log
        return [own] if own is not None else sorted(self.folder.glob("*_log.out"))

    def last_words(self) -> str:
        """Say of a task that its job ended before it began, with the last line that the job itself printed."""
        said = "" if self.cause is None else f" ({self.cause})"
        return f"its job ended{said} before it began{read_log_tail(self.logs())}"

    def give_up(self) -> bool:
        """Take the job away from any runner that has not begun. False if one has."""
        return claim_job(self.folder, {"by": "driver", **this_process()})

    def drain(self) -> None:
        """Let what runs go on, and start nothing more."""
        (self.folder / DRAIN_FILE).touch()
        self.worked = True

    def adopt_strays(self) -> None:
        """Find the children that a killed runner started without the time to say so."""
        if self._claim is None or self._claim.get("host") != socket.gethostname() or self._claim["by"] == "driver":
            return
        if self._asks_scheduler:
            return  # a scheduler ends what its jobs started, and what it overlooks is fenced by the attempt's number
        unknown = {str(Path(self.folders[name]).resolve()): name for name in self.open if name not in self.begun}
        self.begun |= find_children(unknown) if unknown else {}

    def ask_to_end(self) -> None:
        """Ask the runner to end its children and itself; a job that has not begun never will.

        A runner on another host cannot be asked: it starts nothing more. A full disk keeps nobody from ending.
        """
        with suppress(OSError):
            self.drain()
            self._claim = self._claim or read_claim(self.folder)
            if self._claim is None and self.give_up():
                return
            self._claim = self._claim or read_claim(self.folder)
        if self._runs_here():
            os.kill(self._runner_pid, SIGTERM)

    def kill(self) -> None:
        """Kill the runner, every child that is known, and those it had no time to tell of."""
        if self._runs_here():
            os.kill(self._runner_pid, SIGKILL)
            self.adopt_strays()
        for pid, started in self.begun.values():
            if is_running(pid, started):
                signal_group(pid, SIGKILL)

    @property
    def _runner_pid(self) -> int:
        return int(self._claim["pid"]) if self._claim else -1

    def _runs_here(self) -> bool:
        """Say whether the runner is another living process of this host."""
        claim = self._claim
        if claim is None or claim["host"] != socket.gethostname() or claim["pid"] == os.getpid():
            return False
        return is_running(claim["pid"], claim["started"])


def _is_signalled(event: dict[str, Any]) -> bool:
    """Say whether a signal that the machine sends ended a task, and not its time limit."""
    return event.get("timeout") is None and Ending(event.get("code", 0)).machine_detail() is not None


def end_jobs(jobs: Sequence[Job]) -> None:
    """End jobs and their children: ask, wait a few seconds, kill."""
    for job in jobs:
        job.ask_to_end()
    handles = [job.handle for job in jobs if job.handle is not None]
    for kind in {type(handle) for handle in handles}:  # where the executor was changed there are two
        first, *others = (handle for handle in handles if type(handle) is kind)
        first.cancel(*others)
    deadline = time.monotonic() + CANCEL_SECONDS
    while time.monotonic() < deadline and any(job.is_alive() for job in jobs):
        time.sleep(0.02)
    for job in jobs:
        job.read_ends()
        job.kill()
