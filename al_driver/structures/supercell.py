"""Supercells. The order of atoms follows from the input alone: all atoms of the first cell, then of the next."""

from typing import Annotated, Any

import ase.build
import numpy as np
from ase import Atoms
from pydantic import BeforeValidator

from al_driver.errors import ConfigError, Problem
from al_driver.schema.base import Int, PositiveInt

Row = tuple[Int, Int, Int]
MOST_ATOMS = 1_000_000


def _check_shape(value: Any) -> Any:
    """Say in one message what both forms of the key need."""
    matrix = np.array(value, dtype=object) if isinstance(value, (list, tuple)) else np.empty(0, dtype=object)
    if matrix.shape not in {(3,), (3, 3)} or not all(type(number) is int for number in matrix.flat):
        raise ValueError(f"needs 3 whole numbers, or a 3×3 matrix of them; found {value!r}")
    if matrix.shape == (3,) and not (matrix > 0).all():
        raise ValueError(f"needs 3 numbers larger than 0; found {value!r}")
    if matrix.shape == (3, 3) and np.linalg.det(matrix.astype(float)) < 0.5:
        raise ValueError(f"needs a matrix with a positive determinant; found {value!r}")
    return value


Supercell = Annotated[
    tuple[PositiveInt, PositiveInt, PositiveInt] | tuple[Row, Row, Row],
    BeforeValidator(
        _check_shape, json_schema_input_type=tuple[PositiveInt, PositiveInt, PositiveInt] | tuple[Row, Row, Row]
    ),
]
"""Repeats along the three cell vectors, or a matrix P: the new cell is P times the old one."""


def check_size(atoms: Atoms, supercell: Supercell) -> None:
    """Refuse a supercell that no calculation of this program could hold.

    Raises
    ------
    ConfigError
        With the number of atoms.
    """
    matrix = np.array(supercell, dtype=float)
    n_atoms = len(atoms) * (matrix.prod() if matrix.ndim == 1 else np.linalg.det(matrix))
    if n_atoms > MOST_ATOMS:
        message = f"{supercell} of {len(atoms)} atoms makes {n_atoms:.3g}; at most {MOST_ATOMS:,} were expected"
        raise ConfigError(Problem(message, "supercell"))


def make_supercell(atoms: Atoms, supercell: Supercell) -> Atoms:
    """Repeat a structure.

    Parameters
    ----------
    supercell
        Three repeats, or a 3×3 matrix P with positive determinant: new cell = P · cell (row vectors).

    Raises
    ------
    ValueError
        If the matrix is singular or mirrors the cell.
    """
    _check_shape(supercell)
    matrix = np.array(supercell)
    if matrix.ndim == 1:
        return atoms.repeat(tuple(int(n) for n in matrix))
    return ase.build.make_supercell(atoms, matrix)
