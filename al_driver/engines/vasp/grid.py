"""k-points of VASP: a KPOINTS file of the user's, the grid of `kspacing`, or KSPACING in the INCAR."""

import math
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms

from al_driver.engines.kpoints import kpoint_grid
from al_driver.engines.vasp.incar import Tags, number
from al_driver.errors import ConfigError, Problem

NAME = "KPOINTS"
_FEWEST_FOR_TETRAHEDRA = 4


def read_grid(path: Path) -> tuple[int, int, int] | None:
    """Return the grid of an automatic KPOINTS; None of a list of points.

    Raises
    ------
    ConfigError
        If it is not there, or is a grid without three numbers.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ConfigError(Problem(f"cannot be read: {error.strerror}", file=path)) from error
    if len(lines) < 3 or not lines[1].split() or not lines[1].split()[0].lstrip("-").isdecimal():
        raise ConfigError(Problem("is no KPOINTS: its second line must be a number of points, 0 for a grid", file=path))
    if int(lines[1].split()[0]) != 0:
        return None
    words = lines[3].split()[:3] if len(lines) > 3 else []
    if lines[2].strip()[:1].upper() not in {"G", "M"}:
        message = (
            f"{lines[2].strip()!r} is not for structures of every size; use Gamma or Monkhorst-Pack, or `kspacing`"
        )
        raise ConfigError(Problem(message, file=path))
    if len(words) < 3 or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ConfigError(Problem("its fourth line needs three numbers, the grid", file=path))
    return int(words[0]), int(words[1]), int(words[2])


def choose_grid(
    atoms: Atoms, user: Tags, kspacing: float | None, file: Path | None
) -> tuple[tuple[int, int, int] | None, str]:
    """Return the grid of a structure, and who chose it, in words; None for the grid where points are listed."""
    if file is not None:
        return read_grid(file), f"of {file.name}"
    if kspacing is not None:
        return kpoint_grid(atoms, kspacing), f"from kspacing {kspacing:g} 1/Å"
    spacing = number(user, "KSPACING", math.nan)
    if not spacing > 0:
        message = "nothing chooses k-points; give `kspacing`, `kpoints`, or KSPACING in the INCAR"
        raise ConfigError(Problem(message, key="kspacing"))
    periodic = Atoms(cell=atoms.cell, pbc=True)  # VASP knows no other
    return kpoint_grid(periodic, spacing), f"from KSPACING {spacing:g} 1/Å of the INCAR, chosen by VASP"


def check_tetrahedra(user: Tags, grid: tuple[int, int, int] | None, found: str, key: str) -> None:
    """Refuse the tetrahedron method on few k-points; ``found`` says how many, ``key`` names the INCAR.

    Raises
    ------
    ConfigError
        With what was found.
    """
    if number(user, "ISMEAR", 1) == -5 and _n_points(grid) < _FEWEST_FOR_TETRAHEDRA:
        few = f"ISMEAR = -5 needs at least {_FEWEST_FOR_TETRAHEDRA} k-points, and {found}; use ISMEAR = 0"
        raise ConfigError(Problem(few, key))


def check_source(user: Tags, key: str | None) -> list[tuple[str, Literal["error", "warning"]]]:
    """Return what is wrong when the INCAR and a key of ours, or neither, choose k-points."""
    if key and "KSPACING" in user:
        return [(f"KSPACING of the INCAR and `{key}` both choose k-points; take one of them out", "error")]
    if not key and "KSPACING" not in user:
        return [("nothing chooses k-points; give `kspacing`, `kpoints`, or KSPACING in the INCAR", "error")]
    return []


def describe_grid(grid: tuple[int, int, int] | None, source: str) -> str:
    """Return a comment that says what k-points a calculation has."""
    return f"k-points: {'listed' if grid is None else ' × '.join(map(str, grid))}, {source}"


def write_kpoints(
    grid: tuple[int, int, int] | None, comment: str, directory: Path, *, kspacing: float | None, file: Path | None
) -> None:
    """Write KPOINTS; nothing where VASP itself makes the grid."""
    if file is not None:
        (directory / NAME).write_bytes(file.read_bytes())
    elif kspacing is not None and grid is not None:
        numbers = " ".join(map(str, grid))
        (directory / NAME).write_text(f"{comment}\n0\nGamma\n{numbers}\n0 0 0\n", encoding="utf-8")


def _n_points(grid: tuple[int, int, int] | None) -> float:
    """Return how many points a grid has; infinity where they are listed."""
    return float("inf") if grid is None else float(np.prod(grid))
