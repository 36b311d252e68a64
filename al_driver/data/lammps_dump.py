"""LAMMPS text dumps. Lengths Å, forces eV/Å. Format: docs.lammps.org/dump.html, Howto_triclinic.html.

A frame that is not whole (a run was killed, two runs wrote to one file) is left out, and reading goes on at the next.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from al_driver.data.frames import Array
from al_driver.errors import EngineError
from al_driver.files import read_tail

TAIL_BYTES = 1 << 16
COPY_BYTES = 1 << 24
_FIRST_LINE = re.compile(rb"^ITEM: TIMESTEP\s*?\n", re.MULTILINE)
UNITS_IN_ANGSTROM = ("metal", "real")


@dataclass(frozen=True)
class _Frame:
    step: int
    n_atoms: int
    box: tuple[str, Array]
    """The line BOX BOUNDS, and the three below it."""
    columns: list[str]
    rows: bytes


def read_dump(path: Path, steps: Collection[int] | None, type_map: Sequence[str]) -> Iterator[tuple[int, Atoms]]:
    """Yield the whole frames of a dump with these steps (all of them for None), one in memory at a time.

    Columns ``id type x y z`` (or ``xu``, ``xs``, ``xsu`` …), and ``arrays["forces"]`` where there are ``fx fy fz``;
    atoms sorted by id. The type map says which element a type is, whatever a column ``element`` says: LAMMPS calls
    every atom C there until it is told otherwise.

    Raises
    ------
    EngineError
        ``engine_error`` if the columns are not there, a type is not in the type map, or lengths are not in Å.
    """
    for frame in _scan(path):
        if isinstance(frame, _Frame) and (steps is None or frame.step in steps):
            atoms = _make_atoms(path, frame, lambda words: _numbers_of_types(path, words, type_map), "type")
            if atoms is not None:
                yield frame.step, atoms


def read_any_dump(path: Path, type_map: Sequence[str]) -> Iterator[tuple[int, Atoms] | EngineError]:
    """Yield each frame of a dump of anybody's, with its step, or why it cannot be read.

    The column ``element`` says which elements atoms are; the type map does where there is none.

    Raises
    ------
    ValueError
        If there is neither a type map nor a column ``element``: then a dump has numbers for species.
    EngineError
        As `read_dump` does, and where ``element`` holds what is no element.
    """
    for number, frame in enumerate(_scan(path), 1):
        if isinstance(frame, EngineError):
            yield frame
            continue
        if "element" in frame.columns:
            atoms = _make_atoms(path, frame, lambda words: _numbers_of_elements(path, words), "element")
        elif type_map:
            atoms = _make_atoms(path, frame, lambda words: _numbers_of_types(path, words, type_map), "type")
        else:
            raise ValueError("a dump has numbers for species; say which elements they are, e.g. --type-map Si,O")
        yield _broken(path, number) if atoms is None else (frame.step, atoms)


def dump_steps(path: Path) -> list[int]:
    """Return the steps of the whole frames of a dump, in order; none where there is no file."""
    return list(iter_steps(path)) if path.is_file() else []


def iter_steps(path: Path) -> Iterator[int]:
    """Yield the steps of the whole frames of a dump as they are found."""
    return (frame.step for frame in _scan(path) if isinstance(frame, _Frame))


def last_step(path: Path) -> int | None:
    """Return the step of the last whole frame of a dump, from its end: it may be large. None where there is none."""
    n_bytes, size = TAIL_BYTES, path.stat().st_size if path.is_file() else 0
    while size:
        tail = read_tail(path, n_bytes)
        for start in reversed([match.end() for match in _FIRST_LINE.finditer(tail)]):
            try:
                return _read_frame(BytesIO(tail[start:])).step
            except ValueError:
                continue
        if n_bytes >= size:
            break
        n_bytes *= 4
    return None


def cut_dump(source: Path, target: Path, step: int) -> None:
    """Copy what a dump holds before the first frame of a step or a later one."""
    length = 0
    with source.open("rb") as stream, target.open("wb") as copy:
        while line := stream.readline():
            if line.startswith(b"ITEM: TIMESTEP") and int(stream.readline()) >= step:
                break
            length = stream.tell()
        stream.seek(0)
        while length and (block := stream.read(min(length, COPY_BYTES))):
            length -= copy.write(block)


def _scan(path: Path) -> Iterator[_Frame | EngineError]:
    """Yield each frame, or that it is broken; ``dump_modify`` adds the lines UNITS and TIME before a frame."""
    count, is_lost = 0, False
    with path.open("rb") as stream:
        while line := stream.readline():
            if line.startswith(b"ITEM: UNITS"):
                _check_units(path, stream.readline())
            elif line.startswith(b"ITEM: TIMESTEP"):
                count, after = count + 1, stream.tell()
                try:
                    yield _read_frame(stream)
                    is_lost = False
                except ValueError:
                    yield _broken(path, count)
                    stream.seek(after)
                    is_lost = True
            elif line.startswith(b"ITEM: TIME"):
                stream.readline()
            elif line.strip() and not is_lost:  # the rest of a frame whose first line is damaged
                count, is_lost = count + 1, True
                yield _broken(path, count)


def _broken(path: Path, number: int) -> EngineError:
    return EngineError("no_output", path, f"frame {number} is not whole")


def _check_units(path: Path, line: bytes) -> None:
    units = line.decode(errors="replace").strip()
    if units not in UNITS_IN_ANGSTROM:
        raise EngineError("engine_error", path, f"the dump has units {units}; metal or real were expected (Å)")


def _read_frame(stream: BinaryIO) -> _Frame:
    """Read a frame after its first line; ValueError where it is not whole."""
    step = int(stream.readline())
    _read_title(stream, "ITEM: NUMBER OF ATOMS")
    n_atoms = int(stream.readline())
    title = _read_title(stream, "ITEM: BOX BOUNDS")
    bounds = np.array([stream.readline().split() for _ in range(3)], dtype=float)
    columns = _read_title(stream, "ITEM: ATOMS").split()[2:]
    lines = list(islice(stream, max(n_atoms, 0)))
    rows = b"".join(lines)
    if n_atoms < 1 or len(lines) < n_atoms or not rows.endswith(b"\n") or b"ITEM:" in rows:
        raise ValueError("rows are missing")
    if bounds.ndim != 2 or bounds.shape[1] not in (2, 3, 4):
        raise ValueError("no box")
    return _Frame(step, n_atoms, (title, bounds), columns, rows)


def _read_title(stream: BinaryIO, start: str) -> str:
    line = stream.readline().decode(errors="replace")
    if not line.startswith(start):
        raise ValueError(f"no {start}")
    return line


def _make_atoms(
    path: Path, frame: _Frame, find_numbers: Callable[[list[bytes]], list[int]], species: str
) -> Atoms | None:
    """Return a frame whose column ``species`` tells the elements; None where a row is not whole."""
    columns, words = frame.columns, frame.rows.split()
    kind = next((kind for kind in ("u", "", "su", "s") if f"x{kind}" in columns), "")
    names = [f"{axis}{kind}" for axis in "xyz"]
    missing = [name for name in ("id", species, *names) if name not in columns]
    if missing:
        raise EngineError("engine_error", path, f"the dump has columns {' '.join(columns)}, and no {missing[0]}")
    if len(words) != frame.n_atoms * len(columns):
        return None
    has_forces = {"fx", "fy", "fz"} <= set(columns)
    needed = ["id", *names, *(("fx", "fy", "fz") if has_forces else ())]
    try:
        values = np.array([words[columns.index(name) :: len(columns)] for name in needed], dtype=float).T
    except ValueError:
        return None
    numbers = np.array(find_numbers(words[columns.index(species) :: len(columns)]))
    order = np.argsort(values[:, 0], kind="stable")
    cell, pbc = _make_cell(*frame.box)
    positions = values[order, 1:4]
    atoms = Atoms(numbers[order], positions @ cell if kind.startswith("s") else positions, cell=cell, pbc=pbc)
    if has_forces:
        atoms.arrays["forces"] = values[order, 4:]
    return atoms


def _numbers_of_types(path: Path, words: list[bytes], type_map: Sequence[str]) -> list[int]:
    types = [int(word) for word in words]
    if max(types) > len(type_map):
        raise EngineError("engine_error", path, f"type {max(types)} in the dump, but {len(type_map)} elements")
    numbers = [atomic_numbers[name] for name in type_map]
    return [numbers[index - 1] for index in types]


def _numbers_of_elements(path: Path, words: list[bytes]) -> list[int]:
    numbers = {word: atomic_numbers.get(word.decode(errors="replace"), 0) for word in set(words)}
    strange = sorted(word.decode(errors="replace") for word, number in numbers.items() if not number)
    if strange:
        raise EngineError("engine_error", path, f"the column element has {', '.join(strange)}, which is no element")
    return [numbers[word] for word in words]


def _make_cell(header: str, bounds: Array) -> tuple[Array, list[bool]]:
    """Return cell and periodicity from an orthogonal, restricted or general triclinic BOX BOUNDS."""
    words = header.split()[3:]
    letters = [word for word in words if len(word) == 2 and set(word) <= set("pfsm")][-3:]
    pbc = [word == "pp" for word in letters] or [True, True, True]
    if "abc" in words:
        return bounds[:, :3], pbc
    if bounds.shape[1] == 2:
        return np.diag(bounds[:, 1] - bounds[:, 0]), pbc
    xy, xz, yz = bounds[:, 2]
    low = bounds[:, 0] - [min(0.0, xy, xz, xy + xz), min(0.0, yz), 0.0]
    high = bounds[:, 1] - [max(0.0, xy, xz, xy + xz), max(0.0, yz), 0.0]
    cell = np.diag(high - low)
    cell[[1, 2, 2], [0, 0, 1]] = xy, xz, yz
    return cell, pbc
