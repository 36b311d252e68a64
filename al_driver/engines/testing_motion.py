"""The conformance test of relaxations and dynamics; `testing.check_engine` calls it for what an engine `can`.

Each gives frames with labels, and those are proven by labels of their own: what a relaxation claims to have reached,
and that a frame of dynamics carries the forces of its own positions, not of the step before or after. eV, eV/Å, Å, K.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms, units

from al_driver.data.frames import Array, Label
from al_driver.data.gate import GateLimits, check_label
from al_driver.engines.base import Dynamics, Engine, Relaxation
from al_driver.engines.testing_run import Run, calculate, check_halves, require, run_engine
from al_driver.errors import EngineError

Trajectory = list[tuple[int, Label | EngineError]]
Tolerances = tuple[float, float, float]
"""Differences allowed between a label and one of its own: energy, eV; forces, eV/Å; virial, eV."""
_PLAUSIBLE = (0.1, 4.0)  # times the temperature that was asked for: few atoms have few degrees of freedom
_REPEATS, _DIFFERS = 1e-6, 1e-5  # Å, between two runs with one seed, and with two


def calculate_label(engine: Engine, atoms: Atoms, folder: Path, run: Run) -> tuple[Label, frozenset[Path]]:
    """Label a frame, and return the files that the program made."""
    label, made = calculate(engine, folder, run, lambda path: engine.write_inputs(atoms, path), engine.read_label)
    check_label(atoms, label, folder, GateLimits())
    require((label.atoms.pbc == atoms.pbc).all(), f"the frame came back with pbc {label.atoms.pbc}, not {atoms.pbc}")
    require(all(label.info.get(key) for key in ("program", "version")), "info lacks `program` or `version`")
    return label, made


def is_same_label(first: Label, second: Label) -> bool:
    """Say whether two labels hold the same numbers."""
    return first.energy == second.energy and np.array_equal(first.forces, second.forces)


def check_relaxation(
    engine: Engine,
    atoms: Atoms,
    directory: Path,
    *,
    what: Literal["cell", "positions"] = "cell",
    max_force: float = 0.05,
    max_steps: int = 300,
    start: Label | None = None,
    run: Run = run_engine,
    tolerances: Tolerances = (1e-4, 2e-3, 2e-2),
) -> Label:
    """Prove that a relaxation ends where it says: lower, within its limits, with the same atoms; return the end.

    Parameters
    ----------
    atoms
        A structure away from its minimum; a force on it, or its stress, must be above the limit.
    directory
        An empty folder to work in, or one that is not there yet.
    start
        The label of ``atoms``, where there is one already.

    Raises
    ------
    AssertionError
        At the first promise that is not kept.
    """
    relaxation = Relaxation(what, max_force, max_steps)
    start = start or calculate_label(engine, atoms, directory / "start", run)[0]
    require(_largest(start, what) > max_force, "the structure is relaxed already, and proves nothing; strain it")
    label, made = _relax(engine, atoms, directory / "relaxed", run, relaxation)
    require(label.energy < start.energy, f"the energy rose from {start.energy:.5f} to {label.energy:.5f} eV")
    _check_atoms(atoms, label.atoms, what)
    again, _ = calculate_label(engine, label.atoms, directory / "after", run)
    _compare("the relaxed structure", label, again, tolerances)
    found = _largest(again, what)
    allowed = max_force + max(tolerances[1], tolerances[2] / len(atoms))
    require(found < allowed, f"relaxed to {max_force:g}, but a label of its own has {found:.4f} (eV/Å, or eV per atom)")

    def read(folder: Path) -> Label:
        return engine.read_relaxation(folder, relaxation)

    check_halves(engine, made, directory / "relaxed", read, lambda half: is_same_label(half, label))
    try:
        _relax(engine, atoms, directory / "short", run, Relaxation(what, max_force, 1))
    except EngineError as error:
        require(error.reason == "engine_error", f"one step is refused as {error.reason}, not engine_error")
    else:
        raise AssertionError("a relaxation of one step is read as if it had reached its limits")
    return label


def check_dynamics(
    engine: Engine,
    atoms: Atoms,
    directory: Path,
    *,
    temperature: float = 300.0,
    timestep: float = 0.001,
    start: Label | None = None,
    run: Run = run_engine,
    tolerances: Tolerances = (1e-4, 2e-3, 2e-2),
) -> Trajectory:
    """Prove that dynamics give the steps asked for, each with its own forces, from velocities that the seed decides.

    Parameters
    ----------
    atoms
        A structure that a few steps do not tear apart.
    directory
        An empty folder to work in, or one that is not there yet.
    temperature, timestep
        K, ps.
    start
        The label of ``atoms``, where there is one already.

    Raises
    ------
    AssertionError
        At the first promise that is not kept.
    """
    every = Dynamics(temperature, 3, timestep, 1, 0.1, seed=1)
    frames, made = _move(engine, atoms, directory / "first", run, every)
    labels = _labels(frames)
    start = start or calculate_label(engine, atoms, directory / "start", run)[0]
    _check_start(start, labels[0].atoms, every)
    own, _ = calculate_label(engine, labels[-1].atoms, directory / "own", run)
    _compare("the frame of step 3", labels[-1], own, tolerances)
    again, _ = _move(engine, atoms, directory / "again", run, every)
    found = _distance(frames[-1], again[-1])
    require(found < _REPEATS, f"two runs with one seed differ by {found:.1e} Å")
    other, _ = _move(engine, atoms, directory / "other", run, Dynamics(temperature, 5, timestep, 2, 0.1, seed=2))
    found = _distance(frames[1], other[0])
    require(found > _DIFFERS, f"two seeds give the same trajectory, to {found:.1e} Å")

    def is_same(half: Trajectory) -> bool:
        pairs = zip((found for _, found in half), labels, strict=True)
        return all(isinstance(found, EngineError) or is_same_label(found, label) for found, label in pairs)

    check_halves(engine, made, directory / "first", lambda path: engine.read_dynamics(path, every), is_same)
    return frames


def _relax(
    engine: Engine, atoms: Atoms, folder: Path, run: Run, relaxation: Relaxation
) -> tuple[Label, frozenset[Path]]:
    return calculate(
        engine,
        folder,
        run,
        lambda path: engine.write_relaxation(atoms, relaxation, path),
        lambda path: engine.read_relaxation(path, relaxation),
    )


def _move(
    engine: Engine, atoms: Atoms, folder: Path, run: Run, dynamics: Dynamics
) -> tuple[Trajectory, frozenset[Path]]:
    frames, made = calculate(
        engine,
        folder,
        run,
        lambda path: engine.write_dynamics(atoms, dynamics, path),
        lambda path: engine.read_dynamics(path, dynamics),
    )
    found, asked = [step for step, _ in frames], list(dynamics.steps)
    require(found == asked, f"frames of the steps {found} were read, {asked} were asked for")
    _labels(frames)
    return frames, made


def _labels(frames: Trajectory) -> list[Label]:
    failed = [f"step {step}: {label}" for step, label in frames if isinstance(label, EngineError)]
    require(not failed, f"frames without a label: {failed}")
    return [label for _, label in frames if isinstance(label, Label)]


def _largest(label: Label, what: str) -> float:
    """Return what a relaxation limits: the largest force, or the largest component of the virial per atom."""
    force = float(np.linalg.norm(label.forces, axis=1).max())
    if what == "positions":
        return force
    require(label.virial is not None, "a frame that is periodic in three directions has no virial")
    return max(force, float(np.abs(np.asarray(label.virial)).max()) / len(label.atoms))


def _check_atoms(sent: Atoms, found: Atoms, what: str) -> None:
    """Prove that a relaxation moved only what it should; that it mixed up no atoms is seen by a label of its own."""
    require(sent.get_chemical_symbols() == found.get_chemical_symbols(), "the order of the elements changed")
    require((sent.pbc == found.pbc).all(), f"the structure came back with pbc {found.pbc}, not {sent.pbc}")
    change = np.abs(found.cell.array - sent.cell.array).max()
    if what == "positions":
        require(change < 1e-4, f"positions were relaxed, but the cell changed by {change:.2e} Å")


def _check_start(start: Label, first: Atoms, dynamics: Dynamics) -> None:
    """Prove temperature and momentum by the first step: r₁ = r₀ + v₀ t + F t²/2m."""
    time = dynamics.timestep * 1000 * units.fs
    masses = start.atoms.get_masses()[:, None]
    travelled = first.positions - start.atoms.positions
    require(np.abs(travelled).max() < 0.5, "positions jump in the first step; they must not be wrapped into the cell")
    velocities: Array = travelled / time - 0.5 * time * start.forces / masses
    drift = float(np.abs((masses * travelled).sum(axis=0)).max() / masses.sum())
    require(drift < 1e-4, f"the centre of mass moves by {drift:.1e} Å in one step")
    found = float((masses * velocities**2).sum()) / (3 * (len(masses) - 1) * units.kB)
    low, high = (factor * dynamics.temperature for factor in _PLAUSIBLE)
    require(low < found < high, f"the first step has {found:.0f} K; {dynamics.temperature:g} K were asked for")


def _distance(first: tuple[int, Label | EngineError], second: tuple[int, Label | EngineError]) -> float:
    """Return the largest difference of a coordinate, Å."""
    one, two = _labels([first, second])
    return float(np.abs(one.atoms.positions - two.atoms.positions).max())


def _compare(name: str, label: Label, own: Label, tolerances: Tolerances) -> None:
    """Prove that a label is that of its frame."""
    differences = [abs(label.energy - own.energy), float(np.abs(label.forces - own.forces).max())]
    require((label.virial is None) == (own.virial is None), f"{name} has a virial, or a label of its own has, not both")
    if label.virial is not None and own.virial is not None:
        differences.append(float(np.abs(label.virial - own.virial).max()))
    for what, found, limit in zip(("eV", "eV/Å", "eV of virial"), differences, tolerances, strict=False):
        require(found < limit, f"{name} differs from a label of its own by {found:.2e} {what}")
