"""A submitted job as the driver sees it: a folder, a claim, a journal, and the attempts that are open in it."""

import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

from al_driver.jobs.executor import Handle
from al_driver.jobs.journal import JournalReader, claim_job, read_claim
from al_driver.jobs.processes import find_children, is_running, signal_group, this_process
from al_driver.layout import CLAIM_FILE, DRAIN_FILE

STALE_SECONDS = 90.0
CANCEL_SECONDS = 5.0


@dataclass
class Job:
    """A job folder with the attempts that have no end yet."""

    folder: Path
    open: dict[str, int]
    """Attempt numbers by task."""
    folders: dict[str, str]
    """Attempt folders by task, as the runner knows them."""
    handle: Handle | None = None
    """None for a job of an earlier driver."""
    begun: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    """pid and start of the children that have no end yet."""
    ended: bool = False
    """The runner said that it ended."""
    worked: bool = False
    """It started a task, or was told not to."""
    watched: bool = False
    """This driver has seen it alive, so that its death is news."""
    _claim: dict[str, Any] | None = None
    _beat: tuple[int, float] = (-1, 0.0)

    def __post_init__(self) -> None:
        self._reader = JournalReader(self.folder)

    def read_ends(self) -> list[dict[str, Any]]:
        """Return the ends of attempts that are new in the journal; beginnings are noted."""
        ends = []
        for event in self._reader.read():
            kind, name = event.get("event"), event.get("task", "")
            if kind in ("finished", "cancelled"):
                self.ended = True
                self.worked |= kind == "cancelled"
            elif kind == "begin":
                self.worked = True
                self.begun[name] = (event["pid"], event["started"])
            elif kind == "end":
                self.worked = True
                self.begun.pop(name, None)
                ends.append(event)
        return ends

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
        if self.handle is not None:
            self.handle.cancel()
        if self._runs_here():
            os.kill(self._runner_pid, SIGTERM)

    def kill(self) -> None:
        """Kill the runner and every child that is known."""
        if self._runs_here():
            os.kill(self._runner_pid, SIGKILL)
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


def end_jobs(jobs: Sequence[Job]) -> None:
    """End jobs and their children: ask, wait a few seconds, kill."""
    for job in jobs:
        job.ask_to_end()
    deadline = time.monotonic() + CANCEL_SECONDS
    while time.monotonic() < deadline and any(job.is_alive() for job in jobs):
        time.sleep(0.02)
    for job in jobs:
        job.read_ends()
        job.kill()
