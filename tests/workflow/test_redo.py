"""``--redo`` and ``--accept-from``: what is kept, what is made anew, and that nothing is lost at whatever moment."""

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_run import JOB, LJ, PARAM, Tasks, make_folder, patch, read_result, run, write_param

from al_driver.errors import ConfigError, StateMismatch, TasksFailed
from al_driver.files import read_json
from al_driver.jobs.processes import is_running, start_of
from al_driver.layout import WorkFolder
from al_driver.workflow import aside
from al_driver.workflow.aside import set_aside, set_aside_from
from al_driver.workflow.history import History
from al_driver.workflow.redo import read_request, request_steps

HOTTER = {"explore": PARAM["explore"] | {"iterations": [[JOB], [JOB | {"temperatures": [950]}], [JOB]]}}
MORE_STEPS = {"train": PARAM["train"] | {"steps": {"first": 20}}}
THREE = {"train": PARAM["train"] | {"models": 3}}
OTHER_LABEL = {"label": LJ | {"pair_coeff": ["* * 0.5 2.3"]}}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run of three iterations, to be copied."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        patch(monkeypatch)
        folder = make_folder(tmp_path_factory.mktemp("begun") / "run")
        run(folder)
        yield folder


@pytest.fixture(scope="module")
def hotter(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a fresh run with a hotter second stage leaves."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        patch(monkeypatch)
        folder = make_folder(tmp_path_factory.mktemp("hotter") / "run", **HOTTER)
        run(folder)
        return read_result(folder / "work")


@pytest.fixture
def finished(begun: Path, tmp_path: Path) -> Path:
    return shutil.copytree(begun, tmp_path / "run")


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Tasks:
    return patch(monkeypatch)


def aside_in(folder: Path) -> list[str]:
    work = folder / "work"
    return sorted(str(path.relative_to(work)) for path in work.rglob("*.bak.*"))


def test_this_step_and_all_later_ones_are_set_aside(tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path)
    for iteration in (0, 1, 2):
        for name in ("train", "explore", "query", "label"):
            folder.step(iteration, name).mkdir(parents=True)
    folder.final.mkdir()
    moved = set_aside_from(folder, 1, "query")
    assert [str(path.relative_to(tmp_path)) for path in moved] == [
        "final.bak.1", "iter.0002.bak.1", "iter.0001/label.bak.1", "iter.0001/query.bak.1",
    ]  # fmt: skip
    assert folder.iterations() == [0, 1]
    set_aside_from(folder, 0)
    assert folder.iterations() == []


@pytest.mark.parametrize("after_rename", [False, True])
@pytest.mark.parametrize("request_again", [False, True])
@pytest.mark.parametrize("nth", range(5))
def test_killed_at_any_rename_it_ends_as_a_fresh_run_does(
    finished: Path, tasks: Tasks, hotter: dict[str, str], monkeypatch: pytest.MonkeyPatch,
    nth: int, request_again: bool, after_rename: bool,
) -> None:  # fmt: skip
    write_param(finished, **HOTTER)
    calls = 0

    def killed(path: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == nth + 1 and not after_rename:
            raise KeyboardInterrupt
        moved = set_aside(path)
        if calls == nth + 1:
            raise KeyboardInterrupt
        return moved

    request: dict[str, Any] = {"redo": "1/explore"}
    with monkeypatch.context() as during:
        during.setattr(aside, "set_aside", killed)
        with pytest.raises(KeyboardInterrupt):
            run(finished, **request)
    run(finished, **request if request_again else {})
    assert read_result(finished / "work") == hotter
    assert len(aside_in(finished)) == 5


@pytest.mark.parametrize("request_", [{"redo": "1/train"}, {"accept_from": 1}])
@pytest.mark.parametrize("error", [KeyboardInterrupt, TasksFailed])
def test_given_again_after_an_interruption_it_goes_on(
    finished: Path, tasks: Tasks, request_: dict[str, Any], error: type[BaseException]
) -> None:
    write_param(finished, **MORE_STEPS if "accept_from" in request_ else {})
    where = "2/train/model.001"
    tasks.stop_before, tasks.fail = (where, None) if error is KeyboardInterrupt else (None, where)
    with pytest.raises(error):
        run(finished, **request_)
    before = aside_in(finished)
    assert "iter.0001.bak.1" in before
    tasks.run.clear()
    tasks.stop_before = tasks.fail = None
    run(finished, **request_)
    assert tasks.run[0] == where
    assert aside_in(finished) == before
    assert History(finished / "work/history.json").read()["pending"] is None
    run(finished, **request_)  # the run was done: now it is a new request
    assert "iter.0001.bak.2" in aside_in(finished)


def test_an_input_changed_after_the_request_can_be_redone_again(finished: Path, tasks: Tasks) -> None:
    tasks.stop_before = "2/train/model.000"
    with pytest.raises(KeyboardInterrupt):
        run(finished, redo="1/explore")
    write_param(finished, **HOTTER)
    with pytest.raises(StateMismatch, match="--redo 1/explore"):
        run(finished, redo="1/explore")
    tasks.stop_before = None
    run(finished, redo="1/explore")
    assert "iter.0001/explore.bak.2" in aside_in(finished)


@pytest.mark.parametrize("request_", [{"accept_from": 10}, {"redo": "10/query"}])
def test_an_iteration_that_is_not_there_changes_nothing(
    finished: Path, tasks: Tasks, tmp_path: Path, request_: dict[str, Any]
) -> None:
    before = History(finished / "work/history.json").read()
    with pytest.raises(ConfigError, match=r"there is no iteration 10 in .*: the last is 2\."):
        run(finished, **request_)
    after = History(finished / "work/history.json").read()
    for key in ("accepted_before", "pending"):
        assert after[key] == before[key]
    assert aside_in(finished) == []
    empty = make_folder(tmp_path / "empty")
    with pytest.raises(ConfigError, match="the run has not begun one"):
        run(empty, **request_)


def test_accept_from_keeps_iterations_of_another_committee(finished: Path, tasks: Tasks) -> None:
    write_param(finished, **THREE)
    with pytest.raises(StateMismatch, match=r"train\.models: 2 → 3"):
        run(finished)
    run(finished, accept_from=2)
    assert tasks.run[:3] == [f"2/train/model.00{member}" for member in range(3)]
    assert len(list((finished / "work/iter.0001/train").glob("model.*"))) == 2
    tasks.run.clear()
    run(finished)
    assert tasks.run == []


def test_a_committee_that_has_grown_cannot_start_warm(finished: Path, tasks: Tasks) -> None:
    write_param(finished, train=THREE["train"] | {"warm_start": {"steps": 5, "start_lr": 1e-4}})
    with pytest.raises(ConfigError) as refused:
        run(finished, accept_from=2)
    message = str(refused.value)
    assert "train.models is 3" in message
    assert "iter.0001/train has 2" in message
    assert "without a parent" in message
    assert len(message.splitlines()) == 2


def test_an_unfinished_step_is_never_finished_with_another_input(tmp_path: Path, tasks: Tasks) -> None:
    folder = make_folder(tmp_path / "run")
    tasks.stop_before = "1/label/task.000001"
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    write_param(folder, **OTHER_LABEL)
    kept = read_json(folder / "work/iter.0001/query/step.json")
    tasks.stop_before = None
    with pytest.raises(StateMismatch, match=r"iter\.0000/label was labelled with other settings.*pair_coeff"):
        run(folder, accept_from=2)
    write_param(folder, allow_mixed=True, **OTHER_LABEL)
    tasks.run.clear()
    run(folder, accept_from=2)
    assert tasks.run[:3] == ["1/label/task.000000", "1/label/task.000001", "2/train/model.000"]
    assert (folder / "work/iter.0001/label.bak.1/task.000000").is_dir()
    assert read_json(folder / "work/iter.0001/query/step.json") == kept


def test_redo_of_an_earlier_step_keeps_what_was_accepted_before_it(finished: Path, tasks: Tasks) -> None:
    write_param(finished, **MORE_STEPS)
    run(finished, accept_from=3)
    kept = read_json(finished / "work/iter.0001/query/step.json")
    tasks.run.clear()
    run(finished, redo="1/label")
    assert tasks.run[0] == "2/train/model.000"  # the labels were found again
    assert read_json(finished / "work/iter.0001/query/step.json") == kept
    assert History(finished / "work/history.json").accepted_before == (1, "label")
    label = read_json(finished / "work/iter.0001/label/step.json")["result"]
    assert label["reused"] == label["labelled"] == 2
    run(finished)


def test_changed_data_are_taken_where_everything_is_redone(finished: Path, tasks: Tasks) -> None:
    shutil.copytree(finished / "data/Si8", finished / "data/more")
    with pytest.raises(StateMismatch, match=r"work/data was made from another input"):
        run(finished)
    run(finished, redo="0/train")
    run(finished)
    assert "data.bak.1" in aside_in(finished)


def test_a_damaged_label_is_not_found_again_and_runs_again(finished: Path, tasks: Tasks) -> None:
    (finished / "work/iter.0001/label/task.000000/output").write_text("half a li")
    tasks.stop_before = "2/train/model.000"
    with pytest.raises(KeyboardInterrupt):
        run(finished, redo="1/label")
    assert tasks.run == ["1/label/task.000000"]
    label = read_json(finished / "work/iter.0001/label/step.json")["result"]
    assert (label["labelled"], label["reused"]) == (2, 1)


def test_a_published_label_that_is_damaged_runs_again(finished: Path, tasks: Tasks) -> None:
    label = finished / "work/iter.0002/label"
    expected = read_result(label / "dataset")
    (label / "task.000001/frames.lammpstrj").write_text("")
    shutil.rmtree(label / "dataset")
    run(finished)
    assert tasks.run == ["2/label/task.000001"]
    assert (label / "task.000001.bak.1").is_dir()
    assert read_result(label / "dataset") == expected


@pytest.mark.parametrize("lost", ["label/dataset", "explore/task.000001", "train/model.001", "query/selected.extxyz"])
def test_what_was_lost_is_made_again(finished: Path, tasks: Tasks, lost: str) -> None:
    expected = read_result(finished / "work")
    path = finished / "work/iter.0000" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    run(finished)
    assert read_result(finished / "work") == expected
    assert len(tasks.run) <= 1


@pytest.mark.parametrize("jobs", ["jobs", "jobs.features"])
def test_what_still_runs_is_ended_before_its_folder_is_set_aside(tmp_path: Path, jobs: str) -> None:
    job = tmp_path / "label" / jobs / "0000"
    attempt = tmp_path / "label/task.000000.try-1"
    job.mkdir(parents=True)
    attempt.mkdir()
    child = subprocess.Popen(["sleep", "100"], cwd=attempt, start_new_session=True)
    row = {"task": "task.000000", "attempt": 1, "folder": str(attempt), "argv": [], "output": "output"}
    (job / "group.json").write_text(json.dumps({"tasks": [row]}))
    runner = {"by": "runner", "host": socket.gethostname(), "pid": 2**22 - 1, "started": "1@gone"}
    (job / "claim").write_text(json.dumps(runner))
    started = start_of(child.pid)
    event = {"event": "begin", "task": "task.000000", "attempt": 1, "pid": child.pid, "started": started}
    (job / "journal.jsonl").write_text(json.dumps(event) + "\n")
    assert is_running(child.pid, started)
    assert set_aside(tmp_path / "label") == tmp_path / "label.bak.1"
    assert child.wait(5) == -9
    assert [path.name for path in tmp_path.iterdir()] == ["label.bak.1"]


@pytest.mark.parametrize("text", ["train", "1", "1/", "x/train", "1/fly", "-1/train"])
def test_a_malformed_redo_says_the_form(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--redo {text}: expected K/STEP"):
        request_steps(text, None)


def test_requests() -> None:
    assert request_steps(None, None) is None
    assert read_request(str(request_steps("2/query", None))) == (2, "query")
    assert read_request(str(request_steps(None, 0))) == (0, "train")
    with pytest.raises(ConfigError, match="exclude each other"):
        request_steps("2/query", 1)
    with pytest.raises(ConfigError, match="--accept-from -1: expected an iteration"):
        request_steps(None, -1)
