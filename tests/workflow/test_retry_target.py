"""``al retry`` in a run with a wanted force error: what was known stays; the closing audit counts what it lacked."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_run import JOB, PARAM, Failing, make_folder, patch_failing, run, write_param

from al_driver.files import read_json
from al_driver.workflow.retry import retry
from al_driver.workflow.status import status

HAPPY: dict[str, Any] = {"target_force_error": 100.0, "audit": 5, "max_select": 2, "max_bad_fraction": 0.3}


def changes(max_repeats: int = 4, **query: Any) -> dict[str, Any]:
    stage = {"jobs": [JOB | {"temperatures": [300]}], "max_repeats": max_repeats}
    return {"explore": PARAM["explore"] | {"iterations": [stage]}, "query": HAPPY | query}


def read_steps(work: Path) -> dict[str, bytes]:
    """Return what the iterations and earlier looks hold, without what a retry adds or says."""
    names = ("calibration.json", "audit.json", "query.json", "step.json", "statement.json", "labelled.extxyz")
    found = (path for path in work.rglob("*") if path.name in names and "final" not in str(path))
    return {str(path.relative_to(work)): path.read_bytes() for path in found if "retry." not in str(path)}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    return patch_failing(monkeypatch, {})


def test_a_recovered_audit_changes_no_bound_that_was_known(tmp_path: Path, failing: Failing) -> None:
    folder = make_folder(tmp_path / "run", **changes(target_force_error=0.01))
    failing.failing["0/label/task.000003"] = "scf_unconverged"  # 0 and 1 were chosen, 2 to 6 are audits
    run(folder)
    assert read_json(folder / "work/iter.0000/label/audit.json")["audits"] == 4
    before = read_steps(folder / "work")
    failing.failing.clear()
    failing.tasks.run.clear()
    assert retry(folder / "work").recovered == 1
    assert read_steps(folder / "work") == before
    run(folder)
    assert read_steps(folder / "work") == before
    assert failing.tasks.run == ["0/retry/task.000003", "final/model.000", "final/model.001"]
    (folder / "work/iter.0003/train/calibration.json").unlink()  # it is derived
    run(folder)
    assert read_steps(folder / "work") == before


def test_frames_that_a_closing_audit_lacked_count_once_they_have_labels(tmp_path: Path, failing: Failing) -> None:
    folder = make_folder(tmp_path / "run", **changes(max_repeats=3))
    failing.failing["closing/1/label/task.000003"] = "timeout"
    verdict = run(folder)
    assert verdict.state == "not_converged"
    assert "1 of 9 frames miss the target, 1 of them for want of a label" in verdict.reason
    look = folder / "work/closing/look.001"
    failing.failing.clear()
    failing.tasks.run.clear()
    assert retry(folder / "work", settings=["timeout_min=480"]).recovered == 1
    (line,) = [json.loads(text) for text in (look / "label/rejected.jsonl").read_text().splitlines()]
    assert (line["reason"], line["recovered"]) == ("timeout", "retry.000")
    assert status(folder / "work")["verdict"]["state"] == "not_converged"  # until `al run` looks
    verdict = run(folder)
    assert verdict.state == "converged" and verdict.statement is not None
    (part,) = verdict.statement["structures"]
    assert (part["frames"], part["bad"], part["without_label"]) == (9, 0, 0)
    assert failing.tasks.run == ["closing/retry/task.000003"]  # no model learnt from it
    assert retry(folder / "work").recovered == 0


def test_a_closing_audit_does_not_count_labels_of_another_reference(
    tmp_path: Path, failing: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_folder(tmp_path / "run", **changes(max_repeats=3), allow_mixed=True)
    failing.failing["closing/1/label/task.000003"] = "timeout"
    reason = run(folder).reason
    assert "1 of 9 frames miss the target, 1 of them for want of a label" in reason
    failing.failing.clear()
    assert retry(folder / "work", settings=["pair_style=lj/cut 4.5"]).recovered == 1
    assert run(folder).reason == reason
    words = "retry.000 was labelled with other settings than `label` has: pair_style: lj/cut 4.5 → lj/cut 5.0"
    assert f"{words}; its frames do not count in the closing audit" in caplog.text


def test_a_look_that_the_run_has_gone_on_from_stays_as_it_was(tmp_path: Path, failing: Failing) -> None:
    """Recovered labels change the final model, so the last look is made anew; an earlier one was acted on."""
    folder = make_folder(tmp_path / "run", **changes())
    failing.failing |= {"0/label/task.000000": "scf_unconverged", "closing/1/label/task.000003": "timeout"}
    verdict = run(folder)
    assert verdict.statement is not None and verdict.statement["look"] == 2
    work = folder / "work"
    before = {name: data for name, data in read_steps(work).items() if "look.002" not in name}
    failing.failing.clear()
    failing.tasks.run.clear()
    assert retry(work).recovered == 1  # that of the first look is past
    again = run(folder)
    assert again.statement is not None and (again.state, again.statement["look"]) == (verdict.state, 2)
    after = {name: data for name, data in read_steps(work).items() if "look.002" not in name}
    assert after == before
    assert {name.rsplit("/task", 1)[0] for name in failing.tasks.run} == {
        "0/retry", "final/model.000", "final/model.001",
        "closing/2/explore", "closing/2/query/scores", "closing/2/label",
    }  # fmt: skip
    assert (work / "closing/look.002.bak.1").exists()
    n_tasks = len(failing.tasks.run)
    run(folder)
    write_param(folder, **changes(max_repeats=5))
    run(folder)
    assert len(failing.tasks.run) == n_tasks
