"""Crystals and checkpoints that several tests of surrogates use."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.build import bulk

if TYPE_CHECKING:
    from pymatgen.core import Structure

FILES = Path(__file__).parent / "files"
REFERENCE = json.loads((FILES / "published.json").read_text())
IDS = list(REFERENCE["band-gap"])


def perovskite(a: float = 4.0, symbols: str = "SrTiO3", rattle: float = 0.0, seed: int = 0) -> Atoms:
    """Return ABX₃: the second shells of its X sites hold A and X at one distance."""
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    atoms = Atoms(symbols, scaled_positions=places, cell=[a] * 3, pbc=True)
    atoms.rattle(rattle, seed=seed)
    return atoms


def triclinic(seed: int = 1) -> Atoms:
    """Return a skewed crystal of three elements whose atoms lie outside their cell, too."""
    rng = np.random.default_rng(seed)
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.numbers[:2] = 19
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.uniform(-0.25, 0.25, (3, 3))), scale_atoms=True)
    atoms.rattle(0.1, seed=seed)
    atoms.positions += rng.integers(-2, 3, (len(atoms), 3)) @ atoms.cell.array
    return atoms


def cubic(a: float, species: list, places: list) -> "Structure":
    """Return a structure of pymatgen, whose sites may be shared: ``{"Ni": 0.5, "Mn": 0.5}``."""
    from pymatgen.core import Lattice, Structure  # comes with the extra

    return Structure(Lattice.cubic(a), species, places)
