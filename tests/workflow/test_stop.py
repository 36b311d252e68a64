"""`al stop`, ``--keep-jobs`` and `al submit` on a real cluster: what ends, what goes on, and that the rest follows."""

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ase.build import bulk
from killing import count_ends
from small_run import AL, INIT, call_al

from al_driver.jobs.slurm import is_over
from al_driver.workflow.lock import FolderLock, read_holder

sys.path.append(str(Path(__file__).parents[1]))
from slurm_cluster import PROGRAMS, Cluster, run_cluster

pytestmark = [pytest.mark.needs("lmp", *PROGRAMS)]

LMP = """\
#!/bin/sh
case "$*" in *-in*) echo x >> {folder}/begun; while [ ! -e {folder}/go ]; do sleep 0.1; done;; esac
exec lmp "$@"
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with run_cluster(2, accounting=False) as cluster, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
        yield cluster


@pytest.fixture
def folder(tmp_path: Path, cluster: Cluster) -> Path:
    """First data of silicon, whose LAMMPS waits until the file ``go`` is there."""
    bulk("Si", cubic=True).write(tmp_path / "POSCAR")
    program = tmp_path / "lmp.sh"
    program.write_text(LMP.format(folder=tmp_path))
    program.chmod(0o755)
    resource = {"default": {"executor": "slurm", "env": {"OMP_NUM_THREADS": "1"}}, "label": {"command": str(program)}}
    (tmp_path / "param.json").write_text(json.dumps(INIT))
    (tmp_path / "resource.json").write_text(json.dumps(resource))
    return tmp_path


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.1)


def jobs_of(cluster: Cluster) -> list[str]:
    return cluster.run("squeue", "-h", "-r", "-t", "pending,running", "-o", "%i").split()


def start(folder: Path, *options: str) -> "subprocess.Popen[bytes]":
    driver = subprocess.Popen([*AL, "init_bulk", "param.json", "resource.json", *options], cwd=folder)
    wait_until((folder / "begun").exists, "a task begins")
    return driver


def finish(folder: Path) -> None:
    (folder / "go").touch()
    run = call_al(folder, "init_bulk", "param.json", "resource.json")
    assert run.returncode == 0, run.stderr
    assert list((folder / "init/dataset").iterdir())


def test_a_driver_is_stopped_with_its_own_jobs_alone_and_goes_on(folder: Path, cluster: Cluster) -> None:
    other = cluster.run("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 100").strip()
    driver = start(folder)
    stopped = call_al(folder, "stop", "init")
    assert (stopped.returncode, stopped.stdout[:7]) == (0, "stopped"), stopped.stderr
    assert driver.wait(timeout=30) == 130
    wait_until(lambda: jobs_of(cluster) == [other], "only what is not ours is left")
    cluster.run("scancel", other)
    assert json.loads(call_al(folder, "status", "init", "--json").stdout)["state"] == "stopped"
    assert not (folder / "init/al.stop").exists()
    finish(folder)


def test_jobs_that_are_to_go_on_do_and_can_be_stopped_later(folder: Path, cluster: Cluster) -> None:
    driver = start(folder, "--keep-jobs")
    before = jobs_of(cluster)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=30) == 130
    assert jobs_of(cluster) == before != []
    stopped = call_al(folder, "stop", "init")
    assert f"jobs ended without their driver: {len(before)}" in stopped.stdout
    wait_until(lambda: jobs_of(cluster) == [], "the jobs end")
    assert "jobs ended without their driver: 0" in call_al(folder, "stop", "init").stdout
    finish(folder)


def test_what_goes_on_without_a_driver_is_not_run_twice(folder: Path, cluster: Cluster) -> None:
    driver = start(folder, "--keep-jobs")
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(timeout=30) == 130
    finish(folder)
    assert set(count_ends(folder / "init").values()) == {1}
    assert len((folder / "begun").read_text().split()) == len(count_ends(folder / "init"))


@pytest.mark.long
def test_a_submitted_driver_is_queued_again_and_finds_its_jobs(folder: Path, cluster: Cluster) -> None:
    submitted = call_al(folder, "submit", "param.json", "resource.json", "--partition", "debug", "--time", "30")
    assert submitted.returncode == 0, submitted.stderr
    job_id = submitted.stdout.removeprefix("the driver is SLURM job ").partition(";")[0]
    wait_until((folder / "begun").exists, "a task begins")
    again = call_al(folder, "submit", "param.json", "resource.json")
    assert again.returncode == 5 and "a driver works in" in again.stderr
    cluster.run("scancel", "--batch", "--signal=USR1", job_id)  # as SLURM does before the time is up
    wait_until(lambda: "Restarts=1" in cluster.run("scontrol", "show", "job", job_id), "it is queued again")
    again = call_al(folder, "submit", "param.json", "resource.json")
    assert again.returncode == 5
    assert len(jobs_of(cluster)) > 1
    (folder / "go").touch()
    wait_until(lambda: jobs_of(cluster) == [], "the run ends")
    assert json.loads(call_al(folder, "status", "init", "--json").stdout)["state"] == "done"
    assert set(count_ends(folder / "init").values()) == {1}


def test_a_driver_that_waits_in_the_queue_is_taken_out(folder: Path, cluster: Cluster) -> None:
    cluster.run("scontrol", "update", "partitionname=high", "state=down")
    assert call_al(folder, "submit", "param.json", "resource.json", "--partition", "high").returncode == 0
    again = call_al(folder, "submit", "param.json", "resource.json")
    assert again.returncode == 5 and "is in the queue: job" in again.stderr
    assert call_al(folder, "stop", "init").returncode == 0
    assert jobs_of(cluster) == []
    cluster.run("scontrol", "update", "partitionname=high", "state=up")


@pytest.mark.needs("unshare")
def test_the_lock_of_a_driver_on_another_host_is_stale_as_soon_as_slurm_has_ended_its_job(
    folder: Path, cluster: Cluster
) -> None:
    """The driver is a job with a host name of its own, which is killed before it can tidy up."""
    words = [*AL, "init_bulk", str(folder / "param.json"), str(folder / "resource.json"), "--keep-jobs"]
    wrapped = f"unshare --uts sh -c 'hostname elsewhere; exec {shlex.join(words)}'"
    job_id = cluster.run("sbatch", "--parsable", "-o", str(folder / "log"), "--wrap", wrapped).strip()
    wait_until((folder / "begun").exists, "a task begins")
    lock = folder / "init/al.lock"
    holder = read_holder(lock)
    assert holder is not None and (holder.host, holder.slurm_job_id) == ("elsewhere", job_id)
    assert not is_over(job_id)
    cluster.run("scancel", "--full", "--signal=KILL", job_id)
    wait_until(lambda: is_over(job_id), "the driver ends")
    said: list[str] = []
    with FolderLock(lock, said.append):
        assert said == []  # nobody had to watch it
    finish(folder)
    assert set(count_ends(folder / "init").values()) == {1}


def test_a_submission_that_the_site_refuses_says_so(folder: Path, cluster: Cluster) -> None:
    refused = call_al(folder, "submit", "param.json", "resource.json", "--partition", "no such 'one'")
    assert refused.returncode == 2
    assert "invalid partition specified: no such 'one'" in refused.stderr
