"""Training data: one deepmd/npy folder per formula, written through dpdata.

Frames keep the order in which they are given, and atoms that of the type map: the same labels make the same bytes.
The format knows frames that are periodic in three directions and frames that are in none. A slab or a wire is stored
as periodic, with so much vacuum that no model sees across it. Å.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.cell import Cell
from numpy.typing import NDArray

from al_driver.data.frames import frame_key, sort_by_type
from al_driver.errors import ConfigError
from al_driver.files import hash_path

VACUUM = 30.0
"""Empty space across a slab or a wire as it is stored, Å: beyond any model's cutoff."""
_MIXED = "real_atom_types"  # the array of deepmd/npy/mixed: species of each frame, where type.raw says nothing


def write_dataset(directory: Path, frames: Sequence[Atoms], type_map: Sequence[str]) -> list[tuple[str, int]]:
    """Write labelled frames (``info["energy"]``, ``arrays["forces"]``) as ``directory/<formula>/set.000/*.npy``.

    Parameters
    ----------
    directory
        Never there in part. It is left alone when it holds these frames already; otherwise what it holds is replaced,
        and for a moment there is none.
    frames
        In the order in which they shall be written.

    Returns
    -------
    The system and the index in it of each frame.
    """
    temporary = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # left by an interrupted write
    temporary.mkdir(parents=True)
    places = write_systems(temporary, frames, type_map)
    if directory.is_dir() and hash_path(directory) == hash_path(temporary):
        shutil.rmtree(temporary)
        return places
    shutil.rmtree(directory, ignore_errors=True)
    temporary.rename(directory)
    return places


def write_systems(
    directory: Path, frames: Sequence[Atoms], type_map: Sequence[str], *, mixed: bool = False
) -> list[tuple[str, int]]:
    """Write labelled frames into a folder of no systems; return the system and the index in it of each frame.

    With ``mixed``, frames of one size share a system ``mixed_<number of atoms>`` in the format deepmd/npy/mixed, where
    each has species of its own. It is all or none: ``dp`` refuses to train on both kinds of system at once.
    """
    import dpdata  # imports deepmd where it is installed: 0.4 s that `al status` need not pay

    groups: dict[str, list[Atoms]] = {}
    places = []
    for atoms in (stored_frame(frame, type_map) for frame in frames):
        name = (f"mixed_{len(atoms)}" if mixed else formula_name(atoms, type_map)) + kind_name(atoms)
        group = groups.setdefault(name, [])
        places.append((name, len(group)))
        group.append(atoms)
    for name, group in groups.items():
        if mixed:
            _write_mixed(directory / name, group, type_map)
        else:
            system = dpdata.LabeledSystem(data=_dpdata_arrays(group, type_map))
            system.to("deepmd/npy", directory / name, set_size=len(group))
    return places


def stored_frame(atoms: Atoms, type_map: Sequence[str]) -> Atoms:
    """Return a frame as `read_system` gives it back: atoms in the order of the type map, and a cell that can be stored.

    Each cell vector that is not periodic is replaced by one across the others, longer than the atoms' extent along it
    by `VACUUM` at least; a molecule has no cell. Neither has a virial.
    """
    frame = sort_by_type(atoms, type_map)
    if frame.pbc.all():
        return frame
    frame.info.pop("virial", None)
    if not frame.pbc.any():
        frame.cell[:] = 0.0
        return frame
    cell = Cell(np.where(frame.pbc[:, None], frame.cell.array, 0.0)).complete()
    for axis in np.flatnonzero(~frame.pbc):
        cell[axis] *= np.ceil(np.ptp(frame.positions @ cell[axis]) + VACUUM)
    frame.cell, frame.pbc = cell, True
    return frame


def stored_key(atoms: Atoms, type_map: Sequence[str]) -> str:
    """Return the key of a frame as it is stored; a slab has the same before it was written and after it was read."""
    return frame_key(stored_frame(atoms, type_map))


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
    files = sorted(system.glob(f"set.*/{_MIXED}.npy"))
    types = [np.unique(np.load(file)) for file in files] or [np.loadtxt(system / "type.raw", dtype=int, ndmin=1)]
    return [symbols[index] for index in np.unique(np.concatenate(types)) if index >= 0]


def read_system(system: Path) -> Iterator[Atoms]:
    """Yield the frames of one deepmd/npy or deepmd/npy/mixed system, with labels where it has them."""
    symbols = np.array((system / "type_map.raw").read_text().split())
    types: NDArray[np.int64] = np.loadtxt(system / "type.raw", dtype=int, ndmin=1)
    periodic = not (system / "nopbc").exists()
    for folder in sorted(system.glob("set.*")):
        arrays = {file.stem: np.load(file) for file in folder.glob("*.npy")}
        for index, positions in enumerate(arrays["coord"]):
            own = arrays[_MIXED][index] if _MIXED in arrays else types
            real = own >= 0  # a mixed system fills up with atoms that are none
            cell = arrays["box"][index].reshape(3, 3) if periodic else None
            atoms = Atoms(symbols[own[real]], positions.reshape(-1, 3)[real], cell=cell, pbc=periodic)
            if "force" in arrays:
                atoms.arrays["forces"] = arrays["force"][index].reshape(-1, 3)[real].astype(float)
                atoms.info["energy"] = float(np.ravel(arrays["energy"])[index])
            if "virial" in arrays:
                atoms.info["virial"] = arrays["virial"][index].reshape(3, 3).astype(float)
            yield atoms


def formula_name(atoms: Atoms, type_map: Sequence[str]) -> str:
    """Return a system's name, e.g. ``H4O2``: elements in the order of the type map, each with its count."""
    symbols = atoms.get_chemical_symbols()
    return "".join(f"{symbol}{symbols.count(symbol)}" for symbol in type_map if symbol in symbols)


def kind_name(atoms: Atoms) -> str:
    """Return the ending of a system's name: what kind of cell and label its frames have."""
    if not atoms.pbc.any():
        return "_nopbc"
    return "_novirial" if "energy" in atoms.info and "virial" not in atoms.info else ""


def _write_mixed(directory: Path, frames: Sequence[Atoms], type_map: Sequence[str]) -> None:
    """Write frames of one number of atoms and one kind as a deepmd/npy/mixed system."""
    arrays: dict[str, NDArray[Any]] = {
        _MIXED: np.array([[type_map.index(symbol) for symbol in atoms.symbols] for atoms in frames]),
        "coord": np.array([atoms.positions.ravel() for atoms in frames]),
        "energy": np.array([atoms.info["energy"] for atoms in frames]),
        "force": np.array([atoms.arrays["forces"].ravel() for atoms in frames]),
        "box": np.array([atoms.cell.array.ravel() for atoms in frames]),
    }
    if "virial" in frames[0].info:
        arrays["virial"] = np.array([atoms.info["virial"].ravel() for atoms in frames])
    (directory / "set.000").mkdir(parents=True)
    for name, array in arrays.items():
        np.save(directory / "set.000" / f"{name}.npy", array)
    (directory / "type.raw").write_text("0\n" * len(frames[0]))
    (directory / "type_map.raw").write_text("".join(f"{symbol}\n" for symbol in type_map))
    if not frames[0].pbc.any():
        (directory / "nopbc").touch()


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
