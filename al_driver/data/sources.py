"""What a user hands in: structures and labelled frames, in every format that is known.

Whatever is wrong with a file is a `ConfigError` that names it. Å, eV, eV/Å.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms

from al_driver.data.dataset import find_systems
from al_driver.data.formats.load import Source, find_sources, lacks_cell, load_source, refused
from al_driver.data.formats.recognise import MIXED, NPY
from al_driver.data.frames import carry_sites
from al_driver.data.structure_files import read_structure_file
from al_driver.data.system_check import describe_strange
from al_driver.errors import ConfigError, Problem
from al_driver.schema.suggest import nearest_file
from al_driver.words import many

log = logging.getLogger(__name__)
MOST_TOLD = 3  # steps left out, of a file, in the log


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

    Only species, positions, cell and periodicity are kept, and what `data.frames.SITE_COLUMNS` names.

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

    Steps whose SCF did not converge, or that broke off, are left out; how many is logged.

    Parameters
    ----------
    path
        A file whose format is recognised or given, or a folder with deepmd/npy systems, or files in the format that
        is given, at any depth; may be a pattern.
    format
        A name of `data.formats.registry` or of dpdata, e.g. "vasp/outcar".

    Raises
    ------
    ConfigError
        If the data are missing, cannot be read, hold no label, or have an element that ``type_map`` lacks.
    """
    return [atoms for file in find_paths(path) for atoms in _read_labelled(file, format, type_map)]


def _clean(atoms: Atoms, file: Path, type_map: Sequence[str], pbc: tuple[bool, bool, bool] | None) -> Atoms:
    _check_elements(atoms, file, type_map)
    clean = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc if pbc is None else pbc)
    carry_sites(atoms, clean)
    if lacks_cell(clean.cell.array, clean.pbc):
        raise ConfigError(Problem("has no cell along a periodic direction; give a cell, or set `pbc`", file=file))
    if len(clean) == 0 or not np.isfinite(clean.positions).all() or not np.isfinite(clean.cell.array).all():
        raise ConfigError(Problem("holds no atoms, or a coordinate that is not a finite number", file=file))
    return clean


def _check_elements(atoms: Atoms, file: Path, type_map: Sequence[str]) -> None:
    unknown = sorted(set(atoms.get_chemical_symbols()) - set(type_map))
    if unknown:
        raise ConfigError(Problem(describe_strange(unknown, type_map), file=file, once=True))


def _read_labelled(file: Path, format: str | None, type_map: Sequence[str]) -> list[Atoms]:
    frames: list[Atoms] = []
    names = set()
    for source in _find_labelled(file, format):
        loaded = load_source(source)
        names.add(source.format)
        if loaded.problem:
            raise ConfigError(refused(loaded))
        if any(reason == "not_finite" for reason, _ in loaded.left_out):
            raise ConfigError(Problem("has a frame whose energy or forces are not finite; take it out", file=file))
        if loaded.left_out:
            count = f"{len(loaded.left_out)} of {many(loaded.n_steps, 'step')} left out"
            log.warning("%s: %s: %s", source.path, count, "; ".join(map(": ".join, loaded.left_out[:MOST_TOLD])))
        if loaded.blocks and not loaded.is_labelled:
            raise ConfigError(Problem("has a frame without energy or forces; labelled frames were expected", file=file))
        frames += (atoms for block in loaded.blocks for atoms in block.frames())
    if not frames:
        raise ConfigError(Problem(f"holds no labelled frame, read as {', '.join(sorted(names))}", file=file))
    for atoms in frames:
        _check_elements(atoms, file, type_map)
    return frames


def _find_labelled(file: Path, format: str | None) -> list[Source]:
    if file.is_dir() and format in {None, NPY, MIXED}:
        return [Source(system, NPY) for system in find_systems(file)]
    try:
        sources = find_sources(file, format)
    except ConfigError as error:
        raise ConfigError([replace(problem, file=file) for problem in error.problems]) from error
    if sources:
        return sources
    if file.is_dir():
        raise ConfigError(Problem(f"holds no file in the format {format}", file=file))
    message = 'is a file; say what it is by `format`, e.g. {"path": "OUTCAR", "format": "vasp/outcar"}'
    raise ConfigError(Problem(message, file=file))
