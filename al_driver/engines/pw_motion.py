"""Relaxation and molecular dynamics with ``pw.x``: what is set over the user's input, and what must have been reached.

A relaxation ends where pw.x's own BFGS does. Its stress limit is kept tight, whatever ``max_force`` would allow: 0.05
kbar move silicon's lattice constant by less than 1e-4 Å. A vc-relax keeps the plane waves of its first cell, and ends
with an SCF that has those of the last one: the label is of that SCF, while the limits are those of the search. Where
the cell moved far and the cutoff is low, the two differ.

Dynamics start from velocities of ours, so that a seed decides them. Of pw.x 6.7's thermostats only Andersen's works
with them: svr, Berendsen and rescaling divide by a temperature that is not yet there, and give NaN. It is canonical
from the first step on, and leaves the total momentum at zero. Symmetry is switched off, since pw.x stops when moving
atoms break it; a frame without symmetry, as those of dynamics are, is labelled the same either way.

eV, eV/Å, Å, ps here; Rydberg atomic units in the input, a velocity in bohr per 4.8378e-17 s. Source: INPUT_PW.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from al_driver.data.frames import Array
from al_driver.engines.base import Calculation, Dynamics, Relaxation
from al_driver.engines.motion import check_relaxable, draw_velocities
from al_driver.engines.pw_input import PwInput
from al_driver.units import BOHR_TO_ANGSTROM, RYDBERG_TO_EV

RYDBERG_TIME_PS = 6.582119569e-4 / RYDBERG_TO_EV
"""ħ in eV ps over the Rydberg energy: the unit of time of pw.x, ps."""
_KBAR = 1602.176634  # of 1 eV/Å³
_MAX_PRESSURE = 0.05  # kbar
_MAX_ENERGY_CHANGE = 1e-5  # Ry, in the last step of a relaxation
_OF_DYNAMICS = frozenset({"ion_velocities", "ion_temperature", "tempw", "tolp", "delta_t", "nraise"})
WORDS: Mapping[Calculation, tuple[str, ...]] = {
    "label": (),
    "relax": (
        "CONTROL: calculation = 'vc-relax' for the cell, 'relax' for positions; nstep from max_steps;"
        " forc_conv_thr from max_force, etot_conv_thr at most 1e-5 Ry, yours where they are tighter",
        "IONS: ion_dynamics = 'bfgs', refold_pos = .false.; keys of dynamics removed, your others kept",
        "CELL: cell_dynamics = 'bfgs', cell_dofree = 'all', press = 0; press_conv_thr from max_force,"
        " at most 0.05 kbar; your others kept",
    ),
    "aimd": (
        "CONTROL: calculation = 'md'; nstep and dt from n_steps and timestep",
        "SYSTEM: nosym = .true., since velocities break symmetry",
        "IONS: ion_dynamics = 'verlet', ion_velocities = 'from_input', ion_temperature = 'andersen', tempw and nraise"
        " from temperature and tau_t, refold_pos = .false.; your others kept",
        "ATOMIC_VELOCITIES, from the seed",
    ),
}
"""What is set for each calculation, beside what is set for a label."""


@dataclass(frozen=True)
class Motion:
    """What makes a relaxation or dynamics of an SCF: keys set over the user's, keys taken away, and velocities."""

    keys: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By namelist. The user's own &IONS and &CELL are kept where these are named."""
    removed: frozenset[str] = frozenset()
    """Keys of the user's &IONS."""
    velocities: Array | None = None
    """Of the atoms at first, in Rydberg atomic units, shape (n_atoms, 3)."""


def make_relaxation(user: PwInput, atoms: Atoms, relaxation: Relaxation) -> Motion:
    """Return what a relaxation sets.

    Raises
    ------
    ConfigError
        If a cell is to be relaxed that is not periodic in three directions.
    """
    check_relaxable(atoms, relaxation)
    forces = relaxation.max_force / np.sqrt(3) * BOHR_TO_ANGSTROM / RYDBERG_TO_EV  # pw.x looks at components
    control = {
        "calculation": "'relax'",
        "nstep": str(relaxation.max_steps),
        "forc_conv_thr": _tighter(user, "control", "forc_conv_thr", float(forces)),
        "etot_conv_thr": _tighter(user, "control", "etot_conv_thr", _MAX_ENERGY_CHANGE),
    }
    keys = {"control": control, "ions": {"ion_dynamics": "'bfgs'", "refold_pos": ".false."}}
    if relaxation.what == "cell":
        pressure = 0.5 * _KBAR * relaxation.max_force * len(atoms) / atoms.get_volume()
        control["calculation"] = "'vc-relax'"
        limit = _tighter(user, "cell", "press_conv_thr", min(pressure, _MAX_PRESSURE))
        keys["cell"] = {"cell_dynamics": "'bfgs'", "cell_dofree": "'all'", "press": "0.0", "press_conv_thr": limit}
    return Motion(keys, _OF_DYNAMICS)


def make_dynamics(atoms: Atoms, dynamics: Dynamics) -> Motion:
    """Return what molecular dynamics set.

    Raises
    ------
    ConfigError
        If the structure has one atom: without its centre of mass's motion it has none.
    """
    ions = {
        "ion_dynamics": "'verlet'",
        "ion_velocities": "'from_input'",
        "ion_temperature": "'andersen'",
        "tempw": f"{dynamics.temperature:.17g}",
        "nraise": str(max(1, round(dynamics.tau_t / dynamics.timestep))),
        "refold_pos": ".false.",
    }
    control = {  # the SCF of the start is pw.x's first step
        "calculation": "'md'",
        "nstep": str(dynamics.n_steps + 1),
        "dt": f"{dynamics.timestep / RYDBERG_TIME_PS:.17g}",
    }
    velocities = draw_velocities(atoms, dynamics) * RYDBERG_TIME_PS / BOHR_TO_ANGSTROM
    keys = {"control": control, "system": {"nosym": ".true."}, "ions": ions}
    return Motion(keys, velocities=velocities)


def _tighter(user: PwInput, namelist: str, key: str, limit: float) -> str:
    """Return the user's own limit where it is the smaller one, as it was written."""
    own = user.namelists.get(namelist, {}).get(key, "")
    try:
        is_tighter = 0 < float(own.lower().replace("d", "e")) < limit
    except ValueError:
        is_tighter = False
    return own if is_tighter else f"{limit:.6g}"
