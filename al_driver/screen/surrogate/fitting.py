"""Fitting a surrogate: members that share graphs, and uncertainties with a scale from crystals that none has seen."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from al_driver.errors import ConfigError
from al_driver.screen.crystals import Floats
from al_driver.screen.job import SMALLEST_CALIBRATE, SMALLEST_KNOWN, SMALLEST_TRAIN, SMALLEST_VALID, FitSettings
from al_driver.screen.surrogate.cgcnn import CrystalGraphNet, Shape
from al_driver.screen.surrogate.member import Member
from al_driver.screen.surrogate.model import Surrogate
from al_driver.screen.surrogate.training import Epoch, Known, train_member
from al_driver.screen.uncertainty import Scale, choose_kind, judge
from al_driver.seeds import make_rng, make_seed

RELATED = 0.3  # the correlation from which on a start's predictions are taken for a first guess of the property


@dataclass(frozen=True)
class Split:
    """Indices of the crystals that train, that say when to stop, and that calibrate."""

    train: list[int]
    valid: list[int]
    calibrate: list[int]

    @classmethod
    def draw(cls, n_crystals: int, settings: FitSettings, seen: Collection[int] = ()) -> "Split":
        """Draw the parts.

        Parameters
        ----------
        seen
            Crystals that the start was trained on: they train again, and calibrate, or say when to stop, only where
            there are too few others.

        Raises
        ------
        ConfigError
            If there are too few crystals.
        """
        n_valid = max(round(n_crystals * settings.valid), SMALLEST_VALID)
        n_calibrate = max(round(n_crystals * settings.calibrate), SMALLEST_CALIBRATE)
        if n_crystals - n_valid - n_calibrate < SMALLEST_TRAIN:
            needed = f"{SMALLEST_KNOWN} are needed to train, to stop and to calibrate"
            message = f"{n_crystals} crystals with a known value; {needed}"
            raise ConfigError(f"{message}, and --valid and --calibrate must leave some to train on")
        order = make_rng(settings.seed, "split").permutation(n_crystals).tolist()
        held = n_valid + n_calibrate
        if seen:
            order.sort(key=lambda index: index in seen)
            order = order[n_calibrate:held] + order[:n_calibrate] + order[held:]
        return cls(sorted(order[held:]), sorted(order[:n_valid]), sorted(order[n_valid:held]))


def fit(
    known: Known,
    split: Split,
    settings: FitSettings,
    starts: Sequence[Member],
    tell: Callable[[Epoch], None] = lambda _epoch: None,
) -> tuple[Surrogate, list[Epoch]]:
    """Train each member, then give the ensemble's doubts their scale.

    Parameters
    ----------
    starts
        An untrained or trained network for each member; they are trained in place.

    Returns
    -------
    tuple
        The surrogate, and the learning curves.
    """
    train, valid, calibrate = (known.take(part) for part in (split.train, split.valid, split.calibrate))
    curves = list[Epoch]()
    for index, member in enumerate(starts):
        curves += train_member(member, index, train, valid, settings, tell)
        member.seen = member.predict(train.graphs)[1]
    surrogate = Surrogate(list(starts))
    if not starts[0].is_classifier:
        prediction = surrogate.predict(calibrate.graphs)
        errors = prediction.mean - calibrate.values
        surrogate.scales = {kind: Scale.fit(kind, scores, errors) for kind, scores in prediction.scores.items()}
        surrogate.uncertainty = choose_kind(errors, prediction.scores)
    return surrogate, curves


def make_members(
    settings: FitSettings, elements: torch.Tensor, train: Known, name: str, unit: str, *, classify: bool
) -> list[Member]:
    """Return untrained members, their weights drawn by seed and index."""
    shape = Shape(
        settings.atom_features, settings.head_features, settings.convolutions, settings.hidden, classify,
        settings.dropout,
    )  # fmt: skip
    mean, std = (0.0, 1.0) if classify else (float(train.values.mean()), float(train.values.std()) or 1.0)
    members = []
    for index in range(settings.members):
        with torch.random.fork_rng([]):
            torch.manual_seed(make_seed(settings.seed, "weights", index))
            members.append(Member(CrystalGraphNet(shape, elements), name, unit, mean, std))
    return members


def continue_members(start: Surrogate, settings: FitSettings, train: Known, name: str, unit: str) -> list[Member]:
    """Return members that begin with the weights of a trained surrogate, in turn.

    What it predicts is brought onto the property by a line of best fit where the two are related, and by mean and
    deviation of the known values otherwise.
    """
    members = []
    for index in range(settings.members):
        source = start.members[index % len(start.members)]
        shape = replace(source.net.shape, dropout=settings.dropout)
        net = CrystalGraphNet(shape, source.net.elements.cpu())
        net.load_state_dict(source.net.state_dict())
        member = Member(net, name, unit, source.mean, source.std)
        if not source.is_classifier:
            member.mean, member.std = _first_guess(member, train)
        members.append(member)
    return members


def _first_guess(member: Member, train: Known) -> tuple[float, float]:
    predicted = member.predict(train.graphs)[0]
    if np.ptp(predicted) > 0 and np.ptp(train.values) > 0:
        slope, offset = np.polyfit(predicted, train.values, 1)
        if np.corrcoef(predicted, train.values)[0, 1] > RELATED:
            return float(slope * member.mean + offset), float(slope * member.std)
    return float(train.values.mean()), float(train.values.std()) or 1.0


def evaluate(surrogate: Surrogate, known: Known) -> tuple[dict[str, object], Floats, Floats | None]:
    """Return errors on crystals with known values, and what was predicted: mean and standard deviation.

    Of a classifier ``mae`` is that of the probability, and ``accuracy`` the share on the right side of 0.5.
    """
    prediction = surrogate.predict(known.graphs)
    errors = prediction.mean - known.values
    found: dict[str, object] = {
        "n": len(known),
        "mae": float(np.abs(errors).mean()),
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "mae_by_member": np.abs(prediction.by_member - known.values).mean(axis=1).tolist(),
    }
    if surrogate.members[0].is_classifier:
        found["accuracy"] = float(np.mean((prediction.mean > 0.5) == (known.values > 0.5)))
    if surrogate.scales:
        found["uncertainty"] = surrogate.uncertainty
        found["uncertainties"] = {
            kind: judge(errors, scale.std(prediction.scores[kind]), scale.factor)
            for kind, scale in surrogate.scales.items()
        }
    return found, prediction.mean, prediction.std
