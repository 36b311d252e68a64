"""The crystals that candidates are made from, with what shares their sites."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from al_driver.data.frames import site_arrays
from al_driver.data.sources import find_paths
from al_driver.data.structure_files import read_shared_sites, read_structure_file
from al_driver.errors import ConfigError, Problem
from al_driver.screen.symmetry import Sites
from al_driver.structures.supercell import Supercell, make_supercell

CLOSEST_SITES = 0.1  # Å: two sites of a file that lie closer are a mistake in it


@dataclass(frozen=True)
class Parent:
    """A crystal whose sites may be shared by several species.

    Attributes
    ----------
    atoms
        The supercell; a shared site holds the element that the file names first.
    shares
        For each kind of shared site, the share of every species; a share that is missing from 1 is empty.
    shared
        Shape (n_sites,): which of ``shares`` a site belongs to; −1 for a site that one species fills.
    """

    atoms: Atoms
    shares: tuple[dict[str, float], ...]
    shared: Sites

    @property
    def kinds(self) -> Sites:
        """Numbers that tell sites apart which no symmetry may map onto each other, shape (n_sites,)."""
        labels = np.array(
            [self.atoms.numbers * (self.shared < 0), self.shared, *site_arrays(self.atoms).values()], dtype=float
        )
        return np.asarray(np.unique(labels, axis=1, return_inverse=True)[1].ravel(), dtype=np.intp)


def read_parents(path: Path, supercell: Supercell, elements: Sequence[str] = ()) -> list[tuple[Path, Parent]]:
    """Read every structure of a file, or of a pattern's files, as supercells, each with its file.

    Parameters
    ----------
    elements
        Names the atom types of a LAMMPS data file that names none.

    Raises
    ------
    ConfigError
        If a file cannot be read, has no cell, or two sites clash.
    """
    parents = []
    for file in find_paths(path):
        for atoms in read_structure_file(file, elements, shared=True):
            if atoms.cell.rank < 3:
                raise ConfigError(Problem("has no cell in three directions; a crystal was expected", file=file))
            _check_sites(atoms, file)
            parents.append((file, _make_parent(atoms, supercell)))
    return parents


def _check_sites(atoms: Atoms, file: Path) -> None:
    distances = atoms.get_all_distances(mic=True) + np.eye(len(atoms))
    first, second = np.unravel_index(distances.argmin(), distances.shape)
    if distances[first, second] < CLOSEST_SITES:
        symbols = f"{atoms.symbols[first]} (site {first}) and {atoms.symbols[second]} (site {second})"
        raise ConfigError(Problem(f"{symbols} lie {distances[first, second]:.3f} Å from each other", file=file))


def _make_parent(atoms: Atoms, supercell: Supercell) -> Parent:
    shares, shared = read_shared_sites(atoms)
    clean = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    for name, values in site_arrays(atoms).items():
        clean.set_array(name, values)
    clean.set_array("shared", shared)
    clean = make_supercell(clean, supercell)
    shared = np.asarray(clean.arrays.pop("shared"), dtype=np.intp)
    return Parent(clean, shares, shared)
