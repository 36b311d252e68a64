"""A surrogate: one network or several that vote, under a name, a path, or as an object.

model = load_surrogate("formation-energy-per-atom")
prediction = model.predict(make_graphs(make_crystals(structures)))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from al_driver.errors import ConfigError, Problem
from al_driver.schema.suggest import nearest_file
from al_driver.screen.crystals import Floats
from al_driver.screen.graph import Graph
from al_driver.screen.properties import UNITS, find_published
from al_driver.screen.surrogate.checkpoint import read_published
from al_driver.screen.surrogate.member import Member

FILES = (".pth.tar", ".pth", ".pt")


@dataclass(frozen=True)
class Prediction:
    """What a surrogate says of crystals.

    Attributes
    ----------
    mean
        Shape (n_crystals,), in the property's unit.
    std
        Its uncertainty, (n_crystals,); None where the surrogate has no honest one.
    by_member
        Each member's own, (n_members, n_crystals).
    """

    mean: Floats
    std: Floats | None
    by_member: Floats


@dataclass
class Surrogate:
    """Members that predict one property; their mean counts."""

    members: list[Member]

    @property
    def name(self) -> str:
        return self.members[0].name

    @property
    def unit(self) -> str:
        return self.members[0].unit

    def to(self, device: str | torch.device) -> "Surrogate":
        """Move the networks to a device."""
        for member in self.members:
            member.net.to(device)
        return self

    def predict(self, graphs: Sequence[Graph], max_atoms: int | None = None) -> Prediction:
        """Predict the property of each crystal; batches hold at most so many atoms."""
        values = np.array([member.predict(graphs, max_atoms)[0] for member in self.members])
        return Prediction(values.mean(axis=0), None, values)

    def describe(self, graphs: Sequence[Graph], max_atoms: int | None = None) -> Floats:
        """Return what the first network makes of each crystal before its head, shape (n_crystals, n_features)."""
        return self.members[0].predict(graphs, max_atoms)[1]


def load_surrogate(model: str | Path, device: str = "cpu") -> Surrogate:
    """Load a published model by its name, a checkpoint of the authors' code, or a folder that a fit left.

    Raises
    ------
    ConfigError
        If there is no such model, or it cannot be loaded safely.
    """
    path = Path(model).expanduser()
    if str(model) in UNITS and not path.exists():
        path = find_published(str(model))
    if not path.exists():
        if path.name == str(model) and not path.name.endswith(FILES):
            find_published(str(model))  # tells what there is
        raise ConfigError(Problem(f"does not exist{nearest_file(path)}", file=path))
    if not path.name.endswith(FILES):
        raise ConfigError(Problem(f"is no model; expected a file that ends in {', '.join(FILES)}", file=path))
    return Surrogate([read_published(path)]).to(device)


def choose_device(wanted: str) -> str:
    """Return "cpu" or "cuda"; "auto" takes a GPU where there is one.

    Raises
    ------
    ConfigError
        If a GPU is asked for, and there is none.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise ConfigError("--device cuda: torch finds no GPU here; leave the option out, or say cpu")
    return ("cuda" if there else "cpu") if wanted == "auto" else wanted
