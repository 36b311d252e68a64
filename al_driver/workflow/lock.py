"""One driver a folder.

``al.lock`` names host, pid, process start time and SLURM job, and counts up while its driver lives. On the same host
pid and start time decide whether it does; on another host SLURM, where it says that the driver's job ended, and
otherwise the counter, by the observer's own clock.
"""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType

from al_driver.errors import FolderLocked
from al_driver.files import write_atomic
from al_driver.jobs.processes import is_running, start_of
from al_driver.jobs.slurm import is_over

HEARTBEAT_SECONDS = 20.0
STALE_SECONDS = 90.0
ASK_SECONDS = 10.0


@dataclass(frozen=True)
class Holder:
    """Who holds a folder."""

    host: str
    pid: int
    started: str | None
    slurm_job_id: str | None
    counter: int = 0
    slurm_restarts: int = 0
    """How often SLURM had queued the job again when this driver began."""

    @classmethod
    def of_this_process(cls) -> "Holder":
        restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
        job_id = os.environ.get("SLURM_JOB_ID")
        return cls(socket.gethostname(), os.getpid(), start_of(os.getpid()), job_id, slurm_restarts=restarts)

    def is_same_driver(self, other: "Holder | None") -> bool:
        return other is not None and replace(self, counter=0) == replace(other, counter=0)

    def __str__(self) -> str:
        job = f", SLURM job {self.slurm_job_id}" if self.slurm_job_id else ""
        return f"process {self.pid} on {self.host}{job}"


class FolderLock:
    """Holds a folder while the ``with`` block runs.

    Parameters
    ----------
    path
        The lock file.
    say
        Told, once, when a driver on another host has to be watched before its lock can be judged.

    Raises
    ------
    FolderLocked
        If a living driver holds it.
    """

    def __init__(self, path: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self.path = path
        self.lost = threading.Event()
        self._me = Holder.of_this_process()
        self._say = say
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock heartbeat", daemon=True)

    def __enter__(self) -> "FolderLock":
        while not self._create():
            holder = read_holder(self.path)
            if holder is not None and self._is_alive(holder):
                raise FolderLocked(
                    f"another driver holds {self.path.parent}: {holder}.\n"
                    f"  Wait for it, or stop it: al stop {self.path.parent}. If it is surely gone, remove {self.path}."
                )
            self._take_away(holder)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._me.is_same_driver(read_holder(self.path)):
            self.path.unlink(missing_ok=True)

    def check_held(self) -> None:
        """Raise `FolderLocked` if somebody took the lock away, because this driver seemed dead."""
        if self.lost.is_set():
            raise FolderLocked(f"{self.path} was taken by another driver ({read_holder(self.path)}); this one ends.")

    def _create(self) -> bool:
        """Make the lock file, whole, unless it exists."""
        draft = self.path.with_name(f"{self.path.name}.draft.{self._me.host}.{self._me.pid}")  # no other driver's
        try:
            draft.write_text(json.dumps(asdict(self._me)))
            os.link(draft, self.path)
        except FileExistsError:
            return False
        finally:
            draft.unlink(missing_ok=True)
        return True

    def _take_away(self, holder: Holder | None) -> None:
        """Remove the file whose holder was judged dead, unless another driver was quicker.

        Whoever removes holds the file itself by `flock`: of several drivers that judged the same file, the second
        finds another one in its place, or none. On a file system without `flock` only the moment between the look and
        the removal stays open, and a driver whose file was removed in it sees that at its next beat.
        """
        try:
            with self.path.open("r+b") as found:
                with contextlib.suppress(OSError):
                    fcntl.flock(found, fcntl.LOCK_EX)
                now = read_holder(self.path)
                same_driver = now.is_same_driver(holder) if now is not None else holder is None
                if same_driver and os.path.samestat(os.fstat(found.fileno()), self.path.stat()):
                    self.path.unlink()
        except FileNotFoundError:
            return

    def _is_alive(self, holder: Holder) -> bool:
        if holder.host == self._me.host:
            return is_running(holder.pid, holder.started)
        if self._job_is_over(holder):
            return False
        self._say(f"{self.path} belongs to {holder}: watching it for {STALE_SECONDS:.0f} s to see whether it lives")
        begun = asked = time.monotonic()
        while (moment := time.monotonic()) < begun + STALE_SECONDS:
            time.sleep(min(1.0, STALE_SECONDS / 20))
            now = read_holder(self.path)
            if now is None:
                return False
            if now != holder:
                return True
            if moment >= asked + ASK_SECONDS:  # a job that completes is soon over
                if self._job_is_over(holder):
                    return False
                asked = moment
        return False

    def _job_is_over(self, holder: Holder) -> bool:
        """Say whether SLURM ended the job that a driver on another host was, or was part of."""
        if holder.slurm_job_id is None:
            return False
        if holder.slurm_job_id == self._me.slurm_job_id:  # queued again it is one job still
            return holder.slurm_restarts < self._me.slurm_restarts
        return is_over(holder.slurm_job_id)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):  # a full disk, a server that is away: the next beat may succeed
                if not self._is_mine():
                    self.lost.set()
                    return
                self._me = replace(self._me, counter=self._me.counter + 1)
                write_atomic(self.path, json.dumps(asdict(self._me)))

    def _is_mine(self) -> bool:
        """Say whether the lock file names this driver; a file that cannot be read now says neither yes nor no."""
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return False
        return self._me.is_same_driver(_parse(text))


def read_holder(path: Path) -> Holder | None:
    """Return who holds a folder; None when nobody does, or the file is damaged."""
    try:
        return _parse(path.read_text())
    except (OSError, UnicodeDecodeError):
        return None


def _parse(text: str) -> Holder | None:
    try:
        return Holder(**json.loads(text))
    except (ValueError, TypeError):
        return None
