"""A surrogate: one network or several that vote, under a name, a path, or as an object.

model = load_surrogate("formation-energy-per-atom")
prediction = model.predict(make_graphs(make_crystals(structures)))
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
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
from al_driver.screen.surrogate.storage import read_members
from al_driver.screen.uncertainty import Kind, Scale

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
    scores
        Of each kind of doubt there is, (n_crystals,), before any scale.
    vectors
        What the first member makes of each crystal, (n_crystals, n_features): crystals that are alike lie close.
    """

    mean: Floats
    std: Floats | None
    by_member: Floats
    scores: dict[Kind, Floats]
    vectors: Floats


@dataclass
class Surrogate:
    """Members that predict one property; their mean counts.

    Attributes
    ----------
    uncertainty
        Which kind `predict` tells, by the scale of that name; None without scales.
    scales
        Fitted on held-out crystals.
    """

    members: list[Member]
    uncertainty: Kind | None = None
    scales: dict[Kind, Scale] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.members[0].name

    @property
    def unit(self) -> str:
        return self.members[0].unit

    @property
    def scale(self) -> Scale | None:
        """The scale of what `predict` tells."""
        return self.scales[self.uncertainty] if self.uncertainty else None

    def to(self, device: str | torch.device) -> "Surrogate":
        """Move the networks to a device."""
        for member in self.members:
            member.net.to(device)
        return self

    def predict(self, graphs: Sequence[Graph], max_atoms: int | None = None) -> Prediction:
        """Predict the property of each crystal; batches hold at most so many atoms."""
        told = [member.predict(graphs, max_atoms) for member in self.members]
        values = np.array([value for value, _ in told])
        vectors = [vector for _, vector in told]
        scores = self._score(values, vectors)
        std = self.scale.std(scores[self.scale.kind]) if self.scale else None
        return Prediction(values.mean(axis=0), std, values, scores, vectors[0])

    def _score(self, values: Floats, vectors: list[Floats]) -> dict[Kind, Floats]:
        """Return each kind of doubt that this surrogate has a source of."""
        scores: dict[Kind, Floats] = {"constant": np.ones(values.shape[1])}
        if len(self.members) > 1:
            scores["ensemble"] = values.std(axis=0, ddof=1)
        own = list(zip(self.members, vectors, strict=True))
        if all(member.net.dropout.p and not member.is_classifier for member in self.members):
            spreads = [member.dropout_std(vector) for member, vector in own]
            scores["dropout"] = np.sqrt(np.mean(np.square(spreads), axis=0))
        if all(member.seen is not None for member in self.members):
            scores["distance"] = np.mean([member.distance(vector) for member, vector in own], axis=0)
        return scores


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
    if path.is_dir():
        members, card = read_members(path)
        scales = {scale.kind: scale for scale in card.scales}
        return Surrogate(members, card.uncertainty if card.uncertainty in scales else None, scales).to(device)
    if not path.name.endswith(FILES):
        message = f"is no model; expected a folder that a fit left, or a file that ends in {', '.join(FILES)}"
        raise ConfigError(Problem(message, file=path))
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
