"""Labels from the dump and the lines ``al_frame`` that LAMMPS leaves: of one frame, a relaxation, or dynamics.

A line holds step, energy, volume, and the configurational pressure (xx yy zz xy xz yz, bar), with 17 digits. The
virial is −stress × volume: that pressure times the volume, over LAMMPS' own conversion factor. eV, Å, eV/Å.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from al_driver.data.frames import Label
from al_driver.data.lammps import Rotation, read_rotation
from al_driver.data.lammps_dump import read_dump
from al_driver.data.lammps_script import has_ended, last_lines, read_error, read_version
from al_driver.errors import EngineError
from al_driver.units import LAMMPS_METAL_NKTV2P

_LINE = re.compile(r"^al_frame (.+)$", re.MULTILINE)


def read_frames(data: Path, dump: Path, output: Path, types: Sequence[str]) -> dict[int, Label | EngineError]:
    """Return the frames of a run by step, in the axes that were sent; one with a number that is not finite is refused.

    Raises
    ------
    EngineError
        ``engine_error`` with the words of LAMMPS, or ``no_output``, where it did not come to its end.
    """
    where = output.parent
    if not has_ended(output):
        error = read_error(output)
        reason = last_lines(output)
        raise EngineError("engine_error" if error else "no_output", where, error or f"LAMMPS stopped: {reason}")
    rows = (line.split() for line in _LINE.findall(output.read_text(errors="replace")))
    numbers = {int(row[0]): [float(word) for word in row[1:]] for row in rows if len(row) == 9}
    rotation, version = read_rotation(data), read_version(output)
    frames = read_dump(dump, numbers.keys(), types) if dump.is_file() else iter(())
    return {step: _make_label(rotation, atoms, numbers[step], version, where) for step, atoms in frames}


def _make_label(
    rotation: Rotation, turned: Atoms, numbers: Sequence[float], version: str, where: Path
) -> Label | EngineError:
    atoms = rotation.restore(turned)
    forces = atoms.arrays.pop("forces")
    energy, volume, xx, yy, zz, xy, xz, yz = numbers
    pressure = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    virial = rotation.restore_tensor(pressure * volume / LAMMPS_METAL_NKTV2P)
    if not (np.isfinite(energy) and np.isfinite(forces).all() and np.isfinite(virial).all()):
        return EngineError("not_finite", where, "energy, a force or the virial is not a finite number")
    info = {"program": "LAMMPS", "version": version}
    return Label(atoms, energy, forces, virial if all(rotation.pbc) else None, info)
