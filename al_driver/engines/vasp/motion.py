"""What the driver sets in an INCAR for a label, a relaxation and dynamics, over the user's own tags.

Dynamics start from velocities of ours, so that a seed decides them, under Nosé's thermostat. Its mass follows from
``tau_t`` as in LAMMPS, Q = g k_B T tau², which VASP wants in amu × |a₁|². ISYM = 0, since moving atoms break symmetry.
The frames of NSW = n are those of the steps 0 … n − 1. Sources: the VASP wiki, SMASS and MDALGO;
Nosé, J. Chem. Phys. 81, 511 (1984). eV, eV/Å, Å, ps here; fs, Å/fs in the input.
"""

from pathlib import Path

import numpy as np
from ase import Atoms, units

from al_driver.engines.base import Calculation, Dynamics, Relaxation
from al_driver.engines.vasp.incar import IONIC, Tags, canonical, electronic, number, read_incar

_ALWAYS = {"ISTART": "0", "ICHARG": "2", "LWAVE": ".FALSE.", "LCHARG": ".FALSE."}
LABEL = {"NSW": "0", "IBRION": "-1", "ISIF": "2"} | _ALWAYS
_SEARCH = ("EDIFFG", "IBRION", "POTIM")
_AMIX = 0.4  # VASP's own
MOMENTS = {"LORBIT": "11"}
"""With spin: VASP prints the moments of atoms only then."""
WORDS: dict[Calculation, tuple[str, ...]] = {
    "label": ("INCAR: NSW = 0, IBRION = -1, ISIF = 2: one frame, with its stress",),
    "relax": (
        "INCAR: IBRION = 2 (yours where it is 1 or 3), ISIF = 3 for the cell, 2 for positions; NSW from max_steps;"
        " EDIFFG = -max_force, yours where it is tighter",
    ),
    "aimd": (
        "INCAR: IBRION = 0, MDALGO = 2, ISIF = 2, ISYM = 0; NSW = n_steps + 1, since the start is VASP's first step;"
        " POTIM, TEBEG = TEEND and SMASS from timestep, temperature and tau_t",
        "POSCAR: velocities, from the seed",
    ),
}
"""What is set for each calculation."""


def what_decides(incar: Path, calculation: Calculation) -> Tags:
    """Return the tags that decide what a calculation gives: of a relaxation also those that say how it searches."""
    user = read_incar(incar)
    search = {name: canonical(user[name]) for name in _SEARCH if name in user and calculation == "relax"}
    return electronic(user) | search


def without_motion(user: Tags) -> Tags:
    """Return the user's tags but for those of motion, and of force fields that VASP learns."""
    return {name: value for name, value in user.items() if name not in IONIC and not name.startswith("ML_")}


def other_start_tags(user: Tags) -> Tags:
    """Return the tags of a label whose SCF begins from other wave functions, and mixes half as much of each density."""
    return LABEL | {
        "INIWAV": "1" if number(user, "INIWAV", 1) == 0 else "0",
        "AMIX": f"{number(user, 'AMIX', _AMIX) / 2:.6g}",
    }


def relaxation_tags(user: Tags, relaxation: Relaxation) -> Tags:
    """Return the tags of a relaxation."""
    own = number(user, "EDIFFG", 0.0)
    limit = own if -relaxation.max_force < own < 0 else -relaxation.max_force
    ibrion = number(user, "IBRION", 2)
    return {
        "IBRION": f"{ibrion:.0f}" if ibrion in {1, 3} else "2",
        "ISIF": "3" if relaxation.what == "cell" else "2",
        "NSW": str(relaxation.max_steps),
        "EDIFFG": f"{limit:.6g}",
        **({"POTIM": user["POTIM"]} if "POTIM" in user else {}),
        **_ALWAYS,
    }


def dynamics_tags(atoms: Atoms, dynamics: Dynamics) -> Tags:
    """Return the tags of molecular dynamics."""
    temperature = f"{dynamics.temperature:.10g}"
    return {
        "IBRION": "0",
        "MDALGO": "2",
        "ISIF": "2",
        "ISYM": "0",
        "NSW": str(dynamics.n_steps + 1),
        "NBLOCK": "1",
        "POTIM": f"{1000 * dynamics.timestep:.10g}",
        "TEBEG": temperature,
        "TEEND": temperature,
        "SMASS": f"{nose_mass(atoms, dynamics.temperature, dynamics.tau_t):.8g}",
        **_ALWAYS,
    }


def nose_mass(atoms: Atoms, temperature: float, tau_t: float) -> float:
    """Return SMASS, amu × |a₁|², of a thermostat with the time constant ``tau_t``, ps."""
    n_free = 3 * (len(atoms) - 1)
    tau = 1000 * units.fs * tau_t
    length = float(np.linalg.norm(atoms.cell.array[0]))
    return float(n_free * units.kB * temperature * tau**2 / length**2)
