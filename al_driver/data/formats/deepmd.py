"""deepmd/npy, deepmd/npy/mixed and deepmd/raw: one folder a system. eV, Å, eV/Å; numbers are kept as they are stored.

A system without energies gives bare structures.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms

from al_driver.data.dataset import read_system
from al_driver.data.formats.steps import AnyStep
from al_driver.data.frames import Label
from al_driver.data.frames import read_label as label_of


def read_npy(path: Path) -> Iterator[AnyStep]:
    """Yield each frame of one system of deepmd/npy or deepmd/npy/mixed."""
    for atoms in read_system(path):
        yield label_of(atoms) if "energy" in atoms.info else atoms


def read_raw(path: Path) -> Iterator[AnyStep]:
    """Yield each frame of one system of deepmd/raw: ``coord.raw`` and so on, a frame a line.

    Raises
    ------
    OSError, ValueError
        If a file is missing, or their numbers of frames differ.
    """
    symbols = np.array((path / "type_map.raw").read_text().split())[np.loadtxt(path / "type.raw", dtype=int, ndmin=1)]
    periodic = not (path / "nopbc").exists()
    names = {"coord": 3 * len(symbols), "force": 3 * len(symbols), "energy": 1, "virial": 9, "box": 9}
    arrays = {
        name: np.loadtxt(path / f"{name}.raw", ndmin=1).reshape(-1, width)
        for name, width in names.items()
        if (path / f"{name}.raw").exists() or name == "coord" or (name == "box" and periodic)
    }
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(f"the numbers of frames disagree: {told}")
    for index, coord in enumerate(arrays["coord"]):
        cell = arrays["box"][index].reshape(3, 3) if periodic else None
        atoms = Atoms(symbols, coord.reshape(-1, 3), cell=cell, pbc=periodic)
        if "energy" not in arrays or "force" not in arrays:
            yield atoms
            continue
        virial = arrays["virial"][index].reshape(3, 3) if "virial" in arrays else None
        yield Label(atoms, float(arrays["energy"][index, 0]), arrays["force"][index].reshape(-1, 3), virial)
