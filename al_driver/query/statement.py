"""The statement that ends a run: of how many frames of each structure the forces are right, and how stable it runs.

Frames without a label count as bad, and a trajectory that a guard or a crash ended as one that did not survive: what is
not known is not in the model's favour. Frames that a guard cut away were not drawn from: where most trajectories ended
early, or many frames failed, the others prove nothing. Errors eV/Å, temperatures K, pressures bar.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from al_driver.query.verdict import (
    MOST_BROKEN,
    closing_size,
    clustered_interval,
    look_confidence,
    lower_limit,
    upper_limit,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClosingFrame:
    """A labelled frame of a closing audit.

    Attributes
    ----------
    trajectory
        The name of the task it is of.
    errors
        Force error of each atom, shape (n_atoms,).
    targets
        What is wanted of each atom, shape (n_atoms,).
    """

    trajectory: str
    errors: Floats
    targets: Floats

    @property
    def is_bad(self) -> bool:
        return not (self.errors <= self.targets).all()


@dataclass(frozen=True)
class Survival:
    """The trajectories of one structure: how many there were, and how many reached their last step.

    Attributes
    ----------
    n_frames, n_failed
        Frames that were scored, and those whose score is beyond sense or not finite.
    """

    n: int
    n_ended: int
    temperatures: tuple[float, ...]
    pressures: tuple[float, ...]
    n_frames: int
    n_failed: int


@dataclass(frozen=True)
class Demand:
    """What is to be shown, and at which look."""

    max_bad_fraction: float
    confidence: float
    n_structures: int
    look: int

    @property
    def own_confidence(self) -> float:
        """The confidence of what is said of one structure."""
        return look_confidence(self.confidence, self.look, self.n_structures)

    @property
    def n_frames(self) -> int:
        """Frames of each structure that are needed, were none of them bad."""
        return closing_size(self.max_bad_fraction, self.confidence, self.n_structures, self.look)


def state_structure(
    name: str, frames: Sequence[ClosingFrame], n_lost: int, survival: Survival, demand: Demand
) -> dict[str, Any]:
    """Return what can be said of one structure, and whether it is what was demanded (``met``).

    Parameters
    ----------
    n_lost
        Frames that were drawn and have no label.
    """
    n, n_bad = len(frames) + n_lost, sum(frame.is_bad for frame in frames) + n_lost
    limit = upper_limit(n_bad, n, demand.own_confidence) if n else 1.0
    unstable = _why_unstable(survival, demand)
    return {
        "structure": name,
        "frames": n,
        "atoms": sorted({len(frame.errors) for frame in frames}),
        "temperatures": list(survival.temperatures),
        "pressures": list(survival.pressures),
        "bad": n_bad,
        "without_label": n_lost,
        "bad_at_most": limit,
        "unstable": unstable,
        "met": unstable is None and limit <= demand.max_bad_fraction * (1 + 1e-12),
        **_state_atoms(frames, demand.confidence),
        "trajectories": survival.n,
        "survived": survival.n_ended,
        "survival_at_least": lower_limit(survival.n_ended, survival.n, demand.own_confidence) if survival.n else 0.0,
    }


def _why_unstable(survival: Survival, demand: Demand) -> str | None:
    """Say why the frames that were drawn from prove nothing; None where they do."""
    if survival.n - survival.n_ended > MOST_BROKEN * survival.n:
        return f"{survival.n - survival.n_ended} of {survival.n} trajectories of the final model ended early"
    if survival.n_failed > demand.max_bad_fraction * survival.n_frames:
        return f"{survival.n_failed} of {survival.n_frames} frames of the final model failed"
    return None


def _state_atoms(frames: Sequence[ClosingFrame], confidence: float) -> dict[str, Any]:
    """Return the share of atoms above the target and the force RMSE (per component), each with its interval."""
    if not frames:
        return {"bad_atoms": None, "bad_atoms_interval": None, "force_rmse": None, "force_rmse_interval": None}
    names = sorted({frame.trajectory for frame in frames})
    groups = [[frame for frame in frames if frame.trajectory == name] for name in names]
    sizes = [sum(len(frame.errors) for frame in group) for group in groups]
    bad = [float(sum((~(frame.errors <= frame.targets)).sum() for frame in group)) for group in groups]
    squares = [float(sum((frame.errors**2).sum() / 3 for frame in group)) for group in groups]
    share, share_interval = clustered_interval(bad, sizes, confidence)
    mean, interval = clustered_interval(squares, sizes, confidence)
    return {
        "bad_atoms": share,
        "bad_atoms_interval": None if share_interval is None else [max(end, 0.0) for end in share_interval],
        "force_rmse": math.sqrt(mean),
        "force_rmse_interval": None if interval is None else [math.sqrt(max(end, 0.0)) for end in interval],
    }


def describe_statement(statement: dict[str, Any]) -> str:
    """Return a statement in words, a sentence or two for each structure."""
    sentences = []
    for part in statement["structures"]:
        where = f"{part['structure']} ({'/'.join(map(str, part['atoms'])) or '?'} atoms, {_conditions(part)})"
        errors = (
            f"in at least {_floor(1 - part['bad_at_most'], 1)} of frames no atom's force error exceeds "
            f"{statement['target_text']} eV/Å ({part['bad']} of {part['frames']} did, "
            f"{_floor(statement['confidence'], 1)} confidence)"
        )
        if part["force_rmse"] is not None:
            errors += f"; force RMSE {part['force_rmse']:.3g} eV/Å, {part['bad_atoms']:.2%} of atoms above"
        stable = f"{part['survived']} of {part['trajectories']} trajectories reached their end (at least "
        stable += f"{_floor(part['survival_at_least'], 0)} do)"
        sentences.append(f"{where}: {errors}. Stability: {stable}")
    return f"model {statement['model']}: {'. '.join(sentences)}"


def _floor(share: float, digits: int) -> str:
    """Write a share in percent, never as more than it is."""
    scale = 10**digits
    return f"{math.floor(100 * scale * share + 1e-6) / scale:.{digits}f}%"


def _conditions(part: dict[str, Any]) -> str:
    temperatures = f"{_range(part['temperatures'])} K"
    return temperatures + (f", {_range(part['pressures'])} bar" if part["pressures"] else "")


def _range(values: Sequence[float]) -> str:
    if not values:
        return "?"
    first, last = min(values), max(values)
    return f"{first:g}" if first == last else f"{first:g}–{last:g}"
