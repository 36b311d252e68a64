"""The part of a job that runs where the tasks run."""

import json
import subprocess
import sys

from batch_program import make_task

from al_driver.jobs.attempts import Attempt
from al_driver.jobs.group import write_group
from al_driver.jobs.journal import JournalReader
from al_driver.jobs.processes import this_process
from al_driver.jobs.runner import Group
from al_driver.schema.resource import Profile


def test_it_imports_nothing_heavy():
    program = "import sys, json, al_driver.jobs.runner; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(subprocess.check_output([sys.executable, "-c", program]))
    assert {"numpy", "pydantic", "ase", "submitit", "torch"} & set(modules) == set()


def test_a_job_runs_once_however_often_it_is_started(tmp_path):
    attempt = Attempt(make_task(tmp_path / "t", f"echo x >> {tmp_path}/log"), 1)
    attempt.folder.mkdir()
    write_group(tmp_path, [attempt], Profile())
    for _ in range(2):
        Group(tmp_path).run()
    assert (tmp_path / "log").read_text() == "x\n"
    start, begin, end, finished = JournalReader(tmp_path).read()
    assert start == {"event": "start", **this_process()} and finished == {"event": "finished"}
    assert (begin["event"], begin["task"], begin["attempt"]) == ("begin", "t", 1)
    assert (end["event"], end["code"], end["timeout"], end["cancelled"]) == ("end", 0, None, False)


def test_what_cannot_be_started_is_told(tmp_path):
    attempts = [Attempt(make_task(tmp_path / name, "true"), 1) for name in ("gone", "there")]
    attempts[1].folder.mkdir()
    write_group(tmp_path, attempts, Profile())
    Group(tmp_path).run()
    ends = [event for event in JournalReader(tmp_path).read() if event["event"] == "end"]
    assert ends[0]["task"] == "gone" and ends[0]["error"].startswith("cannot be started: [Errno 2]")
    assert ends[1]["task"] == "there" and ends[1]["code"] == 0
