"""How the symmetry of a crystal permutes its sites (spglib: Togo and Tanaka, arXiv:1808.01590)."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from al_driver.data.frames import Array
from al_driver.errors import ConfigError, Problem

Sites = NDArray[np.intp]


@dataclass(frozen=True)
class SiteSymmetry:
    """The operations of a crystal that map its cell's lattice onto itself, the cell's inner translations among them.

    Attributes
    ----------
    permutations
        Shape (n_operations, n_sites): operation ``g`` takes site ``i`` to site ``permutations[g, i]``.
    rotations
        Shape (n_operations, 3, 3), Cartesian: ``x' = rotation @ x`` for a column vector.
    """

    permutations: Sites
    rotations: Array

    def restrict(self, sites: Sites) -> "SiteSymmetry":
        """Return how the operations permute some sites alone, each operation once.

        Parameters
        ----------
        sites
            Indices, rising; every operation must map this set onto itself.
        """
        local = np.searchsorted(sites, self.permutations[:, sites])
        both = np.hstack([local, np.round(self.rotations, 6).reshape(len(local), 9)])
        first = np.sort(np.unique(both, axis=0, return_index=True)[1])
        return SiteSymmetry(local[first], self.rotations[first])


def find_symmetry(atoms: Atoms, kinds: Sites, symprec: float) -> SiteSymmetry:
    """Find how the crystal's symmetry permutes its sites.

    Parameters
    ----------
    kinds
        Shape (n_sites,): sites of different kinds are never mapped onto each other.
    symprec
        How far a site may lie from where symmetry puts it, Å.

    Raises
    ------
    ConfigError
        If spglib is not installed, or finds no symmetry, not even the identity, or one whose operations are no
        permutations of the sites.
    """
    try:
        import spglib
    except ImportError:
        message = "needs spglib: pip install -c constraints.txt -e '.[screen]'"
        raise ConfigError(Problem(message, "candidates")) from None
    fractional = atoms.get_scaled_positions()
    found = spglib.get_symmetry((atoms.cell.array, fractional, kinds + 1), symprec=symprec)
    if found is None:
        raise ConfigError(Problem(f"spglib finds no symmetry with symprec {symprec:g} Å; sites may clash", "symprec"))
    moved = fractional @ found["rotations"].transpose(0, 2, 1) + found["translations"][:, None]
    permutations = cKDTree(_wrap(fractional), boxsize=1.0).query(_wrap(moved))[1]
    if (np.sort(permutations, axis=1) != np.arange(len(atoms))).any() or (kinds[permutations] != kinds).any():
        raise ConfigError(Problem(f"symprec {symprec:g} Å is too large: sites are taken for each other", "symprec"))
    columns = atoms.cell.array.T
    return SiteSymmetry(permutations, columns @ found["rotations"] @ np.linalg.inv(columns))


def _wrap(fractional: Array) -> Array:
    """Return the coordinates in [0, 1): a small negative number's remainder is 1 itself."""
    return np.asarray(fractional % 1.0 % 1.0)
