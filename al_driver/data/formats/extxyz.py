"""extxyz, as ASE, this program and others write it. Energy: ``free_energy`` where there is one, since the forces derive
from it; ``energy`` otherwise. Virial: ``virial`` (positive under compression), or −``stress`` × volume.

A frame without energy and forces is a bare structure; what else the comment line holds is kept.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from al_driver.data.formats.steps import AnyStep
from al_driver.data.frames import Array, Label
from al_driver.errors import EngineError

_OWN = {"energy", "free_energy", "virial", "stress"}


def read_extxyz(path: Path) -> Iterator[AnyStep]:
    """Yield each frame of a file."""
    for number, atoms in enumerate(ase.io.iread(path, index=":", format="extxyz"), 1):
        results: dict[str, Any] = dict(atoms.calc.results) if atoms.calc is not None else {}
        energy = results.get("free_energy", results.get("energy", atoms.info.get("energy")))
        forces = results.get("forces", atoms.arrays.get("forces"))
        bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        bare.info = {key: value for key, value in atoms.info.items() if key not in _OWN}
        if energy is None and forces is None:
            yield bare
        elif energy is None or forces is None:
            missing = "energy" if energy is None else "forces"
            others = sorted({*atoms.info, *atoms.arrays, *results} - {"numbers", "positions"})
            yield EngineError("no_output", path, f"frame {number} has no `{missing}`; it has {', '.join(others)}")
        else:
            yield Label(bare, float(energy), np.array(forces, dtype=float), _virial(atoms, results), bare.info)


def _virial(atoms: Atoms, results: dict[str, Any]) -> Array | None:
    if not atoms.pbc.all():
        return None
    virial = results.get("virial", atoms.info.get("virial"))
    if virial is not None:
        return np.array(virial, dtype=float).reshape(3, 3)
    stress = results.get("stress", atoms.info.get("stress"))
    if stress is None:
        return None
    full = np.asarray(stress, dtype=float)
    tensor: Array = voigt_6_to_full_3x3_stress(full) if full.size == 6 else full.reshape(3, 3)
    return -tensor * float(atoms.get_volume())
