"""Training data: what is written is read back to the bit, by us and by dpdata, in the order of frames and types."""

from pathlib import Path

import dpdata
import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list

from al_driver.data.dataset import (
    VACUUM,
    count_frames,
    find_systems,
    read_system,
    stored_key,
    system_elements,
    write_dataset,
)
from al_driver.data.frames import sort_by_type
from al_driver.errors import ConfigError
from al_driver.files import hash_path

TYPES = ("Li", "Si", "O")


def make_frame(formula: str, seed: int, pbc: bool = True, virial: bool = True) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = Atoms(formula)
    atoms.positions = rng.normal(scale=4, size=(len(atoms), 3))
    atoms.cell, atoms.pbc = rng.normal(scale=6, size=(3, 3)), pbc
    atoms.info["energy"] = float(rng.normal() * 1e3)
    atoms.arrays["forces"] = rng.normal(size=(len(atoms), 3))
    if pbc and virial:
        atoms.info["virial"] = rng.normal(size=(3, 3))
    return atoms


def assert_same(old: Atoms, new: Atoms) -> None:
    expected = sort_by_type(old, TYPES)
    assert new.get_chemical_symbols() == expected.get_chemical_symbols()
    assert np.array_equal(new.positions, expected.positions)
    assert np.array_equal(new.arrays["forces"], expected.arrays["forces"])
    assert new.info["energy"] == old.info["energy"]
    if old.pbc.any():
        assert np.array_equal(new.cell.array, old.cell.array)
    assert new.pbc.all() == old.pbc.all()
    assert ("virial" in new.info) == ("virial" in old.info)
    if "virial" in old.info:
        assert np.array_equal(new.info["virial"], old.info["virial"])


def test_frames_come_back_to_the_bit_and_in_order(tmp_path: Path) -> None:
    formulas = ("SiO2", "OSiO", "LiSi", "SiLi", "SiO2", "O2Si")  # two formulas, five orders of elements
    frames = [make_frame(formula, seed) for seed, formula in enumerate(formulas)]
    write_dataset(tmp_path / "dataset", frames, TYPES)
    assert [path.name for path in find_systems(tmp_path / "dataset")] == ["Li1Si1", "Si1O2"]
    oxide = list(read_system(tmp_path / "dataset/Si1O2"))
    for old, new in zip([frames[index] for index in (0, 1, 4, 5)], oxide, strict=True):
        assert_same(old, new)
    for old, new in zip(frames[2:4], read_system(tmp_path / "dataset/Li1Si1"), strict=True):
        assert_same(old, new)


def test_dpdata_reads_the_same_numbers(tmp_path: Path) -> None:
    frame = make_frame("OLiSiO", 3)
    write_dataset(tmp_path / "dataset", [frame], TYPES)
    data = dpdata.LabeledSystem(str(tmp_path / "dataset/Li1Si1O2"), fmt="deepmd/npy").data
    expected = sort_by_type(frame, TYPES)
    assert list(data["atom_names"]) == list(TYPES)
    assert data["atom_types"].tolist() == [0, 1, 2, 2]
    assert np.array_equal(data["coords"][0], expected.positions)
    assert np.array_equal(data["forces"][0], expected.arrays["forces"])
    assert np.array_equal(data["virials"][0], frame.info["virial"])
    assert data["energies"][0] == frame.info["energy"]


def test_the_type_map_is_whole_even_where_a_formula_lacks_an_element(tmp_path: Path) -> None:
    write_dataset(tmp_path / "dataset", [make_frame("O2", 0)], TYPES)
    system = tmp_path / "dataset/O2"
    assert (system / "type_map.raw").read_text().split() == list(TYPES)
    assert (system / "type.raw").read_text().split() == ["2", "2"]


def test_a_single_atom(tmp_path: Path) -> None:
    frame = make_frame("Si", 0)
    write_dataset(tmp_path / "dataset", [frame], TYPES)
    (again,) = read_system(tmp_path / "dataset/Si1")
    assert_same(frame, again)


def test_molecules_and_frames_without_virial_stand_apart(tmp_path: Path) -> None:
    frames = [make_frame("SiO2", 0), make_frame("SiO2", 1, pbc=False), make_frame("SiO2", 2, virial=False)]
    write_dataset(tmp_path / "dataset", frames, TYPES)
    names = ["Si1O2", "Si1O2_nopbc", "Si1O2_novirial"]
    assert [path.name for path in find_systems(tmp_path / "dataset")] == names
    assert (tmp_path / "dataset/Si1O2_nopbc/nopbc").exists()
    for frame, name in zip(frames, names, strict=True):
        (again,) = read_system(tmp_path / "dataset" / name)
        assert_same(frame, again)
        assert again.pbc.tolist() == [bool(frame.pbc.all())] * 3


SLABS = {
    "vacuum in the cell": ([[5, 0, 0], [2, 6, 0], [1, 1, 40]], (True, True, False)),
    "too little vacuum": ([[5, 0, 0], [2, 6, 0], [0, 0, 3]], (True, True, False)),
    "no third vector": ([[5, 0, 0], [2, 6, 0], [0, 0, 0]], (True, True, False)),
    "a wire along the second": ([[0, 0, 0], [0, 6, 1], [0, 0, 0]], (False, True, False)),
}


@pytest.mark.parametrize("name", SLABS)
def test_slabs_and_wires_are_stored_with_vacuum_whatever_their_cell(tmp_path: Path, name: str) -> None:
    frame = make_frame("OSiO", 4)
    cell, frame.pbc = SLABS[name]
    frame.set_cell(cell)
    write_dataset(tmp_path / "dataset", [frame], TYPES)
    (again,) = read_system(tmp_path / "dataset/Si1O2_novirial")  # what a virial would mean, nobody knows
    assert again.pbc.all() and np.array_equal(again.positions, sort_by_type(frame, TYPES).positions)
    periodic = np.flatnonzero(frame.pbc)
    assert np.array_equal(again.cell.array[periodic], frame.cell.array[periodic])
    for axis in np.flatnonzero(~frame.pbc):
        others = np.delete(again.cell.array, axis, axis=0)
        assert np.abs(others @ again.cell.array[axis]).max() < 1e-9
    alone = again.copy()  # no image across the vacuum comes within any cutoff
    alone.pbc = frame.pbc
    reach = [VACUUM / 2 - 1e-9] * 3
    assert len(neighbor_list("i", again, reach)) == len(neighbor_list("i", alone, reach))
    assert stored_key(again, TYPES) == stored_key(frame, TYPES)


def test_the_key_of_a_molecule_does_not_depend_on_a_box(tmp_path: Path) -> None:
    molecule = make_frame("SiO2", 1, pbc=False)
    bare = molecule.copy()
    bare.cell[:] = 0.0
    write_dataset(tmp_path / "dataset", [molecule, bare], TYPES)
    read = list(read_system(tmp_path / "dataset/Si1O2_nopbc"))
    assert [atoms.cell.rank for atoms in read] == [0, 0]
    assert {stored_key(atoms, TYPES) for atoms in (*read, molecule, bare)} == {stored_key(molecule, TYPES)}
    assert stored_key(molecule, TYPES) != stored_key(make_frame("SiO2", 1), TYPES)


def test_mixed_systems_have_the_species_of_each_frame(tmp_path: Path) -> None:
    """Li1Si2O1 and Li2Si1O1 fill one system, with O2 beside it."""
    frames = [make_frame(formula, seed) for seed, formula in enumerate(("LiSi2O", "Li2SiO", "LiSi2O", "O2"))]
    write_dataset(tmp_path / "plain", frames, TYPES)
    mixed = dpdata.MultiSystems()
    for folder in find_systems(tmp_path / "plain"):
        mixed.append(dpdata.LabeledSystem(str(folder), fmt="deepmd/npy"))
    mixed.to("deepmd/npy/mixed", str(tmp_path / "mixed"))
    systems = find_systems(tmp_path / "mixed")
    assert all((system / "set.000/real_atom_types.npy").exists() for system in systems)
    assert sorted(symbol for system in systems for symbol in system_elements(system)) == ["Li", "O", "O", "Si"]
    read = {atoms.info["energy"]: atoms for system in systems for atoms in read_system(system)}
    assert len(read) == sum(map(count_frames, systems)) == 4
    for frame in frames:
        assert_same(frame, read[frame.info["energy"]])


def test_atoms_that_only_fill_up_a_mixed_system_are_left_out(tmp_path: Path) -> None:
    frame = make_frame("Si3", 0)
    write_dataset(tmp_path / "dataset", [frame], TYPES)
    system = tmp_path / "dataset/Si3"
    np.save(system / "set.000/real_atom_types.npy", [[1, 2, -1]])
    (again,) = read_system(system)
    assert again.get_chemical_symbols() == ["Si", "O"] and system_elements(system) == ["Si", "O"]
    assert np.array_equal(again.arrays["forces"], frame.arrays["forces"][:2])


def test_a_dataset_that_holds_these_frames_already_is_left_alone(tmp_path: Path) -> None:
    frames = [make_frame("SiO2", seed) for seed in range(3)]
    write_dataset(tmp_path / "dataset", frames, TYPES)
    before = (tmp_path / "dataset").stat().st_ino
    write_dataset(tmp_path / "dataset", frames, TYPES)
    assert (tmp_path / "dataset").stat().st_ino == before
    write_dataset(tmp_path / "dataset", frames[:2], TYPES)
    assert (tmp_path / "dataset").stat().st_ino != before
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]
    assert count_frames(tmp_path / "dataset/Si1O2") == 2


def test_the_same_frames_make_the_same_bytes(tmp_path: Path) -> None:
    frames = [make_frame("SiO2", seed) for seed in range(3)]
    for name in ("a", "b", "c"):
        write_dataset(tmp_path / name, frames if name != "c" else frames[::-1], TYPES)
    assert hash_path(tmp_path / "a") == hash_path(tmp_path / "b")
    assert hash_path(tmp_path / "a") != hash_path(tmp_path / "c")


def test_a_dataset_appears_whole_and_over_the_rest_of_an_interrupted_write(tmp_path: Path) -> None:
    rest = tmp_path / ".dataset.tmp" / "Si9"
    rest.mkdir(parents=True)
    (rest / "type.raw").write_text("0")
    write_dataset(tmp_path / "dataset", [make_frame("Si", 0)], TYPES)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]
    assert [path.name for path in find_systems(tmp_path / "dataset")] == ["Si1"]


def test_many_frames_stay_in_one_set_and_are_counted(tmp_path: Path) -> None:
    frames = [make_frame("Si", seed) for seed in range(130)]
    write_dataset(tmp_path / "dataset", frames, TYPES)
    (system,) = find_systems(tmp_path / "dataset")
    assert [path.name for path in system.glob("set.*")] == ["set.000"]
    assert count_frames(system) == 130
    assert [atoms.info["energy"] for atoms in read_system(system)] == [atoms.info["energy"] for atoms in frames]


def test_a_folder_without_systems_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no deepmd/npy system"):
        find_systems(tmp_path)
