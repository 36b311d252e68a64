"""A batch on this machine: what is published, retried, kept as failed, and said."""

import json
import os
import sys
import time
from pathlib import Path

import pytest
from batch_program import make_task, run_scripts, verify_result, wait_until, write_nothing

from al_driver.errors import ConfigError, EngineError, TasksFailed
from al_driver.jobs.batch import run_batch
from al_driver.jobs.progress import Progress
from al_driver.jobs.task import Task
from al_driver.schema.resource import Profile

EXECUTORS = ["inline", "local"]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_64_tasks_are_published_with_one_job(tmp_path, executor):
    told: list[Progress] = []
    scripts = {f"task.{i:06d}": f"echo {i} > result; echo hello" for i in range(64)}
    result = run_scripts(tmp_path, scripts, Profile(executor=executor, workers=2), on_progress=told.append)
    assert [task.name for task in result.done] == list(scripts) and result.failed == {}
    assert [(tmp_path / name / "result").read_text() for name in scripts] == [f"{i}\n" for i in range(64)]
    assert (tmp_path / "task.000007/output").read_text() == "hello\n"
    assert not list(tmp_path.glob("*.try-*")) and len(list((tmp_path / "jobs").iterdir())) == 1
    assert told[-1] == Progress(64, 64, 0, 0)
    assert json.loads((tmp_path / "jobs/0000/submitted.json").read_text())["executor"] == executor
    again = run_scripts(tmp_path, scripts, Profile(executor=executor))
    assert len(again.done) == 64 and len(list((tmp_path / "jobs").iterdir())) == 1


@pytest.mark.parametrize("executor", EXECUTORS)
def test_workers_run_side_by_side_and_no_more(tmp_path, executor):
    script = f"echo + >> {tmp_path}/log; sleep 0.15; echo - >> {tmp_path}/log; touch result"
    profile = Profile(executor=executor, workers=3)
    run_scripts(tmp_path, {f"t{i}": script for i in range(7)}, profile)
    level, levels = 0, []
    for line in (tmp_path / "log").read_text().split():
        level += 1 if line == "+" else -1
        levels.append(level)
    assert max(levels) == 3 and levels[-1] == 0


def test_groups_share_the_workers_of_the_machine(tmp_path):
    script = f"mkdir {tmp_path}/busy && rmdir {tmp_path}/busy && touch result"
    result = run_scripts(tmp_path, {f"t{i}": script for i in range(6)}, Profile(executor="inline", group_size=2))
    assert len(result.done) == 6 and sorted(p.name for p in (tmp_path / "jobs").iterdir()) == ["0000", "0001", "0002"]


def test_a_good_result_is_published_whatever_the_exit_code(tmp_path):
    result = run_scripts(tmp_path, {"t": "touch result; exit 7"}, Profile(executor="inline"))
    assert [task.name for task in result.done] == ["t"]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_task_that_the_machine_killed_is_run_again(tmp_path, executor):
    script = f"if [ -e {tmp_path}/once ]; then touch result; else touch {tmp_path}/once; kill -9 $$; fi"
    result = run_scripts(tmp_path, {"t": script}, Profile(executor=executor))
    assert len(result.done) == 1
    failure = json.loads((tmp_path / "t.try-1/failed.json").read_text())
    assert failure == {"reason": "engine_error", "detail": "killed by signal 9", "final": False}


@pytest.mark.parametrize("code", ["kill -9 $$", "exit 137"])
def test_a_task_that_is_killed_each_time_fails_in_the_end(tmp_path, code):
    result = run_scripts(tmp_path, {"t": f"echo x >> {tmp_path}/log; {code}"}, Profile(executor="inline", retries=2))
    assert (tmp_path / "log").read_text() == "x\n" * 3
    failure = result.failed["t"]
    assert (failure.reason, failure.detail) == ("engine_error", "killed by signal 9, 3 times")
    assert failure.where == tmp_path / "t.try-3" and result.done == ()


def test_a_physical_failure_is_kept_and_the_others_go_on(tmp_path):
    scripts = {"bad": f"echo x >> {tmp_path}/log; echo unconverged > result; exit 2"}
    scripts |= {f"t{i}": "touch result" for i in range(4)}
    for _ in range(2):  # a restart in the middle of the step does not repeat it
        result = run_scripts(tmp_path, scripts, Profile(executor="inline"))
        assert len(result.done) == 4
        failure = result.failed["bad"]
        assert failure.reason == "scf_unconverged" and failure.where == tmp_path / "bad.try-1"
        assert failure.detail == "not converged after 100 steps (exit status 2)"
    assert (tmp_path / "log").read_text() == "x\n"
    assert json.loads((tmp_path / "bad.try-1/failed.json").read_text())["reason"] == "scf_unconverged"


def test_a_parser_that_breaks_is_a_failure_of_that_task_alone(tmp_path):
    def parse(folder: Path) -> None:
        raise IndexError("list index out of range")

    tasks = [Task(tmp_path / "odd", ("true",), write_nothing, parse), make_task(tmp_path / "t", "touch result")]
    result = run_batch(tasks, Profile(executor="inline"), jobs_dir=tmp_path / "jobs")
    assert result.failed["odd"].detail == "its output cannot be read (IndexError: list index out of range)"
    assert [task.name for task in result.done] == ["t"]


def test_inputs_that_cannot_be_written_fail_their_task_alone(tmp_path):
    def refuse(folder: Path) -> None:
        raise EngineError("too_close", folder, "atoms 0 and 1 are 0.1 Å apart")

    tasks = [Task(tmp_path / "odd", ("true",), refuse, verify_result), make_task(tmp_path / "t", "touch result")]
    result = run_batch(tasks, Profile(executor="inline"), jobs_dir=tmp_path / "jobs")
    assert result.failed["odd"].reason == "too_close" and len(result.done) == 1


def test_inputs_that_cannot_be_written_count_among_the_failures_that_stop_a_batch(tmp_path):
    def refuse(folder: Path) -> None:
        raise EngineError("too_close", folder, "atoms 0 and 1 are 0.1 Å apart")

    tasks = [Task(tmp_path / f"t{n}", ("true",), refuse, verify_result) for n in range(4)]
    with pytest.raises(TasksFailed, match=r"^4 of 4 tasks failed, too many to go on; 4 times too_close"):
        run_batch(tasks, Profile(executor="inline"), jobs_dir=tmp_path / "jobs")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_too_many_failures_stop_the_batch_and_all_are_run_again(tmp_path, executor):
    script = (
        f"echo x >> {tmp_path}/log; [ -e {tmp_path}/mended ] || {{ echo unconverged > result; exit; }}; touch result"
    )
    scripts = {f"t{i}": script for i in range(12)}
    profile = Profile(executor=executor, max_failed=2, max_failed_fraction=0.1)
    with pytest.raises(TasksFailed) as caught:
        run_scripts(tmp_path, scripts, profile)
    n = len(list(tmp_path.glob("*/failed.json")))
    assert 3 <= n <= 12
    assert str(caught.value) == (
        f"{n} of 12 tasks failed, too many to go on; {n} times scf_unconverged, first: not converged after 100 steps\n"
        f"  Look at {tmp_path}/t0.try-1/output\n"
        f"  Mend the cause, then run the same command again: what is finished is kept, what failed is run anew."
    )
    (tmp_path / "mended").touch()
    assert len(run_scripts(tmp_path, scripts, profile).done) == 12
    assert (tmp_path / "t0.try-1/failed.retried.json").exists() and not (tmp_path / "jobs/stopped.json").exists()


def test_after_a_stop_what_runs_may_finish_and_nothing_starts(tmp_path):
    scripts = {"bad": "echo unconverged > result", "slow": "sleep 0.7; touch result", "hold": "sleep 0.5; touch result"}
    scripts |= {f"later{i}": "sleep 0.5; touch result" for i in range(4)}
    with pytest.raises(TasksFailed, match=r"^1 of 7 tasks failed, too many to go on; scf_unconverged: not converged"):
        run_scripts(tmp_path, scripts, Profile(executor="inline", workers=2, max_failed=0, max_failed_fraction=0.0))
    assert (tmp_path / "slow").exists() and not (tmp_path / "later3").exists()
    assert not (tmp_path / "later3.try-1/output").exists()


@pytest.mark.parametrize("executor", EXECUTORS)
def test_stop_on_failure_ends_what_runs(tmp_path, executor):
    scripts = {"bad": "sleep 0.2; echo unconverged > result", "long": "echo $$ > pid; exec sleep 60"}
    begun = time.monotonic()
    with pytest.raises(TasksFailed, match="1 of 2 tasks failed"):
        run_scripts(tmp_path, scripts, Profile(executor=executor, workers=2), stop_on_failure=True)
    assert time.monotonic() - begun < 5
    pid = int((tmp_path / "long.try-1/pid").read_text())
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_each_timeout_gives_the_next_try_more(tmp_path):
    profile = Profile(executor="inline", timeout_min=(0.005, 1.0))
    assert len(run_scripts(tmp_path, {"t": "sleep 0.6; touch result"}, profile).done) == 1
    failure = json.loads((tmp_path / "t.try-1/failed.json").read_text())
    assert failure == {"reason": "timeout", "detail": "ran longer than 0.005 min", "final": False}


def test_a_timeout_ends_the_whole_family(tmp_path, monkeypatch):
    monkeypatch.setattr("al_driver.jobs.runner.GRACE_SECONDS", 0.3)
    profile = Profile(executor="inline", timeout_min=0.005, retries=0)
    result = run_scripts(tmp_path, {"t": "trap '' TERM; sleep 60 & echo $! > pid; wait; touch result"}, profile)
    assert (result.failed["t"].reason, result.failed["t"].detail) == ("timeout", "ran longer than 0.005 min")
    pid = int((tmp_path / "t.try-1/pid").read_text())
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_program_that_is_missing_is_told_before_anything_is_submitted(tmp_path):
    tasks = [Task(tmp_path / name, (name,), write_nothing, verify_result) for name in ("no-such", "/no/such", "./x")]
    with pytest.raises(ConfigError) as caught:
        run_batch(tasks, Profile(executor="inline", env={"PATH": "/bin"}), jobs_dir=tmp_path / "jobs")
    texts = [problem.message.splitlines()[0] for problem in caught.value.problems]
    assert texts == [
        "the program './x' is a relative path, but each task runs in its own folder.",
        "/no/such does not exist or cannot be executed.",
        f"the program 'no-such' was not found in /bin:{Path(sys.executable).parent}.",
    ]
    assert list(tmp_path.iterdir()) == []


def test_names_of_tasks_are_their_own(tmp_path):
    tasks = [make_task(tmp_path / side / "t", "true") for side in "ab"]
    with pytest.raises(ConfigError, match=r"two tasks of one batch are called 't'"):
        run_batch(tasks, Profile(executor="inline"), jobs_dir=tmp_path / "jobs")


def test_the_users_gpus_reach_the_tasks(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    for executor in EXECUTORS:
        scripts = {executor: 'env | grep -c ^SUBMITIT > result; echo "gpu $CUDA_VISIBLE_DEVICES" >> result'}
        run_scripts(tmp_path, scripts, Profile(executor=executor))
        assert (tmp_path / executor / "result").read_text() == "0\ngpu 3\n"


def test_a_job_that_cannot_begin_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBMITIT_PREEMPT_SIGNAL", "NONSENSE")  # submitit's own half of the job then dies
    with pytest.raises(TasksFailed) as caught:
        run_scripts(tmp_path, {"t": "touch result"}, Profile(retries=1, max_failed=0, max_failed_fraction=0.0))
    assert "its job ended before it began: RuntimeError: Unknown signal" in str(caught.value)
    assert not os.environ.get("SUBMITIT_EXECUTOR")
