"""A driver that dies at any moment: what runs is taken over, nothing runs twice, nothing is lost."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batch_program import make_task, run_scripts, wait_until

from al_driver.errors import FolderLocked
from al_driver.jobs.attempts import Attempt
from al_driver.jobs.batch import run_batch
from al_driver.jobs.group import write_group
from al_driver.jobs.journal import claim_job, read_claim
from al_driver.jobs.processes import is_running, start_of, this_process
from al_driver.jobs.runner import run_group
from al_driver.layout import WorkFolder
from al_driver.schema.resource import Profile, Resources
from al_driver.workflow.context import Context
from al_driver.workflow.step import Step

PROGRAM = Path(__file__).with_name("batch_program.py")
EXECUTORS = ["inline", "local"]


def start_driver(folder: Path, scripts: dict[str, str], **profile: object) -> "subprocess.Popen[str]":
    """Start a driver as a process of its own session."""
    (folder / "batch.json").write_text(json.dumps({"scripts": scripts, "profile": profile}))
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(folder)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(folder: Path, scripts: dict[str, str], **profile: object) -> dict[str, list[str]]:
    driver = start_driver(folder, scripts, **profile)
    text, _ = driver.communicate(timeout=60)
    assert driver.returncode == 0, text
    return json.loads(text)


def logging_scripts(folder: Path, n: int, seconds: float) -> dict[str, str]:
    """Tasks that note their name when they begin and when they end."""
    script = "echo begin {0} >> {1}/log; sleep {2}; echo end {0} >> {1}/log; echo {0} > result"
    return {f"t{i:02d}": script.format(f"t{i:02d}", folder, seconds) for i in range(n)}


def count_lines(folder: Path) -> int:
    return len((folder / "log").read_text().splitlines()) if (folder / "log").exists() else 0


def session_of(folder: Path) -> list[int]:
    """Return the processes that work anywhere below a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and (entry / "cwd").readlink().is_relative_to(folder):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_killed_driver_finds_its_job_again_and_repeats_nothing(tmp_path):
    scripts = logging_scripts(tmp_path, 12, 0.15)
    for lines in (1, 8, 14):
        driver = start_driver(tmp_path, scripts, workers=2)
        wait_until(lambda lines=lines: count_lines(tmp_path) >= lines)
        driver.kill()
        driver.wait()
    result = finish(tmp_path, scripts, workers=2)
    assert result == {"done": list(scripts), "failed": []}
    log = (tmp_path / "log").read_text().splitlines()
    assert sorted(log) == sorted(f"{word} {name}" for name in scripts for word in ("begin", "end"))
    assert [p.name for p in (tmp_path / "jobs").iterdir()] == ["0000"]


def test_what_ended_while_no_driver_looked_is_told_as_done(tmp_path, caplog):
    scripts = logging_scripts(tmp_path, 4, 0.2) | {"odd": "echo unconverged > result"}
    driver = start_driver(tmp_path, scripts, workers=2)
    wait_until(lambda: count_lines(tmp_path) >= 1)
    driver.kill()
    driver.wait()
    wait_until(lambda: (tmp_path / "odd.try-1/result").exists() and count_lines(tmp_path) == 8)
    runner = read_claim(tmp_path / "jobs/0000")
    wait_until(lambda: not is_running(runner["pid"], runner["started"]))
    tasks = [make_task(tmp_path / name, script) for name, script in (scripts | {"new": "touch result"}).items()]
    context = Context(WorkFolder(tmp_path), Resources())
    with caplog.at_level("INFO"):
        context.run_tasks(Step("label", tmp_path, {}, ()), "label", tasks)
    assert caplog.messages == ["label begins: 6 frames to calculate, 4 done already, 1 failed"]


def test_jobs_that_are_found_again_are_told_of(tmp_path, caplog):
    caplog.set_level("INFO", "al_driver")
    scripts = logging_scripts(tmp_path, 2, 2.0)
    driver = start_driver(tmp_path, scripts)
    wait_until(lambda: count_lines(tmp_path) >= 1)
    driver.kill()
    driver.wait()
    assert len(run_scripts(tmp_path, scripts, Profile()).done) == 2
    assert caplog.messages == ["1 job of an earlier driver found, with 2 open tasks"]


def test_children_of_a_killed_inline_driver_are_waited_for(tmp_path):
    scripts = logging_scripts(tmp_path, 4, 1.0)
    driver = start_driver(tmp_path, scripts, executor="inline", workers=2)
    wait_until(lambda: count_lines(tmp_path) == 2)
    driver.kill()
    driver.wait()
    assert finish(tmp_path, scripts, executor="inline", workers=2)["done"] == list(scripts)
    assert count_lines(tmp_path) == 8
    assert json.loads((tmp_path / "jobs/0001/group.json").read_text())["tasks"][0]["task"] == "t02"


def test_a_killed_runner_leaves_children_that_are_waited_for(tmp_path):
    scripts = logging_scripts(tmp_path, 4, 1.0)
    driver = start_driver(tmp_path, scripts, workers=2)
    wait_until(lambda: count_lines(tmp_path) == 2)
    os.kill(read_claim(tmp_path / "jobs/0000")["pid"], signal.SIGKILL)
    text, _ = driver.communicate(timeout=60)
    assert json.loads(text)["done"] == list(scripts) and count_lines(tmp_path) == 8


def test_a_driver_that_lost_its_folder_leaves_the_jobs_to_its_successor(tmp_path):
    scripts = logging_scripts(tmp_path, 2, 0.6)

    def check_held():
        if count_lines(tmp_path) >= 2:
            raise FolderLocked("another driver has it")

    with pytest.raises(FolderLocked):
        run_scripts(tmp_path, scripts, Profile(workers=2), check_held=check_held)
    assert count_lines(tmp_path) == 2
    assert run_scripts(tmp_path, scripts, Profile(workers=2)).failed == {}
    assert sorted((tmp_path / "log").read_text().split()) == sorted(["begin", "end"] * 2 + list(scripts) * 2)
    assert [p.name for p in (tmp_path / "jobs").iterdir()] == ["0000"]


@pytest.mark.parametrize("ended", [False, True])
def test_a_child_whose_pid_was_never_written_is_found_by_its_folder(tmp_path, ended):
    scripts = {"t": f"echo x >> {tmp_path}/log; sleep 0.5; touch result"}
    driver = start_driver(tmp_path, scripts, executor="inline")
    journal = tmp_path / "jobs/0000/journal.jsonl"
    wait_until(lambda: journal.exists() and b"begin" in journal.read_bytes() and (tmp_path / "log").exists())
    driver.kill()
    driver.wait()
    journal.write_text(journal.read_text().splitlines()[0] + "\n")
    if ended:
        wait_until(lambda: (tmp_path / "t.try-1/result").exists())
    assert finish(tmp_path, scripts, executor="inline")["done"] == ["t"]
    assert (tmp_path / "log").read_text() == "x\n"


def test_a_job_that_was_never_submitted_is_given_up(tmp_path):
    """Killed between group.json and submission: a runner that came late after all does nothing."""
    task = make_task(tmp_path / "t", f"echo x >> {tmp_path}/log; touch result")
    attempt = Attempt(task, 1)
    attempt.folder.mkdir()
    (tmp_path / "jobs/0000").mkdir(parents=True)
    write_group(tmp_path / "jobs/0000", [attempt], Profile())
    result = run_batch([task], Profile(executor="inline"), jobs_dir=tmp_path / "jobs")
    assert result.done == (task,)
    assert read_claim(tmp_path / "jobs/0000")["by"] == "driver"
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    run_group(str(tmp_path / "jobs/0000"))
    for number, handler in zip((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), handlers, strict=True):
        signal.signal(number, handler)
    assert (tmp_path / "log").read_text() == "x\n" and not (tmp_path / "jobs/0000/journal.jsonl").exists()


def test_a_half_written_attempt_or_job_folder_is_passed_over(tmp_path):
    (tmp_path / "t.try-1").mkdir()
    (tmp_path / "jobs/0000").mkdir(parents=True)
    result = run_scripts(tmp_path, {"t": "touch result"}, Profile(executor="inline"))
    assert len(result.done) == 1 and (tmp_path / "jobs/0001").exists() and (tmp_path / "t.try-1").exists()


def test_a_late_result_of_an_old_attempt_is_never_published(tmp_path):
    """A runner that seemed dead goes on: its attempt ends well, after another one began, and before it ended."""
    task = make_task(tmp_path / "t", f"echo new > result; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done")
    old = make_task(tmp_path / "t", "echo old > result")
    attempt = Attempt(old, 1)
    attempt.folder.mkdir()
    folder = tmp_path / "jobs/0000"
    folder.mkdir(parents=True)
    write_group(folder, [attempt], Profile())
    assert claim_job(folder, {"by": "runner", "host": this_process()["host"], "pid": 2**22 + 1, "started": "0@0"})

    def revive(now):
        if now.running and not (tmp_path / "go").exists():
            (attempt.folder / "result").write_text("old\n")
            with (folder / "journal.jsonl").open("a") as stream:
                stream.write('{"event": "end", "task": "t", "attempt": 1, "code": 0}\n{"event": "finished"}\n')
            (tmp_path / "go").touch()

    result = run_batch([task], Profile(executor="inline"), jobs_dir=tmp_path / "jobs", on_progress=revive)
    assert result.done == (task,) and (tmp_path / "t/result").read_text() == "new\n"
    assert (tmp_path / "t.try-1/result").read_text() == "old\n"


def test_failures_of_the_machine_are_counted_once_across_drivers(tmp_path):
    script = f"echo x >> {tmp_path}/log; [ -e {tmp_path}/slow ] && sleep 60; touch {tmp_path}/slow; kill -9 $$"
    driver = start_driver(tmp_path, {"t": script}, executor="inline", retries=2)
    wait_until(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text() == "x\nx\n")
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(timeout=10) == 130
    (tmp_path / "slow").unlink()
    again = f"echo x >> {tmp_path}/log; kill -9 $$"
    result = run_scripts(tmp_path, {"t": again}, Profile(executor="inline", retries=2))
    assert result.failed["t"].detail == "killed by signal 9, 3 times"
    assert (tmp_path / "log").read_text() == "x\n" * 4  # one of them was cancelled, which is no failure


@pytest.mark.parametrize("executor", EXECUTORS)
def test_ctrl_c_in_a_terminal_ends_the_children_and_leaves_a_resumable_folder(tmp_path, executor):
    scripts = {"quick": "touch result", "slow": f"echo $$ > pid; [ -e {tmp_path}/fast ] || sleep 60; touch result"}
    profile = {"executor": executor, "workers": 2}
    (tmp_path / "batch.json").write_text(json.dumps({"scripts": scripts, "profile": profile}))
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, str(PROGRAM), str(tmp_path)])  # noqa: S606
    try:
        slow = tmp_path / "slow.try-1/pid"
        wait_until(lambda: slow.exists() and slow.read_text() != "" and (tmp_path / "quick").exists())
        child = int(slow.read_text())
        begun = time.monotonic()
        os.write(terminal, b"\x03")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
        assert time.monotonic() - begun < 5
        assert start_of(child) is None and session_of(tmp_path) == []
    finally:
        os.close(terminal)
    assert not (tmp_path / "slow.try-1/failed.json").exists()
    (tmp_path / "fast").touch()
    assert finish(tmp_path, scripts, **profile) == {"done": ["quick", "slow"], "failed": []}


def test_a_runner_that_does_not_listen_is_killed(tmp_path):
    driver = start_driver(tmp_path, {"t": "echo $$ > pid; exec sleep 60"})
    pid = tmp_path / "t.try-1/pid"
    wait_until(lambda: pid.exists() and pid.read_text() != "")
    runner = read_claim(tmp_path / "jobs/0000")
    os.kill(runner["pid"], signal.SIGSTOP)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(timeout=15) == 130
    wait_until(lambda: not is_running(runner["pid"], runner["started"]) and start_of(int(pid.read_text())) is None)


def test_the_same_process_can_go_on_after_an_interruption(tmp_path):
    def interrupt(now):
        if now.done == 1:
            raise KeyboardInterrupt

    scripts = {"a": "touch result", "b": f"[ -e {tmp_path}/fast ] || sleep 60; touch result"}
    with pytest.raises(KeyboardInterrupt):
        run_scripts(tmp_path, scripts, Profile(executor="inline"), on_progress=interrupt)
    (tmp_path / "fast").touch()
    assert len(run_scripts(tmp_path, scripts, Profile(executor="inline")).done) == 2


def test_a_folder_that_moved_goes_on(tmp_path):
    scripts = {"a": "touch result", "b": "[ -e ../fast ] || sleep 60; touch result"}
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    driver = start_driver(old, scripts, workers=1)
    wait_until(lambda: (old / "a").exists())
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(timeout=10) == 130
    old.rename(new)
    (new / "fast").touch()
    assert finish(new, scripts)["done"] == ["a", "b"]
