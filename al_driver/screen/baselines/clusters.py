"""A pair-cluster fit as a model of a screening: what it learns from, and what it says of candidates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from ase import Atoms
from pydantic import BeforeValidator, Field

from al_driver.data.frames import Array
from al_driver.data.sources import find_paths
from al_driver.data.structure_files import read_structure_file
from al_driver.errors import ConfigError, Problem
from al_driver.schema.base import Name, Params, PositiveFloat, UserPath, as_list
from al_driver.screen.baselines.pairs import LinearFit, PairCounts
from al_driver.screen.tables import find_numbers
from al_driver.units import Unit

FEWEST = 4
"""Known crystals without which nothing can be fitted."""


class ClusterModel(Params):
    """A linear fit to pairs of atoms in shells of distances, of candidates whose value is known."""

    model: Literal["clusters"]
    name: Name = "clusters"
    """Of its column."""
    data: Annotated[
        tuple[UserPath, ...], BeforeValidator(as_list, json_schema_input_type=Path | list[Path]), Field(min_length=1)
    ]
    """Extxyz files of candidates as they were made, not relaxed, with their values."""
    target: str
    """The name of the value in a frame's comment."""
    unit: str = "eV/atom"
    """Of the value."""
    cutoff: Annotated[PositiveFloat, Unit("Å")] = 6.0
    """The largest distance of a pair."""

    def read_known(self) -> tuple[list[Atoms], Array]:
        """Return the crystals with a value, and the values, shape (n_crystals,).

        Raises
        ------
        ConfigError
            If a file cannot be read, or too few crystals have a value.
        """
        frames = [frame for path in self.data for file in find_paths(path) for frame in read_structure_file(file, ())]
        told = [(frame, find_numbers(frame.info)) for frame in frames]
        known = [(frame, values[self.target]) for frame, values in told if self.target in values]
        if len(known) < FEWEST:
            message = f"{len(known)} of {len(frames)} crystals have a number {self.target!r}; needs at least {FEWEST}"
            raise ConfigError(Problem(message, "data"))
        return [frame for frame, _ in known], np.array([value for _, value in known])

    def predict(self, crystals: Sequence[Atoms]) -> Array:
        """Return the value of each crystal, shape (n_crystals,).

        Raises
        ------
        ConfigError
            As `read_known`.
        """
        known, values = self.read_known()
        counts = PairCounts.of([*known, *crystals], self.cutoff)
        return LinearFit.fit(counts.count(known), values).predict(counts.count(crystals))
