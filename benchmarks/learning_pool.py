"""Pools of labelled frames for `learning_curve.py`: trajectories of LAMMPS potentials, in cells of 16 atoms.

Each is made once, and holds the crystal at three temperatures, strained by up to 2 %; at the middle one strained by up
to 8 %; and the melt. A crystal in so small a cell withstands far more than its melting temperature (silicon 3000 K for
picoseconds): it is melted at twice the temperature of the melt first. Every trajectory has a strain and, in an alloy,
an arrangement of its own. Frames of a pool lie 20 fs apart, neighbours resembling each other as in any exploration;
those of the test set are of other trajectories, 0.2 ps apart. eV, Å, eV/Å, K.
"""

import functools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from numpy.typing import NDArray
from scored_frames import SYSTEMS as KNOWN

from al_driver.data.frames import Label, labelled_frame, sort_by_type
from al_driver.engines.base import Dynamics
from al_driver.engines.lammps import LammpsEngine
from al_driver.seeds import make_rng, make_seed
from al_driver.structures.perturb import Perturb, perturb_atoms

STRAIN, LARGE_STRAIN = 0.02, 0.08
HARD = ("strained", "melt")
TIMESTEP, TAU_T = 0.001, 0.1  # ps
SKIPPED, MELTING = 400, 3000  # steps of 1 fs: before the first frame, and those that melt the crystal
POOL_EVERY, TEST_EVERY = 20, 200


@dataclass(frozen=True)
class System:
    """A potential that stands for the truth, and the crystal it is asked about."""

    atoms: Atoms
    type_map: tuple[str, ...]
    engine: dict[str, Any]
    temperatures: tuple[int, int, int]
    melt: int
    window: tuple[float, float]
    """A committee's lower and upper deviation, eV/Å, of the arm that selects by a window."""

    def conditions(self) -> dict[str, tuple[int, float]]:
        """Return temperature and largest strain by name, the first being what is known in the beginning."""
        crystal = {f"{temperature} K": (temperature, STRAIN) for temperature in self.temperatures}
        return crystal | {"strained": (self.temperatures[1], LARGE_STRAIN), "melt": (self.melt, STRAIN)}


def _known(name: str, temperatures: tuple[int, int, int], melt: int, window: tuple[float, float]) -> System:
    atoms, type_map, engine = KNOWN[name]
    return System(atoms.repeat((2, 1, 1)), tuple(type_map), engine, temperatures, melt, window)


def _eam(file: str, atoms: Atoms, type_map: tuple[str, ...], temperatures: tuple[int, int, int], melt: int) -> System:
    coefficients = [f"* * {file} {' '.join(type_map)}"]
    engine = {"engine": "lammps", "pair_style": "eam/alloy", "pair_coeff": coefficients}
    return System(atoms, type_map, engine, temperatures, melt, (0.05, 0.25))


def _fcc(element: str, lattice: float, n_copper: int) -> Atoms:
    """Return 16 atoms, some of them copper."""
    atoms = bulk(element, "fcc", a=lattice).repeat((2, 2, 4))
    atoms.numbers[:n_copper] = 29
    return atoms


SYSTEMS = {
    "Si": _known("Si", (300, 600, 1200), 2500, (0.1, 0.5)),
    "Cu": _eam("Cu_mishin1.eam.alloy", _fcc("Cu", 3.615, 16), ("Cu",), (300, 600, 1200), 2500),
    "AlCu": _eam("AlCu.eam.alloy", _fcc("Al", 4.02, 2), ("Al", "Cu"), (300, 450, 600), 2000),
    "SiC": _known("SiC", (300, 1000, 2000), 5000, (0.1, 0.5)),
}


@dataclass(frozen=True)
class Frames:
    """Labelled frames of one composition, the atoms in one order."""

    atoms: list[Atoms]
    conditions: NDArray[np.str_]
    """The name of each frame's condition, shape (n,)."""
    tasks: NDArray[np.int64]
    """Which trajectory it is of, shape (n,)."""
    steps: NDArray[np.int64]

    @property
    def forces(self) -> NDArray[np.float64]:
        """Shape (n_frames, n_atoms, 3)."""
        return np.array([atoms.arrays["forces"] for atoms in self.atoms])

    def places(self) -> dict[tuple[int, int], int]:
        """Return where a frame lies, by its trajectory and step."""
        keys = zip(self.tasks.tolist(), self.steps.tolist(), strict=True)
        return {key: place for place, key in enumerate(keys)}


@functools.cache
def make_frames(file: Path, name: str, n_trajectories: int, n_frames: int, every: int, seed: int) -> Frames:
    """Return the frames that a file holds; make it, with so many trajectories of so many frames of each condition."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".tmp.npz")
        np.savez(temporary, **_calculate(SYSTEMS[name], n_trajectories, n_frames, every, seed))
        temporary.replace(file)
    return _read(file)


def _calculate(system: System, n_trajectories: int, n_frames: int, every: int, seed: int) -> dict[str, Any]:
    """Return the arrays of a pool."""
    found: dict[str, list[Any]] = {
        name: [] for name in ("conditions", "tasks", "steps", "positions", "cells", "energies", "forces")
    }
    for place, (condition, (temperature, strain)) in enumerate(system.conditions().items()):
        for number in range(n_trajectories):
            draws = make_rng(seed, condition, number)
            start = perturb_atoms(_arrange(system, draws), _perturb(temperature, strain), draws)
            velocities = make_seed(seed, condition, "dynamics", number)
            if condition == "melt":
                hot = Dynamics(2 * temperature, MELTING, TIMESTEP, MELTING, TAU_T, velocities)
                ((_, melted),) = _run(system, start, hot, 1)
                start = melted.atoms
            dynamics = Dynamics(temperature, SKIPPED + n_frames * every, TIMESTEP, every, TAU_T, velocities)
            for step, label in _run(system, start, dynamics, n_frames):
                own = (condition, place * n_trajectories + number, step, label.atoms.positions, label.atoms.cell.array)
                for column, value in zip(found.values(), (*own, label.energy, label.forces), strict=True):
                    column.append(value)
    return found | {"numbers": _arrange(system, make_rng(0)).numbers}


def _arrange(system: System, draws: np.random.Generator) -> Atoms:
    """Return the crystal, the elements of a random alloy on other sites; elements in the order of the type map."""
    atoms = system.atoms.copy()
    if system.engine["pair_style"].startswith("eam"):
        atoms.numbers = draws.permutation(atoms.numbers)
    return sort_by_type(atoms, system.type_map)


def _perturb(temperature: int, strain: float) -> Perturb:
    return Perturb(copies=1, cell_fraction=strain, temperature=min(temperature, 1200))


def _run(system: System, start: Atoms, dynamics: Dynamics, n_frames: int) -> Iterator[tuple[int, Label]]:
    """Yield step and label of the last frames of a trajectory of the reference."""
    engine = LammpsEngine.model_validate(system.engine)
    program = str(Path(sys.executable).with_name("lmp"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine.write_dynamics(start, dynamics, folder)
        with (folder / engine.output_name).open("w") as output:
            subprocess.run(engine.command((program,)), cwd=folder, stdout=output, stderr=output, check=True)
        for step, label in engine.read_dynamics(folder, dynamics)[-n_frames:]:
            if isinstance(label, Exception):
                raise label
            yield step, label


def _read(file: Path) -> Frames:
    with np.load(file, allow_pickle=False) as arrays:
        found = dict(arrays)
    columns = (found[name] for name in ("positions", "cells", "energies", "forces"))
    atoms = [
        labelled_frame(Label(Atoms(found["numbers"], positions, cell=cell, pbc=True), float(energy), forces))
        for positions, cell, energy, forces in zip(*columns, strict=True)
    ]
    return Frames(atoms, found["conditions"], found["tasks"], found["steps"])
