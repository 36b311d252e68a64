"""The electrostatic energy of point charges, which orders ions of different charge: Ewald sums by pymatgen.

P. P. Ewald, Ann. Phys. 369, 253 (1921). Ionic radii, covalency and relaxation are not in it, so that its energies, eV
per atom, are far larger than those of a crystal; only their order within one composition means something.
"""

import warnings
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import Field, model_validator

from al_driver.data.frames import Array
from al_driver.errors import ConfigError, Problem
from al_driver.schema.base import CrossError, Float, Name, Params
from al_driver.schema.elements import Element
from al_driver.screen.properties import INSTALL

NEUTRAL = 1e-6
"""Elementary charges of a cell that count as none."""


class EwaldModel(Params):
    """The electrostatic energy of candidates as they are, with one charge for each element."""

    model: Literal["ewald"]
    name: Name = "ewald"
    """Of its column."""
    charges: dict[Element, Float] = Field(min_length=1)
    """Oxidation states, in elementary charges."""
    unit: ClassVar[str] = "eV/atom"
    balance: Element | None = None
    """The element whose atoms share what makes a candidate neutral; the others have their charge."""

    @model_validator(mode="after")
    def _check_balance(self) -> "EwaldModel":
        if self.balance in self.charges:
            raise CrossError([(("charges", str(self.balance)), "follows from the others, by `balance`; leave it out")])
        return self

    def predict(self, crystals: Sequence[Atoms]) -> Array:
        """Return the energy of each crystal, eV/atom, shape (n_crystals,).

        Raises
        ------
        ConfigError
            If an element has no charge, a crystal is not neutral, or pymatgen is missing.
        """
        return np.array([self._energy(atoms) for atoms in crystals])

    def share_charges(self, atoms: Atoms) -> Array:
        """Return the charge of each atom, shape (n_atoms,).

        Raises
        ------
        ConfigError
            If an element has no charge, or the crystal is not neutral.
        """
        symbols = np.array(atoms.get_chemical_symbols())
        missing = sorted({*symbols.tolist()} - {*self.charges, str(self.balance)})
        if missing:
            raise ConfigError(Problem(f"says nothing of {', '.join(missing)}", "charges"))
        charges = np.array([self.charges.get(str(symbol), 0.0) for symbol in symbols])
        sharing = symbols == self.balance
        if sharing.any():
            charges[sharing] = -charges.sum() / sharing.sum()
        if abs(charges.sum()) > NEUTRAL:
            message = f"{atoms.get_chemical_formula()} has a charge of {charges.sum():+g}"
            more = f", and no {self.balance} to balance it" if self.balance else "; name an element in `balance`"
            raise ConfigError(Problem(message + more, "charges"))
        return charges

    def _energy(self, atoms: Atoms) -> float:
        try:
            from pymatgen.analysis.ewald import EwaldSummation
            from pymatgen.core import Structure
        except ImportError:
            raise ConfigError(f"Ewald sums need pymatgen: {INSTALL}") from None
        charges = self.share_charges(atoms)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of charges that are no whole numbers
            structure = Structure(
                atoms.cell.array, atoms.get_chemical_symbols(), atoms.get_scaled_positions(),
                site_properties={"charge": charges.tolist()},
            )  # fmt: skip
            structure.add_oxidation_state_by_site(charges.tolist())
            return float(EwaldSummation(structure).total_energy) / len(atoms)
