"""LAMMPS data files; `data.lammps_dump` reads dumps.

LAMMPS wants a cell whose rows are lower triangular, with little skew, and gives every vector in those axes. A
`Rotation` remembers how the axes were turned, so that positions, cell, forces and virial come back together, as they
were sent. Lengths Å, forces eV/Å. Formats: docs.lammps.org/read_data.html, Howto_triclinic.html.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.cell import Cell
from ase.data import atomic_masses, atomic_numbers

from al_driver.data.frames import Array, site_arrays

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


def _fill_cell(cell: Array, pbc: Sequence[bool]) -> Array:
    """Replace each vector that is not periodic by a unit vector across the others: LAMMPS needs a box, physics none."""
    filled = Cell(np.where(np.array(pbc)[:, None], cell, 0.0)).complete()
    return np.array(filled.array, dtype=float)


def _join(numbers: Sequence[float] | Array) -> str:
    return " ".join(f"{number:.17g}" for number in numbers)
