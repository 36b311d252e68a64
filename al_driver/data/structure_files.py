"""Structure files: whatever ASE recognises, LAMMPS data files, and PWmat's atom.config through dpdata. Å."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_driver.data.lammps import is_data, read_data
from al_driver.errors import ConfigError, Problem

FULL = 0.999  # the share from which on a site is not shared


def read_structure_file(file: Path, type_map: Sequence[str], *, shared: bool = False) -> list[Atoms]:
    """Read every frame of one file.

    Parameters
    ----------
    type_map
        Names the atom types of a LAMMPS data file that names none.
    shared
        Whether sites that several elements share, or that are partly empty, are let pass; see `read_shared_sites`.

    Raises
    ------
    ConfigError
        If it is a folder, cannot be read, holds nothing, or has sites that several elements share.
    """
    if file.is_dir():
        raise ConfigError(Problem("is a folder; a structure file was expected", file=file))
    try:
        frames = _read(file, type_map)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(Problem(f"cannot be read by ASE ({type(error).__name__}: {reason})", file=file)) from error
    if not frames:
        raise ConfigError(Problem("holds no structure", file=file))
    site = next((site for atoms in frames for site in read_shared_sites(atoms)[0]), None)
    if site and not shared:
        words = " and ".join(f"{share:g} {symbol}" for symbol, share in site.items())
        raise ConfigError(Problem(f"has a site that is {words}; give an ordered structure", file=file))
    return frames


def read_shared_sites(atoms: Atoms) -> tuple[tuple[dict[str, float], ...], NDArray[np.intp]]:
    """Return the kinds of shared sites of a CIF: the share of each species, and which kind a site is of.

    ASE reads such a site as its first element, whole. A kind whose shares sum to less than 1 is partly empty.

    Returns
    -------
    tuple
        The kinds, and an array of shape (n_sites,) that counts them from 0; −1 for a site that one element fills.
    """
    kinds = list[dict[str, float]]()
    shared = np.full(len(atoms), -1, dtype=np.intp)
    for label, site in (atoms.info.get("occupancy") or {}).items():
        if len(site) > 1 or any(share < FULL for share in site.values()):
            where = atoms.arrays["spacegroup_kinds"] == int(label)
            if where.any():  # ASE lists a shared site once for each of its elements
                shared[where] = len(kinds)
                kinds.append({symbol: float(share) for symbol, share in site.items()})
    return tuple(kinds), shared


def _read(file: Path, type_map: Sequence[str]) -> list[Atoms]:
    if is_data(file):
        return [read_data(file, type_map)]
    if file.suffix == ".config" or file.name.startswith("atom.config"):
        return _read_atom_config(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of CIF files: how their space group is spelt
        return list(ase.io.iread(file, index=":"))


def _read_atom_config(file: Path) -> list[Atoms]:
    import dpdata  # imports deepmd where it is installed: 0.4 s that other files need not pay

    system = dpdata.System(str(file), fmt="pwmat/atom.config").data
    species = [system["atom_names"][index] for index in system["atom_types"]]
    return [Atoms(species, system["coords"][0], cell=system["cells"][0], pbc=True)]
