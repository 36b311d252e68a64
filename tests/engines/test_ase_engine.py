"""Any ASE calculator as a reference: it keeps the promises of an engine, and says in words what went wrong."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from pydantic import ValidationError

import al_driver
from al_driver.data.frames import read_frames
from al_driver.engines.ase import AseEngine
from al_driver.engines.base import Dynamics, Relaxation
from al_driver.engines.lammps import potentials_dir
from al_driver.engines.testing import check_engine, run_engine
from al_driver.errors import ConfigError, EngineError

EMT_ENGINE = {"engine": "ase", "calculator": "ase.calculators.emt.EMT"}
CHGNET = {"engine": "ase", "calculator": "chgnet.model.dynamics.CHGNetCalculator", "arguments": {"use_device": "cpu"}}
SEVENNET = {"engine": "ase", "calculator": "sevenn.calculator.SevenNetCalculator", "arguments": {"device": "cpu"}}
TBLITE = {"engine": "ase", "calculator": "tblite.ase.TBLite", "arguments": {"method": "GFN1-xTB", "accuracy": 0.1}}
MODULE = """
from pathlib import Path
from ase.calculators.emt import EMT

class Faulty(EMT):
    calls = 0
    def __init__(self, fault="", after=0):
        super().__init__()
        self.fault, self.after = fault, after
    def calculate(self, *args):
        super().calculate(*args)
        Faulty.calls += 1
        self.results["magmoms"] = self.atoms.get_initial_magnetic_moments()
        Path("wave.save").mkdir(exist_ok=True)
        Path("wave.save/data").write_text("x")
        Path("log.txt").write_text("evidence")
        if Faulty.calls > self.after:
            if self.fault == "scf":
                raise RuntimeError("SCF did not converge in 60 cycles")
            if self.fault == "nan":
                self.results["forces"][0] = float("nan")
            if self.fault == "silent":
                self.converged = False
            if self.fault == "exit":
                raise SystemExit(1)
            if self.fault == "plain":
                del self.results["free_energy"], self.results["stress"]
"""


def make_engine(content: dict[str, Any], **keys: Any) -> AseEngine:
    return AseEngine.model_validate(content | keys)


def generic(atoms: Atoms) -> Atoms:
    """Take every symmetry from a crystal."""
    strain = np.random.default_rng(5).normal(scale=0.03, size=(3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    atoms.positions += np.random.default_rng(6).normal(scale=0.1, size=(len(atoms), 3))
    return atoms


def make_alloy() -> Atoms:
    atoms = bulk("Cu", cubic=True, a=3.75)
    atoms.symbols[[0, 2]] = "Al"
    return generic(atoms)


def make_oxide() -> Atoms:
    """Return LiNiO₂, one formula unit of R-3m, distorted."""
    cell = np.array([[1.44, 0.831, 4.73], [-1.44, 0.831, 4.73], [0, -1.663, 4.73]])
    atoms = Atoms("NiOLiO", scaled_positions=[[0] * 3, [0.24] * 3, [0.5] * 3, [0.76] * 3], cell=cell, pbc=True)
    return generic(atoms)


@pytest.fixture
def faulty(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "my_calculator.py"
    path.write_text(MODULE)
    return {"engine": "ase", "calculator": "Faulty", "module": str(path)}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def test_emt_conforms(tmp_path: Path) -> None:
    changed = {"calculator": "ase.calculators.morse.MorsePotential"}
    exact = {"energy_tolerance": 1e-9, "force_tolerance": 1e-5, "virial_tolerance": 1e-4}
    label = check_engine(
        make_engine(EMT_ENGINE), make_alloy(), tmp_path, changed=changed, step=1e-4, strain=1e-4, **exact
    )
    direct = make_alloy()
    direct.calc = EMT()
    assert label.energy == direct.get_potential_energy(force_consistent=True)
    assert np.array_equal(label.forces, direct.get_forces())
    assert np.array_equal(label.atoms.positions, direct.positions)


@pytest.mark.needs("lmp")
def test_tersoff_from_a_file_conforms_and_is_what_the_file_holds(tmp_path: Path) -> None:
    folder = potentials_dir()
    assert folder is not None
    potential = tmp_path / "here.tersoff"
    potential.write_bytes((folder / "SiC_Erhart-Albe.tersoff").read_bytes())
    content = {"engine": "ase", "calculator": "ase.calculators.tersoff.Tersoff.from_lammps"}
    engine = make_engine(content, files={"potential_file": str(potential)})
    exact = {"energy_tolerance": 1e-9, "force_tolerance": 1e-5, "virial_tolerance": 1e-4}
    atoms = generic(bulk("SiC", "zincblende", a=4.4))
    check_engine(engine, atoms, tmp_path / "work", changed={"keywords": {"skin": 0.4}}, step=1e-4, strain=1e-4, **exact)
    moved = potential.rename(tmp_path / "there.tersoff")
    other = make_engine(content, files={"potential_file": str(moved)})
    assert other.identity() == engine.model_copy(update={"files": {"potential_file": moved}}).identity()
    before = other.identity()
    moved.write_text(moved.read_text() + "\n# another\n")
    assert other.identity() != before


@pytest.mark.long
@pytest.mark.needs("module:tblite")
def test_tight_binding_conforms(tmp_path: Path) -> None:
    check_engine(
        make_engine(TBLITE), generic(bulk("LiF", "rocksalt", a=4.0, cubic=True)), tmp_path, changed={"keywords": {}}
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("content", "changed"),
    [
        pytest.param(CHGNET, {"keywords": {"stress_weight": 0.1}}, marks=pytest.mark.needs("module:chgnet")),
        pytest.param(SEVENNET, {"keywords": {"model": "7net-l3i5"}}, marks=pytest.mark.needs("module:sevenn")),
    ],
)
def test_universal_potentials_conform(content: dict[str, Any], changed: dict[str, Any], tmp_path: Path) -> None:
    """In float32, and CHGNet's energy is far from a parabola: 5e-3 of strain give a slope that is off by 2 %.

    Relaxation and dynamics are the program's own, whatever calculates; those of EMT, Tersoff and tight binding conform.
    """
    loose = {"force_tolerance": 5e-3, "strain": 0.002}
    label = check_engine(make_engine(content), make_oxide(), tmp_path, changed=changed, calculations=(), **loose)
    assert ("magmoms" in label.info) == (label.info["program"] == "chgnet")


def test_a_molecule_has_no_virial(work: Path) -> None:
    engine = make_engine(EMT_ENGINE)
    engine.write_inputs(molecule("CO"), work)
    run_engine(engine, work)
    label = engine.read_label(work)
    assert label.virial is None and not label.atoms.pbc.any()


def test_a_calculator_of_ones_own_leaves_no_file_and_starts_from_moments(faulty: dict[str, Any], work: Path) -> None:
    engine = make_engine(faulty, arguments={"fault": "plain"}, magmoms={"Cu": 2.0})
    engine.write_inputs(make_alloy(), work)
    run_engine(engine, work)
    label = engine.read_label(work)
    assert sorted(path.name for path in work.iterdir()) == ["calculation.json", "output", "result.jsonl"]
    assert label.info == {"program": "my_calculator", "version": "unknown", "magmoms": [0, 2, 0, 2]}
    assert label.virial is None and not label.atoms.has("initial_magmoms")
    direct = make_alloy()
    direct.calc = EMT()
    assert label.energy == direct.get_potential_energy()


def test_a_structure_brings_its_own_moments(faulty: dict[str, Any], work: Path) -> None:
    atoms = make_alloy()
    atoms.set_initial_magnetic_moments([1.0, -1.0, 0.5, 0.0])
    atoms.set_tags([0, 1, 1, 0])
    engine = make_engine(faulty, magmoms={"Cu": 2.0})
    engine.write_inputs(atoms, work)
    run_engine(engine, work)
    label = engine.read_label(work)
    assert label.info["magmoms"] == [1.0, -1.0, 0.5, 0.0]  # what the calculator saw
    assert label.atoms.get_initial_magnetic_moments().tolist() == [1.0, -1.0, 0.5, 0.0]
    assert label.atoms.get_tags().tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        ("scf", "scf_unconverged", "RuntimeError: SCF did not converge in 60 cycles"),
        ("silent", "scf_unconverged", "says that it did not converge"),
        ("nan", "not_finite", "not a finite number"),
        ("exit", "no_output", "did not reach its end"),
    ],
)
def test_a_calculation_that_failed_is_told_in_words(
    fault: str, reason: str, words: str, faulty: dict[str, Any], work: Path
) -> None:
    engine = make_engine(faulty, arguments={"fault": fault})
    engine.write_inputs(make_alloy(), work)
    run_engine(engine, work)
    with pytest.raises(EngineError, match=words) as caught:
        engine.read_label(work)
    assert caught.value.reason == reason
    assert (work / "calculator/log.txt").exists() or fault == "nan"  # evidence stays


WANDERER = """\
import os
import numpy as np
from ase.calculators.calculator import Calculator, all_changes

class Wanderer(Calculator):
    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        os.chdir({elsewhere!r})
        open("written_there", "w").close()
        if {fails}:
            raise RuntimeError("lost")
        vectors = np.zeros((len(self.atoms), 3))
        self.results = {{"energy": 1.0, "forces": vectors, "magmoms": vectors}}
"""


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_removed_where_a_calculator_has_wandered_to(fails: bool, work: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "folder").mkdir(parents=True)
    (elsewhere / "folder/file").write_text("precious")
    (tmp_path / "wanderer.py").write_text(WANDERER.format(elsewhere=str(elsewhere), fails=fails))
    engine = AseEngine(engine="ase", calculator="Wanderer", module=tmp_path / "wanderer.py")
    engine.write_inputs(make_alloy(), work)
    run_engine(engine, work)
    assert (elsewhere / "folder/file").read_text() == "precious"
    assert sorted(path.name for path in elsewhere.iterdir()) == ["folder", "written_there"]
    assert (work / "calculator").exists() == fails
    if fails:
        with pytest.raises(EngineError, match="lost"):
            engine.read_label(work)
    else:
        assert engine.read_label(work).energy == 1.0


@pytest.mark.needs("module:tblite")
def test_an_scf_that_did_not_converge_is_told_in_the_calculators_words(work: Path) -> None:
    engine = make_engine(TBLITE, arguments={"method": "GFN1-xTB", "max_iterations": 2})
    engine.write_inputs(generic(bulk("LiF", "rocksalt", a=4.0)), work)
    run_engine(engine, work)
    with pytest.raises(EngineError, match="SCF not converged in 2 cycles") as caught:
        engine.read_label(work)
    assert caught.value.reason == "scf_unconverged"


@pytest.mark.needs("module:tblite")
def test_with_smearing_the_energy_is_the_one_the_forces_derive_from(tmp_path: Path) -> None:
    """Aluminium with 0.2 eV: of the internal energy the finite difference would be half of this force."""
    arguments = {"method": "GFN1-xTB", "accuracy": 0.01, "electronic_temperature": 2321.0}
    engine, atoms, labels = make_engine(TBLITE, arguments=arguments), bulk("Al", cubic=True), {}
    atoms.rattle(0.1, seed=2)
    for step in (0.0, 0.005, -0.005):
        moved, folder = atoms.copy(), tmp_path / f"{step}"
        moved.positions[3, 2] += step
        folder.mkdir()
        engine.write_inputs(moved, folder)
        run_engine(engine, folder)
        labels[step] = engine.read_label(folder)
    force = labels[0.0].forces[3, 2]
    assert abs(force) > 1
    assert force == pytest.approx((labels[-0.005].energy - labels[0.005].energy) / 0.01, abs=1e-3)


@pytest.mark.parametrize("what", ["cell", "positions"])
def test_a_relaxation_ends_within_its_limits(what: Any, work: Path) -> None:
    engine, relaxation, atoms = make_engine(EMT_ENGINE), Relaxation(what, 0.001, 200), make_alloy()
    engine.write_relaxation(atoms, relaxation, work)
    run_engine(engine, work)
    label = engine.read_relaxation(work, relaxation)
    assert np.linalg.norm(label.forces, axis=1).max() < 0.001
    assert label.virial is not None
    assert (np.abs(label.virial).max() / 4 < 0.001) == (what == "cell")
    assert np.array_equal(label.atoms.cell.array, atoms.cell.array) == (what == "positions")
    found = label.atoms.copy()
    found.calc = EMT()
    assert found.get_potential_energy(force_consistent=True) == pytest.approx(label.energy, abs=1e-12)
    tighter = Relaxation(what, 1e-7, 200)
    with pytest.raises(
        EngineError, match=r"not relaxed: the largest force is .* in the end; max_force is 1e-07"
    ) as caught:
        engine.read_relaxation(work, tighter)
    assert caught.value.reason == "engine_error"


def test_a_relaxation_that_needs_more_steps_has_failed(work: Path) -> None:
    engine, relaxation = make_engine(EMT_ENGINE), Relaxation("cell", 0.001, 3)
    engine.write_relaxation(make_alloy(), relaxation, work)
    run_engine(engine, work)
    assert json.loads((work / "result.jsonl").read_text().splitlines()[-1])["steps"] == 3
    with pytest.raises(EngineError, match="max_steps 3"):
        engine.read_relaxation(work, relaxation)


def test_an_element_that_a_calculator_does_not_know_is_no_missing_stress(work: Path) -> None:
    engine, relaxation = make_engine(EMT_ENGINE), Relaxation("cell", 0.01, 20)
    engine.write_relaxation(bulk("Mg", "hcp", a=3.2, c=5.2), relaxation, work)
    run_engine(engine, work)
    with pytest.raises(EngineError, match="No EMT-potential for Mg"):
        engine.read_relaxation(work, relaxation)


def test_a_cell_is_not_relaxed_without_stress_or_vacuum(faulty: dict[str, Any], work: Path) -> None:
    relaxation = Relaxation("cell", 0.01, 20)
    with pytest.raises(ConfigError, match="has no cell to relax"):
        make_engine(EMT_ENGINE).write_relaxation(molecule("CO"), relaxation, work)
    engine = make_engine(faulty, arguments={"fault": "plain"})
    engine.write_relaxation(make_alloy(), relaxation, work)
    run_engine(engine, work)
    with pytest.raises(EngineError, match="gives no stress, without which a cell cannot be relaxed"):
        engine.read_relaxation(work, relaxation)


DYNAMICS = Dynamics(temperature=300.0, n_steps=20, timestep=0.002, every=5, tau_t=0.1, seed=7)


def test_dynamics_give_labelled_frames_that_follow_from_the_seed(tmp_path: Path) -> None:
    runs = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        engine, work, dynamics = make_engine(EMT_ENGINE), tmp_path / name, Dynamics(**vars(DYNAMICS) | {"seed": seed})
        work.mkdir()
        engine.write_dynamics(make_alloy(), dynamics, work)
        run_engine(engine, work)
        runs.append([(step, label) for step, label in engine.read_dynamics(work, dynamics)])
    assert [step for step, _ in runs[0]] == [5, 10, 15, 20]
    for (_, first), (_, second), (_, third) in zip(*runs, strict=True):
        assert not isinstance(first, EngineError) and not isinstance(second, EngineError)
        assert np.array_equal(first.atoms.positions, second.atoms.positions)
        assert not isinstance(third, EngineError) and not np.array_equal(first.atoms.positions, third.atoms.positions)
        direct = first.atoms.copy()
        direct.calc = EMT()
        assert np.allclose(first.forces, direct.get_forces(), atol=1e-12)
        assert first.virial is not None
        assert np.allclose(first.virial, -direct.get_volume() * direct.get_stress(voigt=False), atol=1e-10)


def test_dynamics_that_fail_on_the_way_keep_what_came_before(faulty: dict[str, Any], work: Path) -> None:
    engine = make_engine(faulty, arguments={"fault": "scf", "after": 13})  # the first call is step 0
    engine.write_dynamics(make_alloy(), DYNAMICS, work)
    run_engine(engine, work)
    frames = dict(engine.read_dynamics(work, DYNAMICS))
    assert [step for step, frame in frames.items() if not isinstance(frame, EngineError)] == [5, 10]
    wrong = frames[15]
    assert isinstance(wrong, EngineError) and wrong.reason == "scf_unconverged"
    assert wrong.detail == "RuntimeError: SCF did not converge in 60 cycles (after step 12)"
    never = make_engine(faulty, arguments={"fault": "scf"})
    never.write_dynamics(make_alloy(), DYNAMICS, work)
    (work / "result.jsonl").unlink()
    run_engine(never, work)
    with pytest.raises(EngineError, match="SCF did not converge"):
        never.read_dynamics(work, DYNAMICS)


def test_dynamics_that_were_killed_are_not_taken_for_whole(work: Path) -> None:
    engine = make_engine(EMT_ENGINE)
    engine.write_dynamics(make_alloy(), DYNAMICS, work)
    run_engine(engine, work)
    result = work / "result.jsonl"
    lines = result.read_text().splitlines(keepends=True)
    result.write_text("".join(lines[:2]) + lines[2][:100])
    assert not engine.is_complete(work)
    with pytest.raises(EngineError, match="did not reach its end") as caught:
        engine.read_dynamics(work, DYNAMICS)
    assert caught.value.reason == "no_output"
    result.write_text("".join([*lines[:2], *lines[3:]]))
    with pytest.raises(EngineError, match="1 of 4 frames are missing"):
        engine.read_dynamics(work, DYNAMICS)


def test_dynamics_of_one_atom_are_refused(work: Path) -> None:
    with pytest.raises(ConfigError, match="make a supercell"):
        make_engine(EMT_ENGINE).write_dynamics(bulk("Cu"), DYNAMICS, work)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"calculator": "chgnet.model.dynamics:CHGNetCalculator"}, "needs an import path: names with dots between"),
        ({"calculator": "EMT"}, 'names no module; write "package.module.EMT"'),
        ({"arguments": {"a": 1}, "files": {"a": "b"}}, "a stands in `arguments` and in `files`"),
        ({"magmoms": {"Xx": 1.0}}, "'Xx' is not an element"),
    ],
)
def test_keys_that_cannot_be_meant_are_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make_engine(EMT_ENGINE, **keys)
    assert words in str(caught.value)


def test_files_that_are_missing_are_found(tmp_path: Path) -> None:
    engine = make_engine(EMT_ENGINE, files={"potential": "nowhere"}, module=str(tmp_path / "none.py"), magmoms={"O": 1})
    keys = {problem.key: problem.severity for problem in engine.check(["Cu"])}
    assert keys == {"files.potential": "error", "module": "error", "magmoms": "warning"}
    assert list(engine.check_program((sys.executable,), {})) == []


@pytest.mark.parametrize(
    ("calculator", "arguments", "words"),
    [
        ("ase.calculators.emt.ETM", {}, "has no attribute 'ETM'; did you mean 'EMT'?"),
        ("ase.calculators.emtt.EMT", {}, "No module named 'ase.calculators.emtt'; did you mean 'emt'?"),
        ("ase.calculators.emt", {}, "ase.calculators.emt is a module, not a class or function"),
        ("asse.calculators.emt.EMT", {}, "has no package 'asse'; did you mean 'ase'?; install it"),
        ("ase.calculators.emt.EMT", {"asap_cutof": True}, "does not take 'asap_cutof'; did you mean 'asap_cutoff'?"),
        ("ase.calculators.tersoff.Tersoff.from_lammps", {}, "needs 'potential_file'; give it here, or in `files`"),
        ("ase.calculators.lj.LennardJones", {"sigma": 1.0, "epsilon": 0.1}, ""),
    ],
)
def test_a_calculator_that_cannot_be_made_is_found(calculator: str, arguments: dict[str, Any], words: str) -> None:
    engine = make_engine({"engine": "ase", "calculator": calculator, "arguments": arguments})
    found = "\n".join(map(str, engine.check_program((sys.executable,), {})))
    assert words in found and bool(words) == bool(found)


def test_a_package_of_an_extra_says_how_to_install_it(tmp_path: Path) -> None:
    """Another Python, which has no package at all: the missing one is told apart from what ASE itself lacks."""
    bare = tmp_path / "python3"
    bare.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import json, sys\nsys.stdin.read()\n'
        "print(json.dumps([dict(kind='import', text='x', missing='chgnet', package='chgnet', names=[])]))\"\n"
    )
    bare.chmod(0o755)
    (problem,) = make_engine(CHGNET).check_program((str(bare),), {})
    assert f"{bare} has no package 'chgnet'; in the folder of al: pip install" in problem.message
    assert "-e '.[chgnet]'; or name another Python" in problem.message
    assert problem.key == "calculator"


def test_a_command_that_is_no_python_is_found() -> None:
    (problem,) = make_engine(EMT_ENGINE).check_program(("sh",), {})
    assert "sh is not a Python" in problem.message
    assert list(make_engine(EMT_ENGINE).check_program(("mpirun", "-n", "2", "python"), {})) == []


def test_first_data_from_a_calculator(tmp_path: Path) -> None:
    """Every stage of init_bulk; a misspelt calculator is found before anything runs."""
    ase.io.write(tmp_path / "POSCAR", bulk("Cu", cubic=True, a=3.7), format="vasp")
    entry = {
        "path": "POSCAR", "name": "cu", "relax": {"max_force": 0.01}, "scale": [0.98, 1.02],
        "perturb": {"copies": 2}, "aimd": {"temperature": 300.0, "n_steps": 6, "every": 3, "starts": 1},
    }  # fmt: skip
    param = {"seed": 1, "type_map": ["Cu"], "label": EMT_ENGINE, "structures": [entry], "valid_fraction": 0}
    (tmp_path / "resource.json").write_text('{"default": {"workers": 2, "env": {"OMP_NUM_THREADS": "1"}}}')
    wrong = param | {"label": EMT_ENGINE | {"calculator": "ase.calculators.emt.EMTT"}}
    for name, content in (("wrong.json", wrong), ("right.json", param)):
        (tmp_path / name).write_text(json.dumps(content))
    (problem,) = al_driver.check(tmp_path / "wrong.json", tmp_path / "resource.json").errors
    assert problem.key == "label.calculator" and "did you mean 'EMT'?" in problem.message
    al_driver.init_bulk(tmp_path / "right.json", tmp_path / "resource.json")
    frames = read_frames(tmp_path / "init/label/labelled.extxyz")
    assert len(frames) == 4 + 2
    for atoms in frames:
        direct = atoms.copy()
        direct.calc = EMT()
        assert np.allclose(atoms.arrays["forces"], direct.get_forces(), atol=1e-10)
        assert atoms.info["energy"] == pytest.approx(direct.get_potential_energy(force_consistent=True), abs=1e-10)


@pytest.mark.long
@pytest.mark.needs("module:chgnet")
def test_the_driver_never_imports_a_calculator() -> None:
    code = (
        "import sys; from al_driver.engines.ase import AseEngine as A\n"
        f"engine = A.model_validate({CHGNET!r})\n"
        "found = list(engine.check(['Li'])) + list(engine.check_program((sys.executable,), {})); engine.identity()\n"
        "assert not found, found\n"
        "sys.exit('torch' in sys.modules or 'chgnet' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
