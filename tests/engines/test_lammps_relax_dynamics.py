"""Relaxations and dynamics with LAMMPS: cells come back in the axes that were sent, frames with their own forces."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, make_supercell

from al_driver.data.frames import Array, Label
from al_driver.engines.base import Dynamics, Relaxation
from al_driver.engines.lammps import LammpsEngine
from al_driver.engines.testing import check_relaxation, run_engine
from al_driver.errors import ConfigError, EngineError

CELL, POSITIONS = Relaxation("cell", 0.005, 500), Relaxation("positions", 0.005, 500)
MD = Dynamics(800.0, 60, 0.001, 20, 0.05, seed=4)


def silicon() -> LammpsEngine:
    return LammpsEngine(engine="lammps", pair_style="sw", pair_coeff=("* * Si.sw Si",))


def carbide() -> LammpsEngine:
    pair_coeff = ("* * SiC_Erhart-Albe.tersoff Si C",)
    return LammpsEngine(engine="lammps", pair_style="tersoff", pair_coeff=pair_coeff)


def strained(atoms: Atoms, seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.04 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
    return atoms


def skewed(atoms: Atoms) -> Atoms:
    """Return the same crystal with a left-handed choice of long, skewed cell vectors."""
    atoms = atoms.copy()
    atoms.set_cell(np.array([[0, 1, 0], [1, 0, 0], [2, -1, 1]]) @ atoms.cell.array)
    return atoms


def turned(atoms: Atoms) -> Atoms:
    """Return the same crystal in other axes, none of which LAMMPS would choose."""
    atoms = atoms.copy()
    atoms.rotate(70, (1, 2, 3), rotate_cell=True)
    return atoms


def relax(engine: LammpsEngine, atoms: Atoms, relaxation: Relaxation, folder: Path) -> Label:
    folder.mkdir()
    engine.write_relaxation(atoms, relaxation, folder)
    run_engine(engine, folder)
    return engine.read_relaxation(folder, relaxation)


def orthogonal_part(start: Array, end: Array) -> Array:
    """Return the rotation in the deformation from one cell to another (polar decomposition)."""
    left, _, right = np.linalg.svd(np.linalg.inv(start) @ end)
    rotation: Array = left @ right
    return rotation


CARBIDE = bulk("SiC", "zincblende", 4.36, cubic=True)


@pytest.mark.needs("lmp")
@pytest.mark.parametrize("change", [lambda atoms: atoms, skewed, turned])
def test_a_strained_crystal_finds_back_in_its_own_axes(change: "type[Atoms]", tmp_path: Path) -> None:
    """The lattice constant of the potential is 4.3593 Å; the cell keeps its handedness, its choice of vectors and,
    to the size of the strain, its axes."""
    atoms = change(strained(CARBIDE, 2)[[0, 3, 2, 1, 4, 5, 6, 7]])
    label = relax(carbide(), atoms, CELL, tmp_path / "relax")
    assert label.atoms.get_chemical_symbols() == atoms.get_chemical_symbols()
    cell, perfect = label.atoms.cell.array, change(CARBIDE).cell.array
    assert np.abs(cell @ cell.T - perfect @ perfect.T * (4.3593 / 4.36) ** 2).max() < 5e-3
    assert np.linalg.det(cell) * np.linalg.det(atoms.cell.array) > 0
    assert np.abs(orthogonal_part(atoms.cell.array, cell) - np.eye(3)).max() < 0.1
    assert label.energy / 8 == pytest.approx(-6.33917, abs=1e-4)
    moved = label.atoms.positions - atoms.get_scaled_positions(wrap=False) @ cell
    assert np.abs(moved - moved.mean(axis=0)).max() < 0.5


@pytest.mark.needs("lmp")
def test_an_orthogonal_box_may_become_triclinic(tmp_path: Path) -> None:
    """Vectors (a, 0, 0), (0, a, 0), (a/2, 0, 7a/2) of the crystal, sheared by 8° until they are at right angles."""
    atoms = make_supercell(bulk("Si"), [[-1, 1, 1], [1, -1, 1], [3, 4, -3]])
    right = atoms.cell.array.copy()
    assert right[2, 0] == pytest.approx(5.43 / 2)
    right[2, 0] = 0.0
    atoms.set_cell(right, scale_atoms=True)
    label = check_relaxation(silicon(), atoms, tmp_path, max_force=0.005)
    assert label.energy / len(atoms) == pytest.approx(-4.3366, abs=1e-4)
    assert label.atoms.cell.angles() == pytest.approx([90, 90 - np.degrees(np.arctan(1 / 7)), 90], abs=0.01)


@pytest.mark.needs("lmp")
def test_positions_are_relaxed_in_the_cell_that_was_sent(tmp_path: Path) -> None:
    atoms = turned(strained(CARBIDE, 3))
    label = check_relaxation(carbide(), atoms, tmp_path, what="positions", max_force=0.005)
    assert np.abs(label.atoms.cell.array - atoms.cell.array).max() < 1e-12
    slab = bulk("Si", cubic=True)
    slab.rattle(0.1, seed=1)
    slab.pbc = (True, True, False)
    relaxed = relax(silicon(), slab, POSITIONS, tmp_path / "slab")
    assert relaxed.virial is None and list(relaxed.atoms.pbc) == [True, True, False]
    assert np.array_equal(relaxed.atoms.cell.array, slab.cell.array)
    with pytest.raises(ConfigError, match="periodic in three directions has no cell to relax"):
        silicon().write_relaxation(slab, CELL, tmp_path)


@pytest.mark.needs("lmp")
def test_a_search_that_needs_more_steps_has_failed(tmp_path: Path) -> None:
    with pytest.raises(
        EngineError, match=r"not relaxed: the largest force is .* eV/Å in the end; .* max_steps 3"
    ) as caught:
        relax(silicon(), strained(bulk("Si", cubic=True), 1), Relaxation("cell", 0.005, 3), tmp_path / "few")
    assert caught.value.reason == "engine_error"
    said = (tmp_path / "few/output").read_text()
    assert "al_frame 3 " in said  # all rounds together
    relax(silicon(), bulk("Si", a=5.2), POSITIONS, tmp_path / "compressed")
    with pytest.raises(EngineError, match=r"the stress times the volume of an atom is \d\.\d+ eV in the end"):
        silicon().read_relaxation(tmp_path / "compressed", CELL)


def move(engine: LammpsEngine, atoms: Atoms, dynamics: Dynamics, folder: Path) -> list[Label]:
    folder.mkdir(parents=True)
    engine.write_dynamics(atoms, dynamics, folder)
    run_engine(engine, folder)
    frames = engine.read_dynamics(folder, dynamics)
    assert [step for step, _ in frames] == list(dynamics.steps)
    return [label for _, label in frames if isinstance(label, Label)]


@pytest.mark.needs("lmp")
def test_dynamics_do_not_depend_on_the_axes_and_keep_the_cell(tmp_path: Path) -> None:
    """Velocities are drawn in the axes that were sent, so those of a skewed choice of vectors are the same."""
    atoms = strained(CARBIDE, 5)
    plain, other = (move(carbide(), start, MD, tmp_path / f"{start is atoms}") for start in (atoms, skewed(atoms)))
    assert len(plain) == len(other) == 3
    for one, two in zip(plain, other, strict=True):
        assert np.array_equal(one.atoms.numbers, atoms.numbers)
        assert np.abs(one.atoms.cell.array - atoms.cell.array).max() < 1e-12
        assert np.abs(one.atoms.positions - two.atoms.positions).max() < 1e-6
        assert np.abs(one.forces - two.forces).max() < 1e-4
        assert one.virial is not None and two.virial is not None
        assert np.abs(one.virial - two.virial).max() < 1e-3


@pytest.mark.needs("lmp")
def test_the_thermostat_holds_the_temperature_of_a_crystal_that_starts_at_rest(tmp_path: Path) -> None:
    """Without one, half of the first kinetic energy becomes potential: the mean would be 400 K of 800."""
    atoms, dynamics = bulk("Si", cubic=True) * (2, 2, 2), Dynamics(800.0, 2000, 0.001, 1, 0.05, seed=0)
    positions = np.array([label.atoms.positions for label in move(silicon(), atoms, dynamics, tmp_path / "md")])
    velocities = (positions[2:] - positions[:-2]) / (2 * 1000 * units.fs * 0.001)
    kinetic = 0.5 * atoms.get_masses()[0] * (velocities[1000:] ** 2).sum(axis=(1, 2))
    temperatures = kinetic / (1.5 * (len(atoms) - 1) * units.kB)
    assert temperatures.mean() == pytest.approx(800, rel=0.06)
    assert np.abs(positions.mean(axis=1) - positions[0].mean(axis=0)).max() < 1e-6  # no drift
    first = 0.5 * atoms.get_masses()[0] * ((positions[0] - atoms.positions) ** 2).sum() / (1000 * units.fs * 0.001) ** 2
    assert first / (1.5 * (len(atoms) - 1) * units.kB) == pytest.approx(800, rel=0.02)


@pytest.mark.needs("lmp")
def test_dynamics_that_lost_frames_or_atoms_are_refused(tmp_path: Path) -> None:
    engine = silicon()
    move(engine, bulk("Si", cubic=True), MD, tmp_path / "md")
    more = Dynamics(800.0, 80, 0.001, 20, 0.05, seed=4)
    with pytest.raises(EngineError, match="1 of 4 frames are missing, the first at step 80") as caught:
        engine.read_dynamics(tmp_path / "md", more)
    assert caught.value.reason == "no_output"
    path = tmp_path / "md/output"
    text = path.read_text()
    line = next(line for line in text.splitlines() if line.startswith("al_frame 40 "))
    path.write_text(text.replace(line, "al_frame 40 nan " + " ".join(line.split()[3:])))
    (_, first), (step, second), (_, third) = engine.read_dynamics(tmp_path / "md", MD)
    assert isinstance(first, Label) and isinstance(third, Label)
    assert step == 40 and isinstance(second, EngineError) and second.reason == "not_finite"
    with pytest.raises(ConfigError, match="a single atom moves nothing"):
        engine.write_dynamics(bulk("Si")[:1], MD, tmp_path)


def test_what_is_set_is_told() -> None:
    engine = silicon()
    assert engine.can == {"label", "relax", "aimd"}
    assert "fix box/relax tri 0.0" in engine.set_by_driver("relax")[0]
    assert "fix temp/csvr" in engine.set_by_driver("aimd")[0]
    assert engine.set_by_driver() == (
        "units metal, atom_style atomic, boundary, box, masses, run 0 and what is printed",
    )
