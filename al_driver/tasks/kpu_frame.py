"""The neighbourhood that the force on an atom depends on, cut out of a frame.

A local model's energy is a sum over atoms, and a force needs the energies only of the atoms that have the atom among
their neighbours: what lies within twice the cut-off, however large the cell is. A neighbour is a periodic image; an
atom's neighbours are the nearest `n_max` within the cut-off, as DeePMD-kit takes them. Imports nothing of `al_driver`,
as `kpu_model.py`, which uses it. Å.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class Frame:
    """A frame and its neighbours.

    Attributes
    ----------
    kinds
        Each atom's number in the model, shape (n_atoms,).
    images
        Positions of the atoms, and of all periodic images within the cut-off of the cell, shape (n_images, 3); the
        first n_atoms are the atoms themselves, wrapped into the cell.
    home
        Which atom an image is of, shape (n_images,).
    neighbours
        Images near each atom, nearest first, shape (n_atoms, n_neighbours); −1 where there is none.
    """

    kinds: Any
    images: Any
    home: Any
    neighbours: Any


@dataclass(frozen=True)
class Cluster:
    """What the forces on some atoms of a frame depend on.

    Attributes
    ----------
    positions, kinds
        Of n_local atoms whose energies count, then of the images around them, shape (n, 3) and (n,).
    owner
        Which of the atoms asked for a position belongs to, −1 for none, shape (n,).
    neighbours
        Places in `positions` of the neighbours of each local atom, −1 for none, shape (n_local, n_neighbours).
    mapping
        The place of the atom each position is an image of; 0 where that is no local one, shape (n,).
    """

    positions: Any
    kinds: Any
    owner: Any
    neighbours: Any
    mapping: Any


def make_frame(positions: Any, cell: Any, pbc: Any, kinds: Any, cutoff: float, n_max: int) -> Frame:
    """Find the neighbours of every atom of a frame.

    Parameters
    ----------
    positions, cell
        Shape (n_atoms, 3) and (3, 3), row vectors.
    pbc
        Which directions are periodic, shape (3,).
    n_max
        Most neighbours that the model looks at.
    """
    basis, periodic = _complete(np.asarray(cell, dtype=float), np.asarray(pbc, dtype=bool)), np.asarray(pbc, dtype=bool)
    inverse = np.linalg.inv(basis)
    scaled = positions @ inverse
    scaled[:, periodic] %= 1.0
    reach = np.where(periodic, cutoff * np.linalg.norm(inverse, axis=0), 0.0)
    layers = [range(-n, n + 1) for n in np.ceil(reach).astype(int)]
    images, home = [scaled], [np.arange(len(scaled))]
    for shift in product(*layers):
        moved = scaled + shift
        near = ((moved >= -reach) & (moved <= 1 + reach) | ~periodic).all(axis=1)
        if any(shift) and near.any():
            images.append(moved[near])
            home.append(np.flatnonzero(near))
    points, n_atoms = np.concatenate(images) @ basis, len(scaled)
    bound = cutoff * (1 + 1e-9)  # what lies on the cut-off itself is DeePMD-kit's to decide
    found = cKDTree(points).query(points[:n_atoms], k=np.arange(1, n_max + 2), distance_upper_bound=bound)[1]
    found[found == len(points)] = -1
    found[found == np.arange(n_atoms)[:, None]] = -1
    order = np.argsort(found < 0, axis=1, kind="stable")[:, :n_max]  # its own place goes to the end
    neighbours = np.take_along_axis(found, order, axis=1)
    return Frame(np.asarray(kinds), points, np.concatenate(home), neighbours)


def _complete(cell: Any, periodic: Any) -> Any:
    """Replace the vectors of directions that are not periodic by unit vectors across the others."""
    basis = cell.copy()
    if not periodic.all():
        n_periodic = int(periodic.sum())
        basis[~periodic] = np.linalg.svd(np.concatenate([cell[periodic], np.zeros((3, 3))]))[2][n_periodic:]
    return basis


def group_atoms(frame: Frame, atoms: Any, size: int) -> list[Any]:
    """Part atoms into compact groups of at most ``size``, so that neighbourhoods overlap."""
    atoms = np.asarray(atoms)
    if len(atoms) <= size:
        return [atoms] if len(atoms) else []
    points = frame.images[atoms]
    axis = np.argmax(np.ptp(points, axis=0))
    order = np.argsort(points[:, axis], kind="stable")
    half = size * max(1, round(len(atoms) / size / 2))
    return group_atoms(frame, atoms[order[:half]], size) + group_atoms(frame, atoms[order[half:]], size)


def find_touched(frame: Frame, atoms: Any) -> Any:
    """Return these atoms and every atom that has one of them among its neighbours: whose energies their forces need."""
    asked = np.zeros(len(frame.kinds), dtype=bool)
    asked[atoms] = True
    near = (asked[frame.home[frame.neighbours]] & (frame.neighbours >= 0)).any(axis=1)
    return np.flatnonzero(asked | near)


def cut_out(frame: Frame, local: Any, atoms: Any) -> Cluster:
    """Return some atoms, whose energies count, with their neighbours.

    Parameters
    ----------
    atoms
        Whose positions the energy is going to be derived by; all their images move with them.
    """
    near = frame.neighbours[local]
    images = np.concatenate([local, np.setdiff1d(near[near >= 0], local)])
    place = np.full(len(frame.images) + 1, -1)
    place[images] = np.arange(len(images))
    number = np.full(len(frame.kinds), -1)
    number[atoms] = np.arange(len(atoms))
    home = frame.home[images]
    return Cluster(frame.images[images], frame.kinds[home], number[home], place[near], np.maximum(place[home], 0))
