"""Choosing frames that differ: greedy argmax of ``score^γ · distance`` in the space of a model's descriptors.

A frame is described by its worst atoms' descriptors. Its distance is the mean, over them, of the distance to the
nearest environment of the same element that is known: those of the frames that are trained on, and the worst atoms of
frames chosen before. So it is the k-centre greedy of farthest points, weighted by what the models do not know.
Descriptors are divided by the spread of their element, so that distances have no unit and elements compare.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from al_driver.query.features import Features
from al_driver.query.lines import Entries

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BLOCK_ROWS = 8192


@dataclass(frozen=True)
class Environments:
    """The worst atoms of frames.

    Attributes
    ----------
    kinds
        Index of the element of each, shape (n_frames, n_worst); −1 where a frame has no so many atoms.
    descriptors
        Shape (n_frames, n_worst, n_features).
    known
        Distance of each to the nearest environment of its element that is trained on, shape (n_frames, n_worst);
        infinite where there is none.
    """

    kinds: Ints
    descriptors: NDArray[np.float32]
    known: Floats

    def take(self, index: Ints) -> "Environments":
        """Return those of some frames."""
        return Environments(self.kinds[index], self.descriptors[index], self.known[index])


class DiverseOrders:
    """Makes the order of each structure's line; what is chosen of one structure is known for the next."""

    def __init__(self, features: Features, power: float) -> None:
        self._features = features
        self._environments = Environments(*(features.array(name) for name in ("kinds", "descriptors", "known")))
        self._power = power
        self._chosen: list[Environments] = []

    def start(self, line: Entries) -> tuple[Entries, "Diverse"]:
        """Return the frames of a line that can be compared, and the order in which they are chosen."""
        described, places = self._features.find(line)
        return described, Diverse(described["score"], self._environments.take(places), self._power, self._chosen)


class Diverse:
    """The order in which frames of a line are chosen; it depends on those that were taken."""

    def __init__(
        self, scores: Floats, environments: Environments, power: float, chosen: list[Environments] | None = None
    ) -> None:
        """Start from what is trained on, and from what was chosen before.

        Parameters
        ----------
        scores
            Shape (n_frames,).
        environments
            Of the same frames.
        power
            γ.
        chosen
            Those of frames chosen before, of other structures perhaps; what is taken is added to it.
        """
        self._weight = scores**power
        self._environments = environments
        self._nearest = environments.known.copy()
        self._is_left = np.ones(len(scores), dtype=bool)
        self._chosen = [] if chosen is None else chosen
        for known in self._chosen:
            self._learn(known)

    def best(self) -> int | None:
        """Return the frame to take next, the first of equals; None when none is left."""
        if not self._is_left.any():
            return None
        value = np.where(self._is_left, self._weight * self.distances(), -1.0)
        return int(np.argmax(value))

    def distances(self) -> Floats:
        """Return how far each frame is from what is known, shape (n_frames,)."""
        is_atom = self._environments.kinds >= 0
        total: Floats = np.where(is_atom, self._nearest, 0.0).sum(axis=1)
        mean: Floats = total / np.maximum(is_atom.sum(axis=1), 1)
        return mean

    def drop(self, index: int) -> None:
        """Leave a frame out that must not be labelled."""
        self._is_left[index] = False

    def take(self, index: int) -> None:
        """Count a frame as chosen: its worst atoms are known from now on."""
        self._is_left[index] = False
        self._chosen.append(self._environments.take(np.array([index])))
        self._learn(self._chosen[-1])

    def _learn(self, chosen: Environments) -> None:
        """Count the environments of a chosen frame as known."""
        own = self._environments
        for kind in np.unique(chosen.kinds[chosen.kinds >= 0]):
            known = chosen.descriptors[chosen.kinds == kind].astype(np.float64)
            rows = np.argwhere((own.kinds == kind) & self._is_left[:, None])
            for start in range(0, len(rows), BLOCK_ROWS):
                frame, atom = rows[start : start + BLOCK_ROWS].T
                distance = _nearest(own.descriptors[frame, atom].astype(np.float64), known)
                self._nearest[frame, atom] = np.minimum(self._nearest[frame, atom], distance)


def _nearest(points: Floats, known: Floats) -> Floats:
    """Return the distance of each point to the nearest of a few, shape (n_points,)."""
    squares = np.einsum("ij,ij->i", points, points)[:, None] + np.einsum("ij,ij->i", known, known)
    squares -= 2.0 * points @ known.T
    nearest: Floats = np.sqrt(np.maximum(squares.min(axis=1), 0.0))
    return nearest
