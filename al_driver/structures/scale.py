"""Scaled cells: all cell vectors times one factor, fractional coordinates kept."""

import numpy as np
from ase import Atoms

from al_driver.data.frames import Array


def deform(atoms: Atoms, strain: Array) -> Atoms:
    """Return a copy with ``cell' = cell (I + strain)`` and the same fractional coordinates.

    Only the space that the periodic cell vectors span is strained: a slab keeps its vacuum, a molecule its shape.

    Parameters
    ----------
    strain
        Shape (3, 3), no unit.
    """
    periodic = atoms.cell.array[atoms.pbc]
    projector = np.linalg.pinv(periodic) @ periodic if len(periodic) else np.zeros((3, 3))
    if len(periodic) == 3:
        projector = np.eye(3)  # exactly: the pseudo-inverse is good to 1e-16 only
    deformation = np.eye(3) + projector @ strain @ projector
    deformed = atoms.copy()
    deformed.set_cell(atoms.cell.array @ deformation)
    deformed.positions = atoms.positions @ deformation
    return deformed


def scale_cell(atoms: Atoms, factor: float) -> Atoms:
    """Return a copy whose (periodic) cell vectors are ``factor`` times as long."""
    return deform(atoms, (factor - 1.0) * np.eye(3))
