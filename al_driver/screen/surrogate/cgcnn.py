"""The crystal graph convolutional network of Xie and Grossman (Phys. Rev. Lett. 120, 145301 (2018)).

The modules bear the names of the authors' checkpoints, so that their weights load as they are. The work is laid out
otherwise: the weight of z = W [h_i; h_j; e_ij] is split into W₁ h_i + W₂ h_j + W₃ e_ij, so that the first two are
products of an atom, not of an edge; and an element's embedding is computed once, not for each atom.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from al_driver.screen.graph import N_NEIGHBOURS, RADIUS
from al_driver.screen.surrogate.batch import Batch

N_GAUSSIANS = 41  # at 0, 0.2 … 8 Å, of width 0.2 Å: exp(−(d − μ)² / 0.2²)
WIDTH = 0.2
FARTHEST = 60.0  # of the exponent: exp(−100) and its like are denormal numbers, which processors multiply slowly


@dataclass(frozen=True)
class Shape:
    """The size of a network; the defaults are those of the published ones.

    Attributes
    ----------
    atom_features
        Length of an atom's vector.
    head_features
        Length of the crystal's vector in the head.
    n_convolutions
        Graph convolutions.
    n_hidden
        Layers of the head.
    classification
        Two outputs, of which the second is the probability's; one number otherwise.
    dropout
        Share of the head's vector that is left out in training; the authors' classifier has 0.5.
    """

    atom_features: int = 64
    head_features: int = 32
    n_convolutions: int = 4
    n_hidden: int = 1
    classification: bool = False
    dropout: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Convolution(nn.Module):  # type: ignore[misc]
    """h ← softplus(h + BN(Σ_j σ(z) softplus(z'))), with z and z' the halves of BN(W [h_i; h_j; e_ij] + b)."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.n_features = n_features
        self.fc_full = nn.Linear(2 * n_features + N_GAUSSIANS, 2 * n_features)
        self.bn1 = nn.BatchNorm1d(2 * n_features)
        self.bn2 = nn.BatchNorm1d(n_features)

    def forward(self, atoms: Tensor, edges: Tensor, neighbours: Tensor) -> Tensor:
        """Return new vectors of the atoms, shape (n_atoms, n_features); ``edges`` has (n_atoms × 12, 41)."""
        n = self.n_features
        own, other, edge = self.fc_full.weight.split((n, n, N_GAUSSIANS), dim=1)
        bias = self.fc_full.bias
        if not self.training:  # the first normalisation is a line, and goes into the weights
            factor = self.bn1.weight * torch.rsqrt(self.bn1.running_var + self.bn1.eps)
            own, other, edge = own * factor[:, None], other * factor[:, None], edge * factor[:, None]
            bias = (bias - self.bn1.running_mean) * factor + self.bn1.bias
        z = functional.linear(atoms, other).index_select(0, neighbours.reshape(-1))
        z.view(-1, N_NEIGHBOURS, 2 * n).add_(functional.linear(atoms, own, bias)[:, None])
        z = z.addmm_(edges, edge.t())  # in place, four times as fast as a sum of three
        if self.training:
            z = self.bn1(z)
        gate, core = z.view(-1, N_NEIGHBOURS, 2 * n).chunk(2, dim=2)
        message = (torch.sigmoid(gate) * functional.softplus(core)).sum(dim=1)
        return functional.softplus(atoms + self.bn2(message))


class CrystalGraphNet(nn.Module):  # type: ignore[misc]
    """From graphs to a property.

    Parameters
    ----------
    shape
        Sizes.
    elements
        Features of the elements by atomic number, shape (n_elements + 1, n_element_features); row 0 is of nothing.
    """

    def __init__(self, shape: Shape, elements: Tensor) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("elements", elements.float(), persistent=False)
        self.embedding = nn.Linear(elements.shape[1], shape.atom_features)
        self.convs = nn.ModuleList(Convolution(shape.atom_features) for _ in range(shape.n_convolutions))
        self.conv_to_fc = nn.Linear(shape.atom_features, shape.head_features)
        self.fcs = nn.ModuleList(nn.Linear(shape.head_features, shape.head_features) for _ in range(shape.n_hidden - 1))
        self.fc_out = nn.Linear(shape.head_features, 2 if shape.classification else 1)
        self.dropout = nn.Dropout(shape.dropout)
        self.register_buffer("centres", torch.arange(N_GAUSSIANS) * (RADIUS / (N_GAUSSIANS - 1)), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Return the head's output of each crystal, shape (n_crystals, 1), or (n_crystals, 2) log-probabilities."""
        return self.head(self.describe(batch))

    def describe(self, batch: Batch) -> Tensor:
        """Return each crystal's vector: the mean of its atoms' after the convolutions, (n_crystals, atom_features)."""
        atoms = self._embed(batch)
        steps = (batch.distances.view(-1, 1) - self.centres) / WIDTH
        edges = torch.exp(-(steps * steps).clamp(max=FARTHEST))
        for convolution in self.convs:
            atoms = convolution(atoms, edges, batch.neighbours)
        total = atoms.new_zeros(len(batch.counts), atoms.shape[1]).index_add(0, batch.owner, atoms)
        return total / batch.counts[:, None]

    def head(self, crystals: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the output for the crystals' vectors, from `describe`.

        ``mask``, of shape (head_features,), stands for one draw of the dropout, in evaluation too.
        """
        hidden = functional.softplus(self.conv_to_fc(functional.softplus(crystals)))
        hidden = self.dropout(hidden) if mask is None else hidden * mask
        for layer in self.fcs:
            hidden = functional.softplus(layer(hidden))
        output = self.fc_out(hidden)
        return functional.log_softmax(output, dim=1) if self.shape.classification else output

    def _embed(self, batch: Batch) -> Tensor:
        if batch.ordered:
            return self.embedding(self.elements).index_select(0, batch.number)
        parts = functional.linear(self.elements, self.embedding.weight).index_select(0, batch.number)
        mixed = parts.new_zeros(len(batch.neighbours), parts.shape[1])
        return mixed.index_add(0, batch.site, parts * batch.share[:, None]) + self.embedding.bias
