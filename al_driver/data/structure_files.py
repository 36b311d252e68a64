"""Structure files: whatever ASE recognises, LAMMPS data files, and PWmat's atom.config through dpdata. Å."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import ase.io
from ase import Atoms

from al_driver.data.lammps import is_data, read_data
from al_driver.errors import ConfigError, Problem


def read_structure_file(file: Path, type_map: Sequence[str]) -> list[Atoms]:
    """Read every frame of one file.

    Parameters
    ----------
    type_map
        Names the atom types of a LAMMPS data file that names none.

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
    shared = next((site for atoms in frames if (site := _find_shared_site(atoms))), None)
    if shared:
        raise ConfigError(Problem(f"has a site that is {shared}; give an ordered structure", file=file))
    return frames


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


def _find_shared_site(atoms: Atoms) -> str | None:
    """Return, in words, a site of a CIF that several elements share or that is partly empty; None where there is none.

    ASE reads such a site as its first element, whole.
    """
    for site in (atoms.info.get("occupancy") or {}).values():
        if len(site) > 1 or any(share < 0.999 for share in site.values()):
            return " and ".join(f"{share:g} {symbol}" for symbol, share in site.items())
    return None
