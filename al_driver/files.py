"""Files that are either whole or absent, and hashes of what they hold."""

import hashlib
import json
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from al_driver.errors import StateMismatch


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write to a neighbour, flush it to the disk, then rename: a reader sees the old file or the new one."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


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
