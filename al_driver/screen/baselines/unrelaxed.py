"""Energies of candidates as they are made, by a calculator that is cheap: a universal potential, say."""

from typing import Literal

from al_driver.engines.ase import AseEngine
from al_driver.schema.base import Name, Params


class UnrelaxedModel(Params):
    """The energy, eV/atom, of candidates as they are, by an ASE calculator."""

    model: Literal["unrelaxed"]
    name: Name = "unrelaxed"
    """Of its column."""
    engine: AseEngine
    """The calculator."""
