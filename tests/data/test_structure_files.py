"""Structure files in the formats that people bring."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from al_driver.data.lammps import write_data
from al_driver.data.structure_files import read_structure_file
from al_driver.errors import ConfigError

ATOM_CONFIG = """\
3 atoms
Lattice vector (Angstrom)
 4.0 0.0 0.0
 0.0 5.0 0.0
 0.5 0.0 6.0
Position (normalized), move_x, move_y, move_z
 8  0.10 0.20 0.30 1 1 1
28  0.50 0.50 0.50 1 1 1
 3  0.00 0.25 0.75 1 1 1
"""
CIF = """\
data_x
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P 1'
loop_
_space_group_symop_operation_xyz
'x,y,z'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
O1 O 0.5 0.5 0.5 1
Ni1 Ni 0 0 0 {nickel}
"""


@pytest.fixture
def crystal() -> Atoms:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.wrap()
    return atoms


@pytest.mark.parametrize(("name", "format"), [("POSCAR", "vasp"), ("si.cif", "cif"), ("si.extxyz", "extxyz")])
def test_ase_reads_it(tmp_path: Path, crystal: Atoms, name: str, format: str) -> None:
    ase.io.write(tmp_path / name, crystal, format=format)
    (read,) = read_structure_file(tmp_path / name, ["Si"])
    assert np.abs(read.positions - crystal.positions).max() < 1e-6
    assert np.abs(read.cell.array - crystal.cell.array).max() < 1e-6


def test_lammps_data_take_their_elements_from_the_type_map(tmp_path: Path, crystal: Atoms) -> None:
    write_data(tmp_path / "si.data", crystal, ["C", "Si"])
    (read,) = read_structure_file(tmp_path / "si.data", ["C", "Si"])
    assert read.get_chemical_formula() == "Si8"


def test_an_atom_config_of_pwmat(tmp_path: Path) -> None:
    (tmp_path / "atom.config").write_text(ATOM_CONFIG)
    (read,) = read_structure_file(tmp_path / "atom.config", ["Li", "O", "Ni"])
    position = dict(zip(read.get_chemical_symbols(), read.positions, strict=True))
    assert position["O"] == pytest.approx([0.1 * 4 + 0.3 * 0.5, 0.2 * 5, 0.3 * 6])
    assert position["Ni"] == pytest.approx([2.25, 2.5, 3.0])
    assert position["Li"] == pytest.approx([0.375, 1.25, 4.5])


def test_every_frame_of_a_file_is_read(tmp_path: Path, crystal: Atoms) -> None:
    ase.io.write(tmp_path / "md.extxyz", [crystal] * 3)
    assert len(read_structure_file(tmp_path / "md.extxyz", ["Si"])) == 3


@pytest.mark.parametrize(("share", "words"), [("0.8", r"0\.8 Ni"), ("0.8\nMn1 Mn 0 0 0 0.2", r"0\.8 Ni and 0\.2 Mn")])
def test_a_site_that_is_not_of_one_element_is_refused(tmp_path: Path, share: str, words: str) -> None:
    (tmp_path / "x.cif").write_text(CIF.format(nickel=share))
    with pytest.raises(ConfigError, match=rf"x\.cif: has a site that is {words}; give an ordered structure"):
        read_structure_file(tmp_path / "x.cif", ["O", "Ni", "Mn"])
    (tmp_path / "x.cif").write_text(CIF.format(nickel="1"))
    assert len(read_structure_file(tmp_path / "x.cif", ["O", "Ni"])[0]) == 2


def test_half_an_atom_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "atom.config").write_text(ATOM_CONFIG[: len(ATOM_CONFIG) // 2])
    with pytest.raises(ConfigError, match=r"atom\.config: cannot be read"):
        read_structure_file(tmp_path / "atom.config", ["O"])
