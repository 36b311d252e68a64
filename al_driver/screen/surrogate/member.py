"""One trained network with what its numbers mean."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from al_driver.screen.crystals import Floats
from al_driver.screen.graph import Graph
from al_driver.screen.surrogate.batch import MAX_ATOMS, make_batch, split_by_atoms
from al_driver.screen.surrogate.cgcnn import CrystalGraphNet

N_NEAREST = 3  # crystals of the training that a distance is taken to
SAME = 1e-4  # of the spread of vectors: two that lie closer are of one crystal, but for rounding


@dataclass
class Member:
    """A network and the scale of what it was trained on.

    Attributes
    ----------
    name, unit
        The property.
    mean, std
        Of the training's targets: the property is ``mean + std × output``.
    seen
        The vectors of the crystals that it was trained on, (n_crystals, n_features); None where nobody kept them.
    """

    net: CrystalGraphNet
    name: str
    unit: str
    mean: float
    std: float
    seen: Floats | None = None

    @property
    def is_classifier(self) -> bool:
        return self.net.shape.classification

    def predict(self, graphs: Sequence[Graph], max_atoms: int | None = None) -> tuple[Floats, Floats]:
        """Return the property of each crystal, and the vector that the network makes of it.

        The network is in evaluation mode: normalisations use what training left, and nothing of it changes.

        Returns
        -------
        tuple
            Shape (n_crystals,) in the property's unit, or the probability of class 1; and (n_crystals, n_features).
        """
        self.net.eval()
        device = next(self.net.parameters()).device
        max_atoms = max_atoms or MAX_ATOMS.get(device.type, MAX_ATOMS["cpu"])
        values, vectors = [], []
        with torch.inference_mode():
            for part in split_by_atoms([len(graph) for graph in graphs], max_atoms):
                described = self.net.describe(make_batch(graphs[part]).to(device))
                values.append(self.scale(self.net.head(described)))
                vectors.append(described)
        if not values:
            return np.empty(0), np.empty((0, self.net.shape.atom_features))
        return torch.cat(values).cpu().double().numpy(), torch.cat(vectors).cpu().double().numpy()

    def distance(self, vectors: Floats) -> Floats:
        """Return how far crystals lie from those of the training: the mean of the three nearest, shape (n_crystals,).

        Each feature counts in units of its deviation among those of the training.
        """
        if self.seen is None:
            raise ValueError("the crystals of the training are not known")
        units = self.seen.std(axis=0) + 1e-6
        tree = cKDTree(self.seen / units)
        nearest = min(N_NEAREST, len(self.seen))
        return np.asarray(tree.query(vectors / units, k=[*range(1, nearest + 1)])[0].mean(axis=1), dtype=float)

    def has_seen(self, graphs: Sequence[Graph]) -> NDArray[np.bool_]:
        """Return which crystals it was trained on, as far as that is known, shape (n_crystals,)."""
        if self.seen is None or not len(graphs):
            return np.zeros(len(graphs), dtype=bool)
        nearest = cKDTree(self.seen).query(self.predict(graphs)[1])[0]
        return np.asarray(nearest <= SAME * np.linalg.norm(self.seen.std(axis=0)))

    def dropout_std(self, vectors: Floats, n_passes: int = 64) -> Floats:
        """Return the property's spread over passes with dropout in the head, shape (n_crystals,).

        Everything else, the normalisations among it, stays as training left it. The draws are the same for each
        crystal and each call, so that a batch does not matter.
        """
        share = self.net.dropout.p
        if not share or self.is_classifier:
            return np.zeros(len(vectors))
        device = next(self.net.parameters()).device
        draws = torch.rand(n_passes, self.net.shape.head_features, generator=torch.Generator().manual_seed(0))
        masks = ((draws >= share).float() / (1 - share)).to(device)
        crystals = torch.as_tensor(vectors, dtype=torch.float32, device=device)
        with torch.inference_mode():
            passes = torch.stack([self.scale(self.net.head(crystals, mask)) for mask in masks])
            return np.asarray(passes.std(dim=0, unbiased=False).cpu().double())

    def scale(self, output: torch.Tensor) -> torch.Tensor:
        """Return the property for the network's output, shape (n_crystals,)."""
        return output[:, 1].exp() if self.is_classifier else output[:, 0] * self.std + self.mean
