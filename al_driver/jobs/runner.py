"""Runs a group of tasks, several side by side, inside a job. It stays light: a job starts as fast as Python does.

It takes the job (see ``journal``), then keeps ``workers`` children going until the queue is empty, each in a session of
its own, with a time limit. What becomes of each stands in the journal; the driver judges.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from al_driver.jobs.journal import Journal, claim_job
from al_driver.jobs.processes import child_environment, signal_group, start_of, this_process
from al_driver.layout import ARRAY_FILE, CLAIM_FILE, DRAIN_FILE, GROUP_FILE

GRACE_SECONDS = 3.0
HEARTBEAT_SECONDS = 20.0
DISK_SECONDS = 3.0
"""Between two looks at the disk: a program may fail long after it could not write."""
LITTLE_ROOM = 1 << 20
"""Bytes of a disk on which even a task that ended well may have lost what it wrote."""


@dataclass
class _Child:
    """A running child, and when it is to be ended: first asked, then killed."""

    process: subprocess.Popen[bytes]
    deadline: float
    asked: bool = False
    timed_out: bool = False
    met_full_disk: bool = False

    def end(self, now: float) -> None:
        signal_group(self.process.pid, signal.SIGKILL if self.asked else signal.SIGTERM)
        self.asked, self.deadline = True, now + GRACE_SECONDS


class Group:
    """The tasks of a job folder, as ``group.json`` lists them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.finished = threading.Event()
        content = json.loads((folder / GROUP_FILE).read_text())
        self._workers: int = min(content["workers"], len(content["tasks"]))
        self._prefix: list[str] = content["prefix"]
        self._env = child_environment(content["env"])
        self._queue: Iterator[dict[str, Any]] = iter(content["tasks"])
        self._last_start = time.monotonic() + (content.get("limit") or float("inf"))
        self._children: dict[int, _Child] = {}
        self._changed = threading.Condition()
        self._active = self._workers
        self._cancelled = False

    def run(self) -> None:
        """Run until the queue is empty, the driver drains it, or `cancel` is called; nothing if the job is taken."""
        try:
            if claim_job(self.folder, {"by": "runner", **this_process()}):
                self._run_all()
        finally:
            self.finished.set()

    def _run_all(self) -> None:
        self._journal = Journal(self.folder)
        self._journal.write("start", **this_process())
        for _ in range(self._workers):
            threading.Thread(target=self._work, daemon=True).start()
        try:
            self._watch()
        finally:
            self._journal.write("cancelled" if self._cancelled else "finished")
            self._journal.close()

    def cancel(self) -> None:
        """Start nothing more and end what runs; `run` then returns."""
        with self._changed:
            self._cancelled = True
            for child in self._children.values():
                child.end(time.monotonic())
            self._changed.notify_all()

    def _watch(self) -> None:
        """Enforce the time limits, show that the job lives, look at the disk, until the last worker has ended."""
        beat, look = time.monotonic() + HEARTBEAT_SECONDS, time.monotonic()
        with self._changed:
            while self._active:
                now = time.monotonic()
                for child in self._children.values():
                    if child.deadline <= now:
                        child.timed_out |= not child.asked
                        child.end(now)
                if beat <= now:
                    with suppress(OSError):
                        os.utime(self.folder / CLAIM_FILE)
                    beat = now + HEARTBEAT_SECONDS
                if look <= now:
                    full = not _has_room(self.folder)
                    for child in self._children.values():
                        child.met_full_disk |= full
                    look = now + DISK_SECONDS
                self._changed.wait(min([beat, look, *(child.deadline for child in self._children.values())]) - now)

    def _work(self) -> None:
        try:
            while (task := self._next()) is not None:
                self._run(task)
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()

    def _next(self) -> dict[str, Any] | None:
        with self._changed:
            late = time.monotonic() >= self._last_start  # the scheduler is about to end the job
            if self._cancelled or late or (self.folder / DRAIN_FILE).exists():
                return None
            return next(self._queue, None)

    def _run(self, task: dict[str, Any]) -> None:
        which = {"task": task["task"], "attempt": task["attempt"]}
        begun = time.monotonic()
        try:
            child = self._start(task, which)
        except (OSError, ValueError) as error:
            self._journal.write("end", **which, error=f"cannot be started: {error}")
            return
        if child is None:
            return
        os.waitid(os.P_PID, child.process.pid, os.WEXITED | os.WNOWAIT)
        with self._changed:
            signal_group(child.process.pid, signal.SIGKILL)  # what the child left behind; unreaped, its pid is its own
            code = child.process.wait()
            del self._children[child.process.pid]
        timeout = task["timeout"] if child.timed_out else None
        cancelled = child.asked and not child.timed_out
        told: dict[str, Any] = {"seconds": round(time.monotonic() - begun, 3)}
        if child.met_full_disk or _is_full(Path(task["folder"]), code):
            told["error"] = os.strerror(errno.ENOSPC)
        self._journal.write("end", **which, code=code, timeout=timeout, cancelled=cancelled, **told)

    def _start(self, task: dict[str, Any], which: dict[str, Any]) -> _Child | None:
        folder = Path(task["folder"])
        limit = float("inf") if task["timeout"] is None else task["timeout"]
        with (folder / task["output"]).open("ab") as stream, self._changed:
            if self._cancelled:
                return None
            process = subprocess.Popen(
                [*self._prefix, *task["argv"]], cwd=folder, env=self._env, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
            )  # fmt: skip
            self._journal.write("begin", **which, pid=process.pid, started=start_of(process.pid))
            child = self._children[process.pid] = _Child(process, time.monotonic() + limit)
            self._changed.notify_all()  # the watch learns of the new deadline
            return child


def _has_room(folder: Path) -> bool:
    """Say whether a disk has room, whatever a quota allows."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return True
    return status.f_bavail * status.f_frsize >= LITTLE_ROOM


def _is_full(folder: Path, code: int) -> bool:
    """Say whether a disk takes nothing more when a task has ended; when the driver looks, it may have room again."""
    if code == 0 and _has_room(folder):
        return False
    from al_driver.files import takes_nothing  # what most runners never need

    return takes_nothing(folder)


def run_group(folder: str) -> None:
    """Run a job's tasks in this process; SIGTERM, SIGINT and SIGHUP end them. What a job is submitted as."""
    group = Group(Path(folder))

    def end(*_: object) -> None:
        threading.Thread(target=group.cancel).start()  # a handler must not wait for a lock that its own thread holds

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    group.run()


def run_element(folder: Path, index: int) -> None:
    """Run one element of an array: the job folder that ``array.json`` names for it."""
    groups = json.loads((folder / ARRAY_FILE).read_text())["groups"]
    run_group(str(folder.absolute().parent / groups[index]))


if __name__ == "__main__":
    run_element(Path(sys.argv[1]), int(os.environ["SLURM_ARRAY_TASK_ID"]))
