"""Damage to a batch: a disk that takes nothing more, files that a dying machine left half written, a folder that moved.

No task is blamed, nothing whole is lost, and once it is mended the batch goes on.
"""

import json
from pathlib import Path

import pytest
from batch_program import make_task, run_scripts

from al_driver.errors import DiskError, StateMismatch
from al_driver.jobs import job as job_module
from al_driver.jobs import runner as runner_module
from al_driver.jobs.attempts import Attempt, find_attempts
from al_driver.jobs.group import write_group
from al_driver.jobs.journal import claim_job
from al_driver.schema.resource import Profile

FILL = "head -c 2000000 /dev/zero > waste; "


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_a_full_disk_ends_the_batch_and_blames_no_task(tmp_path, disk, executor):
    folder = disk.path / "batch"
    folder.mkdir()
    scripts = {"whole": "touch result", "fills": f"{FILL} exit 1", "late": "sleep 30; touch result"}
    profile = Profile(executor=executor, workers=3, retries=0)
    with pytest.raises(DiskError) as caught:
        run_scripts(folder, scripts, profile)
    first, second = str(caught.value).split("\n")
    assert first.startswith(f"nothing can be written in {folder}: No space left on device (")
    assert "then give the same command again" in second
    assert (folder / "whole/result").exists()
    assert (folder / "fills.try-1.disk/waste").exists() and (folder / "late.try-1.disk").exists()
    assert not list(folder.glob("**/failed.json"))
    disk.remount("size=9m")
    again = run_scripts(folder, dict.fromkeys(scripts, "touch result"), profile)
    assert [task.name for task in again.done] == list(scripts) and again.failed == {}
    assert (folder / "fills/result").exists() and find_attempts([make_task(folder / "late", "")]) == {"late": 1}


def test_what_a_program_says_of_its_own_disk_is_the_machines_failure(tmp_path):
    script = (
        f"if [ -e {tmp_path}/once ]; then touch result; "
        f"else touch {tmp_path}/once; echo 'forrtl: No space left on device'; echo bye; exit 9; fi"
    )
    result = run_scripts(tmp_path, {"t": script}, Profile(executor="inline"))
    assert len(result.done) == 1
    failure = json.loads((tmp_path / "t.try-1/failed.json").read_text())
    assert failure == {"reason": "engine_error", "detail": "forrtl: No space left on device", "final": False}


def test_a_disk_that_is_full_for_good_fails_the_task_within_its_retries(tmp_path):
    script = f"echo x >> {tmp_path}/log; echo 'write: Disk quota exceeded'; exit 1"
    result = run_scripts(tmp_path, {"t": script}, Profile(executor="inline", retries=1))
    assert (tmp_path / "log").read_text() == "x\n" * 2
    assert result.failed["t"].detail == "write: Disk quota exceeded, 2 times"


def test_a_good_result_counts_whatever_was_said_of_a_disk(tmp_path):
    result = run_scripts(tmp_path, {"t": "echo 'No space left on device'; touch result"}, Profile(executor="inline"))
    assert len(result.done) == 1


def test_a_task_that_met_a_full_disk_is_run_again_when_the_driver_looks_too_late_to_see_it(tmp_path, disk):
    task = make_task(disk.path / "t", f"{FILL} touch result")
    (disk.path / "jobs/0000").mkdir(parents=True)
    attempt = Attempt(task, 1)
    attempt.folder.mkdir()
    write_group(disk.path / "jobs/0000", [attempt], Profile())
    runner_module.Group(disk.path / "jobs/0000").run()
    (attempt.folder / "result").unlink()
    disk.remount("size=9m")
    assert len(run_scripts(disk.path, {"t": "touch result"}, Profile(executor="inline")).done) == 1
    failure = json.loads((disk.path / "t.try-1/failed.json").read_text())
    assert failure == {"reason": "engine_error", "detail": "No space left on device", "final": False}


def test_a_disk_that_was_full_while_a_task_ran_is_held_against_the_machine(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(runner_module, "DISK_SECONDS", 0.05)
    disk.remount("size=9m")
    script = "[ -e ../once ] && touch result && exit; touch ../once; {}; sleep 1; rm waste; exit 1"
    script = script.format("head -c 20000000 /dev/zero > waste 2> /dev/null")
    assert len(run_scripts(disk.path, {"t": script}, Profile(executor="inline")).done) == 1
    assert json.loads((disk.path / "t.try-1/failed.json").read_text())["detail"] == "No space left on device"


def leave_job(folder: Path) -> Path:
    """Leave what a machine that died leaves: a job on another host, with a task begun and one that waits."""
    job = folder / "jobs/0000"
    job.mkdir(parents=True)
    attempts = [Attempt(make_task(folder / name, "touch result"), 1) for name in ("t0", "t1")]
    for attempt in attempts:
        attempt.folder.mkdir()
    write_group(job, attempts, Profile(executor="local"))
    claim_job(job, {"by": "runner", "host": "gone", "pid": 1, "started": "1@0"})
    begin = {"event": "begin", "task": "t0", "attempt": 1, "pid": 1, "started": "1@0"}
    (job / "journal.jsonl").write_text(json.dumps({"event": "start"}) + "\n" + json.dumps(begin) + "\n")
    return job


@pytest.mark.parametrize("name", ["claim", "journal.jsonl"])
@pytest.mark.parametrize("kept", [0.0, 0.7], ids=["empty", "half"])
def test_a_job_whose_files_are_half_written_is_run_again(tmp_path, monkeypatch, name, kept):
    monkeypatch.setattr(job_module, "STALE_SECONDS", 0.3)
    file = leave_job(tmp_path) / name
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    result = run_scripts(tmp_path, {"t0": "touch result", "t1": "touch result"}, Profile(executor="local"))
    assert len(result.done) == 2 and result.failed == {}


def test_a_list_of_tasks_that_is_half_written_is_named_and_can_be_moved_away(tmp_path):
    file = leave_job(tmp_path) / "group.json"
    file.write_bytes(file.read_bytes()[:50])
    scripts, profile = {"t0": "touch result", "t1": "touch result"}, Profile(executor="local")
    with pytest.raises(StateMismatch, match=r"group\.json is damaged \(.*\)\.\n  Move it away and start again\.$"):
        run_scripts(tmp_path, scripts, profile)
    file.rename(tmp_path / "away")
    assert len(run_scripts(tmp_path, scripts, profile).done) == 2


def test_a_folder_that_moved_while_its_machine_was_off_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(job_module, "STALE_SECONDS", 0.3)
    (tmp_path / "here").mkdir()
    leave_job(tmp_path / "here")
    there = (tmp_path / "here").rename(tmp_path / "there")
    result = run_scripts(there, {"t0": "touch result", "t1": "touch result"}, Profile(executor="local"))
    assert [(there / name / "result").exists() for name in ("t0", "t1")] == [True, True]
    assert len(result.done) == 2 and not (tmp_path / "here").exists()
