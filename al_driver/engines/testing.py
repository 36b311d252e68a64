"""The conformance test that every reference engine passes, ours and those of outside packages.

A plugin author writes one test, with a frame that a calculation takes about a second for::

    from al_driver.engines.testing import check_engine

    def test_my_engine_conforms(tmp_path):
        atoms = bulk("Si")  # triclinic, and without symmetry:
        atoms.set_cell(atoms.cell @ [[1.02, 0.01, 0.02], [0, 0.99, 0.03], [0, 0, 1.01]], scale_atoms=True)
        atoms.rattle(0.08)
        check_engine(MyEngine(engine="mine", cutoff=400.0), atoms, tmp_path, changed={"cutoff": 500.0})

It runs the real program six times, once more where there is another start, and seven times more for what else the
engine `can`; it raises `AssertionError` at the first promise that is not kept. Energies of two different structures are
compared, so the settings must be tight enough for that: well converged, and with a cutoff at which the number of basis
functions no longer matters.
eV, eV/Å, Å.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from al_driver.data.frames import Array, Label
from al_driver.engines.base import Calculation, Engine
from al_driver.engines.testing_motion import calculate_label, check_dynamics, check_relaxation, is_same_label
from al_driver.engines.testing_run import Run, calculate, check_halves, require, run_engine
from al_driver.files import hash_path
from al_driver.schema.plugins import plugin_name

__all__ = ["Run", "check_dynamics", "check_engine", "check_other_start", "check_relaxation", "run_engine"]
_Calculate = Callable[[str, Atoms], Label]


def check_engine(
    engine: Engine,
    atoms: Atoms,
    directory: Path,
    *,
    changed: Mapping[str, Any],
    calculations: Collection[Calculation] | None = None,
    run: Run = run_engine,
    step: float = 0.005,
    strain: float = 0.005,
    energy_tolerance: float = 1e-4,
    force_tolerance: float = 2e-3,
    virial_tolerance: float = 2e-2,
) -> Label:
    """Prove that an engine keeps the promises of `Engine`; return the label of the frame.

    Parameters
    ----------
    atoms
        A frame without symmetry; where it is periodic in three directions its cell must be triclinic, and its virial
        is tested. Several elements, not sorted, test most.
    directory
        An empty folder to work in.
    changed
        Keys with values, other than the engine's, that give other numbers: the identity must see it.
    calculations
        What to prove beside labels, of what the engine `can`; all of it by default.
    run
        Runs the program.
    step, strain
        Sizes of the finite differences: the length of the displacement of all atoms, Å; the norm of the strain.
    energy_tolerance, force_tolerance, virial_tolerance
        Differences allowed, eV, eV/Å, eV: of energies that should be equal, of a force and a finite difference, of
        the virial and a finite difference.

    Raises
    ------
    AssertionError
        At the first promise that is not kept.
    """
    check_parameters(engine, atoms, changed)

    def label_one(name: str, frame: Atoms) -> Label:
        return calculate_label(engine, frame, directory / name, run)[0]

    label, made = calculate_label(engine, atoms, directory / "frame", run)
    check_halves(engine, made, directory / "frame", engine.read_label, lambda half: is_same_label(half, label))
    if engine.other_start() is not None:
        check_other_start(engine, atoms, directory / "other_start", label, energy_tolerance, run)
    _check_invariance(label_one, atoms, label, energy_tolerance, force_tolerance)
    _check_forces(label_one, atoms, label, step, force_tolerance)
    if atoms.pbc.all():
        _check_virial(label_one, atoms, label, strain, virial_tolerance)
    else:
        require(label.virial is None, "a frame that is not periodic in three directions has a virial")
    tolerances = (energy_tolerance, force_tolerance, virial_tolerance)
    proven = engine.can if calculations is None else engine.can.intersection(calculations)
    motion: dict[str, Any] = {"start": label, "run": run, "tolerances": tolerances}
    if "relax" in proven:
        check_relaxation(engine, atoms, directory / "relax", what="cell" if atoms.pbc.all() else "positions", **motion)
    if "aimd" in proven:
        check_dynamics(engine, atoms, directory / "aimd", **motion)
    return label


def check_parameters(engine: Engine, atoms: Atoms, changed: Mapping[str, Any]) -> None:
    """Prove what needs no program: name, JSON, identity, what is said to the user."""
    kind, symbols = type(engine), list(dict.fromkeys(atoms.get_chemical_symbols()))
    require(plugin_name(kind, "engine") == getattr(engine, "engine", None), "the key `engine` does not hold the name")
    problems = [str(problem) for problem in engine.check(symbols) if problem.severity == "error"]
    require(not problems, f"check() finds problems: {problems}")
    dump = engine.model_dump(mode="json")
    require(kind.model_validate(dump) == engine, "model_validate(model_dump()) gives another engine")
    require(engine.identity() == kind.model_validate(dump).identity(), "two equal engines have two identities")
    other = kind.model_validate({**dump, **changed})
    require(other.identity() != engine.identity(), f"{dict(changed)} does not change the identity")
    for name in engine.named_structures().values():
        frame = atoms.copy()
        frame.info["structure"] = name
        require(engine.variant(frame) is not None, f"variant() does not tell the frames of {name!r} from others")
    for calculation in sorted(engine.can):
        words = engine.set_by_driver(calculation)
        is_said = isinstance(words, tuple) and all(isinstance(word, str) and word for word in words)
        require(is_said, f"set_by_driver({calculation!r}) says no words")
    require(engine.command(("x",)) == engine.command(("x",)), "command() changes from call to call")


def check_other_start(
    engine: Engine, atoms: Atoms, folder: Path, label: Label, tolerance: float, run: Run = run_engine
) -> None:
    """Prove that another start is another input, and ends at the same energy."""
    same, other = (folder.with_name(f"{folder.name}.{name}") for name in ("same", "other"))
    for path, write in ((same, engine.write_inputs), (other, engine.write_other_start)):
        path.mkdir(parents=True)
        write(atoms, path)
    require(hash_path(same) != hash_path(other), "write_other_start() writes what write_inputs() does")
    again, _ = calculate(engine, folder, run, lambda path: engine.write_other_start(atoms, path), engine.read_label)
    change = abs(again.energy - label.energy)
    require(change < tolerance, f"energy changes by {change:.2e} eV from another start")


def _check_invariance(calculate: _Calculate, atoms: Atoms, label: Label, energy: float, force: float) -> None:
    """Shift all atoms, and number them anew: the energy stays, the forces follow their atoms."""
    order = np.random.default_rng(0).permutation(len(atoms))
    other = atoms[order]
    other.positions += (0.11, 0.07, -0.05)
    again = calculate("permuted", other)
    change = abs(again.energy - label.energy)
    require(change < energy, f"energy changes by {change:.2e} eV when atoms are shifted and numbered anew")
    worst = float(np.abs(again.forces - label.forces[order]).max())
    require(worst < force, f"forces change by {worst:.2e} eV/Å when atoms are shifted and numbered anew")


def _check_forces(calculate: _Calculate, atoms: Atoms, label: Label, step: float, tolerance: float) -> None:
    require(
        np.abs(label.forces).max() > 20 * tolerance, "the forces of this frame are too small to test; displace atoms"
    )
    direction = _generic_direction(label.forces)

    def displaced(amount: float) -> Atoms:
        frame = atoms.copy()
        frame.positions += amount * direction
        return frame

    slope = calculate("forward", displaced(step)).energy - calculate("backward", displaced(-step)).energy
    _compare("force", float((label.forces * direction).sum()), -slope / (2 * step), tolerance, "eV/Å")


def _check_virial(calculate: _Calculate, atoms: Atoms, label: Label, strain: float, tolerance: float) -> None:
    angles = np.abs(atoms.cell.angles() - 90)
    require(bool((angles > 1).all()), "the cell is not triclinic, so that its virial proves little; strain it")
    require(label.virial is not None, "a frame that is periodic in three directions has no virial")
    virial = np.asarray(label.virial)
    require(virial.shape == (3, 3), f"the virial has the shape {virial.shape}")
    skew = float(np.abs(virial - virial.T).max())
    require(skew < tolerance, f"the virial is not symmetric: {skew:.2e} eV")
    require(np.abs(virial).max() > 20 * tolerance, "the virial of this frame is too small to test; strain the cell")
    direction = _generic_direction(virial)

    def strained(amount: float) -> Atoms:
        frame = atoms.copy()
        frame.set_cell(atoms.cell.array @ (np.eye(3) + amount * direction), scale_atoms=True)
        return frame

    slope = calculate("stretched", strained(strain)).energy - calculate("squeezed", strained(-strain)).energy
    _compare("virial", float((virial * direction).sum()), -slope / (2 * strain), tolerance, "eV")


def _generic_direction(along: Array) -> Array:
    """Return a unit direction that has no symmetry, and is not at right angles to what is to be seen."""
    generic = np.random.default_rng(1).normal(size=along.shape)
    direction: Array = along / np.linalg.norm(along) + 0.7 * generic / np.linalg.norm(generic)
    return direction / np.linalg.norm(direction)


def _compare(what: str, found: float, expected: float, tolerance: float, unit: str) -> None:
    message = f"the {what} is {found:.5f} {unit} along a direction, but −dE there is {expected:.5f} {unit}"
    require(abs(found - expected) < tolerance, message)
