"""Readers by the name of their format; names are dpdata's where it has one, and what it alone knows is left to it."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from al_driver.data.formats.cp2k import read_cp2k
from al_driver.data.formats.deepmd import read_npy, read_raw
from al_driver.data.formats.extxyz import read_extxyz
from al_driver.data.formats.others import dpdata_formats, read_structure_dump, read_with_dpdata
from al_driver.data.formats.pwmat import read_movement
from al_driver.data.formats.recognise import MIXED, NPY, RAW
from al_driver.data.formats.steps import COMPRESSED, AnyStep, open_stream
from al_driver.data.formats.vasp_outcar import read_outcar
from al_driver.data.formats.vasp_xml import read_vasprun
from al_driver.data.pw_output import read_pw_frames
from al_driver.errors import ConfigError, EngineError, Problem
from al_driver.schema.suggest import nearest

READERS: dict[str, Callable[[Path], Iterator[AnyStep]]] = {
    "vasp/outcar": read_outcar,
    "vasp/xml": read_vasprun,
    "qe/pw": read_pw_frames,
    "cp2k/output": read_cp2k,
    "pwmat/movement": read_movement,
    "extxyz": read_extxyz,
    NPY: read_npy,
    MIXED: read_npy,
    RAW: read_raw,
}
DUMP = "lammps/dump"
ALIASES = {
    "outcar": "vasp/outcar", "xml": "vasp/xml", "vasprun": "vasp/xml", "vasp/vasprun": "vasp/xml",
    "qe": "qe/pw", "qe/pw/scf": "qe/pw", "qe/pw/out": "qe/pw", "cp2k": "cp2k/output",
    "movement": "pwmat/movement", "pwmat": "pwmat/movement", "pwmat/output": "pwmat/movement",
    "mlmd": "pwmat/movement", "pwmat/mlmd": "pwmat/movement", "xyz": "extxyz", "dump": DUMP,
    "lammps/dump-text": DUMP, "npy": NPY, "mixed": MIXED, "raw": RAW,
}  # fmt: skip
READ_COMPRESSED = {*READERS} - {"qe/pw"}


def full_name(format: str) -> str:
    """Return the name a format goes by here.

    Raises
    ------
    ConfigError
        If neither this program nor dpdata knows it.
    """
    name = ALIASES.get(format, format)
    if name in READERS or name == DUMP:
        return name
    known = dpdata_formats()
    if name not in known:
        own = [*READERS, DUMP]
        if parts := [other for other in own if other.startswith(f"{format.lower()}/")]:
            raise ConfigError(Problem(f"{format} has several formats; name one: {', '.join(parts)}"))
        hint = nearest(format, [*own, *ALIASES, *known]) or f"; known are {', '.join(own)}, and those of dpdata"
        raise ConfigError(Problem(f"dpdata knows no format {format!r}{hint}"))
    return name


def read_steps(path: Path, format: str, type_map: Sequence[str] = ()) -> Iterator[AnyStep]:
    """Yield each step of a file, or of a folder that is one deepmd system.

    Parameters
    ----------
    format
        As `full_name` returns it.
    type_map
        The elements that stand for a LAMMPS dump's types.

    Raises
    ------
    ConfigError
        If it cannot be read, with the file and the reason.
    """
    try:
        if format in READ_COMPRESSED:
            yield from READERS[format](path)
        else:
            with _unpacked(path) as plain:
                yield from _read_plain(plain, format, type_map)
    except EngineError as error:
        raise ConfigError(Problem(f"cannot be read as {format}: {error.reason}: {error.detail}", file=path)) from error
    except Exception as error:  # whatever a damaged file makes a parser stumble over
        reason = " ".join(str(error).split())[:200]
        message = f"cannot be read as {format} ({type(error).__name__}: {reason})"
        raise ConfigError(Problem(message, file=path)) from error


def _read_plain(path: Path, format: str, type_map: Sequence[str]) -> Iterator[AnyStep]:
    if format in READERS:
        return READERS[format](path)
    if format == DUMP:
        return read_structure_dump(path, type_map)
    return read_with_dpdata(path, format, type_map)


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """Yield the file itself, or a copy of a compressed one as it was before."""
    if path.suffix not in COMPRESSED:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, path.stem)
        with open_stream(path) as packed, plain.open("wb") as stream:
            shutil.copyfileobj(packed, stream)
        yield plain
