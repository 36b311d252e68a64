"""LAMMPS data files and text dumps.

LAMMPS wants a cell whose rows are lower triangular, with little skew, and gives every vector in those axes. A
`Rotation` remembers how the axes were turned, so that positions, cell, forces and virial come back together, as they
were sent. Lengths Å, forces eV/Å. Formats: docs.lammps.org/read_data.html, dump.html, Howto_triclinic.html.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import ase.io
import numpy as np
from ase import Atoms
from ase.cell import Cell
from ase.data import atomic_masses, atomic_numbers

from al_driver.data.frames import Array, site_arrays
from al_driver.errors import EngineError

PADDING = 5.0
"""Room around the atoms in a direction that is not periodic, Å. No energy or force depends on it."""


@dataclass(frozen=True)
class Rotation:
    """How a cell was turned into the axes of LAMMPS; rows are vectors.

    Attributes
    ----------
    cell, pbc
        As they were sent, shape (3, 3) and (3,).
    matrix
        Orthogonal, shape (3, 3): ``vector_in_lammps = vector @ matrix``. A left-handed cell is mirrored.
    basis
        Integers, shape (3, 3): ``cell_in_lammps = basis @ cell @ matrix``; not the identity for a skewed cell.
    """

    cell: Array
    pbc: tuple[bool, bool, bool]
    matrix: Array
    basis: Array

    @property
    def box(self) -> Array:
        """The lower triangular cell; a direction that is not periodic has a unit vector across the others."""
        return np.tril(self.basis @ _fill_cell(self.cell, self.pbc) @ self.matrix)

    def restore(self, atoms: Atoms) -> Atoms:
        """Return a frame read from LAMMPS in the axes, and with the choice of cell vectors, that were sent."""
        cell = np.linalg.inv(self.basis) @ atoms.cell.array @ self.matrix.T
        cell[~np.array(self.pbc)] = self.cell[~np.array(self.pbc)]
        restored = Atoms(atoms.numbers, self.restore_vectors(atoms.positions), cell=cell, pbc=self.pbc)
        if "forces" in atoms.arrays:
            restored.arrays["forces"] = self.restore_vectors(atoms.arrays["forces"])
        return restored

    def restore_vectors(self, vectors: Array) -> Array:
        """Turn row vectors, shape (n, 3), back."""
        return vectors @ self.matrix.T

    def restore_tensor(self, tensor: Array) -> Array:
        """Turn a tensor of second rank, shape (3, 3), back."""
        return self.matrix @ tensor @ self.matrix.T


def make_rotation(cell: Array, pbc: Sequence[bool]) -> Rotation:
    """Return the rotation to a lower triangular cell (QR decomposition), and the least skewed choice of its vectors."""
    periodic = (bool(pbc[0]), bool(pbc[1]), bool(pbc[2]))
    full = _fill_cell(cell, periodic)
    matrix = np.eye(3)
    if np.any(full != np.tril(full)) or np.any(np.diag(full) <= 0):
        matrix, triangular = np.linalg.qr(full.T)
        matrix = matrix * np.sign(np.diag(triangular))
    box, basis = np.tril(full @ matrix), np.eye(3)
    for row, column in ((1, 0), (2, 1), (2, 0)):
        ratio = box[row, column] / box[column, column]
        if abs(ratio) > 0.5 + 1e-6 and periodic[row] and periodic[column]:
            box[row] -= np.round(ratio) * box[column]
            basis[row] -= np.round(ratio) * basis[column]
    return Rotation(np.array(cell, dtype=float), periodic, matrix, basis)


def write_data(path: Path, atoms: Atoms, type_map: Sequence[str]) -> Rotation:
    """Write a data file (atom_style atomic, 17 digits, ids in the order of atoms, a mass for every type).

    The cell and the periodic directions as sent stand in comments; `read_rotation` reads them.
    """
    rotation = make_rotation(atoms.cell.array, atoms.pbc)
    box, positions = rotation.box, atoms.positions @ rotation.matrix
    low, high = np.zeros(3), np.diag(box).copy()
    for axis in (axis for axis in range(3) if not rotation.pbc[axis]):
        low[axis], high[axis] = positions[:, axis].min() - PADDING, positions[:, axis].max() + PADDING
    tilt = box[[1, 2, 2], [0, 0, 1]]
    lines = ["LAMMPS data; the cell as it was sent:", *(f"# cell {_join(row)}" for row in rotation.cell)]
    lines += [f"# pbc {' '.join('T' if flag else 'F' for flag in rotation.pbc)}", ""]
    lines += [f"{len(atoms)} atoms", f"{len(type_map)} atom types", ""]
    lines += [f"{_join(pair)} {axis}lo {axis}hi" for axis, *pair in zip("xyz", low, high, strict=True)]
    if np.any(np.abs(tilt) > 1e-13 * np.max(high - low)):
        lines.append(f"{_join(tilt)} xy xz yz")
    lines += ["", "Masses", ""]
    lines += [f"{i} {atomic_masses[atomic_numbers[name]]:.17g} # {name}" for i, name in enumerate(type_map, 1)]
    lines += ["", "Atoms # atomic", ""]
    types = {atomic_numbers[name]: i for i, name in enumerate(type_map, 1)}
    sites = site_arrays(atoms)
    if sites:
        lines[-2] += f" sites {' '.join(sites)}"
    for i, (number, position) in enumerate(zip(atoms.numbers, positions, strict=True), 1):
        own = f" # {' '.join(f'{values[i - 1]:.17g}' for values in sites.values())}" if sites else ""
        lines.append(f"{i} {types[number]} {_join(position)}{own}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return rotation


def read_sites(path: Path) -> dict[str, Array]:
    """Read, from a data file that `write_data` wrote, what `data.frames.site_arrays` gave of its atoms."""
    with path.open(encoding="utf-8") as stream:
        head = next((line for line in stream if line.startswith("Atoms # atomic")), "")
        names = head.split()[4:]
        rows = [line.partition("#")[2].split() for line in stream if "#" in line] if names else []
    return {name: np.array([float(row[i]) for row in rows]) for i, name in enumerate(names)}


def read_rotation(path: Path) -> Rotation:
    """Read, from a data file that `write_data` wrote, how its axes were turned."""
    with path.open(encoding="utf-8") as stream:
        words = [line.split() for line in islice(stream, 5)]
    cell = np.array([row[2:] for row in words[1:4]], dtype=float)
    return make_rotation(cell, [word == "T" for word in words[4][2:]])


def is_data(path: Path) -> bool:
    """Say whether a file is a LAMMPS data file: its head counts atoms and ends a box."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        head = "".join(islice(stream, 60))
    return re.search(r"^\s*\d+\s+atoms\b", head, re.MULTILINE) is not None and "xlo xhi" in head


def read_data(path: Path, type_map: Sequence[str]) -> Atoms:
    """Read a data file. Masses say which element a type is; without them it is that of the type map."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        has_masses = any(line.split("#")[0].strip() == "Masses" for line in stream)
    elements = None if has_masses else {i: atomic_numbers[name] for i, name in enumerate(type_map, 1)}
    atoms: Atoms = ase.io.read(path, format="lammps-data", Z_of_type=elements)
    return atoms


def boundary(pbc: Sequence[bool]) -> str:
    """Return LAMMPS' boundary letters: periodic, or growing with the atoms so that none is lost.

    Shrinking too (``s``) fails for a flat molecule, whose box would be thinner than LAMMPS can bin.
    """
    return " ".join("p" if flag else "m" for flag in pbc)


def read_dump(path: Path, steps: Collection[int] | None, type_map: Sequence[str]) -> Iterator[tuple[int, Atoms]]:
    """Yield the frames of a text dump with these steps (all of them for None), one in memory at a time.

    Columns ``id type x y z`` (or ``xu``, ``xs``, ``xsu`` …), and ``arrays["forces"]`` where there are ``fx fy fz``;
    atoms sorted by id. Without a type map the species are those of a column ``element``. A last frame that is cut
    short is dropped.

    Raises
    ------
    EngineError
        ``engine_error`` if the columns are not there or a type is not in the type map.
    """
    for step, bounds, columns, lines in _scan(path):
        if steps is not None and step not in steps:
            continue
        words = b" ".join(lines).split()
        if len(words) != len(lines) * len(columns):
            continue
        species = type_map
        if "element" in columns:
            words, columns, species = _without_elements(words, columns, type_map)
        values = np.array(words, dtype=float).reshape(len(lines), -1)
        yield step, _make_frame(path, bounds, columns, values, species)


def dump_steps(path: Path) -> list[int]:
    """Return the steps of the whole frames of a dump, in order; none where there is no file."""
    return list(iter_steps(path)) if path.is_file() else []


def iter_steps(path: Path) -> Iterator[int]:
    """Yield the steps of the whole frames of a dump as they are found."""
    return (step for step, *_ in _scan(path))


def _scan(path: Path) -> Iterator[tuple[int, tuple[str, Array], list[str], list[bytes]]]:
    """Yield step, box, columns and raw lines of each whole frame; stop at the first that is not whole."""
    with path.open("rb") as stream:
        while True:
            try:
                step, n_atoms, bounds, columns = _read_header(stream)
            except (ValueError, IndexError):
                return
            lines = list(islice(stream, n_atoms))
            if len(lines) < n_atoms or not lines[-1].endswith(b"\n"):
                return
            yield step, bounds, columns, lines


def _read_header(stream: BinaryIO) -> tuple[int, int, tuple[str, Array], list[str]]:
    """Read the nine lines before a frame's atoms; ValueError or IndexError where one is missing."""
    head = [line.decode() for line in islice(stream, 9)]
    if len(head) < 9 or not head[0].startswith("ITEM: TIMESTEP") or not head[8].startswith("ITEM: ATOMS"):
        raise ValueError("not the head of a frame")
    bounds = np.array([line.split() for line in head[5:8]], dtype=float)
    return int(head[1]), int(head[3]), (head[4], bounds), head[8].split()[2:]


def _without_elements(
    words: list[bytes], columns: list[str], type_map: Sequence[str]
) -> tuple[list[bytes], list[str], Sequence[str]]:
    """Take the column ``element`` out of a table; without a type map, species of the types follow from it."""
    table = np.array(words).reshape(-1, len(columns))
    place = columns.index("element")
    rest = [name for name in columns if name != "element"]
    if not type_map and "type" in columns:
        pairs = {int(row[columns.index("type")]): row[place].decode() for row in table}
        type_map = [pairs.get(index, "X") for index in range(1, max(pairs) + 1)]
    return np.delete(table, place, axis=1).ravel().tolist(), rest, type_map


def _make_frame(
    path: Path, box: tuple[str, Array], columns: list[str], values: Array, type_map: Sequence[str]
) -> Atoms:
    kind = next((kind for kind in ("u", "", "su", "s") if f"x{kind}" in columns), "")
    names = [f"{axis}{kind}" for axis in "xyz"]
    missing = [name for name in ("id", "type", *names) if name not in columns]
    if missing:
        raise EngineError("engine_error", path, f"the dump has columns {' '.join(columns)}, and no {missing[0]}")
    values = values[np.argsort(values[:, columns.index("id")], kind="stable")]
    types = values[:, columns.index("type")].astype(int)
    if types.max() > len(type_map):
        raise EngineError("engine_error", path, f"type {types.max()} in the dump, but {len(type_map)} elements")
    numbers = np.array([atomic_numbers[name] for name in type_map])[types - 1]
    cell, pbc = _make_cell(*box)
    positions = values[:, [columns.index(name) for name in names]]
    atoms = Atoms(numbers, positions @ cell if kind.startswith("s") else positions, cell=cell, pbc=pbc)
    if {"fx", "fy", "fz"} <= set(columns):
        atoms.arrays["forces"] = values[:, [columns.index(name) for name in ("fx", "fy", "fz")]]
    return atoms


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


def _fill_cell(cell: Array, pbc: Sequence[bool]) -> Array:
    """Replace each vector that is not periodic by a unit vector across the others: LAMMPS needs a box, physics none."""
    filled = Cell(np.where(np.array(pbc)[:, None], cell, 0.0)).complete()
    return np.array(filled.array, dtype=float)


def _join(numbers: Sequence[float] | Array) -> str:
    return " ".join(f"{number:.17g}" for number in numbers)
