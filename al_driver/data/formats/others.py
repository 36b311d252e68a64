"""LAMMPS dumps, which hold structures and no energies, and every format that dpdata alone knows."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from al_driver.data.formats.steps import AnyStep
from al_driver.data.frames import Label
from al_driver.data.lammps_dump import read_any_dump
from al_driver.errors import EngineError

log = logging.getLogger(__name__)


def read_structure_dump(path: Path, type_map: Sequence[str]) -> Iterator[Atoms | EngineError]:
    """Yield the frames of a LAMMPS text dump as bare structures, or why one cannot be read."""
    for item in read_any_dump(path, type_map):
        if isinstance(item, EngineError):
            yield item
            continue
        step, atoms = item
        bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        bare.info["timestep"] = step
        yield bare


def dpdata_formats() -> list[str]:
    """Return the names of all formats that dpdata reads."""
    from dpdata.format import Format  # imports deepmd where it is installed: 0.4 s that other commands need not pay

    return [name for name in Format.get_formats() if isinstance(name, str)]


def read_with_dpdata(path: Path, format: str, type_map: Sequence[str]) -> Iterator[AnyStep]:
    """Yield the frames of any format that dpdata reads; what it warns of is logged with the file's name."""
    import dpdata

    names = list(type_map) or None
    with warnings.catch_warnings(record=True) as told:
        try:
            data = dpdata.LabeledSystem(str(path), fmt=format, type_map=names).data
        except NotImplementedError:
            data = dpdata.System(str(path), fmt=format, type_map=names).data
    for warning in told:
        log.warning("%s: %s", path, warning.message)  # e.g. steps left out because their SCF did not converge
    yield from _steps_of(data)


def _steps_of(data: dict[str, Any]) -> Iterator[AnyStep]:
    species = np.array(data["atom_names"])[data["atom_types"]]
    for index, coords in enumerate(data["coords"]):
        atoms = Atoms(species, coords, cell=data["cells"][index], pbc=not data.get("nopbc", False))
        if "energies" not in data or "forces" not in data:
            yield atoms
            continue
        virial = np.asarray(data["virials"][index], dtype=float) if "virials" in data else None
        yield Label(atoms, float(data["energies"][index]), np.asarray(data["forces"][index], dtype=float), virial)
