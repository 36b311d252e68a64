"""Supercells, scaled cells and perturbed copies, against the formulas they stand for."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from al_driver.structures.perturb import Perturb, debye_sigma, displacement, guess_debye_temperature, perturb_atoms
from al_driver.structures.scale import scale_cell
from al_driver.structures.supercell import make_supercell

RAGGED = Atoms("LiNiO2", positions=[[0, 0, 0], [1, 1.5, 1], [2, 0.5, 2], [0.5, 2, 2.5]],
               cell=[[3, 0, 0], [0.5, 3.2, 0], [0.3, -0.4, 4]], pbc=True)  # fmt: skip


@pytest.mark.parametrize(
    "matrix", [(2, 1, 3), ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), ((1, 1, 0), (-1, 1, 0), (0, 0, 2))]
)
def test_a_supercell_multiplies_volume_and_atoms_and_keeps_neighbours(matrix):
    cell = make_supercell(RAGGED, matrix)
    factor = abs(np.linalg.det(np.diag(matrix) if np.ndim(matrix) == 1 else matrix))
    assert len(cell) == pytest.approx(4 * factor)
    assert cell.get_volume() == pytest.approx(factor * RAGGED.get_volume())
    assert make_supercell(RAGGED, matrix) == cell  # the order follows from the input alone
    assert cell.get_chemical_symbols() == RAGGED.get_chemical_symbols() * round(factor)
    shortest = RAGGED.repeat((3, 3, 3)).get_all_distances(mic=True)[0]
    assert np.sort(cell.repeat((2, 2, 2)).get_all_distances(mic=True)[0])[:3] == pytest.approx(np.sort(shortest)[:3])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (((1, 0, 0), (2, 0, 0), (0, 0, 1)), "positive determinant"),
        (((0, 1, 0), (1, 0, 0), (0, 0, 1)), "positive determinant"),
        ((0, 1, 1), "larger than 0"),
        ((1, 1), "3 whole numbers"),
        (2, "3 whole numbers"),
        ((1.5, 1, 1), "3 whole numbers"),
        ((True, 1, 1), "3 whole numbers"),
        (((1, 0, 0), (0, 1), (0, 0, 1)), "3×3 matrix"),
    ],
)
def test_a_supercell_that_makes_no_sense_is_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        make_supercell(RAGGED, wrong)


def test_scaling_multiplies_every_cell_vector_and_keeps_fractions():
    scaled = scale_cell(RAGGED, 1.04)
    assert scaled.cell.array == pytest.approx(1.04 * RAGGED.cell.array, abs=1e-14)
    assert scaled.get_scaled_positions() == pytest.approx(RAGGED.get_scaled_positions(), abs=1e-14)


def test_a_slab_keeps_its_vacuum_and_a_molecule_its_shape():
    slab = fcc111("Al", (2, 2, 3), vacuum=8.0)
    scaled = scale_cell(slab, 0.96)
    assert scaled.cell.array[2] == pytest.approx(slab.cell.array[2], abs=1e-12)
    assert scaled.cell.array[:2] == pytest.approx(0.96 * slab.cell.array[:2])
    assert np.ptp(scaled.positions[:, 2]) == pytest.approx(np.ptp(slab.positions[:, 2]))
    assert scale_cell(molecule("H2O"), 0.9).positions == pytest.approx(molecule("H2O").positions)


def test_the_strain_is_symmetric_uniform_and_within_its_bound():
    rng = np.random.default_rng(1)
    only_cell = Perturb(copies=1, cell_fraction=0.03, atom_distance=0.0)
    strains = []
    for _ in range(2000):
        copy = perturb_atoms(RAGGED, only_cell, rng)
        strains.append(np.linalg.solve(RAGGED.cell.array, copy.cell.array) - np.eye(3))
        assert copy.get_scaled_positions(wrap=False) == pytest.approx(
            RAGGED.get_scaled_positions(wrap=False), abs=1e-12
        )
    strains = np.array(strains)
    assert strains == pytest.approx(strains.transpose(0, 2, 1), abs=1e-12)
    assert np.abs(strains).max() <= 0.03 + 1e-12
    assert strains.std(axis=0) == pytest.approx(np.full((3, 3), 0.03 / np.sqrt(3)), rel=0.06)
    assert np.abs(strains.mean(axis=0)).max() < 0.002


def _displacements(perturb: Perturb, atoms: Atoms) -> np.ndarray:
    return perturb_atoms(atoms, perturb, np.random.default_rng(7)).positions - atoms.positions


def test_a_ball_has_its_radius_and_sigma():
    atoms = bulk("Si", cubic=True).repeat(16)  # 32768 atoms
    moved = _displacements(Perturb(copies=1, cell_fraction=0.0, atom_distance=0.05), atoms)
    length = np.linalg.norm(moved, axis=1)
    assert length.max() <= 0.05 and length.max() > 0.0499
    assert np.mean(length < 0.025) == pytest.approx(1 / 8, abs=0.01)  # uniform in the volume
    assert moved.std(axis=0) == pytest.approx(0.05 / np.sqrt(5), rel=0.02)


def test_a_temperature_gives_the_debye_displacement_of_each_element():
    atoms = RAGGED.repeat(20)  # 8000 of Li and of Ni
    perturb = Perturb(copies=1, cell_fraction=0.0, temperature=600, debye_temperature=500)
    moved = _displacements(perturb, atoms)
    for symbol in ("Li", "Ni", "O"):
        chosen = moved[np.array(atoms.get_chemical_symbols()) == symbol]
        assert chosen.std(axis=0) == pytest.approx(debye_sigma(symbol, 600, 500), rel=0.03)
        assert displacement(perturb, atoms.get_chemical_symbols())[symbol] == (debye_sigma(symbol, 600, 500), 600)


def test_the_debye_formula_in_si_units():
    hbar, k_b, mass = 1.054571817e-34, 1.380649e-23, 28.085 * 1.66053907e-27
    by_hand = np.sqrt(3 * hbar**2 * 300 / (mass * k_b * 645**2)) * 1e10
    assert debye_sigma("Si", 300, 645) == pytest.approx(by_hand, rel=1e-6)
    assert by_hand == pytest.approx(0.0611, abs=1e-4)


def test_a_ball_of_a_twentieth_angstrom_is_silicon_at_40_kelvin():
    ((sigma, temperature),) = displacement(Perturb(copies=1, atom_distance=0.05), ["Si"]).values()
    assert sigma == pytest.approx(0.02236, abs=1e-5)
    assert temperature == pytest.approx(40, abs=0.5)


def test_the_default_is_300_kelvin_and_an_unknown_element_counts_300():
    assert displacement(Perturb(copies=1), ["Si"])["Si"] == (debye_sigma("Si", 300, 645), 300)
    assert guess_debye_temperature(["Li", "O"]) == (344 + 300) / 2


def test_the_same_generator_gives_the_same_copy():
    perturb = Perturb(copies=2)
    first, second = (perturb_atoms(RAGGED, perturb, np.random.default_rng(3)) for _ in range(2))
    assert (first.positions == second.positions).all() and (first.cell.array == second.cell.array).all()
    assert not np.allclose(perturb_atoms(RAGGED, perturb, np.random.default_rng(4)).positions, first.positions)


@pytest.mark.parametrize("extra", [{"temperature": 300}, {"debye_temperature": 300}])
def test_a_ball_and_a_temperature_do_not_go_together(extra):
    with pytest.raises(ValueError, match="atom_distance"):
        Perturb(copies=1, atom_distance=0.1, **extra)
