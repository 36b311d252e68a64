"""A process is known by pid and start, whatever its name."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from al_driver.jobs.processes import child_environment, find_children, find_program, is_running, start_of


@pytest.fixture
def odd_sleeper(tmp_path):
    """A process whose name holds what separates the fields of /proc/PID/stat."""
    program = tmp_path / ") S 1 2"
    shutil.copy(shutil.which("sleep"), program)
    folder = tmp_path / "its folder"
    folder.mkdir()
    process = subprocess.Popen([program, "60"], cwd=folder, start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_a_process_lives_until_it_ends_and_a_zombie_is_dead(odd_sleeper):
    started = start_of(odd_sleeper.pid)
    assert is_running(odd_sleeper.pid, started)
    assert not is_running(odd_sleeper.pid, "1@" + started.split("@")[1])
    assert not is_running(odd_sleeper.pid, None)
    odd_sleeper.kill()
    os.waitid(os.P_PID, odd_sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert start_of(odd_sleeper.pid) is None and not is_running(odd_sleeper.pid, started)


def test_two_processes_have_two_starts():
    assert start_of(os.getpid()) != start_of(1)


def test_a_child_is_found_by_its_folder(odd_sleeper, tmp_path):
    wanted = {str(tmp_path / "its folder"): "task", str(tmp_path): "other"}
    deadline = time.monotonic() + 5
    while not (found := find_children(wanted)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert found == {"task": (odd_sleeper.pid, start_of(odd_sleeper.pid))}


def test_the_environment_of_a_child(monkeypatch):
    monkeypatch.setenv("SUBMITIT_LOCAL_JOB_ID", "7")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    env = child_environment({"OMP_NUM_THREADS": "1", "PATH": "/opt/x"})
    assert env["OMP_NUM_THREADS"] == "1" and "SUBMITIT_LOCAL_JOB_ID" not in env
    assert env["PATH"] == f"/opt/x:{Path(sys.executable).parent}"


def test_the_users_path_comes_first(tmp_path):
    mine = tmp_path / "python"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    assert find_program("python", {"PATH": str(tmp_path)}) == str(mine)
    assert find_program("python", {"PATH": "/none"}) == str(Path(sys.executable).parent / "python")
    assert find_program("no-such-program") is None
