"""Training data: one deepmd/npy folder per formula, written and read through dpdata.

Frames keep the order in which they are given, and atoms that of the type map: the same labels make the same bytes.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from al_driver.data.frames import sort_by_type
from al_driver.errors import ConfigError


def write_dataset(directory: Path, frames: Sequence[Atoms], type_map: Sequence[str]) -> None:
    """Write labelled frames (``info["energy"]``, ``arrays["forces"]``) as ``directory/<formula>/set.000/*.npy``.

    Parameters
    ----------
    directory
        Appears whole; what an earlier call wrote there is replaced.
    frames
        In the order in which they shall be written.
    """
    import dpdata  # imports deepmd where it is installed: 0.4 s that `al status` need not pay

    temporary = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # left by an interrupted write
    temporary.mkdir(parents=True)
    for name, group in _by_formula(frames, type_map).items():
        system = dpdata.LabeledSystem(data=_dpdata_arrays(group, type_map))
        system.to("deepmd/npy", temporary / name, set_size=len(group))
    shutil.rmtree(directory, ignore_errors=True)
    temporary.rename(directory)


def find_systems(directory: Path) -> list[Path]:
    """Return every deepmd/npy system below a folder (or the folder itself), sorted.

    Raises
    ------
    ConfigError
        If there is none.
    """
    systems = sorted({path.parent for path in directory.rglob("type.raw")})
    if not systems:
        raise ConfigError(f"no deepmd/npy system (a folder with type.raw) in {directory}.")
    return systems


def count_frames(system: Path) -> int:
    """Return the number of frames of one deepmd/npy system."""
    return sum(len(np.load(file, mmap_mode="r")) for file in sorted(system.glob("set.*/coord.npy")))


def system_elements(system: Path) -> list[str]:
    """Return the elements that occur in one deepmd/npy system."""
    symbols = (system / "type_map.raw").read_text().split()
    return [symbols[index] for index in np.unique(np.loadtxt(system / "type.raw", dtype=int, ndmin=1))]


def read_system(system: Path) -> Iterator[Atoms]:
    """Yield the frames of one deepmd/npy system, with labels where it has them."""
    symbols = np.array((system / "type_map.raw").read_text().split())
    species = symbols[np.loadtxt(system / "type.raw", dtype=int, ndmin=1)]
    periodic = not (system / "nopbc").exists()
    for folder in sorted(system.glob("set.*")):
        arrays = {file.stem: np.load(file) for file in folder.glob("*.npy")}
        for index, positions in enumerate(arrays["coord"]):
            atoms = Atoms(species, positions.reshape(-1, 3), cell=arrays["box"][index].reshape(3, 3), pbc=periodic)
            if "force" in arrays:
                atoms.arrays["forces"] = arrays["force"][index].reshape(-1, 3).astype(float)
                atoms.info["energy"] = float(np.ravel(arrays["energy"])[index])
            if "virial" in arrays:
                atoms.info["virial"] = arrays["virial"][index].reshape(3, 3).astype(float)
            yield atoms


def _by_formula(frames: Sequence[Atoms], type_map: Sequence[str]) -> dict[str, list[Atoms]]:
    """Group frames that can share one system: same formula in the type map's order, same kind of cell and label."""
    groups: dict[str, list[Atoms]] = {}
    for atoms in (sort_by_type(frame, type_map) for frame in frames):
        symbols = atoms.get_chemical_symbols()
        name = "".join(f"{symbol}{symbols.count(symbol)}" for symbol in type_map if symbol in symbols)
        if not atoms.pbc.any():
            name += "_nopbc"
        elif "virial" not in atoms.info:
            name += "_novirial"
        groups.setdefault(name, []).append(atoms)
    return groups


def _dpdata_arrays(frames: Sequence[Atoms], type_map: Sequence[str]) -> dict[str, object]:
    """Return the arrays of dpdata's LabeledSystem: coords (n_frames, n_atoms, 3) and so on."""
    symbols = frames[0].get_chemical_symbols()
    data: dict[str, object] = {
        "atom_names": list(type_map),
        "atom_numbs": [symbols.count(symbol) for symbol in type_map],
        "atom_types": np.array([type_map.index(symbol) for symbol in symbols]),
        "orig": np.zeros(3),
        "cells": np.array([atoms.cell.array for atoms in frames]),
        "coords": np.array([atoms.positions for atoms in frames]),
        "energies": np.array([atoms.info["energy"] for atoms in frames]),
        "forces": np.array([atoms.arrays["forces"] for atoms in frames]),
    }
    if frames[0].pbc.any():
        if "virial" in frames[0].info:
            data["virials"] = np.array([atoms.info["virial"] for atoms in frames])
    else:
        data["nopbc"] = True
    return data
