"""Choosing frames by looking ahead: what one label leaves unknown of the others follows without the label.

Training on a force with gradient g in the weights changes their covariance P to P − P g (R + gᵀPg)⁻¹ gᵀP, whatever the
label turns out to be. So the frame whose worst atoms have the largest remaining variance Σ gᵀPg is taken, the variances
of all others are lowered by what its label will tell, and so on: a pivoted Cholesky decomposition of K = G P Gᵀ, with G
the gradients of the force components of each frame's worst atoms, and R the noise of a label. A frame that resembles a
chosen one loses its variance with it (batch D-optimal design).
"""

import numpy as np
from numpy.typing import NDArray

from al_driver.query.features import Features
from al_driver.query.lines import Entries

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class LookaheadOrders:
    """Makes the order of each structure's line; what is chosen of one structure is known for the next."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._posterior = Posterior(features.array("kernel"), features.array("noise"))

    def start(self, line: Entries) -> tuple[Entries, "Lookahead"]:
        """Return the frames of a line that can be compared, and the order in which they are chosen."""
        described, places = self._features.find(line)
        return described, Lookahead(places, self._posterior)


class Posterior:
    """The covariance of force components after labels, K − K_S (R + K_SS)⁻¹ K_Sᵀ, in factors.

    Attributes
    ----------
    variance
        What is left of each frame's variance, the trace of its block, shape (n_frames,).
    """

    def __init__(self, kernel: Floats, noise: Floats) -> None:
        """Start from what the training data left.

        Parameters
        ----------
        kernel
            K, shape (n_frames · n_components, n_frames · n_components).
        noise
            R of each of a frame's components, shape (n_frames,).
        """
        self._kernel = kernel
        self._noise = noise
        self._n_components = len(kernel) // max(len(noise), 1)
        self._left: Floats = np.diagonal(kernel).copy()
        self._factors: list[Floats] = []

    @property
    def variance(self) -> Floats:
        left: Floats = self._left.reshape(len(self._noise), -1).sum(axis=1)
        return left

    def learn(self, frame: int) -> None:
        """Count the forces on a frame's worst atoms as known, up to their noise."""
        own = slice(frame * self._n_components, (frame + 1) * self._n_components)
        columns = self._kernel[:, own].copy()
        for known in self._factors:
            columns -= known @ known[own].T
        root = np.linalg.cholesky(columns[own] + self._noise[frame] * np.eye(self._n_components))
        factor = np.asarray(np.linalg.solve(root, columns.T).T, dtype=np.float64)
        self._factors.append(factor)
        self._left = self._left - np.einsum("ij,ij->i", factor, factor)


class Lookahead:
    """The order in which frames of a line are chosen; it depends on those that were taken."""

    def __init__(self, places: Ints, posterior: Posterior) -> None:
        self._places = places
        self._posterior = posterior
        self._is_left = np.ones(len(places), dtype=bool)

    def best(self) -> int | None:
        """Return the frame with the largest remaining variance, the first of equals; None when none is left."""
        if not self._is_left.any():
            return None
        return int(np.argmax(np.where(self._is_left, self._posterior.variance[self._places], -np.inf)))

    def drop(self, index: int) -> None:
        """Leave a frame out that must not be labelled."""
        self._is_left[index] = False

    def take(self, index: int) -> None:
        """Count a frame as chosen."""
        self._is_left[index] = False
        self._posterior.learn(int(self._places[index]))
