"""Files that are either whole or absent, and hashes of what they hold."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from al_driver.errors import DiskError, StateMismatch

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE})
"""What a system says that takes nothing more: full, over a quota or a limit, read-only, broken, away."""
PROBE_BYTES = 1 << 20
_DISK_WORDS = re.compile("^.*(?:" + "|".join(map(os.strerror, sorted(DISK_ERRORS - {errno.EFBIG}))) + ").*$", re.M)


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Tell a person which disk takes nothing more.

    Parameters
    ----------
    folder
        What is written to, where the system names no file.

    Raises
    ------
    DiskError
        In place of an `OSError` that the disk is to blame for.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        where = Path(os.fsdecode(error.filename)).parent if error.filename else folder
        free = _describe_room(where if where.is_dir() else folder)
        raise DiskError(
            f"nothing can be written in {where}: {error.strerror}{free}.\n"
            "  Mend that (room, quota, mount), then give the same command again: what is finished is kept."
        ) from error


def check_room(folder: Path) -> None:
    """Raise `OSError` unless a folder takes a file of `PROBE_BYTES`; quotas tell nothing before."""
    probe = folder / f".room.{os.getpid()}.tmp"
    try:
        write_atomic(probe, bytes(PROBE_BYTES))
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def takes_nothing(folder: Path) -> bool:
    """Say whether the disk of a folder, or its quota, takes nothing more."""
    try:
        check_room(folder)
    except OSError as error:
        return error.errno in DISK_ERRORS
    return False


def find_disk_error(text: str) -> str | None:
    """Return the last line in which a program says that a disk took nothing more; None if it says nothing."""
    lines = _DISK_WORDS.findall(text)
    return str(lines[-1]).strip() if lines else None


def _describe_room(folder: Path) -> str:
    try:
        return f" ({shutil.disk_usage(folder).free / 1e9:.3g} GB free)"
    except OSError:
        return ""


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write to a neighbour, flush it to the disk, then rename: a reader sees the old file or the new one."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def read_tail(path: Path, n_bytes: int) -> bytes:
    """Return the last bytes of a file, nothing where there is none: large outputs tell at their end how they ended."""
    if not path.is_file():
        return b""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - n_bytes))
        return stream.read()


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON atomically; NaN and infinity are refused, since JSON has no word for them."""
    write_atomic(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file this program wrote.

    Raises
    ------
    StateMismatch
        If the file is damaged; it is written atomically, so that somebody or the disk changed it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StateMismatch(f"{path} is damaged ({error}).\n  Move it away and start again.") from error


def hash_json(content: Any) -> str:
    """Return the sha256 of a JSON value, independent of the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_path(path: Path, leave_out: Collection[str] = ()) -> str:
    """Return the sha256 of a file, or of a folder's files with their relative names, but for files of some names."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and file.name not in leave_out)
        return hash_json([[str(file.relative_to(path)), hash_path(file)] for file in files])
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON value a line, atomically."""
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def link(source: Path, target: Path) -> None:
    """Let a finished file stand in the step's folder too; a second copy only where the file system has no links."""
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        temporary.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, temporary)
    temporary.replace(target)
    temporary.unlink(missing_ok=True)  # two links to one file: the replacement did nothing
