"""PWmat, extxyz, deepmd, LAMMPS dumps and what dpdata alone reads; and which format a file is in."""

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

import ase.io
import dpdata
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from output_files import FILES, unpack

from al_driver.data.dataset import write_dataset
from al_driver.data.formats.extxyz import read_extxyz
from al_driver.data.formats.load import Source, find_sources, load_source
from al_driver.data.formats.pwmat import read_movement
from al_driver.data.formats.recognise import find_recognised, recognise
from al_driver.data.formats.registry import full_name, read_steps
from al_driver.data.frames import Label, labelled_frame, write_frames
from al_driver.errors import ConfigError, EngineError


def frame(seed: int, virial: bool = True) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = bulk("SiC", "zincblende", a=4.4)
    atoms.rattle(0.1, seed=seed)
    label = Label(atoms, float(rng.normal()), rng.normal(size=(2, 3)), rng.normal(size=(3, 3)) if virial else None)
    return labelled_frame(label)


def test_movement_equals_the_numbers_printed() -> None:
    first, second = read_movement(FILES / "MOVEMENT_1.gz")
    assert (first.energy, second.energy) == (-0.3576828045e06, -0.3576827850e06)  # Ep, without the ions' motion
    assert str(first.atoms.symbols) == "Cu72"
    assert np.diag(first.atoms.cell.array).tolist() == [10.86378600, 10.86378600, 7.242524]
    assert first.atoms.get_scaled_positions(wrap=False)[1] == pytest.approx(
        [0.166545846787548, 0.167051811406380, 0.999631887565762]
    )
    assert first.forces[0].tolist() == [0.018471657903432, 0.012960423864921, -0.049977022608987]  # it prints -force
    assert first.virial[0].tolist() == [-734.547, 0.240455, 0.244180]  # it prints +dE/dstrain


def test_movement_has_the_sign_of_the_pressure_it_prints_itself() -> None:
    text = gzip.decompress((FILES / "MOVEMENT_1.gz").read_bytes()).decode()
    for label, block in zip(read_movement(FILES / "MOVEMENT_1.gz"), text.split("Pressure Internal")[1:], strict=True):
        rows = [[float(word) for word in line.split()] for line in block.splitlines()[1:4]]
        pressure = np.array(rows) * 27.211386245988 / 0.529177210903**3
        assert label.virial == pytest.approx(pressure * label.atoms.get_volume(), rel=1e-4)


def test_movement_equals_what_dpdata_reads_but_for_the_sign_of_the_virial(tmp_path: Path) -> None:
    data = dpdata.LabeledSystem(str(unpack("MOVEMENT_1", tmp_path)), fmt="pwmat/movement").data
    for index, label in enumerate(read_movement(FILES / "MOVEMENT_1.gz")):
        assert label.energy == data["energies"][index]
        order, other = (np.lexsort(forces.round(9).T) for forces in (label.forces, data["forces"][index]))
        assert np.abs(label.forces[order] - data["forces"][index][other]).max() < 1e-12
        found = np.sort(label.atoms.positions.ravel())
        assert np.abs(found - np.sort(data["coords"][index].ravel())).max() < 1e-9
        assert label.virial == pytest.approx(-data["virials"][index], rel=2e-4)  # it takes 1602 kbar Å³ for an eV


def test_movement_tells_what_is_unconverged_or_not_whole(tmp_path: Path) -> None:
    text = unpack("MOVEMENT_1", tmp_path).read_text()
    (tmp_path / "a").write_text(text.replace("SCF =     4", "SCF =    40"))
    label, error = read_movement(tmp_path / "a")
    assert isinstance(label, Label)
    assert (error.reason, error.detail) == ("scf_unconverged", "step 2: 40 electronic steps, and PWmat's limit is 40")
    (tmp_path / "b").write_text(text[: text.rindex(" Force")])
    _, error = read_movement(tmp_path / "b")
    assert (error.reason, error.detail) == ("no_output", "step 2 is not whole")
    lines = text.splitlines(keepends=True)
    tables = [index for index, line in enumerate(lines) if line.startswith((" Lattice", " Position", " Force"))][:3]
    for index in (place + row for place in tables for row in (1, 2)):  # twice, or only half of it
        for other in (2 * lines[index], lines[index][:40] + "\n"):
            (tmp_path / "c").write_text("".join([*lines[:index], other, *lines[index + 1 :]]))
            error, label = read_movement(tmp_path / "c")
            assert isinstance(error, EngineError) and error.detail == "step 1 is not whole", (index, other)
            assert isinstance(label, Label)


@pytest.mark.parametrize("count", ["", ", SCF = *****", ", SCF =", ", SCF =    -1", ", SCF =     0"])
def test_a_frame_of_a_movement_without_its_electronic_steps_is_not_known_to_have_converged(
    count: str, tmp_path: Path
) -> None:
    """So write the force fields of PWmat's makers, whose MOVEMENT is otherwise the same."""
    text = unpack("MOVEMENT_1", tmp_path).read_text()
    (tmp_path / "a").write_text(text.replace(", SCF =     4", count))
    label, error = read_movement(tmp_path / "a")
    assert isinstance(label, Label) and isinstance(error, EngineError)
    words = "step 2: no number of electronic steps is told, so nothing shows that it converged"
    assert (error.reason, error.detail) == ("scf_unconverged", words)


def test_extxyz_prefers_the_energy_that_the_forces_derive_from(tmp_path: Path) -> None:
    atoms = bulk("Al")
    results = {"energy": -1.5, "free_energy": -2.0, "forces": np.ones((1, 3)), "stress": np.arange(1.0, 7.0)}
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info["config_type"] = "bulk"
    ase.io.write(tmp_path / "a.extxyz", atoms)
    (label,) = read_extxyz(tmp_path / "a.extxyz")
    assert label.energy == -2.0
    stress = np.array([[1, 6, 5], [6, 2, 4], [5, 4, 3]])
    assert label.virial == pytest.approx(-stress * atoms.get_volume())
    assert label.info["config_type"] == "bulk"


def test_extxyz_with_half_a_label_names_what_it_has(tmp_path: Path) -> None:
    atoms = frame(1)
    atoms.arrays["dft_forces"] = atoms.arrays.pop("forces")
    ase.io.write(tmp_path / "a.extxyz", atoms, columns=["symbols", "positions", "dft_forces"])
    (error,) = read_extxyz(tmp_path / "a.extxyz")
    assert isinstance(error, EngineError)
    assert error.detail == "frame 1 has no `forces`; it has dft_forces, energy, virial"


def test_raw_and_npy_of_one_set_are_equal(tmp_path: Path) -> None:
    write_dataset(tmp_path / "npy", [frame(1), frame(2)], ["C", "Si"])
    dpdata.LabeledSystem(str(tmp_path / "npy/C1Si1"), fmt="deepmd/npy").to("deepmd/raw", str(tmp_path / "raw"))
    assert [recognise(tmp_path / path) for path in ("npy/C1Si1", "raw")] == ["deepmd/npy", "deepmd/raw"]
    npy = list(read_steps(tmp_path / "npy/C1Si1", "deepmd/npy"))
    raw = list(read_steps(tmp_path / "raw", "deepmd/raw"))
    for one, other in zip(npy, raw, strict=True):
        assert one.atoms.get_chemical_symbols() == other.atoms.get_chemical_symbols() == ["C", "Si"]
        for name in ("energy", "forces", "virial"):
            assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-10, abs=1e-10)
    (tmp_path / "raw/energy.raw").write_text("1.0\n")
    with pytest.raises(
        ConfigError, match=r"raw: cannot be read as deepmd/raw .*frames disagree: coord 2, force 2, energy 1"
    ):
        list(read_steps(tmp_path / "raw", "deepmd/raw"))


DUMP = """ITEM: TIMESTEP
{step}
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp pp
0 4
1 9
0 10
ITEM: ATOMS {columns}
{rows}
"""


def write_dump(path: Path, columns: str, rows: list[str]) -> Path:
    path.write_text("".join(DUMP.format(step=step, columns=columns, rows="\n".join(rows)) for step in (0, 10)))
    return path


def test_dumps_are_structures_and_need_to_know_their_elements(tmp_path: Path) -> None:
    path = write_dump(tmp_path / "dump", "id type x y z fx fy fz", ["2 1 1 2 3 0 0 0", "1 2 3 2 1 0 0 0"])
    first, second = read_steps(path, "lammps/dump", ["Si", "O"])
    assert first.get_chemical_symbols() == ["O", "Si"]
    assert (first.info["timestep"], second.info["timestep"]) == (0, 10)
    assert second.positions.tolist() == [[3, 2, 1], [1, 2, 3]]
    with pytest.raises(ConfigError, match=r"numbers for species; say which elements they are, e.g. --type-map Si,O"):
        list(read_steps(path, "lammps/dump"))
    with pytest.raises(ConfigError, match="type 2 in the dump, but 1 elements"):
        list(read_steps(path, "lammps/dump", ["Si"]))


def test_dumps_with_elements_and_scaled_positions(tmp_path: Path) -> None:
    path = write_dump(tmp_path / "dump", "id type element xs ys zs", ["1 3 Si 0.5 0.5 0.5", "2 1 O 0.25 0 0"])
    first, _ = read_steps(path, "lammps/dump")
    assert first.get_chemical_symbols() == ["Si", "O"]
    assert first.positions.tolist() == [[2, 4, 5], [1, 0, 0]]
    other = ase.io.read(path, index=0, format="lammps-dump-text")
    assert other.get_chemical_symbols() == ["Si", "O"]
    assert other.get_distance(0, 1) == pytest.approx(first.get_distance(0, 1))


def test_what_only_dpdata_reads_is_read_by_it(tmp_path: Path) -> None:
    sent = frame(3)
    data = {
        "atom_names": ["Si", "C"], "atom_numbs": [1, 1], "atom_types": np.array([0, 1]), "orig": np.zeros(3),
        "cells": sent.cell.array[None], "coords": sent.positions[None], "energies": np.array([sent.info["energy"]]),
        "forces": sent.arrays["forces"][None], "virials": sent.info["virial"][None],
    }  # fmt: skip
    dpdata.LabeledSystem(data=data).to("deepmd/hdf5", str(tmp_path / "a.hdf5"))
    (step,) = read_steps(tmp_path / "a.hdf5", full_name("deepmd/hdf5"))
    assert step.energy == sent.info["energy"]
    bulk("Ge").write(tmp_path / "POSCAR", format="vasp")
    (structure,) = read_steps(tmp_path / "POSCAR", full_name("vasp/poscar"))
    assert isinstance(structure, Atoms) and structure.get_chemical_symbols() == ["Ge", "Ge"]
    with pytest.raises(ConfigError, match=r"knows no format 'vasp/outcr'; did you mean 'vasp/outcar'\?"):
        full_name("vasp/outcr")


def test_formats_are_recognised_by_content(tmp_path: Path) -> None:
    found = {found.path.relative_to(FILES).as_posix(): found.format for found in find_recognised(FILES)}
    for start, name in {"OUTCAR": "vasp/outcar", "vasprun": "vasp/xml", "MOVEMENT": "pwmat/movement"}.items():
        assert {found[path] for path in found if path.startswith(start)} == {name}
    assert {name for path, name in found.items() if path.startswith("cp2k")} == {"cp2k/output"}  # not its .xyz
    assert "README.md" not in found
    path = unpack("OUTCAR.h2o.md", tmp_path)
    shutil.move(path, tmp_path / "out")
    assert recognise(tmp_path / "out") == "vasp/outcar"
    write_frames(tmp_path / "frames", [frame(1)])
    assert recognise(tmp_path / "frames") == "extxyz"
    write_dump(tmp_path / "dump", "id type x y z", ["1 1 0 0 0", "2 1 1 1 1"])
    assert recognise(tmp_path / "dump") == "lammps/dump"
    (tmp_path / "out2").write_text("\n     Program PWSCF v.6.7 starts on\n")
    assert recognise(tmp_path / "out2") == "qe/pw"
    (tmp_path / "notes").write_text("12\nnotes\n")
    assert recognise(tmp_path / "notes") is None


def write_unreadable(folder: Path) -> None:
    packed = gzip.compress(b"hello " * 1000)
    (folder / "damaged.gz").write_bytes(packed[:12] + b"\xff" * 8 + packed[20:])
    (folder / "cut.gz").write_bytes(packed[:-12])
    (folder / "false.bz2").write_bytes(b"no bzip")
    (folder / "false.gz").write_bytes(b"no gzip")
    (folder / "false.xz").write_bytes(b"no xz")
    (folder / "OUTCAR").symlink_to(folder / "nowhere")


def test_what_cannot_be_read_is_told_and_hides_nothing_else(tmp_path: Path) -> None:
    write_unreadable(tmp_path)
    write_frames(tmp_path / "good.extxyz", [frame(1)])
    found = {found.path.name: found for found in find_recognised(tmp_path)}
    assert found.pop("good.extxyz").format == "extxyz"
    assert sorted(found) == ["OUTCAR", "cut.gz", "damaged.gz", "false.bz2", "false.gz", "false.xz"]
    for name, words in {
        "OUTCAR": "a link to nothing",
        "false.xz": "LZMAError",
        "damaged.gz": "error: Error -3",
    }.items():
        assert found[name].problem.startswith("cannot be read (") and words in found[name].problem
    for name in ("false.xz", "damaged.gz", "cut.gz"):
        (source,) = find_sources(tmp_path / name, None)
        assert load_source(source).problem == found[name].problem
    assert sum(bool(source.problem) for source in find_sources(tmp_path, "vasp/outcar")) == 6


def test_a_folder_that_links_lead_to_again_is_searched_once(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    write_frames(tmp_path / "b/a.extxyz", [frame(1)])
    (tmp_path / "b/up").symlink_to(tmp_path)
    (tmp_path / "a").symlink_to(tmp_path / "b")
    assert [found.path for found in find_recognised(tmp_path)] == [tmp_path / "a/a.extxyz"]


def test_a_forbidden_folder_is_told_and_the_others_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        write_frames(tmp_path / name / "a.extxyz", [frame(1)])
    listed = Path.iterdir

    def forbid(path: Path) -> Iterator[Path]:
        if path.name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", forbid)
    first, second, third = find_recognised(tmp_path)
    assert (first.path.parent.name, third.path.parent.name) == ("a", "c")
    assert (second.path.name, second.problem) == ("b", "cannot be read (PermissionError: Permission denied)")


def test_steps_that_are_not_finite_are_left_out_and_counted(tmp_path: Path) -> None:
    text = (
        unpack("OUTCAR.h2o.md", tmp_path)
        .read_text()
        .replace("-1.267066", "*********", 1)
        .replace("1.267066", "*" * 8, 1)
    )
    (tmp_path / "OUTCAR").write_text(text)
    loaded = load_source(Source(tmp_path / "OUTCAR", "vasp/outcar"))
    assert loaded.left_out == [("not_finite", "step 1: forces")]
    assert (loaded.n_steps, loaded.moments, loaded.elements) == (3, [1, 2], {"H", "O"})
    assert [info["step"] for info in loaded.blocks[0].infos] == [2, 3]


def test_forces_of_other_atoms_than_the_positions_are_told(tmp_path: Path) -> None:
    text = unpack("MOVEMENT_1", tmp_path).read_text()
    head, sign, after = text.partition("\n Force")
    (tmp_path / "a").write_text(head + sign + after.replace("\n  29 ", "\n   8 ", 1))
    first, second = read_movement(tmp_path / "a")
    assert isinstance(first, EngineError) and isinstance(second, Label)
    assert (first.reason, first.detail) == ("no_output", "step 1: its forces are not of the atoms of its positions")
