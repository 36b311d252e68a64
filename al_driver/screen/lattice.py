"""A crystal's sites as rows of species codes, and what is chosen where."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from al_driver.data.frames import site_arrays
from al_driver.screen.compositions import VACANCY, Composition, round_occupancies
from al_driver.screen.orderings import Choice, Codes
from al_driver.screen.parents import Parent
from al_driver.screen.symmetry import Sites

LARGEST_CODE = 255


@dataclass(frozen=True)
class Lattice:
    """A crystal as a row of codes.

    Attributes
    ----------
    symbols
        What a code stands for: the code is the place here, from 1. Shared sites have a code for each kind.
    start
        Shape (n_sites,): the codes before anything is chosen.
    ordered
        The choices that order the shared sites.
    present
        How many atoms of each element there are then.
    """

    parent: Parent
    symbols: tuple[str, ...]
    start: Codes
    ordered: tuple[Choice, ...]
    present: dict[str, int]

    @classmethod
    def make(cls, parent: Parent, occupancy_tolerance: float) -> "Lattice":
        """Give every species and every kind of shared site its code.

        Raises
        ------
        ConfigError
            If shares are not near whole numbers of atoms.
        """
        elements = [*dict.fromkeys(parent.atoms.symbols), *(symbol for kind in parent.shares for symbol in kind)]
        kinds = [f"shared {number}" for number in range(len(parent.shares))]
        symbols = tuple(dict.fromkeys([VACANCY, *elements, *kinds]))
        names = [
            kinds[kind] if kind >= 0 else symbol
            for kind, symbol in zip(parent.shared, parent.atoms.symbols, strict=True)
        ]
        present, ordered = Counter(name for name in names if name not in kinds), list[Choice]()
        for number, shares in enumerate(parent.shares):
            numbers = round_occupancies(shares, names.count(kinds[number]), occupancy_tolerance)
            present.update({species: n for species, n in numbers.items() if species != VACANCY})
            ordered += [
                Choice(1 + symbols.index(kinds[number]), 1 + symbols.index(species), n)
                for species, n in numbers.items()
            ]
        start = np.array([1 + symbols.index(name) for name in names], dtype=np.uint8)
        return cls(parent, symbols, start, tuple(ordered), {species: n for species, n in present.items() if n})

    def find_active(self, sources: Iterable[str]) -> Sites:
        """Return which sites are a matter of choice if atoms of ``sources`` are replaced: indices, rising."""
        codes = {choice.source for choice in self.ordered}
        codes |= {1 + self.symbols.index(source) for source in sources if source in self.symbols}
        return np.flatnonzero(np.isin(self.start, sorted(codes)))

    def choose(self, composition: Composition) -> list[Choice]:
        """Return the choices that lead to a composition."""
        choices = list(self.ordered)
        for (source, target), n in composition.substituted.items():
            choices.append(Choice(self._code(source), self._code(target), n))
        for element, n in composition.emptied.items():
            choices.append(Choice(self._code(element), self._code(VACANCY), n))
        return [choice for choice in choices if choice.n]

    def _code(self, symbol: str) -> int:
        """Return a species' code; elements that come in from outside have their atomic number, from above."""
        if symbol in self.symbols:
            return 1 + self.symbols.index(symbol)
        return LARGEST_CODE - int(atomic_numbers[symbol])

    def make_atoms(self, row: Codes, active: Sites) -> Atoms:
        """Return the crystal of an ordering.

        Parameters
        ----------
        row
            Shape (n_active,): codes of the active sites.
        """
        codes = self.start.copy()
        codes[active] = row
        from_outside = {self._code(symbol): number for symbol, number in atomic_numbers.items() if number}
        known = {1 + place: atomic_numbers.get(symbol, 0) for place, symbol in enumerate(self.symbols)}
        numbers = np.array([(from_outside | known)[int(code)] for code in codes])
        old = self.parent.atoms
        atoms = Atoms(numbers, old.positions, cell=old.cell, pbc=True)
        for name, values in site_arrays(old).items():
            atoms.set_array(name, np.where(numbers == old.numbers, values, 0))
        return atoms[codes != 1]
