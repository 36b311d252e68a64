"""A linear fit of energies to counts of pairs: the shortest cluster expansion there is.

E / n = Σ_a J_a n_a / n + Σ_{ab,s} J_abs n_abs / n, where n_a atoms are of an element and n_abs pairs of two elements
lie in a shell s of distances (J. M. Sanchez, F. Ducastelle, D. Gratias, Physica A 128, 334 (1984), to second order).
The counts are of the crystals as they are made, on one lattice; the energies may be of relaxed ones. A ridge keeps
the weights from following few known crystals too closely; how strong it is, leave-one-out errors decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from ase import Atoms

from al_driver.data.frames import Array
from al_driver.screen.crystals import Ints, make_crystal
from al_driver.screen.graph import find_pairs

SAME_SHELL = 0.05
"""Å; distances that lie nearer to each other belong to one shell."""
SAME_COUNT = 1e-9
"""Deviation of a feature below which it does not vary."""
RIDGES = np.logspace(-4, 3, 29)
"""That are tried, in units of a feature's variance."""


@dataclass(frozen=True)
class PairCounts:
    """Which counts are features: elements, and the bounds of the shells.

    Attributes
    ----------
    numbers
        Atomic numbers, rising.
    edges
        Distances between shells, Å, shape (n_shells + 1,).
    """

    numbers: tuple[int, ...]
    edges: Array

    @classmethod
    def of(cls, crystals: Sequence[Atoms], cutoff: float) -> Self:
        """Return those of crystals, up to a distance in Å."""
        numbers = sorted({int(number) for atoms in crystals for number in atoms.numbers})
        distances = np.unique(np.round(np.concatenate([_find(one, cutoff)[2] for one in crystals]), 3))
        apart = np.flatnonzero(np.diff(distances) > SAME_SHELL)
        edges = (distances[apart] + distances[apart + 1]) / 2
        return cls(tuple(numbers), np.array([0.0, *edges, cutoff]))

    def count(self, crystals: Sequence[Atoms]) -> Array:
        """Return atoms of each element and pairs of each kind, both per atom, shape (n_crystals, n_features)."""
        return np.array([self._count(atoms) for atoms in crystals])

    def _count(self, atoms: Atoms) -> Array:
        kind = np.searchsorted(self.numbers, atoms.numbers)
        first, second, distance = _find(atoms, float(self.edges[-1]))
        shell = np.clip(np.searchsorted(self.edges, distance) - 1, 0, len(self.edges) - 2)
        n_kinds, n_shells = len(self.numbers), len(self.edges) - 1
        pairs = np.zeros((n_kinds, n_kinds, n_shells))
        low, high = np.sort([kind[first], kind[second]], axis=0)
        np.add.at(pairs, (low, high, shell), 0.5)  # each pair is found from both ends
        upper = pairs[np.triu_indices(n_kinds)]
        return np.concatenate([np.bincount(kind, minlength=n_kinds), upper.ravel()]) / len(atoms)


def describe_pairs(crystals: Sequence[Atoms], cutoff: float = 6.0) -> Array:
    """Return counts scaled to a deviation of 1, for distances between crystals; shape (n_crystals, n_features)."""
    counts = PairCounts.of(crystals, cutoff).count(crystals)
    width = np.where(counts.std(axis=0) > SAME_COUNT, counts.std(axis=0), np.inf)
    return np.asarray((counts - counts.mean(axis=0)) / width)


def _find(atoms: Atoms, cutoff: float) -> tuple[Ints, Ints, Array]:
    """Return the two atoms and the distance of every pair, each way."""
    return find_pairs(make_crystal(atoms), cutoff)


@dataclass(frozen=True)
class LinearFit:
    """A ridge regression.

    Attributes
    ----------
    centre, width
        Of each feature, shape (n_features,).
    weights
        Of the features once they are centred and scaled, shape (n_features,).
    mean
        Of the known values.
    error
        Root mean square of the leave-one-out errors.
    """

    centre: Array
    width: Array
    weights: Array
    mean: float
    error: float

    @classmethod
    def fit(cls, features: Array, values: Array) -> Self:
        """Fit to known values, shape (n,), of features, shape (n, n_features).

        The leave-one-out error of a linear fit is (y − ŷ)_i / (1 − H_ii) (P. Craven, G. Wahba, Numer. Math. 31, 377
        (1978)); the mean takes its 1/n of H.
        """
        centre, width = features.mean(axis=0), features.std(axis=0)
        width = np.where(width > SAME_COUNT, width, np.inf)  # one that does not vary has no weight
        mean = float(values.mean())
        left, sizes, right = np.linalg.svd((features - centre) / width, full_matrices=False)
        aimed = left.T @ (values - mean)
        best = (np.inf, np.zeros(features.shape[1]))
        for ridge in RIDGES * len(values):
            shrunk = sizes**2 / (sizes**2 + ridge)
            leverage = (left**2 * shrunk).sum(axis=1) + 1 / len(values)
            left_out = (values - mean - left @ (shrunk * aimed)) / np.maximum(1 - leverage, 1e-6)
            error = float(np.sqrt(np.mean(left_out**2)))
            if error < best[0]:
                best = (error, right.T @ (sizes / (sizes**2 + ridge) * aimed))
        return cls(centre, width, best[1], mean, best[0])

    def predict(self, features: Array) -> Array:
        """Return values, shape (n,), of features, shape (n, n_features)."""
        return self.mean + (features - self.centre) / self.width @ self.weights
