"""`al kpu`: from a checkpoint and frames in any format to an extxyz file, or one to three lines of what is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from kalman_trainings import alloy, plain_uncertainty
from tiny_trainings import write_systems

from al_driver import kpu
from al_driver.errors import ConfigError, TasksFailed
from al_driver.workflow.kpu import find_checkpoint, parse_atoms

pytestmark = pytest.mark.needs("dp")


def test_frames_come_back_with_their_uncertainty(checkpoints, tmp_path):
    """As a user gives the command; the frames are those of a dataset, and keep their labels."""
    (system,) = write_systems(tmp_path / "data", [alloy(seed=1), alloy(seed=2)], ["Al", "Cu"])
    finished = subprocess.run(
        [sys.executable, "-m", "al_driver", "kpu", str(checkpoints["alloy"]), str(system), "-o", "new/u.extxyz"],
        cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.strip() == "new/u.extxyz  2 frames"
    frames = ase.io.read(tmp_path / "new/u.extxyz", ":")
    assert len(frames) == 2 and list(tmp_path.iterdir()) != []
    for atoms in frames:
        energy, forces = plain_uncertainty(checkpoints["alloy"], atoms, [0, 11])
        assert atoms.arrays["kpu_force"].shape == (len(atoms),)
        assert atoms.arrays["kpu_force"][[0, 11]] == pytest.approx(forces, rel=1e-9)
        assert atoms.info["kpu_energy"] == pytest.approx(energy, rel=1e-9)
        assert atoms.get_forces().shape == (len(atoms), 3)


def test_some_atoms_scaled(checkpoints, tmp_path):
    """Scaled by sqrt(Π 1/λ): four steps of one update by the energy and four by forces, λ from 0.98 upwards."""
    atoms = bulk("Si", "diamond", a=5.43, cubic=True)
    atoms.rattle(0.1, seed=3)
    ase.io.write(tmp_path / "POSCAR", atoms, format="vasp", direct=True)
    (written,) = kpu(checkpoints["silicon"], tmp_path / "POSCAR", tmp_path / "u.extxyz", atoms=[2, 5], scaled=True)
    assert np.isfinite(written.arrays["kpu_force"]).nonzero()[0].tolist() == [2, 5]
    inflation, factor = 1.0, 0.98
    for _ in range(20):
        inflation, factor = inflation / factor, 0.9987 * factor + 0.0013
    assert written.info["kpu_scale"] == pytest.approx(inflation**0.5, rel=1e-9)
    energy, forces = plain_uncertainty(checkpoints["silicon"], written, [2, 5])
    assert written.arrays["kpu_force"][[2, 5]] == pytest.approx(np.array(forces) / inflation**0.5, rel=1e-9)
    assert written.info["kpu_energy"] == pytest.approx(energy / inflation**0.5, rel=1e-9)
    (read,) = ase.io.read(tmp_path / "u.extxyz", ":")
    assert np.array_equal(read.arrays["kpu_force"], written.arrays["kpu_force"], equal_nan=True)


def test_what_is_wrong_is_told_in_few_lines(checkpoints, tmp_path):
    frame = tmp_path / "frame.extxyz"
    ase.io.write(frame, bulk("Cu", cubic=True))
    refusals = [
        (checkpoints["silicon"], {}, "frame 1 of 1: has Cu, which the model does not know; it knows Si"),
        (tmp_path, {}, "holds no model.ckpt.pt"),
        (tmp_path / "nowhere", {}, "does not exist"),
        (checkpoints["alloy"], {"memory": 0}, "expected GB"),
        (checkpoints["alloy"], {"command": ["no-such-dp"]}, "no-such-dp"),
    ]
    for checkpoint, keys, words in refusals:
        with pytest.raises(ConfigError) as refused:
            kpu(checkpoint, frame, tmp_path / "u.extxyz", **keys)
        assert words in str(refused.value)
        assert str(refused.value).count("\n") < 3
    with pytest.raises(ConfigError, match="is there already"):
        kpu(checkpoints["alloy"], frame, frame)
    with pytest.raises(ConfigError, match=r"ends in \.extxyz"):
        kpu(checkpoints["alloy"], frame, tmp_path / "u.json")
    assert not (tmp_path / "u.extxyz").exists()


def test_a_program_that_breaks_off_is_told(checkpoints, tmp_path):
    ase.io.write(tmp_path / "frame.extxyz", Atoms("Al2", positions=[[0, 0, 0], [0, 0, 2.5]]))
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'no module deepmd' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(TasksFailed, match="broke off: no module deepmd"):
        kpu(checkpoints["alloy"], tmp_path / "frame.extxyz", tmp_path / "u.extxyz", command=[str(python)])


def test_a_checkpoint_is_found_in_its_folders(tmp_path):
    for name in ("train/model.000", "train/model.001", "other"):
        (tmp_path / name).mkdir(parents=True)
    one = tmp_path / "train/model.000/model.ckpt.pt"
    one.touch()
    assert find_checkpoint(one) == find_checkpoint(one.parent) == find_checkpoint(tmp_path / "train") == one.resolve()
    (tmp_path / "train/model.001/model.ckpt.pt").touch()
    with pytest.raises(ConfigError, match=r"several checkpoints \(model.000/model.ckpt.pt, model.001/model.ckpt.pt\)"):
        find_checkpoint(tmp_path / "train")
    with pytest.raises(ConfigError, match=r"holds no model.ckpt.pt"):
        find_checkpoint(Path(tmp_path / "other"))


def test_atoms_are_numbers_and_ranges():
    assert parse_atoms(None) is None
    assert parse_atoms("7-9, 0,8") == [0, 7, 8, 9]
    for text in ("", "1,", "a", "5-2", "-1"):
        with pytest.raises(ConfigError, match="expected numbers and ranges"):
            parse_atoms(text)
