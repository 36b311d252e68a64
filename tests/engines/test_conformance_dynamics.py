"""The conformance test of relaxations and dynamics accepts a sound engine, and finds what is wrong with others."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from al_driver.data.frames import Label, read_frames, write_frames
from al_driver.engines.base import Calculation, Dynamics, Engine, Relaxation
from al_driver.engines.motion import draw_velocities
from al_driver.engines.testing import check_dynamics, check_engine, check_relaxation
from al_driver.errors import EngineError


class Mover(Engine):
    """Somebody's engine that relaxes and moves; its program is EMT, run by `run_mover`."""

    can: ClassVar[frozenset[Calculation]] = frozenset({"label", "relax", "aimd"})
    engine: Literal["mover"] = "mover"
    shift: float = 0.0
    fault: str = ""
    default_command: ClassVar[str] = "mover"

    def _write(self, atoms: Atoms, directory: Path, **task: Any) -> None:
        write_frames(directory / "frame.extxyz", [atoms])
        (directory / "task.json").write_text(json.dumps(task))

    def write_inputs(self, atoms: Atoms, directory: Path) -> None:
        self._write(atoms, directory)

    def write_relaxation(self, atoms: Atoms, relaxation: Relaxation, directory: Path) -> None:
        self._write(atoms, directory, relax=asdict(relaxation))

    def write_dynamics(self, atoms: Atoms, dynamics: Dynamics, directory: Path) -> None:
        self._write(atoms, directory, move=asdict(dynamics))

    def arguments(self) -> tuple[str, ...]:
        return ()

    def is_complete(self, directory: Path) -> bool:
        path = directory / "result.json"
        return path.exists() and (self.fault == "halves" or path.read_text().endswith("}\n"))

    def set_by_driver(self, calculation: Calculation = "label") -> tuple[str, ...]:
        return ("",) if self.fault == "words" and calculation == "aimd" else (calculation,)

    def _read(self, directory: Path) -> dict[str, Label]:
        if not self.is_complete(directory):
            raise EngineError("no_output", directory, "no result")
        path = directory / "result.json"
        if not path.read_text().endswith("}\n"):
            return {}
        atoms, info = read_frames(directory / "frame.extxyz")[0], {"program": "EMT", "version": "1"}
        return {
            step: Label(
                Atoms(atoms.numbers, row["positions"], cell=row["cell"], pbc=atoms.pbc),
                row["energy"] + self.shift, np.array(row["forces"]), np.array(row["virial"]), info,
            )
            for step, row in json.loads(path.read_text()).items()
        }  # fmt: skip

    def read_label(self, directory: Path) -> Label:
        return self._read(directory)["0"]

    def read_relaxation(self, directory: Path, relaxation: Relaxation) -> Label:
        label = self._read(directory)["0"]
        stress = float(np.abs(label.virial).max()) / len(label.atoms) if relaxation.what == "cell" else 0.0
        largest = max(float(np.linalg.norm(label.forces, axis=1).max()), stress)
        if self.fault not in {"limits", "one step"} and largest > relaxation.max_force:
            raise EngineError("engine_error", directory, "not relaxed")
        return label

    def read_dynamics(self, directory: Path, dynamics: Dynamics) -> list[tuple[int, Label | EngineError]]:
        labels = self._read(directory)
        if self.fault == "halves" and not labels:
            sent = read_frames(directory / "frame.extxyz")[0]
            return [(step, Label(sent, 0.0, np.zeros((4, 3)))) for step in dynamics.steps]
        if self.fault == "a frame is missing":
            labels["2"] = EngineError("not_finite", directory, "nan")  # type: ignore[assignment]
        steps = range(dynamics.every, dynamics.n_steps) if self.fault == "steps" else dynamics.steps
        return [(step, labels[str(step)]) for step in steps]


def evaluate(atoms: Atoms) -> dict[str, Any]:
    atoms = atoms.copy()
    atoms.calc = EMT()
    return {
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces().tolist(),
        "virial": (-atoms.get_volume() * atoms.get_stress(voigt=False)).tolist(),
    }


def relax(atoms: Atoms, task: dict[str, Any], fault: str) -> dict[str, Any]:
    start = atoms.copy()
    atoms.calc = EMT()
    moves_cell = task["what"] == "cell" if fault != "cell" else task["what"] == "positions"
    target = FrechetCellFilter(atoms) if moves_cell else atoms
    if fault != "limits" or task["max_steps"] > 1:
        BFGS(target, logfile=None).run(fmax=0.002 if fault != "limits" else 0.3, steps=task["max_steps"])
    result = evaluate(atoms)
    if fault == "higher":
        start.rattle(0.2, seed=1)
        result = evaluate(start) | {"forces": [[0, 0, 0]] * 4, "virial": [[0, 0, 0]] * 3}
    if fault == "elements":
        result["positions"][:2] = result["positions"][1::-1]
    return result


def move(atoms: Atoms, task: dict[str, Any], fault: str) -> dict[str, dict[str, Any]]:
    dynamics = Dynamics(**task)
    seed = {"unseeded": np.random.default_rng().integers(2**31), "one seed": 1}.get(fault, dynamics.seed)
    velocities = draw_velocities(atoms, Dynamics(**(task | {"seed": int(seed)}))) / (1000 * units.fs)
    velocities = velocities * 3 if fault == "hot" else velocities + 0.02 if fault == "drift" else velocities
    time, masses = dynamics.timestep * 1000 * units.fs, atoms.get_masses()[:, None]
    rows = [evaluate(atoms)]
    for _ in range(dynamics.n_steps):
        forces = np.array(rows[-1]["forces"])
        atoms.positions += time * velocities + 0.5 * time**2 * forces / masses
        rows.append(evaluate(atoms))
        velocities = velocities + 0.5 * time * (forces + np.array(rows[-1]["forces"])) / masses
    if fault == "pairing":
        rows = [row | {"forces": before["forces"]} for before, row in zip(rows[:1] + rows, rows, strict=False)]
    if fault == "wrapped":
        for row in rows:
            row["positions"] = (np.array(row["positions"]) + atoms.cell.array[0]).tolist()
    return {str(step): row for step, row in enumerate(rows)}


def run_mover(engine: Engine, directory: Path) -> None:
    task, fault = json.loads((directory / "task.json").read_text()), getattr(engine, "fault", "")
    atoms = read_frames(directory / "frame.extxyz")[0]
    if "relax" in task:
        result = {"0": relax(atoms, task["relax"], fault)}
    elif "move" in task:
        result = move(atoms, task["move"], fault)
    else:
        result = {"0": evaluate(atoms)}
    (directory / "result.json").write_text(json.dumps(result) + "\n")


@pytest.fixture
def alloy() -> Atoms:
    """Return a strained stack of four metals, near its minimum."""
    positions = [(0, 0, 0), (1.4, 1.4, 2.0), (0, 0, 4.0), (1.4, 1.4, 6.0)]
    atoms = Atoms("CuAuAgPd", positions, cell=[2.8, 2.8, 8.0], pbc=True)
    atoms.set_cell(atoms.cell.array @ [[1.03, 0.05, 0.02], [0, 0.98, 0.06], [0.03, 0, 1.02]], scale_atoms=True)
    atoms.rattle(0.05, seed=0)
    return atoms


def test_a_sound_engine_passes(alloy: Atoms, tmp_path: Path) -> None:
    check_engine(Mover(), alloy, tmp_path, changed={"shift": 1.0}, run=run_mover, step=1e-3, strain=1e-3)
    ran = {path.name for path in tmp_path.iterdir()}
    assert {"frame", "relax", "aimd"} <= ran
    label = check_relaxation(Mover(), alloy, tmp_path / "more", what="positions", run=run_mover)
    assert np.array_equal(label.atoms.cell.array, alloy.cell.array)


def test_what_is_proven_may_be_chosen(alloy: Atoms, tmp_path: Path) -> None:
    keys = {"changed": {"shift": 1.0}, "run": run_mover, "step": 1e-3, "strain": 1e-3}
    check_engine(Mover(), alloy, tmp_path, calculations=("aimd",), **keys)
    assert (tmp_path / "aimd").exists() and not (tmp_path / "relax").exists()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("higher", "the energy rose from"),
        ("elements", "the relaxed structure differs from a label of its own by"),
        ("limits", "relaxed to 0.05, but a label of its own has 0."),
        ("cell", "not relaxed"),
        ("one step", "a relaxation of one step is read as if it had reached its limits"),
    ],
)
def test_a_faulty_relaxation_is_found(fault: str, words: str, alloy: Atoms, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, EngineError)) as caught:
        check_relaxation(Mover(fault=fault), alloy, tmp_path, run=run_mover)
    assert words in str(caught.value)


def test_a_relaxation_of_positions_that_moves_the_cell_is_found(alloy: Atoms, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="positions were relaxed, but the cell changed by"):
        check_relaxation(Mover(fault="cell"), alloy, tmp_path, what="positions", run=run_mover)


def test_a_structure_that_is_relaxed_already_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="the structure is relaxed already, and proves nothing; strain it"):
        check_relaxation(Mover(), bulk("Cu", a=3.59) * (1, 1, 2), tmp_path, max_force=1.0, run=run_mover)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("steps", "frames of the steps [1, 2] were read, [1, 2, 3] were asked for"),
        ("a frame is missing", "frames without a label: ['step 2: not_finite"),
        ("pairing", "the frame of step 3 differs from a label of its own by"),
        ("unseeded", "two runs with one seed differ by"),
        ("one seed", "two seeds give the same trajectory, to 0.0e+00 Å"),
        ("hot", "the first step has 2700 K; 300 K were asked for"),
        ("drift", "the centre of mass moves by"),
        ("wrapped", "positions jump in the first step"),
        ("halves", "half of result.json is read as a label"),
    ],
)
def test_faulty_dynamics_are_found(fault: str, words: str, alloy: Atoms, tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as caught:
        check_dynamics(Mover(fault=fault), alloy, tmp_path, run=run_mover)
    assert words in str(caught.value)


def test_words_are_asked_for_each_calculation(alloy: Atoms, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"set_by_driver\('aimd'\) says no words"):
        check_engine(Mover(fault="words"), alloy, tmp_path, changed={"shift": 1.0}, run=run_mover)
