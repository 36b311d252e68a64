"""One trained network with what its numbers mean."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from al_driver.screen.crystals import Floats
from al_driver.screen.graph import Graph
from al_driver.screen.surrogate.batch import MAX_ATOMS, make_batch, split_by_atoms
from al_driver.screen.surrogate.cgcnn import CrystalGraphNet


@dataclass
class Member:
    """A network and the scale of what it was trained on.

    Attributes
    ----------
    name, unit
        The property.
    mean, std
        Of the training's targets: the property is ``mean + std × output``.
    """

    net: CrystalGraphNet
    name: str
    unit: str
    mean: float
    std: float

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

    def scale(self, output: torch.Tensor) -> torch.Tensor:
        """Return the property for the network's output, shape (n_crystals,)."""
        return output[:, 1].exp() if self.is_classifier else output[:, 0] * self.std + self.mean
