"""POSCAR: atoms grouped by site in full precision, with where each stood in the frame that was sent. Å, Å/fs.

VASP wants atoms of one kind together. Each line of a position ends with the element and the number of the atom in the
frame that was sent, which VASP does not read: so everything it prints is put back into that order. What an atom carries
beside (`data.frames.SITE_COLUMNS`) stands after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from ase import Atoms

from al_driver.data.frames import SITE_COLUMNS, Array, site_arrays
from al_driver.errors import EngineError

NAME = "POSCAR"
Site = tuple[str, str]
"""An element, and the name under which its U is given: ``Fe`` or, for atoms with the tag 1, ``Fe1``."""


@dataclass(frozen=True)
class Layout:
    """The order of a POSCAR.

    Attributes
    ----------
    order
        Of each line the atom that was sent there, shape (n_atoms,).
    groups
        The site of each group of lines, and how many.
    """

    order: "np.ndarray"
    groups: tuple[tuple[Site, int], ...]


def make_layout(atoms: Atoms, elements: Sequence[str], split: Sequence[str] = ()) -> Layout:
    """Group atoms by element, in the order of ``elements``, and within one by the names in ``split`` (``Fe1``)."""
    sites = [_site(symbol, tag, split) for symbol, tag in zip(atoms.symbols, atoms.get_tags(), strict=True)]
    ranked = sorted(range(len(atoms)), key=lambda index: (elements.index(sites[index][0]), sites[index][1]))
    groups = tuple((site, len(list(own))) for site, own in groupby(sites[index] for index in ranked))
    return Layout(np.array(ranked), groups)


def write_poscar(atoms: Atoms, layout: Layout, directory: Path, velocities: Array | None = None) -> None:
    """Write a POSCAR; ``velocities``, Å/fs, in the order of the atoms."""
    periodic = "".join("FT"[int(direction)] for direction in atoms.pbc)
    lines = [f"periodic {periodic}", "1.0", *(_row(vector) for vector in atoms.cell.array)]
    lines.append(" ".join(symbol for (symbol, _), _ in layout.groups))
    lines.append(" ".join(str(count) for _, count in layout.groups))
    lines.append("Cartesian")
    symbols = atoms.get_chemical_symbols()
    sites = site_arrays(atoms)
    lines[0] += "".join(f" {name}" for name in sites)
    own = [" ".join(f"{values[index]:.17g}" for values in sites.values()) for index in range(len(atoms))]
    lines += [
        f"{_row(atoms.positions[index])} {symbols[index]} {index} {own[index]}".rstrip() for index in layout.order
    ]
    if velocities is not None:
        lines += ["", *(_row(velocities[index]) for index in layout.order)]
    (directory / NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_sent(directory: Path) -> tuple[Atoms, "np.ndarray"]:
    """Read back the frame that was sent, in its own order, and the order of the POSCAR.

    Raises
    ------
    EngineError
        ``no_output`` where there is none.
    """
    path = directory / NAME
    if not path.is_file():
        raise EngineError("no_output", directory, f"there is no {NAME}")
    lines = path.read_text(encoding="utf-8").splitlines()
    n_atoms = sum(int(word) for word in lines[6].split())
    rows = [line.split() for line in lines[8 : 8 + n_atoms]]
    order = np.array([int(row[4]) for row in rows])
    back = np.argsort(order)
    cell = [[float(word) for word in line.split()] for line in lines[2:5]]
    positions = np.array([[float(word) for word in row[:3]] for row in rows])
    pbc = [letter == "T" for letter in lines[0].split()[1]]
    sent = Atoms([rows[index][3] for index in back], positions=positions[back], cell=cell, pbc=pbc)
    for column, name in enumerate(lines[0].split()[2:], 5):
        values = [float(rows[index][column]) for index in back]
        sent.set_array(name, values, int if SITE_COLUMNS[name] == "I" else float)
    return sent, order


def _site(symbol: str, tag: int, split: Sequence[str]) -> Site:
    name = f"{symbol}{tag}"
    return symbol, name if tag and name in split else symbol


def _row(vector: Array) -> str:
    return " ".join(f"{number:.17g}" for number in vector)
