"""PWmat's structure file ``atom.config``: Å, fractional positions, velocities in bohr/fs.

PWmat puts atoms of one element together, elements in the order in which they first stand, and writes its output so.
Here atoms are written in the order they have; `sent_order` finds that of an output. The first line tells, after the
number of atoms, along which vectors the frame repeats: PWmat itself takes every cell as periodic. Source: the reader
of PWmat's makers (readf_xatom_new.f90 of github.com/LonxunQuantum/PWMLFF), and MOVEMENT, which restarts are cut from.
"""

from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_driver.data.frames import Array
from al_driver.errors import ConfigError, EngineError, Problem
from al_driver.units import BOHR_TO_ANGSTROM

ATOM_CONFIG = "atom.config"


def write_atom_config(path: Path, atoms: Atoms, velocities: Array | None = None, *, has_moments: bool = False) -> None:
    """Write a frame in full precision.

    Parameters
    ----------
    velocities
        Shape (n_atoms, 3), Å/ps.
    has_moments
        Whether the first magnetic moments that atoms carry are written too, μ_B.
    """
    periodic = " ".join("FT"[int(direction)] for direction in atoms.pbc)
    lines = [f"{len(atoms)} atoms, periodic: {periodic}", " Lattice vector (Angstrom)"]
    lines += [_row(vector) for vector in atoms.cell.array]
    lines.append(" Position (normalized), move_x, move_y, move_z")
    fractional = np.linalg.solve(atoms.cell.array.T, atoms.positions.T).T
    lines += [f"{number:4d} {_row(row)}  1 1 1" for number, row in zip(atoms.numbers, fractional, strict=True)]
    if velocities is not None:
        lines.append(" Velocity (bohr/fs)")
        rows = velocities / BOHR_TO_ANGSTROM / 1000
        lines += [f"{number:4d} {_row(row)}" for number, row in zip(atoms.numbers, rows, strict=True)]
    if has_moments:
        lines.append(" MAGNETIC")
        moments = atoms.get_initial_magnetic_moments()
        lines += [f"{number:4d} {moment:.10g}" for number, moment in zip(atoms.numbers, moments, strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def starts_with_spin(spin: str, atoms: Atoms, key: str) -> bool:
    """Say whether atoms' own first moments are of use; ``spin`` is SPIN of the user's input, which ``key`` names.

    Raises
    ------
    ConfigError
        If atoms have moments, and nobody says whether the calculation is spin-polarised.
    """
    moments = atoms.get_initial_magnetic_moments()
    if moments.ndim > 1 or not moments.any():
        return False
    if not spin:
        message = "a structure gives its atoms moments, but the input has no SPIN; set SPIN = 2, or 1 to ignore them"
        raise ConfigError(Problem(message, key))
    return spin != "1"


def read_sent(directory: Path) -> Atoms:
    """Read back the frame that was sent.

    Raises
    ------
    EngineError
        If there is none.
    """
    try:
        lines = (directory / ATOM_CONFIG).read_text(encoding="utf-8").splitlines()
        n_atoms, periodic = int(lines[0].split()[0]), [word == "T" for word in lines[0].split()[-3:]]
        cell = np.array([[float(word) for word in line.split()] for line in lines[2:5]])
        rows = [line.split() for line in lines[6 : 6 + n_atoms]]
        fractional = np.array([[float(word) for word in row[1:4]] for row in rows])
        return Atoms([int(row[0]) for row in rows], positions=fractional @ cell, cell=cell, pbc=periodic)
    except (OSError, ValueError, IndexError) as error:
        raise EngineError("no_output", directory, f"{ATOM_CONFIG} cannot be read ({error})") from error


def sent_order(sent: Atoms, numbers: NDArray[np.int64], where: Path) -> NDArray[np.int64]:
    """Return indices that bring an output's atoms into the order that was sent.

    Raises
    ------
    EngineError
        If the output holds other atoms.
    """
    if np.array_equal(numbers, sent.numbers):
        return np.arange(len(sent))
    first = {number: index for index, number in reversed(list(enumerate(sent.numbers)))}
    grouped = np.argsort([first[number] for number in sent.numbers], kind="stable")
    if not np.array_equal(numbers, sent.numbers[grouped]):
        raise EngineError("species_mismatch", where, f"the output's {len(numbers)} atoms are not those that were sent")
    return np.argsort(grouped)


def _row(vector: Array) -> str:
    return " ".join(f"{number:23.16f}" for number in vector)
