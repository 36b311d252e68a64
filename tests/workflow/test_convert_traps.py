"""``al convert``: what must not slip through — equal frames, elements that are none, an empty half, bad targets."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from rich.console import Console
from small_run import call_al

import al_driver
from al_driver.data.blocks import pack
from al_driver.data.frames import Label, frame_key, labelled_frame, write_frames
from al_driver.errors import ConfigError, StateMismatch
from al_driver.live import file_bar
from al_driver.workflow.labelled import find_label_steps, find_work_folders


def frames(count: int, seed: int = 0) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        atoms = Atoms("SiC", positions=rng.normal(size=(2, 3)), cell=4.4 * np.eye(3), pbc=True)
        found.append(labelled_frame(Label(atoms, float(rng.normal()), rng.normal(size=(2, 3)), np.eye(3))))
    return found


def test_equal_frames_are_never_on_both_sides(tmp_path: Path) -> None:
    (copied,) = frames(1)
    for index in range(6):
        write_frames(tmp_path / f"copy{index}.extxyz", [copied])
    write_frames(tmp_path / "long.extxyz", [*frames(4, seed=1), copied])
    result = al_driver.convert(tmp_path / "*.extxyz", tmp_path / "out", valid=0.25)
    assert result.left_out == {"duplicate": 6}
    assert sum(result.written.values()) + result.gap == 5
    assert result.files[-1].left_out == [("duplicate", f"step 5: equals step 1 of {tmp_path / 'copy0.extxyz'}")]
    whole = al_driver.convert(tmp_path / "*.extxyz", tmp_path / "whole")  # nothing is held back: nothing leaks
    assert (whole.written, whole.left_out, whole.repeated) == ({"C1Si1": 11}, {}, 6)
    with pytest.raises(ConfigError, match=r"--valid 0.3 of 1 frame holds none back \(5 equal ones are left out\)"):
        al_driver.convert(tmp_path / "copy*.extxyz", tmp_path / "copies", valid=0.3)


@pytest.mark.parametrize(("pbc", "different"), [(True, 3), (False, 2), ([True, True, False], 4)])
def test_keys_of_a_block_part_frames_as_frame_key_does(pbc: bool | list[bool], different: int) -> None:
    cell = np.array([[4.0, 0, 0], [1, 4.5, 0], [0.5, -1, 5]]) if pbc else np.zeros((3, 3))
    one = Atoms("SiC", positions=[[0, 0, 0], [1, 2, 3]], cell=cell, pbc=pbc)
    moved = [one.copy() for _ in range(7)]
    moved[1].positions[1] += cell[0]
    moved[2].positions[0] -= 1e-9
    moved[3].positions[0] += cell[2]
    moved[4].positions[0] += 1e-3
    moved[5].positions += cell[0] - 2 * cell[1]
    moved[6].set_cell(cell * 1.001)
    (block,) = pack(moved, [{} for _ in moved])
    keys, expected = block.frame_keys(), [frame_key(atoms) for atoms in moved]
    assert [[a == b for b in keys] for a in keys] == [[a == b for b in expected] for a in expected]
    assert len(set(keys)) == different


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"type_map": ["Si", "Si"]}, "--type-map Si,Si: Si stands more than once"),
        ({"type_map": ["Si", "Qq"]}, "--type-map Si,Qq: 'Qq' is not an element"),
        ({"type_map": ["Xx"]}, "--type-map Xx: 'Xx' is not an element"),
        ({"valid": 0.2}, "--valid 0.2 of 1 frame holds none back.\n  Give more frames (some of each"),
        ({"out": "/dev/null"}, "-o /dev/null is a device"),
        ({"out": "a.extxyz/out"}, "a.extxyz is no folder; name a place below a folder"),
        ({"out": "."}, "-o . is a folder that is there already"),
    ],
)
def test_what_is_asked_wrongly_is_told_before_anything_is_written(tmp_path, monkeypatch, options, text) -> None:
    write_frames(tmp_path / "a.extxyz", frames(1))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        al_driver.convert("a.extxyz", **{"out": "out", **options})
    assert text in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.extxyz"]


def test_gather_names_its_target_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"-o .*file/out: .*file is no folder"):
        al_driver.gather(tmp_path, tmp_path / "file/out")


def test_a_damaged_history_is_named(tmp_path: Path) -> None:
    for text in ("[]", "{"):
        (tmp_path / "history.json").write_text(text)
        (work,) = find_work_folders([tmp_path])
        with pytest.raises(StateMismatch, match=r"history\.json is damaged"):
            list(find_label_steps(work))
    (tmp_path / "history.json").write_text("{}")  # a run that did nothing yet
    assert list(find_label_steps(work)) == []


def test_what_is_unreadable_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_frames(tmp_path / "in/a.extxyz", frames(2))
    (tmp_path / "in/OUTCAR.xz").write_text("no xz")
    ended = call_al(tmp_path, "convert", "in", "-o", "out")
    assert ended.returncode == 2
    assert "in/OUTCAR.xz: cannot be read (LZMAError: Input format not supported by decoder)" in ended.stderr
    assert "out/C1Si1  2 frames" in ended.stdout


def test_the_bar_starts_when_the_processes_have(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    for index in range(3):
        write_frames(tmp_path / f"{index}.extxyz", frames(1, seed=index))
    al_driver.convert(tmp_path, tmp_path / "out", workers=2, progress=lambda *call: calls.append(call))
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]
    with file_bar(Console(force_terminal=True, file=(tmp_path / "screen").open("w"))) as draw:
        assert not is_drawn_by_a_thread()
        draw(0, 3)
        assert is_drawn_by_a_thread()


def is_drawn_by_a_thread() -> bool:
    return any(type(thread).__name__ == "_RefreshThread" for thread in threading.enumerate())


def test_an_interrupted_conversion_says_that_it_begins_anew(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.extxyz", frames(1))
    program = (
        "import pathlib, sys, time, al_driver.workflow.convert as convert\n"
        "def wait(folder, *_):\n"
        "    pathlib.Path('begun').touch()\n"
        "    time.sleep(60)\n"
        "convert.write_blocks = wait\n"
        "from al_driver.cli import main\n"
        "sys.argv = ['al', 'convert', 'a.extxyz', '-o', 'out']\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (
        130,
        "al: interrupted; nothing was written, and the same command begins anew\n",
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.extxyz", "begun"]
