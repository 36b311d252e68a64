"""A run with a wanted force error: its audits, what follows from them, and that an interruption changes nothing."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fake_run import JOB, PARAM, Tasks, make_folder, patch, read_result, run, write_param

from al_driver.errors import StateMismatch
from al_driver.files import read_json
from al_driver.workflow.status import status

STAGE = {"jobs": [JOB | {"temperatures": [300]}], "max_repeats": 4}
TARGET: dict[str, Any] = {"target_force_error": 0.01, "audit": 4, "max_select": 2}


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Tasks:
    return patch(monkeypatch)


def make_target_run(folder: Path, **query: Any) -> Path:
    return make_folder(folder, **changes(**query))


def changes(**query: Any) -> dict[str, Any]:
    return {"explore": PARAM["explore"] | {"iterations": [STAGE]}, "query": TARGET | query}


def without_times(work: Path) -> dict[str, str]:
    """Return a hash of every file but the ledgers, which say when a frame was labelled."""
    return {name: content for name, content in read_result(work).items() if not name.endswith("/frames.jsonl")}


@pytest.mark.usefixtures("tasks")
def test_audits_are_labelled_with_the_others_and_bound_the_next_iterations(tmp_path: Path) -> None:
    folder = make_target_run(tmp_path / "run")
    verdict = run(folder)
    assert verdict.state == "not_converged"
    assert "4 of 4 audit frames miss the target of 0.01 eV/Å" in verdict.reason
    work = folder / "work"
    known = []
    for iteration in range(4):
        step = work / f"iter.000{iteration}"
        calibration = read_json(step / "train/calibration.json")
        assert read_json(step / "query/scores/query.json")["calibration"] == calibration
        audit = read_json(step / "label/audit.json")
        assert (audit["audits"], audit["missed_target"]) == (4, 4)
        assert read_json(step / "label/step.json")["result"]["labelled"] == 6
        known.append((calibration["n_audits"], calibration["general"] is not None, audit["bounded"] > 0))
    assert known[:3] == [(0, False, False), (4, False, False), (8, False, False)]
    assert known[3][:2] == (12, True)  # nine are needed
    shown = status(work)["iterations"]
    assert [found["audit"]["audits"] for found in shown] == [4] * 4


def test_an_interruption_changes_no_byte(tmp_path: Path, tasks: Tasks) -> None:
    whole, broken = make_target_run(tmp_path / "whole"), make_target_run(tmp_path / "broken")
    run(whole)
    steps = [name for name in tasks.run if name.startswith(("2/label", "3/query", "3/train"))]
    for stop in steps[::2]:
        tasks.stop_before = stop
        with pytest.raises(KeyboardInterrupt):
            run(broken)
    tasks.stop_before = None
    run(broken)
    assert without_times(broken / "work") == without_times(whole / "work")


def test_what_is_derived_is_made_again(tmp_path: Path, tasks: Tasks) -> None:
    folder = make_target_run(tmp_path / "run")
    run(folder)
    before, n_tasks = read_result(folder / "work"), len(tasks.run)
    for path in (folder / "work").glob("iter.*/*/*.json"):
        if path.name in ("audit.json", "calibration.json"):
            path.unlink()
    (folder / "work/iter.0003/train/calibration.json").write_text("{")
    run(folder)
    assert read_result(folder / "work") == before
    assert len(tasks.run) == n_tasks


@pytest.mark.usefixtures("tasks")
@pytest.mark.parametrize(
    ("query", "concerned"),
    [
        ({"target_force_error": 0.02}, True),
        ({"coverage": 0.8}, True),
        ({"audit": 5}, True),
        ({"max_bad_fraction": 0.1}, False),
        ({"confidence": 0.9}, False),
        ({"stop_when_converged": False}, False),
    ],
)
def test_which_keys_concern_the_selection(tmp_path: Path, query: dict[str, Any], concerned: bool) -> None:
    folder = make_target_run(tmp_path / "run")
    run(folder)
    write_param(folder, **changes(**query))
    if concerned:
        with pytest.raises(StateMismatch, match=r"iter\.0000/query was made from another input"):
            run(folder)
    else:
        run(folder)


@pytest.mark.usefixtures("tasks")
def test_a_moved_folder_keeps_its_calibration(tmp_path: Path) -> None:
    folder = make_target_run(tmp_path / "run")
    run(folder)
    moved = shutil.move(folder, tmp_path / "moved")
    run(Path(moved))
    assert "run" not in json.dumps(read_json(Path(moved) / "work/iter.0003/train/calibration.json"))
