"""One driver a folder: what holds, what is stale, and who wins."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from al_driver.errors import FolderLocked
from al_driver.jobs.processes import start_of
from al_driver.schema.resource import Resources
from al_driver.workflow import lock as lock_module
from al_driver.workflow.hold import hold
from al_driver.workflow.lock import FolderLock, Holder, read_holder


def write_lock(path: Path, **changes: object) -> None:
    pid = int(str(changes.get("pid", os.getpid())))
    holder = {
        "host": socket.gethostname(),
        "pid": pid,
        "started": start_of(pid),
        "slurm_job_id": None,
        "counter": 0,
    }
    path.write_text(json.dumps(holder | changes))


def test_second_driver_is_refused_and_told_who_holds(tmp_path: Path) -> None:
    path = tmp_path / "al.lock"
    with FolderLock(path), pytest.raises(FolderLocked) as refused, FolderLock(path):
        pass
    assert f"process {os.getpid()} on {socket.gethostname()}" in str(refused.value)
    assert refused.value.exit_code == 5
    assert not path.exists()


def test_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "al.lock"
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    write_lock(path, pid=child.pid)
    with FolderLock(path):
        assert read_holder(path).pid == os.getpid()  # type: ignore[union-attr]
    assert list(tmp_path.iterdir()) == []


def test_reused_pid_is_not_the_driver(tmp_path: Path) -> None:
    path = tmp_path / "al.lock"
    write_lock(path, started="1@another-boot")
    with FolderLock(path):
        assert read_holder(path).started == start_of(os.getpid())  # type: ignore[union-attr]


def test_damaged_lock_is_stale(tmp_path: Path) -> None:
    path = tmp_path / "al.lock"
    path.write_text('{"host": "x", "pi')
    with FolderLock(path):
        assert read_holder(path) is not None


def test_lock_of_another_host_is_stale_when_its_counter_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "STALE_SECONDS", 0.5)
    path = tmp_path / "al.lock"
    write_lock(path, host="elsewhere")
    said: list[str] = []
    with FolderLock(path, said.append):
        assert read_holder(path).host == socket.gethostname()  # type: ignore[union-attr]
    assert "elsewhere" in said[0]


@pytest.mark.parametrize(
    ("told", "mine", "over"),
    [
        ("7|NODE_FAIL", {}, True),
        ("7|PENDING", {}, True),
        ("7|RUNNING", {}, False),
        ("", {}, False),
        ("7|RUNNING", {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}, True),
        ("7|RUNNING", {"SLURM_JOB_ID": "7"}, False),
    ],
    ids=["failed", "waits", "runs", "unknown", "queued-again", "one-job-two-hosts"],
)
def test_lock_of_another_host_is_stale_at_once_when_slurm_says_that_its_job_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, mine: dict[str, str], over: bool
) -> None:
    program = tmp_path / "bin/squeue"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{told}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(lock_module, "STALE_SECONDS", 0.5)
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    write_lock(tmp_path / "al.lock", host="elsewhere", slurm_job_id="7")
    said: list[str] = []
    with FolderLock(tmp_path / "al.lock", said.append):
        assert bool(said) is not over


def test_slurm_is_asked_again_while_a_job_completes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, False, True])
    monkeypatch.setattr(lock_module, "is_over", lambda _: next(answers))
    monkeypatch.setattr(lock_module, "ASK_SECONDS", 0.0)
    write_lock(tmp_path / "al.lock", host="elsewhere", slurm_job_id="7")
    begun = time.monotonic()
    with FolderLock(tmp_path / "al.lock"):
        assert next(answers, None) is None and time.monotonic() - begun < lock_module.STALE_SECONDS


def test_lock_of_another_host_holds_while_its_counter_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "STALE_SECONDS", 5.0)
    path = tmp_path / "al.lock"
    write_lock(path, host="elsewhere")
    timer = threading.Timer(0.3, lambda: write_lock(path, host="elsewhere", counter=1))
    timer.start()
    with pytest.raises(FolderLocked, match="elsewhere"), FolderLock(path):
        pass
    assert read_holder(path).counter == 1  # type: ignore[union-attr]


def test_heartbeat_counts_and_notices_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "HEARTBEAT_SECONDS", 0.05)
    path = tmp_path / "al.lock"
    with FolderLock(path) as lock:
        while read_holder(path).counter < 2:  # type: ignore[union-attr]
            lock.check_held()
        write_lock(path, host="elsewhere")
        assert lock.lost.wait(5)
        with pytest.raises(FolderLocked, match="was taken by another driver"):
            lock.check_held()
    assert read_holder(path).host == "elsewhere"  # type: ignore[union-attr]


def test_a_beat_that_fails_is_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "HEARTBEAT_SECONDS", 0.02)
    path = tmp_path / "al.lock"
    failed = threading.Event()

    def write(path: Path, content: str) -> None:
        if not failed.is_set():
            failed.set()
            raise OSError(28, "No space left on device")
        path.write_text(content)

    monkeypatch.setattr(lock_module, "write_atomic", write)
    with FolderLock(path) as lock:
        assert failed.wait(5)
        before = time.monotonic()
        while (holder := read_holder(path)) is None or holder.counter < 3:
            assert time.monotonic() - before < 5, "the heart stands still"
            lock.check_held()


def test_a_lock_that_came_in_place_of_a_damaged_one_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "al.lock"
    path.write_text("{")
    first_look = iter([None])
    read = lock_module.read_holder

    def late(asked: Path) -> Holder | None:
        if asked == path and next(first_look, 0) is None:
            write_lock(path, pid=os.getppid())  # another driver was quicker
            return None
        return read(asked)

    monkeypatch.setattr(lock_module, "read_holder", late)
    with pytest.raises(FolderLocked, match=f"process {os.getppid()} on"), FolderLock(path):
        pass
    assert read(path).pid == os.getppid()  # type: ignore[union-attr]
    assert list(tmp_path.iterdir()) == [path]


def test_a_driver_that_lost_its_folder_writes_no_more_history(tmp_path: Path) -> None:
    with pytest.raises(FolderLocked), hold("run", tmp_path, Resources(), None) as context:
        write_lock(context.folder.lock, host="elsewhere")
        before = context.folder.history.read_bytes()
        raise FolderLocked("taken by another")
    assert context.folder.history.read_bytes() == before
    assert read_holder(context.folder.lock).host == "elsewhere"  # type: ignore[union-attr]


def _try_lock(path: Path, barrier: "multiprocessing.synchronize.Barrier", won: "multiprocessing.Queue[int]") -> None:
    barrier.wait()
    try:
        with FolderLock(path):
            won.put(os.getpid())
            barrier.wait()
    except FolderLocked:
        barrier.wait()


def test_of_many_drivers_that_meet_a_stale_lock_one_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for round_ in range(20):
        path = tmp_path / f"al{round_}.lock"
        write_lock(path, pid=2**22 - 1)
        barrier, won = context.Barrier(6), context.Queue()
        drivers = [context.Process(target=_try_lock, args=(path, barrier, won)) for _ in range(6)]
        for driver in drivers:
            driver.start()
        for driver in drivers:
            driver.join(20)
        assert won.qsize() == 1
