"""Holding a work folder: its lock, its log, and what its history says of who works there."""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import al_driver
from al_driver.errors import AlError, ConfigError, FolderLocked, LeaveJobs, StateMismatch
from al_driver.files import disk_errors
from al_driver.layout import WorkFolder
from al_driver.schema.resource import Resources
from al_driver.workflow.context import Context, Display, NoDisplay
from al_driver.workflow.history import History
from al_driver.workflow.lock import FolderLock

log = logging.getLogger(__name__)


@contextlib.contextmanager
def hold(
    kind: str,
    work_dir: Path,
    resources: Resources,
    display: Display | None,
    *,
    param: Path | None = None,
    resource: Path | None = None,
) -> Iterator[Context]:
    """Hold a work folder for an `al run` or an `al init_bulk`, and keep where its two files lie.

    Raises
    ------
    ConfigError
        If the folder cannot be made, or not be written.
    StateMismatch
        If it belongs to the other of the two.
    FolderLocked
        If another driver holds it.
    DiskError
        If its disk takes nothing more.
    """
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"work_dir {work_dir} cannot be made: {error.strerror}.") from error
    if not os.access(work_dir, os.W_OK | os.X_OK):
        raise ConfigError(
            f"work_dir {work_dir} cannot be written: it is read-only, or another user's.\n"
            "  Mend that (mount, permissions), then give the same command again, or name another `work_dir`."
        )
    folder = WorkFolder(work_dir)
    history = History(folder.history)
    with _locked(folder, resources, display) as context:
        if folder.history.exists() and (before := history.read()["kind"]) != kind:
            raise StateMismatch(
                f"{work_dir} belongs to an `al {before}`, and this is an `al {kind}`.\n"
                "  Give one of the two another `work_dir` in its param file."
            )
        files = {"param": param, "resource": resource}
        given = {name: os.path.relpath(path, work_dir) for name, path in files.items() if path is not None}
        with disk_errors(work_dir):
            history.add("started", kind=kind, state="running", error=None, verdict=None, files=given)
        try:
            with disk_errors(work_dir):
                yield context
        except KeyboardInterrupt as error:
            _add(history, "stopped", state="stopped")
            log.warning("stopped%s", ", its jobs go on" if isinstance(error, LeaveJobs) else "")
            raise
        except FolderLocked:
            raise  # the folder and its history are another driver's now
        except BaseException as error:
            _add(history, "failed", state="failed", error=str(error))
            raise


@contextlib.contextmanager
def hold_as_it_is(folder: WorkFolder, resources: Resources, display: Display | None, event: str) -> Iterator[Context]:
    """Hold a work folder for something beside its own run, whose state and verdict stay what they are.

    Raises
    ------
    FolderLocked
        If another driver holds it.
    DiskError
        If its disk takes nothing more.
    """
    history = History(folder.history)
    with _locked(folder, resources, display) as context:
        step = history.read().get("step", "")
        try:
            with disk_errors(folder.root):
                history.add(event)
                yield context
                history.add(f"{event}: done", step=step)
        except FolderLocked:
            raise
        except BaseException as error:
            _add(history, f"{event}: {'stopped' if isinstance(error, KeyboardInterrupt) else error}")
            raise


def _add(history: History, event: str, **changes: str) -> None:
    """Record how a driver ends; a disk that takes nothing more keeps no driver from ending."""
    with contextlib.suppress(OSError):
        history.add(event, **changes)


@contextlib.contextmanager
def _locked(folder: WorkFolder, resources: Resources, display: Display | None) -> Iterator[Context]:
    with contextlib.ExitStack() as held:
        with disk_errors(folder.root):
            lock = held.enter_context(FolderLock(folder.lock, log.warning))
            held.enter_context(_logged_to(folder.log))

        def check_held() -> None:
            lock.check_held()
            if folder.stop.exists():
                raise KeyboardInterrupt

        folder.stop.unlink(missing_ok=True)  # it was meant for an earlier driver
        log.info("al %s, process %d on %s", al_driver.__version__, os.getpid(), socket.gethostname())
        try:
            yield Context(folder, resources, display or NoDisplay(), check_held=check_held)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            (log.error if isinstance(error, AlError) else log.exception)("%s", error)
            raise


class _LogFile(logging.FileHandler):
    """Loses lines where the disk takes none; the run ends for that elsewhere, with a word."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's own name)
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


@contextlib.contextmanager
def _logged_to(path: Path) -> Iterator[None]:
    """Append what the package logs to a file."""
    root = logging.getLogger("al_driver")
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()
