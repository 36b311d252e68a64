"""Frames: positions in a cell, and what a reference calculation says of them.

A frame is an `ase.Atoms`; a labelled frame carries a `Label`. Cells are row vectors, as in ASE.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.io.extxyz import key_val_str_to_dict
from numpy.typing import NDArray

Array = NDArray[np.float64]
SITE_COLUMNS = {"initial_magmoms": "R", "tags": "I"}
"""What belongs to an atom beside its species, and goes with it: its first magnetic moment, μ_B, and the number that
tells it from others of its element. With the column type of extxyz."""


@dataclass(frozen=True)
class Label:
    """Energy, forces and virial of a frame.

    Attributes
    ----------
    atoms
        The frame as the program says it calculated it, in the order it was sent.
    energy
        The energy the forces derive from (with smearing: the free energy), eV.
    forces
        Shape (n_atoms, 3), eV/Å.
    virial
        −stress × volume, configurational, shape (3, 3), eV, positive under compression. None where the frame is
        not periodic in three directions, or the program does not give it.
    info
        What else is worth keeping: program, version.
    """

    atoms: Atoms
    energy: float
    forces: Array
    virial: Array | None = None
    info: dict[str, Any] = field(default_factory=dict)


def sort_by_type(atoms: Atoms, type_map: Sequence[str]) -> Atoms:
    """Return a copy whose atoms stand in the order of the type map, otherwise as before."""
    order = np.argsort([type_map.index(symbol) for symbol in atoms.get_chemical_symbols()], kind="stable")
    return atoms[order]


def site_arrays(atoms: Atoms) -> dict[str, Any]:
    """Return, by name, what atoms carry of `SITE_COLUMNS`, where it is not zero for all."""
    found = {name: atoms.arrays[name] for name in SITE_COLUMNS if name in atoms.arrays}
    return {name: values for name, values in found.items() if values.ndim == 1 and values.any()}


def carry_sites(source: Atoms, target: Atoms) -> Atoms:
    """Give the atoms of a frame what those of another, the same in number and order, carry; return it."""
    for name, values in site_arrays(source).items():
        target.arrays[name] = values.copy()
    return target


def frame_key(atoms: Atoms, decimals: int = 6) -> str:
    """Return a hash by which a frame is found again: species, cell, wrapped positions to 1e-6 Å, and its sites."""
    wrapped = atoms.copy()
    wrapped.wrap(eps=10.0**-decimals)
    digest = hashlib.sha256(np.asarray(atoms.numbers, dtype=np.int64).tobytes())
    digest.update(np.asarray(atoms.pbc, dtype=np.int64).tobytes())
    for array in (wrapped.cell.array, wrapped.positions):
        digest.update((np.round(array, decimals) + 0.0).tobytes())
    for name, values in site_arrays(atoms).items():
        digest.update(name.encode() + np.asarray(values, dtype=np.float64).tobytes())
    return digest.hexdigest()


def read_frames(path: Path) -> list[Atoms]:
    """Read every frame of an extxyz file; a label comes back as ``arrays["forces"]`` and ``info["energy"]``."""
    frames = list(ase.io.iread(path, format="extxyz"))
    for atoms in frames:
        if atoms.calc is not None:
            atoms.info["energy"] = atoms.calc.results.get("energy")
            if "forces" in atoms.calc.results:
                atoms.arrays["forces"] = atoms.calc.results["forces"]
            atoms.calc = None
    return frames


def labelled_frame(label: Label, info: dict[str, Any] | None = None) -> Atoms:
    """Return a frame that carries its label as plain arrays and info, ready for `write_frames`."""
    atoms = label.atoms.copy()
    atoms.arrays["forces"] = np.asarray(label.forces, dtype=float)
    atoms.info = {"energy": float(label.energy), **(info or {})}
    if label.virial is not None:
        atoms.info["virial"] = np.asarray(label.virial, dtype=float)
    return atoms


def read_label(frame: Atoms) -> Label:
    """Return the label that a frame carries: what `labelled_frame` made."""
    atoms = Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    carry_sites(frame, atoms)
    virial = frame.info.get("virial")
    return Label(atoms, float(frame.info["energy"]), frame.arrays["forces"], virial)


def write_frames(path: Path, frames: Iterable[Atoms], columns: Sequence[str] = ()) -> None:
    """Write extxyz with 17 significant digits, which reads back to the bit (ASE's own writer prints 8 decimals).

    Columns: species, positions; forces and `SITE_COLUMNS` where a frame has them, and the arrays of one number an atom
    that ``columns`` names; ``info`` becomes the comment line.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        for atoms in frames:
            stream.writelines(_frame_lines(atoms, columns))
    temporary.replace(path)


def _frame_lines(atoms: Atoms, names: Sequence[str]) -> Iterable[str]:
    columns, properties = [atoms.positions], "species:S:1:pos:R:3"
    if "forces" in atoms.arrays:
        columns, properties = [*columns, atoms.arrays["forces"]], f"{properties}:forces:R:3"
    for name, values in (site_arrays(atoms) | {name: atoms.arrays[name] for name in names}).items():
        columns, properties = [*columns, values[:, None]], f"{properties}:{name}:{SITE_COLUMNS.get(name, 'R')}:1"
    comment = {"Lattice": atoms.cell.array.T, "Properties": properties, "pbc": atoms.pbc, **atoms.info}
    yield f"{len(atoms)}\n{' '.join(f'{key}={_comment_value(value)}' for key, value in comment.items())}\n"
    for symbol, row in zip(atoms.get_chemical_symbols(), np.hstack(columns), strict=True):
        yield f"{symbol} {' '.join(f'{number:.17g}' for number in row)}\n"


def _comment_value(value: Any) -> str:
    """Write one value of the comment line; a matrix column by column, as ASE reads it (and `Lattice` row by row).

    A text that ASE would read as something else (``001``, ``T``) is written as JSON, which it reads as it is.
    """
    if isinstance(value, np.ndarray) and value.dtype == bool:
        return '"' + " ".join("T" if item else "F" for item in value) + '"'
    if isinstance(value, np.ndarray):
        return '"' + " ".join(f"{item:.17g}" for item in value.ravel(order="F")) + '"'
    if isinstance(value, (bool, np.bool_)):
        return "T" if value else "F"
    if isinstance(value, (float, np.floating)):
        return f"{value:.17g}"
    if isinstance(value, (int, np.integer)):
        return str(value)
    text = str(value).replace("\n", " ")
    quoted = _quote(text)
    read = key_val_str_to_dict(f"text={quoted}")["text"]
    return quoted if isinstance(read, str) and read == text else _quote(f"_JSON {json.dumps(text)}")


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
