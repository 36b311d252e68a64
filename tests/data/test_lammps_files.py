"""LAMMPS data files: what is written comes back."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from al_driver.data.lammps import boundary, is_data, make_rotation, read_data, read_rotation
from al_driver.data.lammps import write_data as write

RNG = np.random.default_rng(7)
CUBIC = 5.43 * np.eye(3)
TRICLINIC = CUBIC + RNG.normal(size=(3, 3))
CELLS = {
    "cubic": (CUBIC, True),
    "primitive": (bulk("Si").cell.array, True),
    "triclinic": (TRICLINIC, True),
    "left-handed": (TRICLINIC[[1, 0, 2]], True),
    "skewed": (np.array([[1, 0, 0], [7, 1, 0], [-5, 4, 1]]) @ TRICLINIC, True),
    "slab": (TRICLINIC, (True, True, False)),
    "slab along a": (TRICLINIC, (False, True, True)),
    "wire": (TRICLINIC, (False, True, False)),
    "molecule": (np.zeros((3, 3)), False),
}


def make_atoms(name: str) -> Atoms:
    cell, pbc = CELLS[name]
    return Atoms("CSi3C2", positions=np.random.default_rng(3).uniform(-2, 7, size=(6, 3)), cell=cell, pbc=pbc)


@pytest.mark.parametrize("name", CELLS)
def test_rotation_gives_back_what_was_sent(tmp_path: Path, name: str) -> None:
    atoms = make_atoms(name)
    rotation = write(tmp_path / "x.data", atoms, ["Si", "C"])
    assert np.allclose(rotation.matrix @ rotation.matrix.T, np.eye(3), atol=1e-14)
    box = rotation.box
    assert np.all(np.triu(box, 1) == 0) and np.all(np.diag(box) > 0)
    assert abs(box[1, 0]) <= 0.501 * box[0, 0] and abs(box[2, 1]) <= 0.501 * box[1, 1]

    turned = Atoms(atoms.numbers, atoms.positions @ rotation.matrix, cell=box, pbc=atoms.pbc)
    turned.arrays["forces"] = turned.positions.copy()
    back = read_rotation(tmp_path / "x.data").restore(turned)
    assert np.abs(back.positions - atoms.positions).max() < 1e-12
    assert np.abs(back.arrays["forces"] - atoms.positions).max() < 1e-12
    assert np.abs(back.cell.array - atoms.cell.array).max() < 1e-10
    assert back.get_chemical_symbols() == atoms.get_chemical_symbols()
    assert list(back.pbc) == list(atoms.pbc)


def test_lower_triangular_cell_is_left_alone() -> None:
    cell = np.array([[5.0, 0, 0], [1.0, 4.0, 0], [-2.0, 1.0, 6.0]])
    rotation = make_rotation(cell, [True] * 3)
    assert np.array_equal(rotation.matrix, np.eye(3)) and np.array_equal(rotation.box, cell)


def test_tensor_turns_with_the_vectors() -> None:
    rotation = make_rotation(TRICLINIC, [True] * 3)
    a, b = RNG.normal(size=(2, 3))
    turned = np.outer(a @ rotation.matrix, b @ rotation.matrix)
    assert np.allclose(rotation.restore_tensor(turned), np.outer(a, b), atol=1e-13)


def test_data_file_has_a_mass_for_every_type_and_keeps_the_order(tmp_path: Path) -> None:
    """Lesson 33: a type that the structure lacks is still there."""
    write(tmp_path / "x.data", Atoms("SiSi", positions=[[0, 0, 0], [1, 1, 1]], cell=CUBIC, pbc=True), ["Ge", "Si", "C"])
    text = (tmp_path / "x.data").read_text()
    assert "3 atom types" in text
    assert [line.split()[0] for line in text.split("Masses")[1].split("Atoms")[0].split("\n") if line] == [
        "1",
        "2",
        "3",
    ]
    assert [line.split()[:2] for line in text.split("# atomic")[1].split("\n") if line] == [["1", "2"], ["2", "2"]]


def test_data_file_is_recognised_and_read_back(tmp_path: Path) -> None:
    """ASE takes ``x.data`` for another program's file."""
    atoms = make_atoms("triclinic")
    write(tmp_path / "x.data", atoms, ["Si", "C"])
    (tmp_path / "POSCAR").write_text("Si\n1.0\n1 0 0\n")
    assert is_data(tmp_path / "x.data") and not is_data(tmp_path / "POSCAR")
    read = read_data(tmp_path / "x.data", ["Si", "C"])
    assert read.get_chemical_symbols() == atoms.get_chemical_symbols()
    assert np.allclose(read.get_all_distances(mic=True), atoms.get_all_distances(mic=True), atol=1e-9)


def test_data_file_without_masses_takes_the_type_map(tmp_path: Path) -> None:
    (tmp_path / "x.data").write_text(
        "x\n\n2 atoms\n2 atom types\n\n0 5 xlo xhi\n0 5 ylo yhi\n0 5 zlo zhi\n\n"
        "Atoms # atomic\n\n1 1 0 0 0\n2 2 1 1 1\n"
    )
    assert read_data(tmp_path / "x.data", ["Si", "C"]).get_chemical_symbols() == ["Si", "C"]


def test_boundary_letters() -> None:
    assert boundary([True, True, False]) == "p p m"
