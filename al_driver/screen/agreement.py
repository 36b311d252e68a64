"""How well one column orders candidates as another does, within compositions.

Between compositions energies differ by tenths of an eV an atom, and any model orders those; which ordering of one
composition is lowest is another question, asked here. Spearman's ρ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from al_driver.data.frames import Array

FEWEST = 3
"""Candidates of a composition without which it says nothing of an order."""


@dataclass(frozen=True)
class Agreement:
    """Of two columns.

    Attributes
    ----------
    by_composition
        ρ in each composition, and the number of candidates it is of; None where either column does not vary.
    """

    by_composition: Mapping[str, tuple[float | None, int]]

    @property
    def n(self) -> int:
        """Candidates that were compared."""
        return sum(n for _, n in self.by_composition.values())

    @property
    def mean(self) -> float | None:
        """The mean of ρ, weighted by the candidates; 0 stands where a column does not vary; None without a pair."""
        found = [(rho or 0.0, n) for rho, n in self.by_composition.values()]
        return float(np.average([rho for rho, _ in found], weights=[n for _, n in found])) if found else None


def compare(formulas: Sequence[str], one: Array, other: Array) -> Agreement:
    """Compare two columns within compositions.

    Parameters
    ----------
    formulas
        Of each candidate.
    one, other
        Shape (n_candidates,); candidates with a NaN in either are left out.
    """
    there = np.isfinite(one) & np.isfinite(other)
    found: dict[str, tuple[float | None, int]] = {}
    for formula in dict.fromkeys(formulas):
        own = there & (np.array(formulas) == formula)
        if own.sum() >= FEWEST:
            found[formula] = (_spearman(one[own], other[own]), int(own.sum()))
    return Agreement(found)


def _spearman(one: Array, other: Array) -> float | None:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def find_best(values: Array, n: int) -> set[int]:
    """Return the indices of the n smallest values; NaNs are none of them."""
    order = [int(index) for index in np.argsort(values, kind="stable") if np.isfinite(values[index])]
    return set(order[:n])
