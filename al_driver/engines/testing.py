"""The conformance test that every reference engine passes, ours and those of outside packages.

A plugin author writes one test, with a frame that a calculation takes about a second for::

    from al_driver.engines.testing import check_engine

    def test_my_engine_conforms(tmp_path):
        atoms = bulk("Si")  # triclinic, and without symmetry:
        atoms.set_cell(atoms.cell @ [[1.02, 0.01, 0.02], [0, 0.99, 0.03], [0, 0, 1.01]], scale_atoms=True)
        atoms.rattle(0.08)
        check_engine(MyEngine(engine="mine", cutoff=400.0), atoms, tmp_path, changed={"cutoff": 500.0})

It runs the real program six times and raises `AssertionError` at the first promise that is not kept. Energies
of two different structures are compared, so the settings must be tight enough for that: well converged, and with a
cutoff at which the number of basis functions no longer matters. eV, eV/Å, Å.
"""

import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from al_driver.data.frames import Array, Label
from al_driver.data.gate import GateLimits, check_label
from al_driver.engines.base import Engine
from al_driver.errors import EngineError
from al_driver.jobs.processes import child_environment, find_program
from al_driver.schema.plugins import plugin_name

Run = Callable[[Engine, Path], None]
"""Runs an engine's program in a folder that holds its inputs, and leaves stdout and stderr in ``output_name``."""
_Calculate = Callable[[str, Atoms], Label]
_MAX_FILES = 4


def run_engine(engine: Engine, directory: Path) -> None:
    """Run the engine's default command, found on the PATH or beside this Python, on one thread."""
    argv = engine.command(tuple(shlex.split(engine.default_command)))
    program = find_program(argv[0])
    _require(program is not None, f"program {argv[0]!r} is not installed")
    with (directory / engine.output_name).open("wb") as output:
        env = child_environment({"OMP_NUM_THREADS": "1"})
        subprocess.run(
            (str(program), *argv[1:]), cwd=directory, stdout=output, stderr=subprocess.STDOUT, env=env, check=False
        )


def check_engine(
    engine: Engine,
    atoms: Atoms,
    directory: Path,
    *,
    changed: Mapping[str, Any],
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

    def calculate(name: str, frame: Atoms) -> Label:
        return _calculate(engine, frame, directory / name, run)

    label = calculate("frame", atoms)
    check_refusals(engine, directory / "frame", label)
    _check_invariance(calculate, atoms, label, energy_tolerance, force_tolerance)
    _check_forces(calculate, atoms, label, step, force_tolerance)
    if atoms.pbc.all():
        _check_virial(calculate, atoms, label, strain, virial_tolerance)
    else:
        _require(label.virial is None, "a frame that is not periodic in three directions has a virial")
    return label


def check_parameters(engine: Engine, atoms: Atoms, changed: Mapping[str, Any]) -> None:
    """Prove what needs no program: name, JSON, identity, what is said to the user."""
    kind, symbols = type(engine), list(dict.fromkeys(atoms.get_chemical_symbols()))
    _require(plugin_name(kind, "engine") == getattr(engine, "engine", None), "the key `engine` does not hold the name")
    problems = [str(problem) for problem in engine.check(symbols) if problem.severity == "error"]
    _require(not problems, f"check() finds problems: {problems}")
    dump = engine.model_dump(mode="json")
    _require(kind.model_validate(dump) == engine, "model_validate(model_dump()) gives another engine")
    _require(engine.identity() == kind.model_validate(dump).identity(), "two equal engines have two identities")
    other = kind.model_validate({**dump, **changed})
    _require(other.identity() != engine.identity(), f"{dict(changed)} does not change the identity")
    words = engine.set_by_driver()
    _require(isinstance(words, tuple) and all(isinstance(w, str) and w for w in words), "set_by_driver() says no words")
    _require(engine.command(("x",)) == engine.command(("x",)), "command() changes from call to call")


def check_refusals(engine: Engine, folder: Path, label: Label) -> None:
    """Prove that half a result is never taken for a whole one: each file the program wrote is cut in two, in turn."""
    inputs = folder.with_name("inputs")
    inputs.mkdir()
    engine.write_inputs(label.atoms, inputs)
    made = [path for path in _files(folder) if not (inputs / path.relative_to(folder)).exists()]
    _require(bool(made), "the program wrote no file")
    for path in made:
        broken = folder.with_name("broken")
        shutil.copytree(folder, broken)
        data = path.read_bytes()
        (broken / path.relative_to(folder)).write_bytes(data[: len(data) // 2])
        try:
            read = engine.read_label(broken)
        except EngineError:
            read = None
        except Exception as error:
            raise AssertionError(f"half of {path.name} raises {error!r}, not EngineError") from error
        same = read is None or (read.energy == label.energy and np.array_equal(read.forces, label.forces))
        _require(same or not engine.is_complete(broken), f"half of {path.name} is read as a label")
        shutil.rmtree(broken)


def _calculate(engine: Engine, atoms: Atoms, folder: Path, run: Run) -> Label:
    """Run one calculation; its folder moves twice on the way, as an attempt's does when it is published."""
    written, moved = folder.with_name(f"{folder.name}.written"), folder.with_name(f"{folder.name}.moved")
    written.mkdir(parents=True)
    engine.write_inputs(atoms, written)
    _require(not engine.is_complete(written), "is_complete() is true before the program ran")
    try:
        engine.read_label(written)
    except EngineError as error:
        _require(error.where == written, f"the error names {error.where}, not the folder it is about")
    else:
        raise AssertionError("read_label() gives a label before the program ran")
    written.rename(moved)
    run(engine, moved)
    for pattern in engine.scratch:
        for path in moved.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    moved.rename(folder)
    files = _files(folder)
    _require(len(files) <= _MAX_FILES, f"{len(files)} files are left: {[path.name for path in files]}")
    label = engine.read_label(folder)
    _require(engine.is_complete(folder), "is_complete() is false after the program ran to its end")
    check_label(atoms, label, folder, GateLimits())
    _require((label.atoms.pbc == atoms.pbc).all(), f"the frame came back with pbc {label.atoms.pbc}, not {atoms.pbc}")
    _require(all(label.info.get(key) for key in ("program", "version")), "info lacks `program` or `version`")
    return label


def _check_invariance(calculate: _Calculate, atoms: Atoms, label: Label, energy: float, force: float) -> None:
    """Shift all atoms, and number them anew: the energy stays, the forces follow their atoms."""
    order = np.random.default_rng(0).permutation(len(atoms))
    other = atoms[order]
    other.positions += (0.11, 0.07, -0.05)
    again = calculate("permuted", other)
    change = abs(again.energy - label.energy)
    _require(change < energy, f"energy changes by {change:.2e} eV when atoms are shifted and numbered anew")
    worst = float(np.abs(again.forces - label.forces[order]).max())
    _require(worst < force, f"forces change by {worst:.2e} eV/Å when atoms are shifted and numbered anew")


def _check_forces(calculate: _Calculate, atoms: Atoms, label: Label, step: float, tolerance: float) -> None:
    _require(
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
    _require(bool((angles > 1).all()), "the cell is not triclinic, so that its virial proves little; strain it")
    _require(label.virial is not None, "a frame that is periodic in three directions has no virial")
    virial = np.asarray(label.virial)
    _require(virial.shape == (3, 3), f"the virial has the shape {virial.shape}")
    skew = float(np.abs(virial - virial.T).max())
    _require(skew < tolerance, f"the virial is not symmetric: {skew:.2e} eV")
    _require(np.abs(virial).max() > 20 * tolerance, "the virial of this frame is too small to test; strain the cell")
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
    _require(abs(found - expected) < tolerance, message)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def _require(condition: bool | np.bool_, message: str) -> None:
    if not condition:
        raise AssertionError(message)
