"""Which format a file is in: by what stands in its first lines, and by its name where that tells nothing.

``registry`` maps the names found here to readers.
"""

from collections.abc import Iterator
from pathlib import Path

from al_driver.data.formats.steps import COMPRESSED, open_stream

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


def recognise(path: Path) -> str | None:
    """Return the format of a file, or of a folder that is one deepmd system; None for what is neither."""
    if path.is_dir():
        return _system_format(path)
    try:
        head = _read_head(path)
    except (OSError, EOFError):
        return None
    for name, marks in _MARKS:
        if all(mark in head for mark in marks):
            return name
    return "extxyz" if _is_extxyz(path, head) else None


def find_recognised(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield, sorted, every file and deepmd system below a folder whose format is recognised; no hidden ones."""
    format = _system_format(folder)
    if format is not None:
        yield folder, format
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from find_recognised(path)
        elif path.is_file() and (found := recognise(path)) is not None and not _is_plain_xyz(path, found):
            yield path, found


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
