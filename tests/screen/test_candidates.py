"""Candidates: what is made of a crystal, by number, by symmetry and by charge, and what is refused."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pydantic import ValidationError

from al_driver.errors import ConfigError
from al_driver.screen.candidates import CandidateEntry, make_candidates
from al_driver.screen.compositions import can_be_neutral, round_occupancies
from al_driver.screen.equivalent import drop_equivalent

pytestmark = pytest.mark.needs("module:spglib", "module:pymatgen.core")
LAYERED = """data_layered
_cell_length_a 2.87
_cell_length_b 2.87
_cell_length_c 14.2
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
_symmetry_space_group_name_H-M 'R -3 m'
_symmetry_Int_Tables_number 166
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Li1 Li 0 0 0.5 1
Ni1 Ni 0 0 0 0.75
Mn1 Mn 0 0 0 0.25
O1 O 0 0 0.2595 1
"""
CHARGES = {"Li": 1, "Ni": [2, 3, 4], "Mn": 4, "O": -2}


@pytest.fixture
def layered(tmp_path):
    (tmp_path / "layered.cif").write_text(LAYERED)
    return tmp_path / "layered.cif"


@pytest.fixture
def salt(tmp_path):
    ase.io.write(tmp_path / "salt.vasp", bulk("NaCl", "rocksalt", a=5.64, cubic=True))
    return tmp_path / "salt.vasp"


def make(path, seed=0, **keys):
    return make_candidates(CandidateEntry.model_validate({"path": str(path), **keys}), seed)


def test_a_crystal_alone_is_a_candidate(salt):
    (candidate,), counts = make(salt, name="halite")
    assert candidate.id == "halite-Cl4Na4-0000"
    assert candidate.provenance["composition"] == "as it is"
    assert counts.describe() == "1 crystal → 1 composition → 1 ordering → 1 candidate"


def test_vacancies_by_number_and_by_share(salt):
    found, counts = make(salt, vacancies={"Na": [0, 1, 0.5]})
    assert [(len(one.atoms), one.provenance["multiplicity"]) for one in found] == [(8, 1), (7, 4), (6, 6)]
    assert counts.compositions == 3


def test_a_shared_site_is_ordered_and_no_two_orderings_are_equivalent(layered):
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.io.ase import AseAtomsAdaptor

    found, counts = make(layered, supercell=[2, 2, 1], vacancies={"Li": 2})
    assert counts.sampled == 0
    assert {one.atoms.get_chemical_formula() for one in found} == {"Li10Mn3Ni9O24"}
    assert all(one.provenance["complete"] for one in found)
    structures = [AseAtomsAdaptor.get_structure(one.atoms) for one in found]
    groups = StructureMatcher(primitive_cell=False, scale=False).group_structures(structures[:12])
    assert len(groups) == 12
    assert sum(one.provenance["multiplicity"] for one in found) == 220 * 66  # C(12, 3) · C(12, 2): all orderings


def test_charges_decide_on_compositions(layered):
    amounts = {"substitute": {"Ni": {"Al": [0, 1]}}, "vacancies": {"Li": [0, 0.5, 1.0]}, "max_orderings": 2}
    found, counts = make(layered, supercell=[2, 2, 1], charges={**CHARGES, "Ni": [2, 3], "Al": 3}, **amounts)
    assert (counts.compositions, counts.charged) == (2, 4)  # without Ni⁴⁺ no lithium can go
    assert {one.atoms.symbols.count("Li") for one in found} == {12}
    assert "2 compositions (and 4 that cannot be neutral) → 4 orderings" in counts.describe()


def test_oxidation_states_are_counted_exactly():
    assert can_be_neutral({"Ni": 3, "O": 4}, {"Ni": [2, 3, 4], "O": [-2]})
    assert not can_be_neutral({"Fe": 2, "O": 4}, {"Fe": [2, 3], "O": [-2]})
    assert not can_be_neutral({"X": 1, "O": 2}, {"X": [2, 3, 5], "O": [-2]})
    assert can_be_neutral({"X": 2, "O": 4}, {"X": [2, 3, 6], "O": [-2]})


def test_of_strains_that_the_crystal_cannot_tell_apart_one_is_kept(salt):
    along = [[0.02, 0, 0, 0, 0, 0], [0, 0.02, 0, 0, 0, 0], [0, 0, 0.02, 0, 0, 0]]
    found, _ = make(salt, strains=[0.0, *along])
    assert [one.provenance["strain"] for one in found] == [0.0, (0.02, 0, 0, 0, 0, 0)]
    np.testing.assert_allclose(found[1].atoms.cell.lengths(), [5.64 * 1.02, 5.64, 5.64])
    uneven, _ = make(salt, supercell=[2, 1, 1], strains=along)
    assert len(uneven) == 2  # the cell's shape tells its long axis from the others
    hollow, _ = make(salt, supercell=[2, 1, 1], vacancies={"Na": 1}, strains=along)
    assert len(hollow) == 2  # a row of vacancies along x


def test_strain_tensor_and_number_agree(salt):
    found, _ = make(salt, strains=[0.01, [0.01, 0.01, 0.01, 0, 0, 0], [0, 0, 0, 0.01, 0, 0]])
    assert len(found) == 2
    np.testing.assert_allclose(found[1].atoms.cell.array / 5.64, [[1, 0, 0], [0, 1, 0.01], [0, 0.01, 1]])


def test_the_seed_decides_what_is_drawn(layered):
    keys = {"supercell": [2, 2, 1], "vacancies": {"Li": 4}, "max_orderings": 5}
    first, again, other = (make(layered, seed, **keys)[0] for seed in (1, 1, 2))
    assert [str(one.atoms.symbols) for one in first] == [str(one.atoms.symbols) for one in again]
    assert [str(one.atoms.symbols) for one in first] != [str(one.atoms.symbols) for one in other]
    assert not first[0].provenance["complete"]


def test_sites_that_the_user_tells_apart_are_not_equivalent(tmp_path):
    atoms = bulk("Fe", "bcc", a=2.87, cubic=True)
    ase.io.write(tmp_path / "fe.extxyz", atoms)
    assert len(make(tmp_path / "fe.extxyz", vacancies={"Fe": 1})[0]) == 1
    atoms.set_initial_magnetic_moments([2.2, -2.2])
    ase.io.write(tmp_path / "fe.extxyz", atoms)
    found, _ = make(tmp_path / "fe.extxyz", vacancies={"Fe": 1})
    assert sorted(float(one.atoms.get_initial_magnetic_moments()[0]) for one in found) == [-2.2, 2.2]


def test_equal_crystals_of_two_files_are_one(tmp_path, salt):
    moved = bulk("NaCl", "rocksalt", a=5.64)
    moved.positions += 0.7
    ase.io.write(tmp_path / "primitive.vasp", moved)
    larger = bulk("NaCl", "rocksalt", a=5.70)
    ase.io.write(tmp_path / "larger.vasp", larger)
    candidates = [one for name in ("salt", "primitive", "larger") for one in make(tmp_path / f"{name}.vasp")[0]]
    kept, same = drop_equivalent(candidates)
    assert [one.provenance["parent"] for one in kept] == ["salt", "larger"]
    assert same == {"primitive-ClNa-0000": "salt-Cl4Na4-0000"}


def test_orderings_that_only_an_operation_beyond_the_supercell_turns_into_each_other_are_one(tmp_path):
    ase.io.write(tmp_path / "cube.vasp", Atoms("Cu", cell=[3.0] * 3, pbc=True))
    made = make(tmp_path / "cube.vasp", supercell=[2, 4, 1], substitute={"Cu": {"Au": 4}})[0]
    kept, same = drop_equivalent(made)
    assert len(made) == 10
    assert len(same) == 1  # stripes of rows along a, and along b
    assert sum(one.provenance["multiplicity"] for one in kept) == 70


def test_left_over_copies_go_where_most_was_cut():
    assert round_occupancies({"Ni": 0.83, "Mn": 0.085, "Co": 0.085}, 12, 0.05) == {"Ni": 10, "Mn": 1, "Co": 1}
    assert round_occupancies({"Li": 0.5}, 4, 0.0) == {"Li": 2, "vacancy": 2}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"vacancies": {"K": 1}}, "vacancies.K: there is no K; there are Na, Cl"),
        ({"vacancies": {"Na": 5}}, "vacancies.Na: 5 of 4 Na atoms"),
        ({"vacancies": {"Na": 0.3}}, "0.3 of 4 Na atoms is 1.2; take 0.25 (1) or 0.5 (2)"),
        ({"vacancies": {"Na": 0.01}}, "0.01 of 4 Na atoms is 0.04; take 0 (0) or 0.25 (1)"),
        ({"vacancies": {"Na": 3}, "substitute": {"Na": {"K": 2}}}, "takes more atoms than there are (4 Na, 4 Cl)"),
        ({"charges": {"Na": 1}}, "charges: says nothing of Cl"),
        ({"charges": {"Na": 1, "Cl": -1}, "vacancies": {"Na": 1}}, "none of 1 composition can be neutral"),
        ({"supercell": [3, 3, 3], "vacancies": {"Na": 50}}, "give max_orderings, or a smaller supercell"),
    ],
)
def test_what_cannot_be_made_is_refused(salt, keys, message):
    with pytest.raises(ConfigError) as caught:
        make(salt, **keys)
    assert message in str(caught.value)


def test_shares_that_no_whole_number_meets_are_refused(layered):
    layered.write_text(LAYERED.replace("0.75", "0.9").replace("Mn 0 0 0 0.25", "Mn 0 0 0 0.1"))
    with pytest.raises(ConfigError, match=r"3 sites with 0.1 Mn would get 0, a share of 0; take a larger supercell"):
        make(layered)


def test_clashing_sites_and_missing_cells_are_refused(tmp_path):
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    atoms.positions[1] = atoms.positions[0] + 0.01
    ase.io.write(tmp_path / "clash.vasp", atoms)
    with pytest.raises(ConfigError, match=r"clash.vasp: Na \(site 0\) and Cl \(site 1\) lie 0.017 Å from each other"):
        make(tmp_path / "clash.vasp")
    (tmp_path / "molecule.xyz").write_text("2\n\nH 0 0 0\nH 0 0 0.7\n")
    with pytest.raises(ConfigError, match="no cell in three directions"):
        make(tmp_path / "molecule.xyz")


def test_what_is_substituted_cannot_be_a_substitute(salt):
    with pytest.raises(ValidationError, match="K is substituted itself; give what Na becomes in the end"):
        CandidateEntry.model_validate({"path": str(salt), "substitute": {"Na": {"K": 1}, "K": {"Rb": 1}}})
