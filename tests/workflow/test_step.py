"""Steps: markers, fingerprints, and what a changed input says."""

from pathlib import Path
from typing import Any

import pytest

from al_driver.errors import StateMismatch
from al_driver.files import read_json
from al_driver.workflow.history import History
from al_driver.workflow.step import Record, Step, describe_changes, run_step


def make_step(folder: Path, **inputs: Any) -> Step:
    return Step("0/train", folder / "train", {"steps": 100, "input": {"sha256": "a"}} | inputs, ("before",))


class Work:
    def __init__(self, step: Step) -> None:
        self.step, self.calls = step, 0

    def __call__(self) -> dict[str, Any]:
        self.calls += 1
        (self.step.folder / "model").write_text("weights")
        return {"force_rmse": 0.1}


def test_a_finished_step_is_not_done_again(tmp_path: Path) -> None:
    step = make_step(tmp_path)
    work = Work(step)
    first = run_step(step, work, ["model"])
    assert run_step(step, work, ["model"]) == first == Record.read(step.folder)
    assert work.calls == 1
    assert first.result == {"force_rmse": 0.1}


def test_a_step_killed_before_its_marker_runs_again(tmp_path: Path) -> None:
    step = make_step(tmp_path)

    def killed() -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_step(step, killed, ["model"])
    assert Record.read(step.folder) is None
    run_step(step, Work(step), ["model"])
    assert Record.read(step.folder) is not None


def test_a_lost_output_makes_the_step_run_again(tmp_path: Path) -> None:
    step = make_step(tmp_path)
    work = Work(step)
    run_step(step, work, ["model"])
    (step.folder / "model").unlink()
    run_step(step, work, ["model"])
    assert work.calls == 2


@pytest.mark.parametrize("finished", [True, False])
def test_a_changed_input_stops_and_says_what_changed(tmp_path: Path, finished: bool) -> None:
    step = make_step(tmp_path)
    run_step(step, Work(step), ["model"])
    if not finished:
        (step.folder / "step.json").unlink()
    with pytest.raises(StateMismatch) as stopped:
        run_step(make_step(tmp_path, steps=200, input={"sha256": "b"}), Work(step), ["model"])
    message = str(stopped.value)
    assert "steps: 100 → 200" in message
    assert "input (another content)" in message
    assert "--redo 0/train" in message
    assert "--accept-from K" in message
    assert len(message.splitlines()) <= 3
    assert (step.folder / "model").read_text() == "weights"


def test_an_accepted_step_keeps_its_recorded_fingerprint(tmp_path: Path) -> None:
    old = run_step(make_step(tmp_path), Work(make_step(tmp_path)), ["model"])
    new = run_step(make_step(tmp_path, steps=200), Work(make_step(tmp_path)), ["model"], accepted=True)
    assert new == old


def test_an_accepted_step_is_asked_for_what_it_left(tmp_path: Path) -> None:
    old = run_step(make_step(tmp_path), Work(make_step(tmp_path)), ["model"])
    larger = make_step(tmp_path, models=2)
    assert run_step(larger, Work(larger), ["model", "model.001"], accepted=True) == old


@pytest.mark.parametrize("lost", ["model", "step.json"])
def test_an_accepted_step_that_is_not_whole_is_made_from_the_new_input(tmp_path: Path, lost: str) -> None:
    run_step(make_step(tmp_path), Work(make_step(tmp_path)), ["model"])
    (tmp_path / "train" / lost).unlink()
    new = make_step(tmp_path, steps=200)
    assert run_step(new, Work(new), ["model"], accepted=True).fingerprint == new.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train", "train.bak.1"]
    assert read_json(tmp_path / "train/begun.json")["fingerprint"] == new.fingerprint


def test_outputs_may_depend_on_the_result(tmp_path: Path) -> None:
    step = make_step(tmp_path)
    work = Work(step)
    run_step(step, work, lambda result: ["model"] if result["force_rmse"] else [])
    assert Record.read(step.folder).outputs == ["model"]  # type: ignore[union-attr]
    (step.folder / "model").unlink()
    run_step(step, work, [])
    assert work.calls == 2


def test_details_are_shown_and_decide_nothing(tmp_path: Path) -> None:
    def make(detail: str, **inputs: str) -> Step:
        return Step("0/label", tmp_path / "label", {"identity": {"sha256": "a"}} | inputs, (), {"label": detail})

    run_step(make("sw"), dict, [])
    run_step(make("sw, written otherwise"), dict, [])
    with pytest.raises(StateMismatch, match="label: sw → tersoff"):
        run_step(make("tersoff", type_map="Ge"), dict, [])


def test_a_tuple_is_no_change_of_a_list(tmp_path: Path) -> None:
    def make(limit: float) -> Step:
        detail = {"label": {"commands": (), "elements": ("Si",)}}
        return Step("0/label", tmp_path / "label", {"limit": limit}, (), detail)

    run_step(make(1.2), dict, [])
    with pytest.raises(StateMismatch, match=r"Changed: limit: 1.2 → 50.0\n"):
        run_step(make(50.0), dict, [])


def test_fingerprints_are_chained(tmp_path: Path) -> None:
    step = make_step(tmp_path)
    other = Step(step.name, step.folder, step.inputs, ("another",))
    assert step.fingerprint != other.fingerprint
    assert Step(step.name, tmp_path / "moved", step.inputs, step.after).fingerprint == step.fingerprint


def test_a_damaged_marker_is_named(tmp_path: Path) -> None:
    step = make_step(tmp_path)
    run_step(step, Work(step), ["model"])
    (step.folder / "step.json").write_text("{")
    with pytest.raises(StateMismatch, match=r"step\.json is damaged"):
        run_step(step, Work(step), ["model"])


@pytest.mark.parametrize("name", ["step.json", "begun.json"])
@pytest.mark.parametrize("content", ["{}", "[]", '"done"'])
def test_a_marker_without_its_keys_is_named(tmp_path: Path, name: str, content: str) -> None:
    step = make_step(tmp_path)
    run_step(step, Work(step), ["model"])
    (step.folder / "step.json").unlink()
    (step.folder / name).write_text(content)
    with pytest.raises(StateMismatch, match=rf"{name} is damaged: it has no 'fingerprint'"):
        run_step(step, Work(step), ["model"])


def test_changes_are_listed_by_key() -> None:
    old = {"jobs": [{"n_steps": 10}], "kept": 1, "gone": True}
    new = {"jobs": [{"n_steps": 20}], "kept": 1, "added": [1]}
    assert list(describe_changes(old, new)) == [
        "added: nothing → [1]", "gone: True → nothing", "jobs[0].n_steps: 10 → 20",
    ]  # fmt: skip


def test_history_keeps_events_and_keys(tmp_path: Path) -> None:
    history = History(tmp_path / "history.json")
    history.add("started", state="running")
    history.add("--accept-from 2", accepted_before=[2, "train"])
    assert history.accepted_before == (2, "train")
    assert [event["event"] for event in read_json(history.path)["events"]] == ["started", "--accept-from 2"]


def test_a_damaged_history_is_named(tmp_path: Path) -> None:
    (tmp_path / "history.json").write_text("[]")
    with pytest.raises(StateMismatch, match=r"history\.json is damaged"):
        History(tmp_path / "history.json").read()
