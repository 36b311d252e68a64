"""``al retry``: what it calculates, what it refuses, and where the labels go; the programs are made up."""

import json
from pathlib import Path
from typing import Any

import fake_run
import pytest
from fake_run import Failing

from al_driver.data.dataset import find_systems, read_system
from al_driver.errors import ConfigError, FolderLocked, StateMismatch
from al_driver.files import read_json
from al_driver.live import status_table
from al_driver.workflow.explain import explain
from al_driver.workflow.gather import gather
from al_driver.workflow.history import find_work_folder
from al_driver.workflow.hold import hold_as_it_is
from al_driver.workflow.retry import retry
from al_driver.workflow.status import status


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    reasons = {"0/label/task.000001": "scf_unconverged", "1/label/task.000000": "timeout"}
    return fake_run.patch_failing(monkeypatch, reasons)


@pytest.fixture
def folder(tmp_path: Path, failing: Failing) -> Path:
    """A run that has ended, with two frames rejected."""
    fake_run.make_folder(tmp_path / "run")
    fake_run.run(tmp_path / "run")
    failing.failing.clear()
    failing.tasks.run.clear()
    return tmp_path / "run"


def rejected(work: Path, iteration: int) -> list[dict[str, Any]]:
    lines = (work / f"iter.{iteration:04d}/label/rejected.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def count_trained(train: Path) -> int:
    systems = read_json(train / "model.000/input.json")["training"]["training_data"]["systems"]
    found = {system for name in systems for system in find_systems((train / "model.000" / name).resolve())}
    return sum(len(list(read_system(system))) for system in found)


def test_what_passes_is_added_and_the_record_stays(folder: Path, failing: Failing) -> None:
    work = folder / "work"
    before = rejected(work, 0)
    steps = {path: path.read_text() for path in work.glob("*/*/step.json")}
    result = retry(work)
    assert (result.recovered, result.rejected) == (2, {})
    assert failing.tasks.run == ["0/retry/task.000001", "1/retry/task.000000"]
    assert rejected(work, 0) == [before[0] | {"recovered": "retry.000"}]
    assert all(path.read_text() == text for path, text in steps.items())
    (system,) = find_systems(work / "iter.0000/label/retry.000/dataset")
    assert len(list(read_system(system))) == 1
    assert retry(work).recovered == 0 and len(failing.tasks.run) == 2
    row = json.loads((work / "iter.0000/label/retry.000/frames.jsonl").read_text())
    assert (row["frame"], row["label"]) == (1, "iter.0000/label/retry.000")
    state = status(work)
    label = state["iterations"][0]["label"]
    assert (label["rejected"], label["recovered"]) == (1, 1)  # as the step was, for programs
    now = [next(column.cells) for column in status_table(state).columns[-2:]]
    assert now == [f"{label['labelled'] + 1} (1 recovered)", "0"]


def test_state_verdict_and_history_are_those_of_the_run(folder: Path) -> None:
    before = status(folder / "work")
    retry(folder / "work")
    after = status(folder / "work")
    assert {key: after[key] for key in ("state", "verdict", "step")} == {
        key: before[key] for key in ("state", "verdict", "step")
    }
    assert after["iterations"][0]["label"] == before["iterations"][0]["label"] | {"recovered": 1}
    events = [event["event"] for event in read_json(folder / "work/history.json")["events"]]
    assert events[-4:] == ["retry", "0/retry begins", "1/retry begins", "retry: done"]


def test_recovered_labels_join_the_final_model_and_no_finished_training(folder: Path, failing: Failing) -> None:
    n_before = count_trained(folder / "work/final")
    retry(folder / "work")
    failing.tasks.run.clear()
    fake_run.run(folder)
    assert failing.tasks.run == ["final/model.000", "final/model.001"]
    assert count_trained(folder / "work/final") == n_before + 2
    assert set(read_json(folder / "work/final/step.json")["inputs"]["recovered"]) == {
        "iter.0000/label/retry.000",
        "iter.0001/label/retry.000",
    }
    failing.tasks.run.clear()
    fake_run.run(folder)
    assert failing.tasks.run == []


def test_they_join_each_training_that_begins_later(folder: Path, failing: Failing) -> None:
    retry(folder / "work")
    n_before = count_trained(folder / "work/iter.0002/train")
    fake_run.run(folder, redo="2/train")
    assert count_trained(folder / "work/iter.0002/train") == n_before + 2
    assert "recovered" not in read_json(folder / "work/iter.0001/train/step.json")["inputs"]


def test_a_run_that_is_killed_after_a_retry_goes_on_as_it_began(
    tmp_path: Path, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training keeps what it began with: a retry that comes while it is stopped joins the next one."""
    folder = fake_run.make_folder(tmp_path / "run")
    failing.tasks.stop_before = "1/train/model.001"
    with pytest.raises(KeyboardInterrupt):
        fake_run.run(folder)
    failing.tasks.stop_before = None
    failing.failing.clear()
    assert retry(folder / "work").recovered == 1
    fake_run.run(folder)
    inputs = [read_json(folder / f"work/iter.{k:04d}/train/step.json")["inputs"] for k in range(3)]
    assert [list(each.get("recovered", {})) for each in inputs] == [[], [], ["iter.0000/label/retry.000"]]


def test_what_was_recovered_tells_what_energies_are_usual(
    folder: Path, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[Path] = []

    def judge(*arguments: Any) -> dict[int, Any]:
        known.extend(arguments[-1])
        return {}

    assert retry(folder / "work", reason="timeout").recovered == 1
    monkeypatch.setattr("al_driver.workflow.label.judge_outliers", judge)
    assert retry(folder / "work").recovered == 1
    labelled = {str(path.parent.parent.relative_to(folder / "work")) for path in known if "label" in str(path)}
    assert labelled == {f"iter.{k:04d}/label" for k in range(3)} | {"iter.0001/label/retry.000"}


def test_only_what_was_rejected_for_a_reason(folder: Path, failing: Failing) -> None:
    assert retry(folder / "work", reason="timeout").recovered == 1
    assert failing.tasks.run == ["1/retry/task.000000"]
    assert retry(folder / "work", reason="not_finite").recovered == 0
    with pytest.raises(ConfigError, match="--reason timeuot: there is no such reason; did you mean 'timeout'"):
        retry(folder / "work", reason="timeuot")


def test_what_fails_again_is_told_and_may_be_tried_again(folder: Path, failing: Failing) -> None:
    failing.failing["0/retry/task.000001"] = "engine_error"
    assert retry(folder / "work").rejected == {"engine_error": 1}
    assert "recovered" not in rejected(folder / "work", 0)[0]
    failing.failing.clear()
    assert retry(folder / "work", reason="engine_error").recovered == 1
    assert rejected(folder / "work", 0)[0]["recovered"] == "retry.001"


def test_a_retry_that_is_killed_goes_on(folder: Path, failing: Failing) -> None:
    failing.tasks.stop_before = "1/retry/task.000000"
    with pytest.raises(KeyboardInterrupt):
        retry(folder / "work")
    failing.tasks.stop_before = None
    assert retry(folder / "work").recovered == 1
    assert failing.tasks.run == ["0/retry/task.000001", "1/retry/task.000000"]
    assert [line["recovered"] for k in (0, 1) for line in rejected(folder / "work", k)] == ["retry.000"] * 2


def test_another_request_sets_an_unfinished_one_aside(folder: Path, failing: Failing) -> None:
    failing.tasks.stop_before = "0/retry/task.000001"
    with pytest.raises(KeyboardInterrupt):
        retry(folder / "work")
    failing.tasks.stop_before = None
    assert retry(folder / "work", settings=["retries=0"]).recovered == 2
    names = sorted(path.name for path in (folder / "work/iter.0000/label").glob("retry.*"))
    assert names == ["retry.000", "retry.000.bak.1"]


def test_changed_keys_must_exist_and_not_make_another_reference(folder: Path) -> None:
    work = folder / "work"
    refused = {
        "pair_coef=x": "--set pair_coef: there is no such key; did you mean 'pair_coeff'",
        "timeout_mn=3": "--set timeout_mn: there is no such key; did you mean 'timeout_min'",
        "timeout_min=fast": "--set timeout_min",
        "gate.max_label_forc=3": "--set gate.max_label_forc: .*did you mean 'max_label_force'",
        "pair_style=sw": "would make another reference: pair_style: lj/cut 5.0 → sw",
        "novalue": "expected KEY=VALUE",
    }
    for setting, words in refused.items():
        with pytest.raises(ConfigError, match=words):
            retry(work, settings=[setting])
    assert not list(work.glob("iter.*/label/retry.*"))


def test_another_reference_is_for_those_who_mix(folder: Path) -> None:
    fake_run.write_param(folder, allow_mixed=True)
    assert retry(folder / "work", settings=["pair_style=lj/cut 4.5"], reason="timeout").recovered == 1
    fake_run.run(folder)
    fake_run.write_param(folder)
    with pytest.raises(StateMismatch, match=r"retry.000 was labelled with other settings than `label` has: pair_sty"):
        fake_run.run(folder)


def test_the_files_are_those_of_the_last_run_and_of_this_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "param.json").rename(folder / "moved.json")
    with pytest.raises(ConfigError, match=r"param.json is gone.\n  Name it: --param FILE"):
        retry(folder / "work")
    assert retry(folder / "work", param=folder / "moved.json").recovered == 2
    other = fake_run.make_folder(tmp_path / "other")
    with pytest.raises(ConfigError, match="is of the folder"):
        retry(folder / "work", param=other / "param.json")
    (folder / "moved.json").rename(folder / "param.json")
    folder.rename(tmp_path / "elsewhere")
    assert retry(tmp_path / "elsewhere/work").recovered == 0


def test_a_reference_that_has_changed_since_is_refused(folder: Path) -> None:
    fake_run.write_param(folder, label=fake_run.LJ | {"pair_coeff": ["* * 0.5 2.3"]})
    with pytest.raises(ConfigError, match=r"was labelled with other settings than `label` has: pair_coeff"):
        retry(folder / "work")


def test_the_folder_is_held(folder: Path) -> None:
    work = find_work_folder(folder / "work", "test")
    with hold_as_it_is(work, fake_run_resources(folder), None, "test"), pytest.raises(FolderLocked):
        retry(folder / "work")


def test_gathered_sets_hold_what_was_recovered(folder: Path, tmp_path: Path) -> None:
    before = sum(gather(folder / "work", tmp_path / "before").systems.values())
    retry(folder / "work")
    assert sum(gather(folder / "work", tmp_path / "after").systems.values()) == before + 2


def fake_run_resources(folder: Path) -> Any:
    from al_driver.schema.load import load_params
    from al_driver.schema.resource import Resources

    return load_params(folder / "resource.json", Resources)


def test_packed_steps_are_retried_and_packed(folder: Path, failing: Failing, tmp_path: Path) -> None:
    work = folder / "work"
    (folder / "resource.json").write_text(json.dumps({role: {"pack": True} for role in ("explore", "label")}))
    fake_run.run(folder)  # packs what is there
    before = sum(gather(work, tmp_path / "before").systems.values())
    archives = {path: path.read_bytes() for path in work.glob("iter.*/*/tasks.zip")}
    assert len(archives) == 6
    failing.tasks.run.clear()
    failing.tasks.stop_before = "1/retry/task.000000"
    with pytest.raises(KeyboardInterrupt):
        retry(work)
    failing.tasks.stop_before = None
    failing.failing["1/retry/task.000000"] = "engine_error"
    assert retry(work).rejected == {"engine_error": 1}
    failing.failing.clear()
    assert retry(work, reason="engine_error").recovered == 1
    assert failing.tasks.run == ["0/retry/task.000001", "1/retry/task.000000"]
    assert {path: path.read_bytes() for path in archives} == archives
    for name in ("iter.0000/label/retry.000", "iter.0001/label/retry.001"):
        assert (work / name / "tasks.zip").exists() and not list((work / name).glob("task.0*"))
    assert retry(work).recovered == 0
    assert sum(gather(work, tmp_path / "after").systems.values()) == before + 2
    told = explain(f"{work / 'iter.0000/label/retry.000'}:0")["frame"]
    assert told["calculation"] == "iter.0000/label/retry.000/task.000001"
    failing.tasks.run.clear()
    fake_run.run(folder)
    assert failing.tasks.run == ["final/model.000", "final/model.001"]


def test_a_label_step_that_has_not_ended_is_told(
    folder: Path, failing: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "work/iter.0001/label/step.json").rename(folder / "kept.json")
    with caplog.at_level("INFO", logger="al_driver"):
        assert retry(folder / "work").recovered == 1
    assert failing.tasks.run == ["0/retry/task.000001"]
    (told,) = [line for line in caplog.messages if "not finished" in line]
    assert "iter.0001/label is not finished" in told and "first let it end, by the same `al run`" in told
