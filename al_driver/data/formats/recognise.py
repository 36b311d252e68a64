"""Which format a file is in: by what stands in its first lines, and by its name where that tells nothing.

``registry`` maps the names found here to readers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from al_driver.data.formats.steps import COMPRESSED, UNREADABLE, open_stream

_HEAD = 65536  # bytes; OUTCAR of VASP says "executed on" within 200, CP2K its name within 4,000
_MARKS = (
    ("pwmat/movement", (b"atoms,Iteration",)),
    ("lammps/dump", (b"ITEM: TIMESTEP", b"ITEM: NUMBER OF ATOMS")),
    ("vasp/xml", (b"<modeling>",)),
    ("vasp/outcar", (b" vasp.", b"executed on")),
    ("qe/pw", (b"Program PWSCF",)),
    ("cp2k/output", (b"CP2K|", b"PROGRAM STARTED AT")),
)
_EXTXYZ_MARKS = (b"Properties=", b"Lattice=")
NPY, MIXED, RAW = "deepmd/npy", "deepmd/npy/mixed", "deepmd/raw"


@dataclass(frozen=True)
class Found:
    """A file, or a folder that is one deepmd system, and its format; or what cannot be read, and why."""

    path: Path
    format: str = "unknown"
    problem: str = ""


def recognise(path: Path) -> str | None:
    """Return the format of a file, or of a folder that is one deepmd system; None for what is neither.

    Raises
    ------
    UNREADABLE
        If it cannot be read.
    """
    if path.is_dir():
        return _system_format(path)
    head = _read_head(path)
    for name, marks in _MARKS:
        if all(mark in head for mark in marks):
            return name
    return "extxyz" if _is_extxyz(path, head) else None


def find_recognised(folder: Path) -> Iterator[Found]:
    """Yield, sorted, every file and deepmd system below a folder whose format is recognised, and what is unreadable.

    Hidden ones are not looked at. A folder that links lead to several times, or round in a circle, is searched once.
    """
    yield from _search(folder, set())


def why_unreadable(error: BaseException) -> str:
    """Return, in words, why something cannot be read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"cannot be read ({type(error).__name__}: {reason})"


def _search(folder: Path, seen: set[Path]) -> Iterator[Found]:
    try:
        format, paths = _look_into(folder, seen)
    except OSError as error:
        yield Found(folder, problem=why_unreadable(error))
        return
    if format is not None:
        yield Found(folder, format)
    for path in paths:
        try:
            is_folder = path.is_dir()
            format = None if is_folder else _recognise_file(path)
        except UNREADABLE as error:
            yield Found(path, problem=why_unreadable(error))
            continue
        if is_folder:
            yield from _search(path, seen)
        elif format is not None:
            yield Found(path, format)


def _look_into(folder: Path, seen: set[Path]) -> tuple[str | None, list[Path]]:
    """Return the format of a folder that is one system, else what is in it; nothing of one that was seen before."""
    resolved = folder.resolve()
    if resolved in seen:
        return None, []
    seen.add(resolved)
    format = _system_format(folder)
    return format, [] if format else sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _recognise_file(path: Path) -> str | None:
    """Return the format of something in a folder that is no folder."""
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError("a link to nothing")
    format = recognise(path) if path.is_file() else None
    return None if format is None or _is_plain_xyz(path, format) else format


def _is_plain_xyz(path: Path, format: str) -> bool:
    """Say whether a file has an xyz table without cell and columns: CP2K's forces and velocities look so too."""
    return format == "extxyz" and not any(mark in _read_head(path).split(b"\n", 2)[1] for mark in _EXTXYZ_MARKS)


def _system_format(folder: Path) -> str | None:
    if not (folder / "type.raw").is_file():
        return None
    if next(folder.glob("set.*/real_atom_types.npy"), None):
        return MIXED
    if next(folder.glob("set.*"), None):
        return NPY
    return RAW if (folder / "coord.raw").is_file() else None


def _read_head(path: Path) -> bytes:
    with open_stream(path) as stream:
        return stream.read(_HEAD)


def _is_extxyz(path: Path, head: bytes) -> bool:
    lines = head.split(b"\n", 2)
    if len(lines) < 2 or not lines[0].strip().isdigit():
        return False
    name = path.with_suffix("") if path.suffix in COMPRESSED else path
    return name.suffix in {".extxyz", ".xyz"} or any(mark in lines[1] for mark in _EXTXYZ_MARKS)
