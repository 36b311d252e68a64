"""What a user hands in: read whole, or refused with the file's name and a reason."""

from pathlib import Path

import dpdata
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from output_files import FILES

from al_driver.data.dataset import write_dataset
from al_driver.data.frames import write_frames
from al_driver.data.sources import read_labelled, read_structures
from al_driver.errors import ConfigError


def _labelled(atoms: Atoms, seed: int, virial: bool = True) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = atoms.copy()
    atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
    atoms.info["energy"] = float(rng.normal())
    atoms.arrays["forces"] = rng.normal(size=(len(atoms), 3))
    if virial:
        atoms.info["virial"] = rng.normal(size=(3, 3))
    return atoms


def _says(path: Path, match: str, type_map=("Si",), **keys) -> None:
    read = read_labelled if "format" in keys else read_structures
    with pytest.raises(ConfigError, match=match) as caught:
        read(path, type_map=type_map, **keys)
    assert str(path.parent) in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


def test_a_pattern_is_read_in_sorted_order_and_every_frame_of_a_file(tmp_path):
    for name, size in (("b.vasp", 2), ("a.vasp", 1)):
        (bulk("Si") * (size, 1, 1)).write(tmp_path / name)
    write_frames(tmp_path / "c.extxyz", [bulk("Si", cubic=True)] * 3)
    assert [len(atoms) for atoms in read_structures(tmp_path / "*", ["Si"])] == [2, 4, 8, 8, 8]


def test_only_geometry_is_kept_and_pbc_can_be_set(tmp_path):
    atoms = _labelled(bulk("Si"), 1)
    write_frames(tmp_path / "a.extxyz", [atoms])
    (read,) = read_structures(tmp_path / "a.extxyz", ["Si", "C"], pbc=(True, True, False))
    assert read.pbc.tolist() == [True, True, False]
    assert set(read.arrays) == {"numbers", "positions"} and not read.info and read.calc is None
    assert (read.positions == atoms.positions).all()


def test_structures_that_cannot_serve_are_refused(tmp_path):
    bulk("Ge").write(tmp_path / "ge.vasp")
    molecule("H2O").write(tmp_path / "h2o.xyz")
    (tmp_path / "junk").write_text("hello")
    (tmp_path / "empty.vasp").write_text("")
    _says(tmp_path / "ge.vasp", r"ge.vasp: has Ge, which type_map \['Si'\] lacks")
    _says(tmp_path / "h2o.xyz", "no cell along a periodic direction", type_map=("H", "O"), pbc=(True, True, True))
    _says(tmp_path / "junk", r"junk: cannot be read by ASE \(UnknownFileTypeError")
    _says(tmp_path / "empty.vasp", "empty.vasp: cannot be read by ASE")
    _says(tmp_path / "gee.vasp", r"does not exist; did you mean 'ge.vasp'\?")
    _says(tmp_path / "*.cif", "no file matches this pattern")
    _says(tmp_path / "sub" / "x", "does not exist; there is no folder")
    with pytest.raises(ConfigError, match="is a folder; a structure file was expected"):
        read_structures(tmp_path, ["Si"])
    assert len(read_structures(tmp_path / "h2o.xyz", ["H", "O"])) == 1


def test_npy_folders_are_found_at_any_depth(tmp_path):
    frames = [_labelled(bulk("SiC", "zincblende", a=4.4), seed) for seed in range(3)]
    write_dataset(tmp_path / "a" / "b", frames, ["Si", "C"])
    write_dataset(tmp_path / "c", [_labelled(bulk("Si"), 9, virial=False)], ["Si", "C"])
    read = read_labelled(tmp_path, None, ["C", "Si"])
    assert len(read) == 4
    for got, sent in zip(read, frames, strict=False):
        assert got.get_chemical_symbols() == ["Si", "C"]
        assert got.info["energy"] == sent.info["energy"]
        assert (got.arrays["forces"] == sent.arrays["forces"]).all()
        assert got.info["virial"] == pytest.approx(sent.info["virial"], abs=1e-12)
    assert "virial" not in read[3].info
    assert len(read_labelled(tmp_path / "a", "deepmd/npy", ["C", "Si"])) == 3


def test_mixed_systems_are_recognised(tmp_path):
    frames = [_labelled(bulk("SiC", "zincblende", a=4.4), 1), _labelled(bulk("Si"), 2)]
    write_dataset(tmp_path / "plain", frames, ["Si", "C"])
    mixed = dpdata.MultiSystems()
    for folder in sorted((tmp_path / "plain").iterdir()):
        mixed.append(dpdata.LabeledSystem(str(folder), fmt="deepmd/npy"))
    mixed.to("deepmd/npy/mixed", str(tmp_path / "mixed"))
    read = read_labelled(tmp_path / "mixed", None, ["Si", "C"])
    assert sorted(atoms.info["energy"] for atoms in read) == sorted(atoms.info["energy"] for atoms in frames)


def test_extxyz_comes_back_to_the_bit(tmp_path):
    frame = _labelled(bulk("Si"), 5)
    write_frames(tmp_path / "a.extxyz", [frame])
    (read,) = read_labelled(tmp_path / "a.extxyz", None, ["Si"])
    assert read.info["energy"] == frame.info["energy"]
    assert (read.arrays["forces"] == frame.arrays["forces"]).all()
    assert (read.info["virial"] == frame.info["virial"]).all()


def test_labelled_data_that_cannot_serve_are_refused(tmp_path):
    write_dataset(tmp_path / "sic", [_labelled(bulk("SiC", "zincblende", a=4.4), 1)], ["Si", "C"])
    write_frames(tmp_path / "bare.extxyz", [bulk("Si")])
    broken = _labelled(bulk("Si"), 1)
    broken.info["energy"] = float("nan")
    write_dataset(tmp_path / "nan", [broken], ["Si"])
    (tmp_path / "junk").write_text("hello")
    (tmp_path / "nothing").mkdir()
    _says(tmp_path / "sic", r"sic: has C, which type_map \['Si'\] lacks", format=None)
    _says(tmp_path / "bare.extxyz", "a frame without energy or forces", format=None)
    flat = _labelled(bulk("Si"), 2)
    flat.cell[2] = 0.0
    write_frames(tmp_path / "flat.extxyz", [flat])
    _says(tmp_path / "flat.extxyz", "a frame without a cell along a periodic direction", format=None)
    _says(tmp_path / "nan", "energy or forces are not finite", format=None)
    _says(tmp_path / "junk", "is a file; say what it is by `format`", format=None)
    _says(tmp_path / "junk", r"knows no format 'vasp/outcr'; did you mean 'vasp/outcar'\?", format="vasp/outcr")
    _says(tmp_path / "junk", r"junk: cannot be read as vasp/outcar \(ValueError", format="vasp/outcar")
    _says(tmp_path / "junk", "junk: holds no labelled frame, read as cp2k/output", format="cp2k/output")
    _says(tmp_path / "nothing", "no deepmd/npy system", format=None)
    _says(tmp_path / "sicc", r"does not exist; did you mean 'sic'\?", format=None)


def test_a_damaged_npy_folder_is_named(tmp_path):
    write_dataset(tmp_path / "a", [_labelled(bulk("Si"), 1)], ["Si"])
    coord = tmp_path / "a/Si2/set.000/coord.npy"
    coord.write_bytes(coord.read_bytes()[:-8])
    _says(tmp_path / "a", "Si2: cannot be read as deepmd/npy", format=None)
    coord.unlink()
    _says(tmp_path / "a", "Si2: cannot be read as deepmd/npy", format=None)


def test_unconverged_steps_never_enter_and_are_told(tmp_path, caplog):
    (atoms,) = read_labelled(FILES / "OUTCAR.ch4.unconverged.gz", None, ["H", "C"])  # the format is recognised
    assert atoms.info["energy"] == -23.94708651
    assert "OUTCAR.ch4.unconverged.gz: 2 of 3 steps left out: scf_unconverged: step 1: 15 electronic" in caplog.text
    path = FILES / "OUTCAR.ch4.1step.gz"
    with pytest.raises(ConfigError, match=r"1step.gz: holds no labelled frame, read as vasp/outcar"):
        read_labelled(path, "vasp/outcar", ["H", "C"])
    found = read_labelled(FILES, "vasp/outcar", ["H", "C", "O", "Ge"])  # a folder of them
    assert sorted(str(atoms.symbols) for atoms in found) == ["Ge8", "H4C", "O2H4", "O2H4", "O2H4"]
    with pytest.raises(ConfigError, match="files: holds no file in the format lammps/dump"):
        read_labelled(FILES, "lammps/dump", ["H"])
