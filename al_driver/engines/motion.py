"""What relaxations and dynamics of every engine share: what is refused, first velocities, limits. eV, Å, ps, K."""

import numpy as np
from ase import Atoms, units

from al_driver.data.frames import Array
from al_driver.engines.base import Dynamics, Relaxation
from al_driver.errors import ConfigError


def check_relaxable(atoms: Atoms, relaxation: Relaxation) -> None:
    """Refuse to relax a cell that is not periodic in three directions.

    Raises
    ------
    ConfigError
        With what to ask for instead.
    """
    if relaxation.what == "cell" and not atoms.pbc.all():
        raise ConfigError(
            "a structure that is not periodic in three directions has no cell to relax.\n"
            '  Relax its atoms alone: "what": "positions".'
        )


def draw_velocities(atoms: Atoms, dynamics: Dynamics) -> Array:
    """Return first velocities, shape (n_atoms, 3), Å/ps: Maxwell's, the momentum zero, scaled to the temperature.

    Raises
    ------
    ConfigError
        If the structure has one atom: without its centre of mass's motion it has none.
    """
    if len(atoms) == 1:
        raise ConfigError("molecular dynamics of a single atom moves nothing; make a supercell first.")
    masses = atoms.get_masses()[:, None]
    velocities = np.random.default_rng(dynamics.seed).normal(size=(len(atoms), 3)) / np.sqrt(masses)
    velocities -= (masses * velocities).sum(axis=0) / masses.sum()
    kinetic = 0.5 * float((masses * velocities**2).sum())
    wanted = 1.5 * (len(atoms) - 1) * units.kB * dynamics.temperature
    result: Array = velocities * np.sqrt(wanted / kinetic) * 1000 * units.fs
    return result


def what_is_missing(forces: Array, virial: Array | None, relaxation: Relaxation) -> str:
    """Return, in words, which limit of a relaxation is not kept to; nothing where all are.

    Parameters
    ----------
    forces
        Shape (n_atoms, 3), eV/Å.
    virial
        Shape (3, 3), eV; None where it was not printed.
    """
    force = float(np.linalg.norm(forces, axis=1).max())
    if not force < relaxation.max_force:
        return f"the largest force is {force:.3g} eV/Å"
    if relaxation.what == "positions":
        return ""
    if virial is None:
        return "no stress was printed"
    per_atom = float(np.abs(virial).max()) / len(forces)
    return "" if per_atom < relaxation.max_force else f"the stress times the volume of an atom is {per_atom:.3g} eV"
