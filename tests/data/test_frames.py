"""Frames: every digit of an extxyz file, labels, and the key by which a frame is found again."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from al_driver.data.frames import Label, frame_key, labelled_frame, read_frames, sort_by_type, write_frames


def make_labelled(n_atoms: int = 5, seed: int = 0, virial: bool = True) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = Atoms(rng.choice(["Si", "O", "Li"], n_atoms), rng.normal(size=(n_atoms, 3)) * 10.0 ** rng.integers(-8, 3))
    atoms.cell = rng.normal(size=(3, 3)) * 7
    atoms.pbc = True
    label = Label(
        atoms, float(rng.normal() * 1e3), rng.normal(size=(n_atoms, 3)), rng.normal(size=(3, 3)) if virial else None
    )
    return labelled_frame(label, {"task": 3, "structure": "bulk", "score": float(rng.normal()), "converged": True})


def test_extxyz_keeps_every_bit(tmp_path: Path) -> None:
    frames = [make_labelled(seed=seed) for seed in range(20)]
    write_frames(tmp_path / "frames.extxyz", frames)
    again = read_frames(tmp_path / "frames.extxyz")
    assert len(again) == 20
    for old, new in zip(frames, again, strict=True):
        assert old.get_chemical_symbols() == new.get_chemical_symbols()
        assert np.array_equal(old.positions, new.positions)
        assert np.array_equal(old.cell.array, new.cell.array)
        assert np.array_equal(old.arrays["forces"], new.arrays["forces"])
        assert np.array_equal(old.info["virial"], new.info["virial"])
        assert old.info["energy"] == new.info["energy"]
        assert old.info["score"] == new.info["score"]
        assert new.calc is None


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-300, -1.7976931348623157e308, 5e-324, 123456789.123456789, 0.0])
def test_awkward_numbers_keep_every_bit(value: float, tmp_path: Path) -> None:
    atoms = Atoms("H", [(value, -value, 1.0)], cell=np.eye(3), pbc=True)
    atoms.info["energy"] = value
    write_frames(tmp_path / "frames.extxyz", [atoms])
    (again,) = read_frames(tmp_path / "frames.extxyz")
    assert again.positions.tolist() == [[value, -value, 1.0]]
    assert again.info["energy"] == value


def test_info_keeps_its_types_and_awkward_texts(tmp_path: Path) -> None:
    info = {
        "index": 7,
        "flag": True,
        "off": np.bool_(False),
        "name": 'a "quoted" word = yes',
        "path": "C:\\x y",
        "structure": "bulk.2x2",
    }
    atoms = Atoms("H", cell=np.eye(3), pbc=(True, False, True), info=info)
    write_frames(tmp_path / "frames.extxyz", [atoms])
    (again,) = read_frames(tmp_path / "frames.extxyz")
    assert again.info["index"] == 7
    assert again.info["flag"] is True or again.info["flag"] == np.True_
    assert not again.info["off"]
    assert {key: again.info[key] for key in ("name", "path", "structure")} == {
        key: info[key] for key in ("name", "path", "structure")
    }
    assert again.pbc.tolist() == [True, False, True]


@pytest.mark.parametrize(
    "text",
    [
        "001",
        "T",
        "F",
        "true",
        "1e5",
        "1 2 3",
        "nan",
        "T F",
        "",
        " a ",
        "[1, 2]",
        '_JSON "x"',
        '1\\"',
        "é",
        "x=1",
        "7.0",
    ],
)
def test_a_text_stays_that_text_whatever_it_looks_like(text: str, tmp_path: Path) -> None:
    write_frames(tmp_path / "frames.extxyz", [Atoms("H", info={"structure": text, "step": 3})])
    (again,) = read_frames(tmp_path / "frames.extxyz")
    assert type(again.info["structure"]) is str and again.info == {"structure": text, "step": 3}


def test_a_label_without_virial_and_a_frame_without_label(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames.extxyz", [make_labelled(virial=False), bulk("Si")])
    labelled, plain = read_frames(tmp_path / "frames.extxyz")
    assert "virial" not in labelled.info
    assert "forces" in labelled.arrays
    assert "forces" not in plain.arrays
    assert "energy" not in plain.info


def test_no_frames_make_an_empty_file(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames.extxyz", [])
    assert read_frames(tmp_path / "frames.extxyz") == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "frames.extxyz"
    write_frames(path, [bulk("Si")])
    with pytest.raises(AttributeError):
        write_frames(path, [bulk("Ge"), None])  # type: ignore[list-item]
    assert read_frames(path)[0].get_chemical_symbols() == ["Si", "Si"]


def test_sorting_by_type_keeps_the_order_within_a_type_and_carries_arrays() -> None:
    atoms = Atoms("OSiOLiSi", np.arange(15.0).reshape(5, 3))
    atoms.arrays["forces"] = -atoms.positions
    ordered = sort_by_type(atoms, ["Li", "Si", "O"])
    assert ordered.get_chemical_symbols() == ["Li", "Si", "Si", "O", "O"]
    assert ordered.positions[:, 0].tolist() == [9.0, 3.0, 12.0, 0.0, 6.0]
    assert np.array_equal(ordered.arrays["forces"], -ordered.positions)
    assert atoms.get_chemical_symbols() == ["O", "Si", "O", "Li", "Si"]


def test_the_key_of_a_frame_knows_wrapping_and_nothing_else() -> None:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1)
    key = frame_key(atoms)
    wrapped = atoms.copy()
    wrapped.positions += 3 * atoms.cell[0] - atoms.cell[2]
    assert frame_key(wrapped) == key
    labelled = labelled_frame(Label(atoms, -1.0, np.zeros((8, 3))))
    assert frame_key(labelled) == key
    moved, strained, other, open_ = (atoms.copy() for _ in range(4))
    moved.positions[0, 0] += 1e-4
    strained.set_cell(atoms.cell.array * 1.0001, scale_atoms=False)
    other.symbols[0] = "Ge"
    open_.pbc = (True, True, False)
    assert len({key, *(frame_key(frame) for frame in (moved, strained, other, open_))}) == 5


def test_a_labelled_frame_is_a_copy() -> None:
    atoms = bulk("Si")
    frame = labelled_frame(Label(atoms, -2.0, np.ones((2, 3)), np.eye(3)), {"task": 1})
    assert frame.info["task"] == 1
    assert frame.info["energy"] == -2.0
    assert np.array_equal(frame.info["virial"], np.eye(3))
    assert "forces" not in atoms.arrays
    assert "energy" not in atoms.info
