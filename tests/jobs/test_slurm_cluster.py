"""What SLURM does to jobs, and drivers that come back to them: on a real cluster, with and without accounting."""

import signal
import sys
import time

import pytest
from batch_program import run_scripts, wait_until
from on_cluster import PROGRAMS, array_ids, details, in_background, run_cluster, sleep_once, slurm
from test_resume import count_lines, finish, logging_scripts, start_driver

from al_driver.jobs import watch as watch_module

pytestmark = [pytest.mark.needs(*PROGRAMS)]


@pytest.fixture(scope="module", params=[False, True], ids=["squeue", "sacct"])
def running(request):
    with run_cluster(3, accounting=request.param) as cluster:
        yield cluster


@pytest.fixture
def cluster(running, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", running.env["SLURM_CONF"])
    return running


def test_a_job_that_somebody_cancelled_is_run_again(tmp_path, cluster, caplog):
    caplog.set_level("INFO", "al_driver")
    thread, results = in_background(tmp_path, {"t": sleep_once(tmp_path)}, slurm())
    wait_until(lambda: (tmp_path / "again").exists(), 30)
    cluster.run("scancel", array_ids(tmp_path)[0])
    thread.join(60)
    assert len(results[0].done) == 1
    assert details(tmp_path) == ["its job was ended by SLURM: CANCELLED"]
    assert caplog.messages == ["1 task will run again: its job was ended by SLURM: CANCELLED"]


def test_a_job_that_takes_more_memory_than_it_asked_for_is_told_so(tmp_path, cluster):
    greedy = f"exec {sys.executable} -c 'import time; held = bytearray(3 * 10**8); time.sleep(60)'"
    result = run_scripts(tmp_path, {"t": greedy}, slurm(mem_gb=0.1, retries=0))
    assert result.failed["t"].detail == "its job was ended by SLURM: Exceeded job memory limit (raise mem_gb)"


def test_a_node_that_dies_with_its_processes_still_writing_is_fenced(tmp_path, cluster):
    script = (
        f"if [ -e {tmp_path}/again ]; then echo new > result; else "
        f"trap '' TERM; touch {tmp_path}/again; sleep 15; echo old > result; fi"
    )
    thread, results = in_background(tmp_path, {"t": script}, slurm())
    wait_until(lambda: (tmp_path / "again").exists(), 30)
    node = cluster.run("squeue", "-h", "-t", "running", "-o", "%N").strip()
    cluster.kill_node(node)
    cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        thread.join(60)
        assert len(results[0].done) == 1 and (tmp_path / "t/result").read_text() == "new\n"
        assert details(tmp_path) == ["its job was ended by SLURM: NODE_FAIL"]
        wait_until(lambda: (tmp_path / "t.try-1/result").exists(), 30)  # written in spite of all, where nobody reads
    finally:
        cluster.daemon("slurmd", "-D", "-N", node)
        cluster.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)  # it may be back already
        wait_until(lambda: set(cluster.run("sinfo", "-h", "-N", "-p", "debug", "-o", "%t").split()) == {"idle"}, 30)


def test_why_a_job_waits_is_told(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(watch_module, "FIRST_WHY_SECONDS", 0.0)
    monkeypatch.setattr(watch_module, "WHY_SECONDS", 1.0)
    blocker = cluster.run("sbatch", "--parsable", "-N3", "--ntasks-per-node=4", "-o/dev/null", "--wrap", "sleep 99")
    seen = []

    def look(progress):
        seen.append(progress.waits)
        if progress.waits not in ("", "1 × None"):  # the scheduler has not looked at it yet
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            run_scripts(tmp_path, {"t": "touch result"}, slurm(nodes=3, tasks_per_node=4), on_progress=look)
    finally:
        cluster.run("scancel", blocker.strip())
    assert seen[-1] in ("1 × Resources", "1 × Priority")


def test_a_preempted_job_is_run_again(tmp_path, cluster):
    thread, results = in_background(tmp_path, {"t": sleep_once(tmp_path)}, slurm(nodes=3, tasks_per_node=4))
    wait_until(lambda: (tmp_path / "again").exists(), 30)
    urgent = ["sbatch", "-p", "high", "-N", "3", "--ntasks-per-node=4", "-o", "/dev/null", "--wrap", "sleep 1"]
    cluster.run(*urgent)
    thread.join(90)
    assert len(results[0].done) == 1
    assert details(tmp_path) == ["its job was ended by SLURM: PREEMPTED"]


@pytest.mark.parametrize("lost", [False, True], ids=["written", "id-lost"])
def test_a_killed_driver_finds_its_jobs_again_and_submits_nothing_twice(tmp_path, cluster, lost):
    scripts = logging_scripts(tmp_path, 12, 0.6)
    keys = {"executor": "slurm", "group_size": 2, "parallel_tasks": 2}
    for lines in (1, 9):
        driver = start_driver(tmp_path, scripts, **keys)
        wait_until(lambda lines=lines: count_lines(tmp_path) >= lines, 40)
        driver.kill()
        driver.wait()
        if lost:  # it died before it could write down what SLURM answered
            (tmp_path / "jobs/array.0000/submitted.json").unlink(missing_ok=True)
    other = {"executor": "slurm", "group_size": 5, "timeout_min": [9]} if lost else {"executor": "inline"}
    assert finish(tmp_path, scripts, **other) == {"done": list(scripts), "failed": []}
    log = (tmp_path / "log").read_text().splitlines()
    assert sorted(log) == sorted(f"{word} {name}" for name in scripts for word in ("begin", "end"))
    assert len(list(tmp_path.glob("jobs/array.*"))) == 1


def test_a_scheduler_that_does_not_answer_is_waited_for(tmp_path, cluster):
    """The controller is stopped while a batch runs, and started again: nothing is lost, nothing is run twice."""
    scripts = logging_scripts(tmp_path, 6, 1.0)
    controller = next(daemon for daemon in cluster._daemons if daemon.args[0] == "slurmctld" and daemon.poll() is None)
    thread, results = in_background(tmp_path, scripts, slurm(max_jobs=3, group_size=1))
    wait_until(lambda: count_lines(tmp_path) >= 1, 30)
    controller.send_signal(signal.SIGTERM)
    controller.wait(timeout=20)
    time.sleep(4)
    cluster.daemon("slurmctld", "-D")
    thread.join(120)
    assert len(results[0].done) == 6 and results[0].failed == {}
    assert sorted((tmp_path / "log").read_text().splitlines()) == sorted(
        f"{word} {name}" for name in scripts for word in ("begin", "end")
    )
