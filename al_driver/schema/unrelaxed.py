"""Energies of candidates as they are made, by an engine that is cheap: a universal potential, say."""

from typing import Literal

from pydantic import model_validator

from al_driver.schema.base import CrossError, Name, Params
from al_driver.schema.nouns import AnyEngine


class UnrelaxedModel(Params):
    """The energy, eV/atom, of candidates as they are, by an engine that loads its model once for many of them."""

    model: Literal["unrelaxed"]
    name: Name = "unrelaxed"
    """Of its column."""
    engine: AnyEngine
    """What calculates; any ASE calculator can."""

    @model_validator(mode="after")
    def _check_engine(self) -> "UnrelaxedModel":
        if not self.engine.takes_many:
            message = "this engine calculates one frame at a time, too slow for all candidates; take an ASE calculator"
            raise CrossError([(("engine", "engine"), message)])
        return self
