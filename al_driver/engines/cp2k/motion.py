"""Relaxation and molecular dynamics with CP2K: its &MOTION, made anew but for the user's own search.

A search ends where CP2K's limits are reached, which look at components; they are set so that those asked for are kept
to, and what was reached is looked at once more when it is read. CP2K relaxes a cell whose first vector lies along x
and whose second lies in the plane of x and y, and turns others into it without a word: so the frame is turned before,
and turned back when it is read. It searches for 100 bar unless told otherwise.

Dynamics start from velocities of ours, so that the seed decides them, and CSVR (Bussi, Donadio and Parrinello, J. Chem.
Phys. 126, 014101 (2007)) keeps the temperature, with the same seed.

eV, eV/Å, Å, ps here; hartree, bohr, bar and fs in the input.
"""

from collections.abc import Mapping

import numpy as np
from ase import Atoms

from al_driver.data.frames import Array
from al_driver.engines.base import Calculation, Dynamics, Relaxation
from al_driver.engines.cp2k.sections import Item, Section
from al_driver.engines.motion import check_relaxable, draw_velocities
from al_driver.units import BOHR_TO_ANGSTROM, HARTREE_TO_EV

_ATOMIC_TIME_PS = 6.582119569e-4 / HARTREE_TO_EV  # ħ in eV ps over the energy
_BAR = 1.602176634e6  # of 1 eV/Å³
_MAX_PRESSURE = 100.0  # bar, as CP2K has it: moves the lattice constant of silicon by 2e-4 Å
_OFF = ("RESTART_HISTORY", "VELOCITIES", "FORCES", "CELL", "STRESS")
WORDS: Mapping[Calculation, tuple[str, ...]] = {
    "label": (),
    "relax": (
        "MOTION: CELL_OPT for the cell, GEO_OPT for positions; MAX_ITER from max_steps; MAX_FORCE and RMS_FORCE from"
        " max_force, yours where they are tighter; your other keys of that section kept",
        "MOTION/CELL_OPT: TYPE DIRECT_CELL_OPT, EXTERNAL_PRESSURE 0, PRESSURE_TOLERANCE from max_force, at most 100"
        " bar; no KEEP_ANGLES, KEEP_SYMMETRY or CONSTRAINT; the cell turned so that CP2K need not",
    ),
    "aimd": (
        "MOTION/MD: ENSEMBLE NVT, STEPS, TIMESTEP and TEMPERATURE as asked for, CSVR with TIMECON from tau_t",
        "SUBSYS/VELOCITY and GLOBAL/SEED, from the seed",
    ),
}
"""What is set for each calculation, beside what is set for a label."""


def set_relaxation(root: Section, user: Section, atoms: Atoms, relaxation: Relaxation) -> None:
    """Write the &MOTION of a relaxation.

    Parameters
    ----------
    user
        The whole input of the user, whose own search is kept.
    atoms
        The frame in the orientation of `turn_upright`, if its cell is relaxed.

    Raises
    ------
    ConfigError
        If a cell is to be relaxed that is not periodic in three directions.
    """
    check_relaxable(atoms, relaxation)
    name = "CELL_OPT" if relaxation.what == "cell" else "GEO_OPT"
    own = user.find("MOTION", name) or user.find("MOTION", "GEO_OPT")
    search = Section(name, items=list(own.items) if own else [])
    search.drop("PRINT", "TRANSITION_STATE")
    force = relaxation.max_force / np.sqrt(3)
    if relaxation.what == "cell":
        # a gradient of the energy by a cell vector, times that vector, is a part of the virial
        force = min(
            force, 0.5 * relaxation.max_force * len(atoms) / float(np.linalg.norm(atoms.cell.array, axis=1).max())
        )
        pressure = 0.5 * _BAR * relaxation.max_force * len(atoms) / atoms.get_volume()
        search.remove("KEEP_ANGLES", "KEEP_SYMMETRY", "KEEP_VOLUME", "CONSTRAINT")
        search.set("EXTERNAL_PRESSURE", "0.0")
        search.set("PRESSURE_TOLERANCE", _tighter(search, "PRESSURE_TOLERANCE", min(pressure, _MAX_PRESSURE)))
    search.set("TYPE", "DIRECT_CELL_OPT" if relaxation.what == "cell" else "MINIMIZATION")
    search.set("MAX_ITER", str(relaxation.max_steps))
    limit = force * BOHR_TO_ANGSTROM / HARTREE_TO_EV
    for keyword in ("MAX_FORCE", "RMS_FORCE"):
        search.set(keyword, _tighter(search, keyword, limit))
    root.replace(Section("MOTION", items=[search, _printed("RESTART", ("TRAJECTORY", *_OFF))]))


def set_dynamics(root: Section, atoms: Atoms, dynamics: Dynamics) -> None:
    """Write the &MOTION and first velocities of molecular dynamics.

    Raises
    ------
    ConfigError
        If the structure has one atom: without its centre of mass's motion it has none.
    """
    velocities = draw_velocities(atoms, dynamics) * _ATOMIC_TIME_PS / BOHR_TO_ANGSTROM
    rows: list[Item] = [" ".join(f"{number:.17g}" for number in row) for row in velocities]
    root.at("FORCE_EVAL", "SUBSYS").replace(Section("VELOCITY", items=rows))
    root.at("GLOBAL").set("SEED", str(dynamics.seed % 2**31))
    thermostat = Section("CSVR", items=[f"TIMECON {1000 * dynamics.tau_t:.17g}"])
    keys = (
        "ENSEMBLE NVT", f"STEPS {dynamics.n_steps}", f"TIMESTEP {1000 * dynamics.timestep:.17g}",
        f"TEMPERATURE {dynamics.temperature:.17g}", Section("THERMOSTAT", items=["TYPE CSVR", thermostat]),
    )  # fmt: skip
    printed = _printed("TRAJECTORY", ("RESTART", *_OFF))
    root.replace(Section("MOTION", items=[Section("MD", items=list(keys)), printed]))


def turn_upright(atoms: Atoms) -> Atoms:
    """Return a copy turned, or mirrored, so that its first cell vector lies along x and the second in the xy plane."""
    turned = atoms.copy()
    turned.set_cell(_lower_triangle(atoms.cell.array))
    turned.positions = atoms.positions @ rotation_between(atoms.cell.array, turned.cell.array)
    return turned


def rotation_between(cell: Array, turned: Array) -> Array:
    """Return the matrix that turns row vectors from one orientation of a cell into the other."""
    rotation: Array = np.linalg.inv(cell) @ turned
    return rotation


def _lower_triangle(cell: Array) -> Array:
    _, upper = np.linalg.qr(cell.T)
    lower: Array = np.tril((upper * np.sign(np.diag(upper))[:, None]).T)
    return lower


def _printed(wanted: str, unwanted: tuple[str, ...]) -> Section:
    each: list[Item] = [f"{kind} 1" for kind in ("MD", "GEO_OPT", "CELL_OPT")]
    items: list[Item] = [Section(wanted, "ON", [Section("EACH", items=each)])]
    return Section("PRINT", items=[*items, *(Section(name, "OFF") for name in unwanted)])


def _tighter(search: Section, keyword: str, limit: float) -> str:
    """Return the user's own limit where it is the smaller one, as it was written."""
    own = search.value(keyword)
    try:
        is_tighter = 0 < float(own.lower().replace("d", "e")) < limit
    except ValueError:
        is_tighter = False
    return own if is_tighter else f"{limit:.6g}"
