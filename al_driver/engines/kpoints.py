"""The grid of k-points that a spacing in reciprocal space asks for.

``kspacing`` is in 1/Å and includes the factor 2π, as KSPACING in VASP does.
"""

import math

from ase import Atoms

_ROUNDING = 1e-9  # a ratio that is an integer but for rounding is that integer


def kpoint_grid(atoms: Atoms, kspacing: float) -> tuple[int, int, int]:
    """Return ``N_i = max(1, ceil(2π |b_i| / kspacing))``; 1 along a direction that is not periodic.

    Parameters
    ----------
    atoms
        Its cell has a vector along each periodic direction.
    kspacing
        Largest distance of neighbouring k-points, 1/Å, 2π included.

    >>> from ase.build import bulk
    >>> kpoint_grid(bulk("Si", cubic=True), 0.5)
    (3, 3, 3)
    """
    lengths = [2 * math.pi * math.hypot(*vector) for vector in atoms.cell.reciprocal()]
    first, second, third = (
        max(1, math.ceil(length / kspacing - _ROUNDING)) if periodic else 1
        for length, periodic in zip(lengths, atoms.pbc, strict=True)
    )
    return first, second, third
