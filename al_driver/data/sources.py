"""What a user hands in: structures in any format that ASE reads, labelled frames in any that dpdata reads.

Whatever is wrong with a file is a `ConfigError` that names it. Å, eV, eV/Å.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from al_driver.data.dataset import find_systems, read_system
from al_driver.data.frames import read_frames
from al_driver.data.structure_files import read_structure_file
from al_driver.errors import ConfigError, Problem
from al_driver.schema.suggest import nearest, nearest_file

log = logging.getLogger(__name__)


def find_paths(path: Path) -> list[Path]:
    """Return the path itself, or what it matches as a pattern, sorted.

    Raises
    ------
    ConfigError
        If there is nothing.
    """
    if path.exists():
        return [path]
    if any(character in str(path) for character in "*?["):
        found = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
        if found:
            return found
        raise ConfigError(Problem("no file matches this pattern", file=path))
    raise ConfigError(Problem(f"does not exist{nearest_file(path)}", file=path))


def read_structures(path: Path, type_map: Sequence[str], pbc: tuple[bool, bool, bool] | None = None) -> list[Atoms]:
    """Read every frame of a file, or of every file that a pattern finds.

    Only species, positions, cell and periodicity are kept.

    Parameters
    ----------
    path
        A file in any format that `read_structure_file` knows, or a pattern; its files are read in sorted order.
    type_map
        The elements that may occur.
    pbc
        Periodic directions; as in the file when None.

    Raises
    ------
    ConfigError
        If a file is missing or cannot be read, has an element that ``type_map`` lacks, or no cell along a periodic
        direction.
    """
    files = find_paths(path)
    return [_clean(atoms, file, type_map, pbc) for file in files for atoms in read_structure_file(file, type_map)]


def read_labelled(path: Path, format: str | None, type_map: Sequence[str]) -> list[Atoms]:
    """Read labelled frames: ``info["energy"]``, ``arrays["forces"]`` and, where there is one, ``info["virial"]``.

    Parameters
    ----------
    path
        A folder with deepmd/npy systems at any depth, an extxyz file, or what ``format`` names; may be a pattern.
    format
        dpdata's name of the format, e.g. "vasp/outcar".

    Raises
    ------
    ConfigError
        If the data are missing, cannot be read, hold no label, or have an element that ``type_map`` lacks.
    """
    return [_checked(atoms, file, type_map) for file in find_paths(path) for atoms in _read_any(file, format)]


def _clean(atoms: Atoms, file: Path, type_map: Sequence[str], pbc: tuple[bool, bool, bool] | None) -> Atoms:
    _check_elements(atoms, file, type_map)
    clean = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc if pbc is None else pbc)
    if _lacks_cell(clean):
        raise ConfigError(Problem("has no cell along a periodic direction; give a cell, or set `pbc`", file=file))
    if len(clean) == 0 or not np.isfinite(clean.positions).all() or not np.isfinite(clean.cell.array).all():
        raise ConfigError(Problem("holds no atoms, or a coordinate that is not a finite number", file=file))
    return clean


def _lacks_cell(atoms: Atoms) -> bool:
    """Say whether a periodic direction has no cell vector of its own."""
    lengths = atoms.cell.lengths()
    flat = atoms.pbc.any() and atoms.cell.rank < np.count_nonzero(lengths)
    return bool(flat or (atoms.pbc & (lengths == 0)).any())


def _check_elements(atoms: Atoms, file: Path, type_map: Sequence[str]) -> None:
    unknown = sorted(set(atoms.get_chemical_symbols()) - set(type_map))
    if unknown:
        message = f"has {', '.join(unknown)}, which type_map {list(type_map)} lacks"
        raise ConfigError(Problem(message, file=file))


def _read_any(file: Path, format: str | None) -> Iterator[Atoms]:
    if format == "extxyz" or (format is None and file.suffix in {".extxyz", ".xyz"}):
        return _read_extxyz(file)
    if format in {None, "deepmd/npy", "deepmd/npy/mixed"}:
        if not file.is_dir():
            message = 'is a file; say what it is by `format`, e.g. {"path": "OUTCAR", "format": "vasp/outcar"}'
            raise ConfigError(Problem(message, file=file))
        return _read_npy(file)
    return _read_dpdata(file, str(format))


def _read_extxyz(file: Path) -> Iterator[Atoms]:
    try:
        yield from read_frames(file)
    except Exception as error:
        raise _unreadable(file, "by ASE", error) from error


def _read_npy(folder: Path) -> Iterator[Atoms]:
    for system in find_systems(folder):
        try:
            yield from read_system(system)
        except Exception as error:
            raise _unreadable(system, "as deepmd/npy", error) from error


def _read_dpdata(file: Path, format: str) -> Iterator[Atoms]:
    import dpdata  # imports deepmd where it is installed: 0.4 s that other commands need not pay
    from dpdata.format import Format

    if format not in Format.get_formats():
        formats = [name for name in Format.get_formats() if isinstance(name, str)]
        raise ConfigError(Problem(f"dpdata knows no format {format!r}{nearest(format, formats)}", file=file))
    try:
        with warnings.catch_warnings(record=True) as told:
            frames = list(_frames_of(dpdata.LabeledSystem(str(file), fmt=format).data))
    except Exception as error:
        raise _unreadable(file, f"as {format}", error) from error
    for warning in told:
        log.warning("%s: %s", file, warning.message)  # e.g. steps left out because their SCF did not converge
    if not frames:
        raise ConfigError(Problem(f"holds no labelled frame, read as {format}", file=file))
    yield from frames


def _frames_of(data: dict[str, Any]) -> Iterator[Atoms]:
    """Yield the frames of a dpdata system."""
    species = np.array(data["atom_names"])[data["atom_types"]]
    for index, energy in enumerate(data["energies"]):
        atoms = Atoms(species, data["coords"][index], cell=data["cells"][index], pbc=not data.get("nopbc", False))
        atoms.info["energy"] = float(energy)
        atoms.arrays["forces"] = np.asarray(data["forces"][index], dtype=float)
        if "virials" in data:
            atoms.info["virial"] = np.asarray(data["virials"][index], dtype=float)
        yield atoms


def _checked(atoms: Atoms, file: Path, type_map: Sequence[str]) -> Atoms:
    _check_elements(atoms, file, type_map)
    if atoms.info.get("energy") is None or "forces" not in atoms.arrays:
        raise ConfigError(Problem("has a frame without energy or forces; labelled frames were expected", file=file))
    if _lacks_cell(atoms):
        raise ConfigError(Problem("has a frame without a cell along a periodic direction; mend its Lattice", file=file))
    if not (np.isfinite(atoms.info["energy"]) and np.isfinite(atoms.arrays["forces"]).all()):
        raise ConfigError(Problem("has a frame whose energy or forces are not finite; take it out", file=file))
    return atoms


def _unreadable(file: Path, reader: str, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())[:200]
    return ConfigError(Problem(f"cannot be read {reader} ({type(error).__name__}: {reason})", file=file))
