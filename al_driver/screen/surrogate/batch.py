"""Graphs laid end to end, so that the network sees many crystals at once; a batch is as many as its atoms allow."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from al_driver.screen.graph import Graph

MAX_ATOMS = {"cpu": 256, "cuda": 16384}
"""Atoms in a batch. At twelve edges of 128 numbers each, 256 of them are 1.6 MB, which a processor's cache holds: 1024
take half as long again."""


@dataclass(frozen=True)
class Batch:
    """Crystals in one set of tensors.

    Attributes
    ----------
    neighbours, distances
        Shape (n_atoms, 12); neighbours count atoms of the whole batch.
    site, number, share
        What stands on each site, shape (n_entries,), as in `Crystal`.
    owner
        The crystal that each atom belongs to, shape (n_atoms,).
    counts
        Atoms of each crystal, shape (n_crystals,).
    ordered
        Whether one element fills each site: then ``number`` has shape (n_atoms,).
    """

    neighbours: torch.Tensor
    distances: torch.Tensor
    site: torch.Tensor
    number: torch.Tensor
    share: torch.Tensor
    owner: torch.Tensor
    counts: torch.Tensor
    ordered: bool

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return Batch(**tensors, ordered=self.ordered)


def make_batch(graphs: Sequence[Graph]) -> Batch:
    """Lay graphs end to end."""
    counts = np.array([len(graph) for graph in graphs])
    first = np.cumsum(counts) - counts
    per_atom = np.repeat(first, counts)
    entries = np.array([len(graph.site) for graph in graphs])
    neighbours = np.concatenate([graph.neighbours for graph in graphs]) + per_atom[:, None]
    return Batch(
        neighbours=torch.from_numpy(neighbours),
        distances=torch.from_numpy(np.concatenate([graph.distances for graph in graphs])),
        site=torch.from_numpy(np.concatenate([graph.site for graph in graphs]) + np.repeat(first, entries)),
        number=torch.from_numpy(np.concatenate([graph.number for graph in graphs]).astype(np.int64)),
        share=torch.from_numpy(np.concatenate([graph.share for graph in graphs])),
        owner=torch.from_numpy(np.repeat(np.arange(len(graphs)), counts)),
        counts=torch.from_numpy(counts),
        ordered=all(graph.is_ordered for graph in graphs),
    )


def split_by_atoms(sizes: Sequence[int], max_atoms: int) -> Iterator[slice]:
    """Yield consecutive slices of at most so many atoms, one crystal at least.

    >>> list(split_by_atoms([3, 3, 9, 1], max_atoms=6))
    [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    start, atoms = 0, 0
    for index, size in enumerate(sizes):
        if index > start and atoms + size > max_atoms:
            yield slice(start, index)
            start, atoms = index, 0
        atoms += size
    if start < len(sizes):
        yield slice(start, len(sizes))
