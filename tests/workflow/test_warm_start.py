"""Warm starts through the loop: each member continues from its own parent, so that the committee keeps its spread."""

import shutil
from pathlib import Path

import pytest
from fake_run import PARAM, make_folder, patch, run
from small_run import call_al, merge

from al_driver.files import read_json, write_json


def test_each_training_has_a_seed_and_a_parent_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch)
    warm = PARAM["train"] | {"models": 3, "warm_start": {"steps": 5, "start_lr": 1e-4}}
    folder = make_folder(tmp_path / "run", train=warm)
    run(folder)
    specs = {
        f"{iteration}/{member}": read_json(folder / f"work/iter.000{iteration}/train/model.00{member}/train.json")
        for iteration in range(3)
        for member in range(3)
    }
    assert len({spec["seed"] for spec in specs.values()}) == 9
    for name, spec in specs.items():
        iteration, member = map(int, name.split("/"))
        expected = f"../../../iter.000{iteration - 1}/train/model.00{member}" if iteration else None
        assert spec["parent"] == expected
    assert read_json(folder / "work/final/model.000/train.json")["parent"] is None


@pytest.mark.long
@pytest.mark.needs("dp", "lmp")
def test_members_start_where_their_own_parents_ended(packed_run: Path, tmp_path: Path) -> None:
    """The first iteration of a run that has ended is the one to go on from."""
    folder = Path(shutil.copytree(packed_run, tmp_path / "run"))
    param = read_json(folder / "param.json")
    stages = param["explore"]["iterations"]
    explore = {"iterations": stages + stages}
    warm = merge(param, {"explore": explore, "train": {"warm_start": {"steps": 10, "start_lr": 1.5e-3}}})
    write_json(folder / "param.json", warm)
    done = call_al(folder, "run", "param.json", "resource.json")
    assert done.returncode == 0, done.stderr
    losses = []
    for member in range(2):
        train = folder / f"work/iter.0001/train/model.00{member}"
        parent = read_json(train / "train.json")["parent"]
        assert (train / parent).resolve() == folder / f"work/iter.0000/train/model.00{member}"
        evaluation = read_json(train / "evaluation.json")
        assert evaluation["steps"] == 10
        warm = evaluation["warm_start"]
        assert warm["first_loss"] == pytest.approx(warm["parent_loss"], rel=0.02)
        losses.append(warm["parent_loss"])
        assert read_json(folder / f"work/iter.0000/train/model.00{member}/evaluation.json")["warm_start"] is None
    assert losses[0] != losses[1]
    weights = [(folder / f"work/iter.0001/train/model.00{member}/frozen_model.pth").read_bytes() for member in range(2)]
    assert weights[0] != weights[1]
    assert read_json(folder / "work/final/model.000/evaluation.json")["warm_start"] is None
