"""A run with a wanted force error: its audits, what follows from them, and that an interruption changes nothing."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import fake_run
import pytest
from fake_run import JOB, PARAM, Tasks, make_folder, patch, read_result, run, write_param

from al_driver.errors import StateMismatch
from al_driver.files import read_json
from al_driver.live import status_table
from al_driver.workflow import closing
from al_driver.workflow.status import status

STAGE = {"jobs": [JOB | {"temperatures": [300]}], "max_repeats": 4}
TARGET: dict[str, Any] = {"target_force_error": 0.01, "audit": 4, "max_select": 2}


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Tasks:
    return patch(monkeypatch)


def make_target_run(folder: Path, **query: Any) -> Path:
    return make_folder(folder, **changes(**query))


def changes(**query: Any) -> dict[str, Any]:
    return {
        "explore": PARAM["explore"] | {"iterations": [STAGE]},
        "query": TARGET | query,
        "train": {name: value for name, value in PARAM["train"].items() if name != "models"}
        | ({"virtual_models": 2} if query.get("uncertainty") == "kpu" else {"models": 2}),
    }


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
    told = str(status_table(status(work)).caption)
    assert "audit 0: 4 frames, largest force error" in told and "4 above the target of 0.01; no bound yet" in told


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


HAPPY: dict[str, Any] = {"target_force_error": 100.0, "audit": 5, "max_bad_fraction": 0.3}


@pytest.mark.usefixtures("tasks")
@pytest.mark.parametrize("uncertainty", ["committee", "kpu"])
def test_a_run_that_meets_its_target_stops_by_itself_with_a_statement(tmp_path: Path, uncertainty: str) -> None:
    """Lesson 27."""
    folder = make_target_run(tmp_path / "run", uncertainty=uncertainty, **HAPPY)
    verdict = run(folder)
    work = folder / "work"
    assert verdict.state == "converged"
    assert not (work / "iter.0003").exists()  # the third knew ten audits, and was clean
    assert "in at least" in verdict.reason and "no atom's force error exceeds 100 eV/Å" in verdict.reason
    statement = verdict.statement
    assert statement is not None and statement["look"] == 1
    (part,) = statement["structures"]
    assert (part["frames"], part["bad"], part["survived"], part["trajectories"]) == (9, 0, 4, 4)
    assert part["bad_at_most"] <= 0.3 and part["temperatures"] == [300.0] and part["atoms"] == [8]
    shown = status(work)["verdict"]
    assert shown == {"state": "converged", "reason": verdict.reason, "statement": statement}
    assert read_json(work / "closing/look.001/statement.json") == statement


def test_a_closing_audit_never_trains_and_is_done_once(tmp_path: Path, tasks: Tasks) -> None:
    folder = make_target_run(tmp_path / "run", **HAPPY)
    run(folder)
    n_tasks, before = len(tasks.run), read_result(folder / "work")
    assert sum(name.startswith("closing/1/label") for name in tasks.run) == 9
    assert tasks.run.index("final/model.000") < tasks.run.index("closing/1/explore/task.000000")
    assert not [name for name in tasks.run[tasks.run.index("closing/1/query/scores") :] if "model" in name]
    run(folder)
    assert len(tasks.run) == n_tasks and read_result(folder / "work") == before


def test_closing_frames_are_fresh(tmp_path: Path, tasks: Tasks) -> None:
    folder = make_target_run(tmp_path / "run", **HAPPY)
    run(folder)
    inputs = {path.read_text() for path in (folder / "work").glob("*/*/explore/task.*/in.lammps")}
    inputs |= {path.read_text() for path in (folder / "work").glob("iter.*/explore/task.*/in.lammps")}
    seeds = {seed for text in inputs for seed in re.findall(r"velocity all create \S+ (\d+)", text)}
    assert len(inputs) == len(seeds) == 7  # three iterations, and four replicas
    assert sum("closing" in name for name in tasks.run) == 4 + 1 + 9


def test_an_interrupted_closing_audit_goes_on(tmp_path: Path, tasks: Tasks) -> None:
    whole, broken = make_target_run(tmp_path / "whole", **HAPPY), make_target_run(tmp_path / "broken", **HAPPY)
    verdict = run(whole)
    steps = [name for name in tasks.run if name.startswith(("closing", "final"))]
    for stop in steps[::3]:
        tasks.stop_before = stop
        with pytest.raises(KeyboardInterrupt):
            run(broken)
    tasks.stop_before = None
    assert run(broken) == verdict
    assert without_times(broken / "work") == without_times(whole / "work")


def test_a_look_that_fails_is_followed_by_more_learning_and_a_larger_one(
    tmp_path: Path, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_target_run(tmp_path / "run", **HAPPY)
    true_state = closing.state_structure
    monkeypatch.setattr(
        closing,
        "state_structure",
        lambda *args: true_state(*args) | ({"met": False, "bad": 3} if args[-1].look == 1 else {}),
    )
    verdict = run(folder)
    assert verdict.state == "converged" and verdict.statement is not None
    assert (verdict.statement["look"], verdict.statement["frames_needed"]) == (2, 14)
    assert (folder / "work/iter.0003").exists() and (folder / "work/final.bak.1").exists()
    n_tasks, models = len(tasks.run), sorted((folder / "work").glob("final*"))
    run(folder)  # the first look is not made again, though its model lies aside
    assert len(tasks.run) == n_tasks and sorted((folder / "work").glob("final*")) == models


@pytest.mark.usefixtures("tasks")
def test_a_closing_audit_that_lacks_frames_says_no_word_of_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_target_run(tmp_path / "run", **HAPPY)
    true_state = closing.state_structure
    monkeypatch.setattr(closing, "state_structure", lambda *args: true_state(*args) | {"met": False, "frames": 5})
    verdict = run(folder)
    assert verdict.state == "not_converged"
    assert verdict.reason.startswith("stage 0: closing audit of si: 5 independent frames, and ")
    assert verdict.reason.endswith("are needed; explore longer (n_steps) or at more conditions")


@pytest.mark.usefixtures("tasks")
def test_a_final_model_that_explodes_has_not_converged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lesson 34: its frames before a guard ended it are fine, and no others are drawn."""
    explore = fake_run._explore

    def explode(directory: Path) -> None:
        explore(directory)
        if "look.001" in str(directory) and "task.000003" not in str(directory):
            text = "Fix halt condition for fix-id guard_force met on step 10 with value 60\nTotal wall time: 0:00:00\n"
            (directory / "output").write_text(text)

    monkeypatch.setattr(fake_run, "_explore", explode)
    folder = make_target_run(tmp_path / "run", **HAPPY)
    verdict = run(folder)
    statement = read_json(folder / "work/closing/look.001/statement.json")
    assert statement["structures"][0]["bad"] == 0 and not statement["met"]
    assert verdict.statement is not None and verdict.statement["look"] == 2  # it learnt on
    assert closing.why_not_met(statement) == (
        "closing audit of si: 3 of 4 trajectories of the final model ended early, so that the others prove nothing"
    )
    assert not closing.lacks_frames(statement)
    record = folder / "work/closing/look.002/query/step.json"
    content = read_json(record)
    content["result"]["by_structure"][0]["unsound"] = 1  # drawn, and no label can be had
    record.write_text(json.dumps(content))
    again = run(folder).statement
    assert again is not None and (again["structures"][0]["without_label"], again["met"]) == (1, False)


@pytest.mark.usefixtures("tasks")
@pytest.mark.parametrize(
    ("most", "stops", "learnt", "state"),
    [(24, True, 15, "converged"), (24, False, 15, "converged"), (18, True, 9, "not_converged")],
)
def test_max_labels_keeps_back_what_a_closing_audit_needs(
    tmp_path: Path, most: int, stops: bool, learnt: int, state: str
) -> None:
    folder = make_target_run(tmp_path / "run", **HAPPY, max_labels=most, stop_when_converged=stops)
    verdict = run(folder)
    labelled = [read_json(path)["result"]["labelled"] for path in (folder / "work").glob("iter.*/label/step.json")]
    assert (sum(labelled), verdict.state) == (learnt, state)  # nine are kept back
    assert verdict.state == "converged" or verdict.reason.startswith("max_labels (18) are spent; stage 0: no error")


@pytest.mark.usefixtures("tasks")
def test_all_repeats_run_where_the_run_is_not_to_stop(tmp_path: Path) -> None:
    folder = make_target_run(tmp_path / "run", **HAPPY, stop_when_converged=False)
    assert run(folder).state == "converged"
    assert (folder / "work/iter.0003").exists()


@pytest.mark.usefixtures("tasks")
def test_an_impossible_target_ends_with_a_reason(tmp_path: Path) -> None:
    verdict = run(make_target_run(tmp_path / "run"))
    assert "errors no longer fall" in verdict.reason or "out of reach" in verdict.reason
    assert verdict.statement is None
