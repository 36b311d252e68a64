"""What a run tells while it works: each step when it begins, warnings, and where the result lies."""

import json
from pathlib import Path

import pytest
from ase.build import bulk
from small_run import INIT, RESOURCE, RUN, call_al

pytestmark = pytest.mark.needs("dp", "lmp")


def read_log(work: Path) -> list[str]:
    """Return the log's lines without date, time and level."""
    return [line.split(" ", 3)[-1] for line in (work / "al.log").read_text(encoding="utf-8").splitlines()]


def test_first_data_tell_each_step_and_where_they_lie(silicon: Path) -> None:
    told = read_log(silicon / "init")
    for line in (
        "scale: 2 structures, 0 dropped",
        "perturb: 6 structures, 0 dropped",
        "label begins: 6 frames to calculate, 2 at a time",
        "label: labelled 6 (0 found again), rejected 0",
        "dataset: 4 frames to train on, 2 held back for validation",
        "done: the data are in init/dataset",
    ):
        assert line in told


def test_a_step_is_told_before_it_takes_its_time(finished_run: Path) -> None:
    told = read_log(finished_run / "work")
    begun = [line for line in told if " begins: " in line]
    assert begun[:4] == [
        "0/train begins: 2 models to train on 4 frames, 2 at a time",
        "0/explore begins: 1 trajectory to run",
        "0/query begins: 1 trajectory to score",
        "0/label begins: 4 frames to calculate, 2 at a time",
    ]
    assert begun[-1] == "final begins: 2 models to train on 12 frames, 2 at a time"
    assert told.index(begun[0]) < next(n for n, line in enumerate(told) if line.startswith("0/train: energy RMSE"))


def test_warnings_of_a_check_are_told_by_the_run_too_and_structures_have_a_place(tmp_path: Path) -> None:
    bulk("Si", cubic=True, a=5.431).write(tmp_path / "POSCAR", format="vasp")
    structures = [{"path": "POSCAR", "scale": 2}]
    (tmp_path / "init.json").write_text(json.dumps(INIT | {"structures": structures, "label": False}))
    (tmp_path / "resource.json").write_text(json.dumps(RESOURCE))
    told = call_al(tmp_path, "init_bulk", "init.json", "resource.json").stdout
    assert "warning: structures[0].scale[0]: 2 makes the volume 8 times as large" in told
    assert "scale: 1 structure, 0 dropped" in told
    assert told.endswith("done: the structures are in init/structures\n")


def test_data_that_are_not_made_yet_are_named_with_the_command_that_makes_them(tmp_path: Path) -> None:
    bulk("Si", cubic=True, a=5.431).write(tmp_path / "POSCAR", format="vasp")
    for name, content in (("init", INIT), ("param", RUN), ("resource", RESOURCE)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    refused = call_al(tmp_path, "run", "param.json", "resource.json")
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [
        "al: init_data: init/dataset is not there yet.",
        "  Make it first: al init_bulk init.json resource.json",
        "valid_data: init/valid is not there yet.",
        "  Make it first: al init_bulk init.json resource.json",
    ]
    assert not (tmp_path / "work").exists()


def test_a_check_tells_what_matters_before_the_inputs_and_the_verdict_last(tmp_path: Path) -> None:
    bulk("Si", cubic=True, a=5.431).write(tmp_path / "POSCAR", format="vasp")
    (tmp_path / "init.json").write_text(json.dumps(INIT))
    (tmp_path / "resource.json").write_text(json.dumps(RESOURCE))
    told = call_al(tmp_path, "check", "init.json", "resource.json").stdout.splitlines()
    heads = [line.split(" ─")[0] for line in told if "──" in line]
    assert heads == ["first tasks", "set by the driver", "label/in.lammps", "label/structure.data"]
    assert told[-1] == "ok"
    told = call_al(tmp_path, "check", "--no-show", "init.json", "resource.json").stdout.splitlines()
    assert [line.split(" ─")[0] for line in told if "──" in line] == ["first tasks", "set by the driver"]
    assert told[-1] == "ok; `--show` prints the inputs: label/in.lammps, label/structure.data"


def test_a_check_with_errors_tells_them_alone_and_their_number(tmp_path: Path) -> None:
    (tmp_path / "init.json").write_text(json.dumps(INIT | {"structures": ["POSCAR", "CONTCAR"]}))
    (tmp_path / "resource.json").write_text(json.dumps(RESOURCE | {"train": {"executor": "local", "nodes": 2}}))
    refused = call_al(tmp_path, "check", "init.json", "resource.json")
    assert "set by the driver" not in refused.stdout
    lines = refused.stderr.splitlines()
    assert lines[0].startswith("al: ") and len(lines) == 3
    assert lines[-1] == "2 errors"
