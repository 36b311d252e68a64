"""Crystals as surrogates see them: sites, what stands on each, and where. Å.

From any structure of ASE or pymatgen.

A site that several elements share, or that is partly empty, counts as what it holds on average: its features are those
of its elements, weighted by their occupancies, and a vacancy adds nothing. That is a first look, since the models never
saw such sites; order them (``candidates``) before energies of orderings are to be compared.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from al_driver.errors import ConfigError, Problem

LAST_ELEMENT = 100  # of the published atom features
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Crystal:
    """A structure and what is known of it.

    Attributes
    ----------
    name
        Its id in tables.
    positions
        Cartesian, shape (n_sites, 3).
    cell
        Rows are vectors, as in ASE, shape (3, 3); of unit length along a direction that has none.
    pbc
        Periodic directions, shape (3,).
    site, number, share
        One entry for each element of each site, rising by site: the site's index, the atomic number, the occupancy.
        Each of shape (n_sites,) where no site is shared.
    path
        The file it is from; None of an object.
    """

    name: str
    positions: Floats
    cell: Floats
    pbc: NDArray[np.bool_]
    site: Ints
    number: Ints
    share: Floats
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def volume(self) -> float:
        """Of the cell, Å³."""
        a, b, c = self.cell.tolist()
        cross = (b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0])
        return abs(float(sum(x * y for x, y in zip(a, cross, strict=True))))

    @property
    def key(self) -> str:
        """A hash of what is where, for a `GraphCache`."""
        parts = (self.positions, self.cell, self.pbc, self.site, self.number, self.share)
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def make_crystal(structure: Any, name: str = "", path: Path | None = None) -> Crystal:
    """Take over an ASE ``Atoms`` or a pymatgen ``Structure``.

    Raises
    ------
    ConfigError
        If it holds no sites, an element without features, or a number that is not finite.
    """
    is_atoms = isinstance(structure, Atoms)
    if is_atoms:
        cell = structure.cell.complete().array
        positions, pbc = structure.positions, structure.pbc
        number = structure.numbers
        site, share = np.arange(len(structure)), np.ones(len(structure))
    else:
        cell, positions = structure.lattice.matrix, structure.cart_coords
        pbc = np.array(structure.lattice.pbc)
        entries = [(index, *entry) for index, one in enumerate(structure) for entry in _shares(one)]
        site, number, share = np.array(entries, dtype=float).reshape(-1, 3).T
    crystal = Crystal(
        name or (structure.get_chemical_formula() if is_atoms else structure.composition.reduced_formula),
        np.ascontiguousarray(positions, dtype=float), np.ascontiguousarray(cell, dtype=float), pbc,
        site.astype(np.int64), number.astype(np.int64), share.astype(float), path,
    )  # fmt: skip
    _check(crystal)
    return crystal


def make_crystals(structures: Sequence[Any]) -> list[Crystal]:
    """Take over many structures, named by their place in the list: 0, 1 …"""
    return [make_crystal(structure, str(index)) for index, structure in enumerate(structures)]


def _shares(site: Any) -> list[tuple[int, float]]:
    """Return the atomic numbers on a pymatgen site, 0 for a dummy species, with their shares."""
    return [(species.Z, share) for species, share in site.species.items()]


def _check(crystal: Crystal) -> None:
    problem = ""
    if not len(crystal):
        problem = "holds no atoms"
    elif not (np.isfinite(crystal.positions).all() and np.isfinite(crystal.cell).all()):
        problem = "has a coordinate that is not a finite number"
    elif (unknown := crystal.number[(crystal.number < 1) | (crystal.number > LAST_ELEMENT)]).size:
        symbol = chemical_symbols[unknown[0]] if 0 <= unknown[0] < len(chemical_symbols) else str(unknown[0])
        problem = f"has {symbol}, which has no atom features; they reach from H to {chemical_symbols[LAST_ELEMENT]}"
    elif crystal.volume < 1e-6:
        problem = "has a cell without a volume"
    if problem:
        raise ConfigError(Problem(problem, crystal.name if crystal.path is None else "", crystal.path))
