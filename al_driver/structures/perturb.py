"""Perturbed copies: a strained cell and displaced atoms.

The cell becomes ``cell (I + ε)`` with ε symmetric, its entries uniform in ±cell_fraction. Then each atom is moved:
uniformly in a ball of radius ``atom_distance`` (σ per axis = R/√5), or by a Gaussian with the mean square displacement
of a Debye solid at high temperature, σ² = 3ħ²T / (m k_B Θ_D²) per axis (Willis and Pryor, *Thermal Vibrations in
Crystallography*, 1975). The second is the default, since a ball of 0.05 Å is silicon at 40 K.
"""

from collections.abc import Sequence
from typing import Annotated

import ase.units
import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from pydantic import Field

from al_driver.schema.base import NonNegativeFloat, Params, PositiveFloat, PositiveInt, cross_check
from al_driver.structures.scale import deform
from al_driver.units import Unit

DEBYE_TEMPERATURES = {
    "Li": 344, "Be": 1440, "C": 2230, "Ne": 75, "Na": 158, "Mg": 400, "Al": 428, "Si": 645, "Ar": 92, "K": 91,
    "Ca": 230, "Sc": 360, "Ti": 420, "V": 380, "Cr": 630, "Mn": 410, "Fe": 470, "Co": 445, "Ni": 450, "Cu": 343,
    "Zn": 327, "Ga": 320, "Ge": 374, "As": 282, "Se": 90, "Kr": 72, "Rb": 56, "Sr": 147, "Y": 280, "Zr": 291,
    "Nb": 275, "Mo": 450, "Ru": 600, "Rh": 480, "Pd": 274, "Ag": 225, "Cd": 209, "In": 108, "Sn": 200, "Sb": 211,
    "Te": 153, "Xe": 64, "Cs": 38, "Ba": 110, "La": 142, "Hf": 252, "Ta": 240, "W": 400, "Re": 430, "Os": 500,
    "Ir": 420, "Pt": 240, "Au": 165, "Hg": 72, "Tl": 79, "Pb": 105, "Bi": 119, "Th": 163, "U": 207,
}  # fmt: skip
"""K, of the elements (Kittel, *Introduction to Solid State Physics*, chapter 5, table 1)."""
UNKNOWN_DEBYE_TEMPERATURE = 300.0
HBAR = ase.units._hbar * ase.units.J * ase.units.s  # eV · (ASE's unit of time)


class Perturb(Params):
    """Copies of a structure with a strained cell and displaced atoms."""

    copies: PositiveInt
    """Perturbed copies of each structure; the unperturbed one is not among them."""
    cell_fraction: Annotated[NonNegativeFloat, Field(lt=0.5)] = 0.03
    """Largest entry of the strain, as a fraction of the cell."""
    atom_distance: Annotated[NonNegativeFloat | None, Unit("Å")] = None
    """Radius of the ball in which each atom is moved; in place of ``temperature``."""
    temperature: Annotated[PositiveFloat | None, Unit("K")] = None
    """Atoms are moved as in a Debye solid of this temperature; 300 when ``atom_distance`` is left out too."""
    debye_temperature: Annotated[PositiveFloat | None, Unit("K")] = None
    """The solid's Debye temperature; when left out, the mean of its elements' own, 300 where one is not known."""

    @cross_check
    def _check_displacement(self) -> "Perturb":
        if self.atom_distance is not None and self.temperature is not None:
            raise ValueError("needs `atom_distance` or `temperature`, not both")
        if self.atom_distance is not None and self.debye_temperature is not None:
            raise ValueError("`debye_temperature` belongs to `temperature`, not to `atom_distance`")
        return self


def guess_debye_temperature(symbols: Sequence[str]) -> float:
    """Return the mean of the atoms' elemental Debye temperatures, K."""
    return float(np.mean([DEBYE_TEMPERATURES.get(symbol, UNKNOWN_DEBYE_TEMPERATURE) for symbol in symbols]))


def debye_sigma(symbol: str, temperature: float, debye_temperature: float) -> float:
    """Return the displacement of a Debye solid's atoms, Å per axis (standard deviation), far above zero temperature."""
    mass = atomic_masses[atomic_numbers[symbol]]
    return float(np.sqrt(3 * HBAR**2 * temperature / (mass * ase.units.kB * debye_temperature**2)))


def displacement(perturb: Perturb, symbols: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return, for each element, σ per axis in Å and the temperature in K of a Debye solid with that σ.

    Parameters
    ----------
    symbols
        The element of every atom.
    """
    debye = perturb.debye_temperature or guess_debye_temperature(symbols)
    if perturb.atom_distance is not None:
        sigma = perturb.atom_distance / np.sqrt(5)
        return {s: (float(sigma), float((sigma / debye_sigma(s, 1.0, debye)) ** 2)) for s in sorted(set(symbols))}
    temperature = perturb.temperature or 300.0
    return {s: (debye_sigma(s, temperature, debye), temperature) for s in sorted(set(symbols))}


def perturb_atoms(atoms: Atoms, perturb: Perturb, rng: np.random.Generator) -> Atoms:
    """Return one perturbed copy.

    Parameters
    ----------
    rng
        The only source of randomness: the same generator gives the same copy.
    """
    upper = np.triu(rng.uniform(-perturb.cell_fraction, perturb.cell_fraction, size=(3, 3)))
    perturbed = deform(atoms, upper + np.triu(upper, 1).T)
    if perturb.atom_distance is not None:
        direction = rng.normal(size=(len(atoms), 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        radius = perturb.atom_distance * rng.uniform(size=(len(atoms), 1)) ** (1 / 3)
        perturbed.positions += radius * direction
    else:
        symbols = atoms.get_chemical_symbols()
        sigmas = displacement(perturb, symbols)
        perturbed.positions += rng.normal(size=(len(atoms), 3)) * np.array([[sigmas[s][0]] for s in symbols])
    return perturbed
