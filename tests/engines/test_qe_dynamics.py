"""Molecular dynamics with pw.x: velocities and thermostat in the input, frames paired with their forces, failures."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk

from al_driver.data.frames import Label
from al_driver.engines.base import Dynamics
from al_driver.engines.pw_input import PwInput, read_pw_input
from al_driver.engines.qe import QuantumEspresso
from al_driver.engines.testing import run_engine
from al_driver.errors import ConfigError, EngineError

PSEUDO = Path("/usr/share/espresso/pseudo")
FAST = "&SYSTEM\n ecutwfc = 10\n/\n&ELECTRONS\n conv_thr = 1d-10\n/\n"
SHORT = Dynamics(600.0, 5, 0.001, 2, 0.05, seed=11)
RYDBERG_TIME = 4.8377687e-5  # ps
BOHR = 0.529177210903


def make_engine(folder: Path, text: str = FAST) -> QuantumEspresso:
    (folder / "scf.in").write_text(text)
    pseudo = {"Al": PSEUDO / "Al.pz-vbc.UPF", "Si": PSEUDO / "Si.pz-vbc.UPF"}
    return QuantumEspresso(engine="qe", input=folder / "scf.in", pseudopotentials=pseudo, kpoints=(1, 1, 1))


def written(engine: QuantumEspresso, atoms: Atoms, dynamics: Dynamics, folder: Path) -> PwInput:
    engine.write_dynamics(atoms, dynamics, folder)
    return read_pw_input(folder / "pw.in")


def velocities_of(result: PwInput) -> np.ndarray:
    """Return the velocities of an input in Å/ps."""
    card = result.cards["ATOMIC_VELOCITIES"]
    assert card.option == "a.u."
    return np.array([line.split()[1:] for line in card.lines], dtype=float) * BOHR / RYDBERG_TIME


USER = (
    FAST + "&IONS\n wfc_extrapolation='second_order', ion_temperature='svr', nraise=3, refold_pos=.true.\n/\n&CELL\n/\n"
)


def test_the_input_of_dynamics(tmp_path: Path) -> None:
    result = written(make_engine(tmp_path, USER), bulk("Si"), SHORT, tmp_path).namelists
    assert list(result) == ["control", "system", "electrons", "ions"]
    assert result["control"]["calculation"] == "'md'" and result["control"]["nstep"] == "6"  # the start is the first
    assert float(result["control"]["dt"]) * RYDBERG_TIME == pytest.approx(0.001, rel=1e-6)
    assert result["system"]["nosym"] == ".true."
    assert result["ions"] == {
        "wfc_extrapolation": "'second_order'", "ion_dynamics": "'verlet'", "ion_velocities": "'from_input'",
        "ion_temperature": "'andersen'", "tempw": "600", "nraise": "50", "refold_pos": ".false.",
    }  # fmt: skip
    said = "\n".join(make_engine(tmp_path, USER).set_by_driver("aimd"))
    assert "calculation = 'md'" in said and "ion_temperature = 'andersen'" in said and "nosym = .true." in said


def test_first_velocities_have_the_temperature_and_no_momentum(tmp_path: Path) -> None:
    atoms = bulk("Si", cubic=True)
    atoms.symbols[3:] = "Al"
    engine, masses = make_engine(tmp_path), atoms.get_masses()[:, None]
    velocities = velocities_of(written(engine, atoms, SHORT, tmp_path))
    kinetic = 0.5 * (masses * velocities**2).sum() / (1000 * units.fs) ** 2
    assert kinetic / (1.5 * (len(atoms) - 1) * units.kB) == pytest.approx(600, rel=1e-5)
    assert np.abs((masses * velocities).sum(axis=0)).max() < 1e-6
    assert np.array_equal(velocities, velocities_of(written(engine, atoms, SHORT, tmp_path)))
    other = Dynamics(600.0, 5, 0.001, 2, 0.05, seed=12)
    assert np.abs(velocities - velocities_of(written(engine, atoms, other, tmp_path))).max() > 0.1


def test_a_single_atom_has_no_dynamics(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a single atom moves nothing; make a supercell first"):
        make_engine(tmp_path).write_dynamics(bulk("Al"), SHORT, tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A perfect crystal, whose symmetry the velocities break: pw.x would stop where it was told of it."""
    folder = tmp_path_factory.mktemp("md")
    engine = make_engine(folder)
    engine.write_dynamics(bulk("Si", a=5.5), SHORT, folder)
    run_engine(engine, folder)
    return folder


@pytest.mark.needs("pw.x")
def test_frames_are_those_of_the_steps_asked_for(finished: Path) -> None:
    engine = make_engine(finished)
    frames = engine.read_dynamics(finished, SHORT)
    assert [step for step, _ in frames] == [2, 4]
    text = (finished / "pw.out").read_text()
    blocks = text.split("ATOMIC_POSITIONS (angstrom)\n")[1:]
    assert len(blocks) == 6 and float(text.partition("temperature           =")[2].split()[0]) == pytest.approx(
        600, abs=0.01
    )
    for step, label in frames:
        assert isinstance(label, Label)
        moved = [row.split()[1:] for row in blocks[step - 1].splitlines()[:2]]  # printed after the forces of step − 1
        assert np.array_equal(label.atoms.positions, np.array(moved, dtype=float))
        assert np.array_equal(label.atoms.cell.array, bulk("Si", a=5.5).cell.array)
        energy = blocks[step - 1].partition("!    total energy              =")[2].split()[0]
        assert label.energy == pytest.approx(float(energy) * 13.605693, rel=1e-7)
        assert label.virial is not None and label.info["program"] == "pw.x"
    more = Dynamics(600.0, 5, 0.001, 1, 0.05, seed=11)
    assert [step for step, _ in engine.read_dynamics(finished, more)] == [1, 2, 3, 4, 5]


def spoiled(finished: Path, folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "pw.in").write_text((finished / "pw.in").read_text())
    (folder / "pw.out").write_text(text)
    return folder


@pytest.mark.needs("pw.x")
def test_frames_before_an_scf_that_did_not_converge_are_kept(finished: Path, tmp_path: Path) -> None:
    """pw.x stops there: the text ends as one of its own does, that of an SCF with too few iterations."""
    steps = (finished / "pw.out").read_text().split("!    total energy")
    end = "\n     convergence NOT achieved after   9 iterations: stopping\n\n   JOB DONE.\n"
    engine = make_engine(tmp_path)
    folder = spoiled(finished, tmp_path / "step3", "!    total energy".join(steps[:4]) + end)  # of steps 0, 1, 2
    (first, label), (second, error) = engine.read_dynamics(folder, SHORT)
    assert (first, second) == (2, 4)
    assert isinstance(label, Label) and label.energy == engine.read_dynamics(finished, SHORT)[0][1].energy
    assert isinstance(error, EngineError) and error.reason == "scf_unconverged"
    assert error.detail.startswith("step 3: not converged after 9 iterations; the accuracy reached is ")
    at_start = spoiled(finished, tmp_path / "step0", steps[0] + end)
    with pytest.raises(EngineError, match="not converged after 9 iterations") as caught:
        engine.read_dynamics(at_start, SHORT)
    assert caught.value.reason == "scf_unconverged"


@pytest.mark.needs("pw.x")
def test_a_run_without_all_of_its_frames_is_refused(finished: Path, tmp_path: Path) -> None:
    engine, whole = make_engine(tmp_path), (finished / "pw.out").read_text()
    steps = whole.split("     Entering Dynamics:")
    stopped = spoiled(finished, tmp_path / "stopped", "     Entering Dynamics:".join(steps[:3]) + "   JOB DONE.\n")
    with pytest.raises(EngineError, match=r"pw\.x calculated 3 steps, not 6; it may have been told to stop") as caught:
        engine.read_dynamics(stopped, SHORT)
    assert caught.value.reason == "no_output"
    killed = spoiled(finished, tmp_path / "killed", whole[: len(whole) // 2])
    assert not engine.is_complete(killed)
    with pytest.raises(EngineError, match="did not end by itself"):
        engine.read_dynamics(killed, SHORT)
    other = spoiled(finished, tmp_path / "other", whole.replace("tau(   2) = (   0.3", "tau(   2) = (   0.2"))
    with pytest.raises(EngineError, match=r"\(Si\) came back") as caught:
        engine.read_dynamics(other, SHORT)
    assert caught.value.reason == "positions_changed"
