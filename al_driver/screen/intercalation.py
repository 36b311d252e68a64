"""What taking an ion out of a crystal costs: the convex hull over its content, and the voltage against its metal.

V(x) = −[E(x₂) − E(x₁) − (x₂ − x₁) E_ion] / (x₂ − x₁) / z between neighbouring phases on the hull, with energies of the
cell, x ions in it, the energy E_ion of an atom of the metal and z charges an ion carries (M. K. Aydinol, A. F. Kohan,
G. Ceder, K. Cho, J. Joannopoulos, Phys. Rev. B 56, 1354 (1997)): at 0 K, from energies alone. eV, V.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from ase import Atoms
from pydantic import Field

from al_driver.data.frames import Array
from al_driver.errors import Problem
from al_driver.schema.base import Float, Params, PositiveInt
from al_driver.schema.elements import Element
from al_driver.schema.suggest import nearest


class Intercalation(Params):
    """An ion that goes in and out, and the energies of its metal by which the voltage is counted."""

    ion: Element
    """The element, e.g. "Li"."""
    charge: PositiveInt = 1
    """Elementary charges that an ion carries."""
    metal: dict[str, Float] = Field(min_length=1)
    """Energy of an atom of its metal, eV, in the convention of a column of energies per atom: 0 for formation energies,
    that of the same calculator for others. Each of these columns has its curve; that of labels is called "known"."""

    def find_unknown(self, columns: Collection[str]) -> Iterator[Problem]:
        """Yield energies that are given for no column."""
        for name in self.metal:
            if name not in columns:
                message = f"no column is called {name!r}{nearest(name, columns, otherwise='there are')}"
                yield Problem(message, f"intercalation.metal.{name}")


Step = tuple[float, float, float]
"""Contents at both ends as shares of the largest one, and the voltage between, V."""


@dataclass(frozen=True)
class Series:
    """Candidates that differ in the content of the ion and in the order of the atoms alone.

    Attributes
    ----------
    host
        What they are made of without the ion.
    n_ions
        Of each candidate, shape (n_candidates,).
    energies
        Of the cell, eV, shape (n_candidates,).
    """

    host: str
    n_ions: Array
    energies: Array

    @property
    def full(self) -> float:
        """The largest content of the ion."""
        return float(self.n_ions.max())

    def formation(self) -> Array:
        """Return energies against the line from the lowest energy at the smallest content to that at the largest.

        In eV for one place of the ion, shape (n_candidates,).
        """
        (first, low), (last, high) = (self.lowest()[place] for place in (0, -1))
        line = low + (self.n_ions - first) / (last - first) * (high - low)
        return (self.energies - line) / self.full

    def lowest(self) -> list[tuple[float, float]]:
        """Return each content of the ion with the lowest energy there."""
        return [(float(n), float(self.energies[self.n_ions == n].min())) for n in np.unique(self.n_ions)]

    def hull(self) -> list[tuple[float, float]]:
        """Return content and energy of the phases on the lower convex hull."""
        kept: list[tuple[float, float]] = []
        for point in self.lowest():
            while len(kept) > 1 and _lies_above(kept[-1], kept[-2], point):
                kept.pop()
            kept.append(point)
        return kept

    def voltages(self, metal: float, charge: int) -> list[Step]:
        """Return the voltages between neighbouring phases."""
        hull = self.hull()
        return [
            (one / self.full, two / self.full, -(high - low - (two - one) * metal) / (two - one) / charge)
            for (one, low), (two, high) in pairwise(hull)
        ]


def make_series(crystals: Sequence[Atoms], per_atom: Array, ion: str) -> list[Series]:
    """Return the series of candidates with at least two contents of the ion.

    Parameters
    ----------
    per_atom
        Energy an atom of each candidate, eV, shape (n_candidates,); NaN where there is none.
    """
    hosts: dict[str, list[int]] = {}
    for index, atoms in enumerate(crystals):
        if np.isfinite(per_atom[index]):
            host = atoms[[symbol != ion for symbol in atoms.get_chemical_symbols()]]
            hosts.setdefault(host.get_chemical_formula(), []).append(index)
    found = []
    for host, own in hosts.items():
        n_ions = np.array([crystals[index].get_chemical_symbols().count(ion) for index in own], dtype=float)
        if len(np.unique(n_ions)) > 1:
            sizes = np.array([len(crystals[index]) for index in own])
            found.append(Series(host, n_ions, per_atom[own] * sizes))
    return found


def _lies_above(middle: tuple[float, float], one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Return whether a point lies on, or above, the line between its neighbours."""
    share = (middle[0] - one[0]) / (other[0] - one[0])
    return middle[1] >= one[1] + share * (other[1] - one[1])
