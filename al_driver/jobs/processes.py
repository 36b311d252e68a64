"""A process is known by host, pid and start time: a pid alone is given to another process sooner or later.

The start time is counted in ticks since the boot, with the boot's id beside it, so that a clock that jumps neither
revives nor kills anybody. Source: proc(5), field 22 of ``/proc/PID/stat``.
"""

import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path


@cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_of(pid: int) -> str | None:
    """Return what tells a process from every other that ever had its pid; None when it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(b")")[2].split()
    return None if fields[0] in (b"Z", b"X") else f"{fields[19].decode()}@{_boot_id()}"


def is_running(pid: int, started: str | None) -> bool:
    """Say whether the process that had this pid and start still lives; one without a start was dead when seen."""
    return started is not None and start_of(pid) == started


def this_process() -> dict[str, str | int | None]:
    """Return host, pid and start of the calling process."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": start_of(os.getpid())}


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal a child and everything it started; it leads a process group of its own. Gone is well."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def find_children(folders: Mapping[str, str]) -> dict[str, tuple[int, str]]:
    """Find the session leaders that work in one of these folders.

    A runner killed between starting a child and writing its pid leaves a child that only its folder betrays.

    Parameters
    ----------
    folders
        From a folder's resolved path to any key.

    Returns
    -------
    From the key to pid and start.
    """
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        pid = int(entry.name)
        try:
            folder = str((entry / "cwd").readlink())
            leads = folder in folders and os.getsid(pid) == pid
        except OSError:
            continue
        started = start_of(pid)
        if leads and started is not None:
            found[folders[folder]] = (pid, started)
    return found


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a task: ours, then the user's, and the interpreter's folder last on the PATH.

    The last makes `dp` and `lmp` of a virtual environment work without its activation.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("SUBMITIT_")} | dict(extra)
    parts = (env.get("PATH", os.defpath), str(Path(sys.executable).parent))
    env["PATH"] = os.pathsep.join(part for part in parts if part)
    return env


def find_program(name: str, extra: Mapping[str, str] | None = None) -> str | None:
    """Find a program as a task would: on the PATH, then beside the interpreter.

    Parameters
    ----------
    name
        A bare name or a path.
    extra
        The user's environment variables, PATH perhaps among them.
    """
    return shutil.which(name, path=child_environment(extra or {})["PATH"])
