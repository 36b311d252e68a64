"""LAMMPS dumps: boxes, columns, elements; a damaged dump gives every frame that is whole."""

from pathlib import Path

import numpy as np
import pytest

from al_driver.data import lammps_dump
from al_driver.data.lammps_dump import dump_steps, last_step, read_any_dump, read_dump
from al_driver.errors import EngineError

FRAME = """ITEM: TIMESTEP
{step}
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS {box}
ITEM: ATOMS id type x y z fx fy fz
2 1 1.5 2.5 {step} 0.1 0.2 0.3
1 2 -0.5 0 1e-3 -0.1 -0.2 -nan
"""
ORTHOGONAL = "pp pp ff\n-1 4\n0 6\n0 7"
BOXES = {
    ORTHOGONAL: ([[5, 0, 0], [0, 6, 0], [0, 0, 7]], [True, True, False]),
    "xy xz yz pp pp pp\n-2 6 1\n0 6.5 -2\n0 7 0.5": ([[5, 0, 0], [1, 6, 0], [-2, 0.5, 7]], [True, True, True]),
    "abc origin pp pp pp\n5 1 0 0\n0 6 1 0\n1 0 7 0": ([[5, 1, 0], [0, 6, 1], [1, 0, 7]], [True, True, True]),
    "\n0 5\n0 6\n0 7": ([[5, 0, 0], [0, 6, 0], [0, 0, 7]], [True, True, True]),
}


@pytest.mark.parametrize("box", BOXES)
def test_dump_boxes(tmp_path: Path, box: str) -> None:
    (tmp_path / "dump").write_text(FRAME.format(step=0, box=box))
    ((step, atoms),) = read_dump(tmp_path / "dump", None, ["Si", "C"])
    cell, pbc = BOXES[box]
    assert step == 0 and np.allclose(atoms.cell.array, cell) and list(atoms.pbc) == pbc


def test_dump_is_sorted_and_filtered(tmp_path: Path) -> None:
    (tmp_path / "dump").write_text("".join(FRAME.format(step=step, box=ORTHOGONAL) for step in (0, 10, 20)))
    assert dump_steps(tmp_path / "dump") == [0, 10, 20]
    frames = dict(read_dump(tmp_path / "dump", {20, 0}, ["Si", "C"]))
    assert list(frames) == [0, 20]
    assert frames[20].get_chemical_symbols() == ["C", "Si"]
    assert frames[20].positions.tolist() == [[-0.5, 0, 1e-3], [1.5, 2.5, 20]]
    assert frames[20].arrays["forces"][1].tolist() == [0.1, 0.2, 0.3]
    assert np.isnan(frames[20].arrays["forces"][0, 2])


def test_dump_cut_anywhere_gives_the_frames_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lammps_dump, "TAIL_BYTES", 100)
    one = FRAME.format(step=0, box=ORTHOGONAL)
    whole = (one + one).encode()
    for length in range(len(whole) + 1):
        (tmp_path / "dump").write_bytes(whole[:length])
        assert len(list(read_dump(tmp_path / "dump", None, ["Si", "C"]))) == length // len(one), length
        assert last_step(tmp_path / "dump") == max(dump_steps(tmp_path / "dump"), default=None)
    assert dump_steps(tmp_path / "nothing") == [] and last_step(tmp_path / "nothing") is None


def test_dump_without_positions_or_with_a_foreign_type_is_named(tmp_path: Path) -> None:
    (tmp_path / "dump").write_text(FRAME.format(step=0, box=ORTHOGONAL).replace("x y z", "vx vy vz"))
    with pytest.raises(EngineError, match="columns id type vx vy vz fx fy fz, and no x"):
        list(read_dump(tmp_path / "dump", None, ["Si", "C"]))
    (tmp_path / "dump").write_text(FRAME.format(step=0, box=ORTHOGONAL))
    with pytest.raises(EngineError, match="type 2 in the dump, but 1 elements"):
        list(read_dump(tmp_path / "dump", None, ["Si"]))


def test_dump_without_forces_has_none(tmp_path: Path) -> None:
    text = FRAME.format(step=0, box=ORTHOGONAL).replace(" fx fy fz", "")
    lines = text.splitlines()
    lines[-2:] = [" ".join(line.split()[:5]) for line in lines[-2:]]
    (tmp_path / "dump").write_text("\n".join(lines) + "\n")
    ((_, atoms),) = read_dump(tmp_path / "dump", None, ["Si", "C"])
    assert "forces" not in atoms.arrays


ELEMENTS = (
    FRAME.replace("id type x", "id type element x").replace("2 1 1.5", "2 1 Si 1.5").replace("1 2 -0.5", "1 2 O -0.5")
)


def test_the_column_element_decides_in_a_dump_of_anybodys(tmp_path: Path) -> None:
    (tmp_path / "dump").write_text(ELEMENTS.format(step=0, box=ORTHOGONAL))
    for type_map in (["O", "Si"], ["Si", "O"], []):
        ((_, atoms),) = read_any_dump(tmp_path / "dump", type_map)
        assert atoms.get_chemical_symbols() == ["O", "Si"]
    ((_, own),) = read_dump(tmp_path / "dump", None, ["C", "Ge"])  # of a template that says nothing of elements
    assert own.get_chemical_symbols() == ["Ge", "C"]
    (tmp_path / "dump").write_text(ELEMENTS.format(step=0, box=ORTHOGONAL).replace("id type element", "id mol element"))
    ((_, atoms),) = read_any_dump(tmp_path / "dump", [])
    assert atoms.get_chemical_symbols() == ["O", "Si"]
    (tmp_path / "dump").write_text(ELEMENTS.format(step=0, box=ORTHOGONAL).replace(" O ", " Ow "))
    with pytest.raises(EngineError, match="the column element has Ow, which is no element"):
        list(read_any_dump(tmp_path / "dump", ["O", "Si"]))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2 1 1.5 2.5 10 0.1 0.2 0.3\n", ""),
        ("2 1 1.5 2.5 10 0.1 0.2 0.3\n", "2 1 1.5 2.5 10 0.1\n"),
        ("2.5 10 0.1", "2.5 10.0.0 0.1"),
        ("ITEM: TIMESTEP\n10\n", "ITEM: TIM\n10\n"),
        ("ITEM: TIMESTEP\n10\n", "ITEM: TIMESTEP\n"),
        ("ITEM: TIMESTEP\n10\nITEM: NUMBER OF ATOMS\n2\n", "ITEM: TIMESTEP\n10\nITEM: NUMBER OF ATOMS\n0\n"),
        ("ITEM: TIMESTEP\n10\nITEM: NUMBER OF ATOMS\n2\n", "ITEM: TIMESTEP\n10\nITEM: NUMBER OF ATOMS\n3\n"),
    ],
)
def test_frames_behind_a_broken_one_are_read_and_that_one_is_counted(tmp_path: Path, old: str, new: str) -> None:
    text = "".join(FRAME.format(step=step, box=ORTHOGONAL) for step in (0, 10, 20, 30))
    assert text.count(old) == 1
    (tmp_path / "dump").write_text(text.replace(old, new))
    first, second, third, fourth = read_any_dump(tmp_path / "dump", ["Si", "C"])
    assert (first[0], third[0], fourth[0]) == (0, 20, 30)
    assert isinstance(second, EngineError)
    assert (second.reason, second.detail) == ("no_output", "frame 2 is not whole")
    assert [step for step, _ in read_dump(tmp_path / "dump", None, ["Si", "C"])] == [0, 20, 30]


def test_units_and_time_stand_before_a_frame(tmp_path: Path) -> None:
    frames = [FRAME.format(step=step, box=ORTHOGONAL) for step in (0, 10)]
    text = f"ITEM: UNITS\nmetal\nITEM: TIME\n0\n{frames[0]}ITEM: TIME\n0.01\n{frames[1]}"
    (tmp_path / "dump").write_text(text)
    assert dump_steps(tmp_path / "dump") == [0, 10]
    assert [step for step, _ in read_any_dump(tmp_path / "dump", ["Si", "C"])] == [0, 10]
    (tmp_path / "dump").write_text(text.replace("metal", "electron"))
    with pytest.raises(EngineError, match="the dump has units electron; metal or real were expected"):
        list(read_any_dump(tmp_path / "dump", ["Si", "C"]))
