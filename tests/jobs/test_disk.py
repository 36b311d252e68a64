"""A disk that takes nothing more: no task is blamed, nothing whole is lost, and once there is room it goes on."""

import json

import pytest
from batch_program import run_scripts

from al_driver.errors import DiskError
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
    assert (folder / "fills.try-1.disk-1/waste").exists() and (folder / "late.try-1.disk-1").exists()
    assert not list(folder.glob("**/failed.json"))
    disk.remount("size=9m")
    again = run_scripts(folder, dict.fromkeys(scripts, "touch result"), profile)
    assert [task.name for task in again.done] == list(scripts) and again.failed == {}
    assert (folder / "fills/result").exists()


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
