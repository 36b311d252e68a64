"""The gate before training: a label that is not of the frame that was sent, or not sound, goes no further.

Whether the SCF converged is the engine's matter, since only it knows the words of its program. Å, eV/Å.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.geometry import find_mic
from ase.neighborlist import primitive_neighbor_list

from al_driver.data.frames import Array, Label
from al_driver.errors import EngineError
from al_driver.schema.base import Params, PositiveFloat, PositiveInt
from al_driver.units import Unit
from al_driver.words import many, told_apart

CHECKS = ("converged", "species", "cell", "positions", "finite", "distances", "forces")
"""What every label that is kept has passed, in words: the first by its engine, the others by `check_label`."""


class GateLimits(Params):
    """What a label must keep to. A value on a limit is refused; a distance on it is not."""

    max_label_force: Annotated[PositiveFloat, Unit("eV/Å")] = 100.0
    """From this force on any atom on, a frame is refused."""
    cell_tolerance: Annotated[PositiveFloat, Unit("Å")] = 1e-4
    """From this difference of any component of a periodic cell vector on, the cell is not the one that was sent."""
    position_tolerance: Annotated[PositiveFloat, Unit("Å")] = 1e-3
    """From this displacement of any atom on, the positions are not those that were sent; a rigid shift and wrapping
    do not count."""
    min_distance: PositiveFloat = 0.5
    """Shortest distance allowed, as a share of the sum of the two covalent radii."""
    outlier_energy: Annotated[PositiveFloat, Unit("eV/atom")] = 1.0
    """Beyond this distance from the median of its composition, and the next, an energy is calculated once more from
    another start of the SCF."""
    outlier_deviation: PositiveFloat = 10.0
    """The same in robust standard deviations (1.4826 × the median absolute deviation) of that composition."""
    outlier_frames: PositiveInt = 20
    """Labelled frames of a composition from which on its median and deviation count."""
    outlier_agreement: Annotated[PositiveFloat, Unit("eV/atom")] = 1e-3
    """What two starts of the SCF may differ by; a label is kept then, however unusual its energy, and else refused."""


def check_label(sent: Atoms, label: Label, where: Path, limits: GateLimits) -> None:
    """Refuse a label that must not be learned from.

    Raises
    ------
    EngineError
        ``species_mismatch``, ``not_finite``, ``cell_changed``, ``positions_changed``, ``too_close`` or
        ``force_too_large``, with the numbers found.
    """
    check_same_frame(sent, label.atoms, where, limits)
    _check_finite(label, len(sent), where)
    closest = too_close(sent, limits.min_distance)
    if closest:
        first, second, distance = closest
        pair = f"{_name(sent, first)} and {_name(sent, second)}"
        raise EngineError(
            "too_close", where, f"{pair} are {distance:.3f} Å apart, below {limits.min_distance:g} Σ r_cov"
        )
    sizes = np.linalg.norm(label.forces, axis=1)
    worst = int(sizes.argmax())
    if not sizes[worst] < limits.max_label_force:
        force, limit = told_apart(float(sizes[worst]), limits.max_label_force, 1)
        detail = f"{force} eV/Å on {_name(sent, worst)}; max_label_force is {limit}"
        raise EngineError("force_too_large", where, detail)


def check_same_frame(sent: Atoms, found: Atoms, where: Path, limits: GateLimits) -> None:
    """Refuse a frame that is not the one that was sent, atom by atom.

    Raises
    ------
    EngineError
        ``species_mismatch``, ``cell_changed`` or ``positions_changed``.
    """
    if len(sent) != len(found):
        raise EngineError("species_mismatch", where, f"{many(len(found), 'atom')} came back, {len(sent)} were sent")
    different = np.flatnonzero(sent.numbers != found.numbers)
    if len(different):
        index = int(different[0])
        detail = f"{_name(found, index)} came back where {_name(sent, index)} was sent; {len(different)} atoms differ"
        raise EngineError("species_mismatch", where, detail)
    change = np.abs(found.cell.array - sent.cell.array)[sent.pbc].max(initial=0.0)
    if not change < limits.cell_tolerance:
        raise EngineError("cell_changed", where, f"a cell vector came back {change:.2e} Å from the one that was sent")
    moved = _displacements(sent, found)
    worst = int(moved.argmax())
    if not moved[worst] < limits.position_tolerance:
        detail = f"{_name(sent, worst)} came back {moved[worst]:.2e} Å from where it was sent"
        raise EngineError("positions_changed", where, detail)


def too_close(atoms: Atoms, factor: float) -> tuple[int, int, float] | None:
    """Return the pair (i, j, distance in Å) that is closest for its radii, if it is too close.

    Parameters
    ----------
    factor
        Pairs nearer than ``factor`` × the sum of the two covalent radii are too close; one just at the limit is not.
        An atom and its own periodic image are a pair too.
    """
    radii = factor * covalent_radii[atoms.numbers]
    cell = atoms.cell.complete() if atoms.pbc.any() else np.eye(3)
    first, second, distances = primitive_neighbor_list("ijd", atoms.pbc, cell, atoms.positions, radii)
    limits = radii[first] + radii[second]
    inside = np.flatnonzero(distances < limits)
    if not len(inside):
        return None
    worst = inside[np.argmin(distances[inside] / limits[inside])]
    return int(first[worst]), int(second[worst]), float(distances[worst])


def _check_finite(label: Label, n_atoms: int, where: Path) -> None:
    if label.forces.shape != (n_atoms, 3):
        raise EngineError("engine_error", where, f"forces have the shape {label.forces.shape}, not ({n_atoms}, 3)")
    virial = np.zeros((3, 3)) if label.virial is None else label.virial
    for name, values in (("energy", label.energy), ("forces", label.forces), ("virial", virial)):
        n_bad = int(np.count_nonzero(~np.isfinite(values)))
        if n_bad:
            raise EngineError("not_finite", where, f"{n_bad} of {np.size(values)} numbers of the {name} are not finite")


def _displacements(sent: Atoms, found: Atoms) -> Array:
    """Return how far each atom stands from where it was sent, Å, without a shift common to all."""
    steps = found.positions - sent.positions
    if not np.isfinite(steps).all():
        return np.full(len(sent), np.inf)
    steps, _ = find_mic(steps - steps[0], sent.cell, sent.pbc)
    distances: Array = np.linalg.norm(steps - np.median(steps, axis=0), axis=1)  # the median shows one atom off whole
    return distances


def _name(atoms: Atoms, index: int) -> str:
    return f"atom {index} ({chemical_symbols[atoms.numbers[index]]})"
