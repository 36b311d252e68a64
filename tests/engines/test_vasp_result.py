"""What is read of VASP: in the order that was sent, in full precision; and why there is no label."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import vasp_path  # noqa: F401
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from vasp_case import INCAR, make_engine, run_standin

from al_driver.data.frames import Label
from al_driver.engines.base import Dynamics, Relaxation
from al_driver.engines.vasp import Vasp
from al_driver.errors import EngineError

SHORT = Dynamics(400.0, 4, 0.002, 2, 0.1, seed=1)


@pytest.fixture
def alloy() -> Atoms:
    """Atoms in a shuffled order, some outside the cell."""
    atoms = bulk("Cu", cubic=True, a=3.8)
    atoms.symbols = "CuAlCuAl"
    atoms.rattle(0.08, seed=2)
    atoms.positions[1] += atoms.cell.array[0]
    return atoms


def calculate(engine: Vasp, atoms: Atoms, folder: Path, fault: str = "") -> Label:
    folder.mkdir(exist_ok=True)
    engine.write_inputs(atoms, folder)
    run_standin(engine, folder, fault)
    return engine.read_label(folder)


def test_a_label_is_of_the_frame_that_was_sent(alloy: Atoms, tmp_path: Path) -> None:
    label = calculate(make_engine(tmp_path, ["Al", "Cu"]), alloy, tmp_path / "task")
    direct = alloy.copy()
    direct.calc = EMT()
    assert (label.atoms.positions == alloy.positions).all() and (label.atoms.numbers == alloy.numbers).all()
    assert np.abs(label.forces - direct.get_forces()).max() < 1e-6
    virial = -direct.get_stress(voigt=False) * direct.get_volume()
    assert label.virial == pytest.approx(virial, abs=1e-5)
    assert label.info == {"program": "vasp", "version": "6.4.2"}


def test_a_frame_without_its_stress_is_refused(alloy: Atoms, tmp_path: Path) -> None:
    engine, task = make_engine(tmp_path, ["Al", "Cu"]), tmp_path / "task"
    calculate(engine, alloy, task)
    outcar = task / "OUTCAR"
    outcar.write_text(outcar.read_text().replace("  in kB  ", "  in kb  "))
    with pytest.raises(EngineError, match="no_output: VASP printed no stress"):
        engine.read_label(task)


def test_a_slab_has_no_virial_and_keeps_its_directions(alloy: Atoms, tmp_path: Path) -> None:
    alloy.pbc = (True, True, False)
    label = calculate(make_engine(tmp_path, ["Al", "Cu"]), alloy, tmp_path / "task")
    assert label.virial is None and list(label.atoms.pbc) == [True, True, False]


def test_moments_come_back_in_the_order_that_was_sent(alloy: Atoms, tmp_path: Path) -> None:
    alloy.set_initial_magnetic_moments([1.0, 2.0, 3.0, -4.0])
    label = calculate(make_engine(tmp_path, ["Al", "Cu"], INCAR + "ISPIN = 2\n"), alloy, tmp_path / "task")
    assert label.info["magmoms"] == pytest.approx([0.95, 1.9, 2.85, -3.8])
    plain = calculate(make_engine(tmp_path, ["Al", "Cu"], INCAR + "ISPIN = 1\n"), alloy, tmp_path / "plain")
    assert "magmoms" not in plain.info
    assert label.energy - plain.energy == pytest.approx(-0.01 * 30, abs=1e-6)


def test_each_frame_of_dynamics_has_its_moments(alloy: Atoms, tmp_path: Path) -> None:
    alloy.set_initial_magnetic_moments([1.0, 2.0, 3.0, -4.0])
    engine = make_engine(tmp_path, ["Al", "Cu"], INCAR + "ISPIN = 2\n")
    engine.write_dynamics(alloy, SHORT, tmp_path)
    assert run_standin(engine, tmp_path) == 0
    outcar = tmp_path / "OUTCAR"
    first, last = "   0.950   0.950", "   0.750   0.750"
    text = outcar.read_text()
    assert text.count(first) == 5
    outcar.write_text(last.join(text.rsplit(first, 1)))  # of the last frame alone
    (_, second), (_, fourth) = engine.read_dynamics(tmp_path, SHORT)
    assert isinstance(second, Label) and isinstance(fourth, Label)
    assert second.info["magmoms"] == pytest.approx([0.95, 1.9, 2.85, -3.8])
    assert fourth.info["magmoms"] == pytest.approx([0.75, 1.9, 2.85, -3.8])


def test_one_that_hangs_gives_no_label(alloy: Atoms, tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Al", "Cu"])
    engine.write_inputs(alloy, tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        run_standin(engine, tmp_path, "hang", timeout=5)
    assert not engine.is_complete(tmp_path)
    with pytest.raises(EngineError, match="no_output: VASP wrote neither"):
        engine.read_label(tmp_path)


@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        ("unconverged", "scf_unconverged", "120 electronic steps, and NELM is 120"),
        ("crash", "engine_error", "it said: internal error in: mpi.F"),
        ("garbage", "no_output", "the OUTCAR cannot be read"),
        ("silent", "no_output", "VASP wrote neither OUTCAR nor vasprun.xml"),
        ("moved", "positions_changed", "came back"),
    ],
)
def test_each_failure_has_its_reason(alloy: Atoms, tmp_path: Path, fault: str, reason: str, words: str) -> None:
    engine = make_engine(tmp_path, ["Al", "Cu"])
    with pytest.raises(EngineError) as caught:
        calculate(engine, alloy, tmp_path / "task", fault)
    assert caught.value.reason == reason and words in caught.value.detail
    assert caught.value.where == tmp_path / "task"


def test_what_vasp_refuses_is_told(alloy: Atoms, tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Al", "Cu"])
    engine.write_inputs(alloy, tmp_path)
    (tmp_path / "KPOINTS").unlink()
    run_standin(engine, tmp_path)
    with pytest.raises(
        EngineError,
        match=r"engine_error: VASP wrote neither OUTCAR nor vasprun.xml; it said: ERROR: open of file KPOINTS failed",
    ):
        engine.read_label(tmp_path)
    assert not engine.is_complete(tmp_path)


def damage(outcar: Path, how: str) -> None:
    content = outcar.read_bytes()
    if how == "missing":
        outcar.unlink()
    elif how == "broken off":
        outcar.write_bytes(content[: len(content) // 2])
    else:  # its head is gone
        outcar.write_bytes(content[len(content) // 2 :])


@pytest.mark.parametrize("how", ["missing", "broken off", "damaged"])
def test_a_label_is_read_of_the_vasprun_where_the_outcar_does_not_serve(alloy: Atoms, tmp_path: Path, how: str) -> None:
    engine, folder = make_engine(tmp_path, ["Al", "Cu"]), tmp_path / "task"
    label = calculate(engine, alloy, folder)
    damage(folder / "OUTCAR", how)
    again = engine.read_label(folder)
    assert engine.is_complete(folder) and folder / "vasprun.xml" not in engine.find_scratch(folder)
    assert (again.atoms.positions == alloy.positions).all() and (again.atoms.numbers == alloy.numbers).all()
    assert again.energy == pytest.approx(label.energy, abs=1e-7) and again.info == label.info
    assert np.abs(again.forces - label.forces).max() < 1e-6 and again.virial == pytest.approx(label.virial, abs=1e-5)
    (folder / "vasprun.xml").write_bytes((folder / "vasprun.xml").read_bytes()[:-20])  # neither serves
    with pytest.raises(EngineError):
        engine.read_label(folder)
    assert not engine.is_complete(folder) or how == "damaged"


def test_moments_that_only_the_outcar_told_are_known_to_be_unknown(alloy: Atoms, tmp_path: Path) -> None:
    alloy.set_initial_magnetic_moments([1.0, 2.0, 3.0, -4.0])
    engine = make_engine(tmp_path, ["Al", "Cu"], INCAR + "ISPIN = 2\n")
    label = calculate(engine, alloy, tmp_path / "task")
    damage(tmp_path / "task/OUTCAR", "broken off")
    again = engine.read_label(tmp_path / "task")
    assert again.energy == pytest.approx(label.energy, abs=1e-7)
    assert label.info["magmoms"] is not None and again.info == label.info | {"magmoms": None}


def test_a_vasprun_is_held_to_the_same(alloy: Atoms, tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Al", "Cu"])
    for fault, reason in (("unconverged", "scf_unconverged"), ("moved", "positions_changed")):
        folder = tmp_path / fault
        folder.mkdir()
        engine.write_inputs(alloy, folder)
        run_standin(engine, folder, fault)
        (folder / "OUTCAR").unlink()
        with pytest.raises(EngineError, match=reason):
            engine.read_label(folder)


def test_relaxation_and_dynamics_are_read_of_a_vasprun_too(alloy: Atoms, tmp_path: Path) -> None:
    engine, relaxation = make_engine(tmp_path, ["Al", "Cu"]), Relaxation("cell", 0.05, 300)
    relaxing, moving = tmp_path / "relax", tmp_path / "move"
    relaxing.mkdir()
    moving.mkdir()
    engine.write_relaxation(alloy, relaxation, relaxing)
    engine.write_dynamics(alloy, SHORT, moving)
    assert run_standin(engine, relaxing) == run_standin(engine, moving) == 0
    relaxed, moved = engine.read_relaxation(relaxing, relaxation), engine.read_dynamics(moving, SHORT)
    for folder in (relaxing, moving):
        (folder / "OUTCAR").unlink()
    again = engine.read_relaxation(relaxing, relaxation)
    assert again.atoms.positions == pytest.approx(relaxed.atoms.positions, abs=2e-5)
    assert again.atoms.cell.array == pytest.approx(relaxed.atoms.cell.array, abs=1e-7)
    for (step, one), (other, two) in zip(moved, engine.read_dynamics(moving, SHORT), strict=True):
        assert isinstance(one, Label) and isinstance(two, Label) and step == other
        assert two.atoms.positions == pytest.approx(one.atoms.positions, abs=1e-5)  # unwrapped, too
        assert two.forces == pytest.approx(one.forces, abs=1e-6)


def test_an_outcar_of_other_elements_is_refused(alloy: Atoms, tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Al", "Cu"])
    calculate(engine, alloy, tmp_path / "task")
    outcar = tmp_path / "task/OUTCAR"
    text = outcar.read_text()
    swapped = (
        text.replace("PAW_PBE Al", "PAW_PBE XX").replace("PAW_PBE Cu", "PAW_PBE Al").replace("PAW_PBE XX", "PAW_PBE Cu")
    )
    outcar.write_text(swapped)
    with pytest.raises(
        EngineError, match=r"species_mismatch: atom 0 \(Cu\) came back where atom 0 \(Al\) was sent; 4 atoms"
    ):
        engine.read_label(tmp_path / "task")


def test_a_relaxation_must_keep_its_limits(alloy: Atoms, tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Al", "Cu"])
    for name, most in (("long", 300), ("short", 2)):
        relaxation, folder = Relaxation("cell", 0.05, most), tmp_path / name
        folder.mkdir()
        engine.write_relaxation(alloy, relaxation, folder)
        assert run_standin(engine, folder) == 0
        if name == "long":
            label = engine.read_relaxation(folder, relaxation)
            assert np.linalg.norm(label.forces, axis=1).max() < 0.05
            assert label.atoms.get_chemical_symbols() == ["Cu", "Al", "Cu", "Al"]
            assert label.atoms.positions[1, 0] > 3.5  # where it was sent, not wrapped
        else:
            with pytest.raises(
                EngineError, match=r"engine_error: not relaxed after 2 steps: the .*; max_force is 0.05"
            ):
                engine.read_relaxation(folder, relaxation)


def test_frames_of_dynamics_are_checked_one_by_one(alloy: Atoms, tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Al", "Cu"])
    for name in ("", "unconverged 3", "killed 3"):
        folder = tmp_path / f"run {name}"
        folder.mkdir()
        engine.write_dynamics(alloy, SHORT, folder)
        run_standin(engine, folder, name)
        if name == "killed 3":
            with pytest.raises(EngineError, match="no_output: VASP calculated 3 steps, not 5"):
                engine.read_dynamics(folder, SHORT)
            continue
        (first, one), (second, two) = engine.read_dynamics(folder, SHORT)
        assert (first, second) == (2, 4)
        assert isinstance(two, Label) and np.abs(two.atoms.positions - alloy.positions).max() < 0.3
        if name:
            assert isinstance(one, EngineError) and (one.reason, one.where) == ("scf_unconverged", folder)
        else:
            assert isinstance(one, Label)
            own = calculate(engine, one.atoms, tmp_path / "own")
            assert np.abs(own.forces - one.forces).max() < 1e-3
