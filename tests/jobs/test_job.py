"""Who runs a job, and whether they live."""

import os
import time

import pytest

from al_driver.jobs.job import Job, end_jobs
from al_driver.jobs.journal import claim_job, read_claim
from al_driver.jobs.processes import start_of, this_process


class Sleeper:
    """A job that was submitted and has not begun."""

    job_id = "7"
    log = None
    decides = False
    waits = True

    def is_alive(self) -> bool:
        return self.waits

    def cause(self) -> None:
        """No scheduler tells."""

    def cancel(self) -> None:
        """Nothing runs in this process."""


def make_job(folder, handle=None) -> Job:
    return Job(folder, {"t": 1}, {"t": str(folder / "t.try-1")}, handle)


def test_a_job_that_waits_is_alive_and_one_that_vanished_is_given_up(tmp_path):
    sleeper = Sleeper()
    job = make_job(tmp_path, sleeper)
    assert job.is_alive() and read_claim(tmp_path) is None
    sleeper.waits = False
    assert not job.is_alive() and read_claim(tmp_path)["by"] == "driver"


@pytest.mark.parametrize("alive", [True, False])
def test_pid_and_start_decide_on_the_same_host(tmp_path, alive):
    parent = os.getppid()
    started = start_of(parent) if alive else "1@0"
    claim_job(tmp_path, {"by": "runner", "host": this_process()["host"], "pid": parent, "started": started})
    assert make_job(tmp_path).is_alive() is alive


def test_a_runner_on_another_host_is_dead_when_its_claim_is_not_renewed(tmp_path, monkeypatch):
    claim_job(tmp_path, {"by": "runner", "host": "elsewhere", "pid": os.getpid(), "started": "1@0"})
    job, now = make_job(tmp_path), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert job.is_alive()
    now[0] += 89
    assert job.is_alive()
    os.utime(tmp_path / "claim", (5, 5))  # renewed, by a clock that is wrong
    assert job.is_alive()
    now[0] += 89
    assert job.is_alive()
    now[0] += 2
    assert not job.is_alive()


def test_a_job_that_said_that_it_ended_is_dead_though_its_process_lingers(tmp_path):
    claim_job(tmp_path, {"by": "runner", **this_process()})
    (tmp_path / "journal.jsonl").write_text('{"event": "finished"}\n')
    job = make_job(tmp_path, Sleeper())
    assert job.is_alive()
    job.read_ends()
    assert not job.is_alive()


def test_a_job_that_waits_never_begins_once_it_is_ended(tmp_path):
    end_jobs([make_job(tmp_path, Sleeper())])
    assert read_claim(tmp_path)["by"] == "driver" and (tmp_path / "drain").exists()
