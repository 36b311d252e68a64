"""``"pack": true``: the task folders of a finished step in one archive, ``tasks.zip``, that anybody can open.

An archive is written beside, read back, and renamed into place before the first folder goes, so that whoever is killed
leaves every file in the archive, on the disk, or both. Where both are there the archive is whole. A step that has to
run again, and a query of its trajectories, takes everything out first; a single task is read from the archive.

What is no plain file is not packed: links to potentials go, and are made anew with the next input; a POTCAR that lies
in a task's folder stays where it is (licence).
"""

import logging
import os
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from al_driver.errors import StateMismatch
from al_driver.layout import ARCHIVE_FILE, JOBS_DIR
from al_driver.words import many

log = logging.getLogger(__name__)
TOPS = ("task", "again", JOBS_DIR)  # what names of folders that are packed begin with
LICENSED = ("POTCAR", ".potcar")  # what names of files and folders begin with that never leave their place
LEVEL = 1  # of compression: coordinates in full precision shrink to less than half
_Stamp = tuple[int, int]
"""Size in bytes and time of the last change, ns."""


class Archive:
    """An archive that is read; its index is read once, and nothing in it lies outside of a task's folder.

    Raises
    ------
    StateMismatch
        If it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / ARCHIVE_FILE
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise _damaged(path, error) from error
        self._path = path
        self.entries: dict[str, zipfile.ZipInfo] = {entry.filename: entry for entry in self._zip.infolist()}
        self._by_folder: dict[str, list[str]] = {}
        for name in self.entries:
            top, *rest = PurePosixPath(name).parts
            if not rest or ".." in rest or top.partition(".")[0] not in TOPS:
                raise _damaged(path, f"{name!r} is no file of a task")
            self._by_folder.setdefault(top, []).append(name)

    @property
    def folders(self) -> set[str]:
        """Names of the task folders in it."""
        return set(self._by_folder)

    def extract(self, name: str, target: Path) -> None:
        """Write a task's folder, and take its files' times from the archive."""
        for entry in self._by_folder[name]:
            path = target / entry.partition("/")[2]
            path.parent.mkdir(parents=True, exist_ok=True)
            self.write(entry, path)

    def write(self, entry: str, path: Path) -> None:
        """Write one file, whole or not at all; its checksum is compared on the way."""
        info, temporary = self.entries[entry], path.with_name(f".{path.name}.tmp")
        try:
            with self._zip.open(info) as source, temporary.open("wb") as stream:
                shutil.copyfileobj(source, stream, 1 << 20)
        except (zipfile.BadZipFile, zlib.error) as error:
            raise _damaged(self._path, error) from error
        changed = time.mktime((*info.date_time, 0, 0, -1))
        os.utime(temporary, (changed, changed))
        temporary.replace(path)

    def holds(self, entry: str, path: Path) -> bool:
        """Say whether a file on the disk is the one in the archive, to its last byte."""
        info = self.entries.get(entry)
        if info is None or path.stat().st_size != info.file_size:
            return False
        try:
            with self._zip.open(info) as one, path.open("rb") as other:
                return all(other.read(len(block)) == block for block in iter(lambda: one.read(1 << 20), b""))
        except (zipfile.BadZipFile, zlib.error) as error:
            raise _damaged(self._path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()


def packed_folders(folder: Path) -> set[str]:
    """Return the names of the task folders in the archive of a step; none where there is no archive."""
    if not (folder / ARCHIVE_FILE).exists():
        return set()
    with Archive(folder) as archive:
        return archive.folders


def pack(folder: Path) -> int:
    """Put the task folders and the jobs of a finished step into its archive; return the number of files in it.

    Whatever an earlier call was killed at is finished first.

    Raises
    ------
    OSError
        If the disk is full, or the archive reads back otherwise; every folder is there still.
    StateMismatch
        If there is an archive that is damaged.
    """
    if not any(_files(folder)):
        if (folder / ARCHIVE_FILE).exists():
            _remove(folder, {})  # folders whose files went before
        return 0
    if (folder / ARCHIVE_FILE).exists():
        with Archive(folder) as archive:
            if all(archive.holds(_entry(folder, path), path) for path in _files(folder)):
                _remove(folder, {path: _stamp(path) for path in _files(folder)})
                return len(archive.entries)
        unpack(folder)  # something on the disk is newer: what is only in the archive joins it
    stamps = {path: _stamp(path) for path in _files(folder)}
    _write_archive(folder, stamps)
    _remove(folder, stamps)
    return len(stamps)


def unpack(folder: Path) -> None:
    """Bring back what the archive of a step holds, unless the disk has it, and take the archive away.

    Raises
    ------
    StateMismatch
        If the archive is damaged; nothing was taken away.
    """
    if not (folder / ARCHIVE_FILE).exists():
        return
    with Archive(folder) as archive:
        for entry in archive.entries:
            path = folder / entry
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                archive.write(entry, path)
    (folder / ARCHIVE_FILE).unlink()
    log.info("%s: taken out of %s", folder, ARCHIVE_FILE)


def pack_step(folder: Path) -> None:
    """Pack a finished step; a disk that is full is a warning, since the next start tries again."""
    try:
        n_files = pack(folder)
    except OSError as error:
        log.warning("warning: %s is not packed (%s); the next start tries again", folder, error)
        return
    if n_files:
        log.info("%s: %s in %s now", folder, many(n_files, "file"), ARCHIVE_FILE)


def _write_archive(folder: Path, stamps: dict[Path, _Stamp]) -> None:
    """Write the archive beside, read it back, and rename it."""
    temporary = folder / f".{ARCHIVE_FILE}.tmp"
    try:
        with temporary.open("wb") as stream:
            with zipfile.ZipFile(
                stream, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL, strict_timestamps=False
            ) as new:
                for path in stamps:
                    new.write(path, _entry(folder, path))
            stream.flush()
            os.fsync(stream.fileno())
        with zipfile.ZipFile(temporary) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            damaged = archive.testzip()
        if damaged is not None or sizes != {_entry(folder, path): size for path, (size, _) in stamps.items()}:
            raise OSError(f"the archive reads back otherwise, first {damaged or 'a size'}")
    except OSError:
        temporary.unlink(missing_ok=True)  # it takes room on a disk that may be full
        raise
    temporary.replace(folder / ARCHIVE_FILE)


def _remove(folder: Path, stamps: dict[Path, _Stamp]) -> None:
    """Take away files that are in the archive, links, and folders that are empty then; what changed since stays."""
    for path, stamp in stamps.items():
        if _stamp(path) == stamp:
            path.unlink()
    for top in list(_task_folders(folder)):
        for place, _, names in os.walk(top, topdown=False):
            for path in (Path(place, name) for name in names):
                if path.is_symlink():
                    path.unlink()
            with suppress(OSError):  # not empty
                Path(place).rmdir()


def _task_folders(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.partition(".")[0] in TOPS and path.is_dir() and not path.is_symlink():
            yield path


def _files(folder: Path) -> Iterator[Path]:
    """Yield the plain files to pack, in the order of their names."""
    for top in _task_folders(folder):
        for path in sorted(top.rglob("*")):
            parts = path.relative_to(folder).parts
            if path.is_file() and not path.is_symlink() and not any(part.startswith(LICENSED) for part in parts):
                yield path


def _entry(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _damaged(path: Path, why: object) -> StateMismatch:
    return StateMismatch(
        f"{path} cannot be read ({why}); it holds the task folders of its step.\n"
        "  Bring the file back, or make the step anew with --redo."
    )


def _stamp(path: Path) -> _Stamp:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
