"""What a job on a real cluster of three nodes is, and what it is not."""

import signal

import pytest
from batch_program import make_task, run_scripts, wait_until
from on_cluster import PROGRAMS, array_ids, details, in_background, run_cluster, running_jobs, slurm
from test_resume import count_lines, finish, logging_scripts, start_driver

from al_driver.errors import ConfigError, TasksFailed
from al_driver.jobs.batch import run_batch
from al_driver.workflow.aside import set_aside

pytestmark = [pytest.mark.needs(*PROGRAMS)]


@pytest.fixture(scope="module")
def cluster():
    with run_cluster(3, accounting=False) as cluster, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
        yield cluster


@pytest.fixture(scope="module", autouse=True)
def limited(cluster, tmp_path_factory):
    """A job whose time limit somebody shortens. SLURM looks at limits twice a minute: it runs beside the rest."""
    folder = tmp_path_factory.mktemp("limited")
    thread, results = in_background(folder, {"t": "exec sleep 300"}, slurm(retries=0, timeout_min=5))
    wait_until(lambda: (folder / "t.try-1/output").exists(), 30)
    cluster.run("scontrol", "update", f"jobid={array_ids(folder)[0]}", "timelimit=00:01")
    return thread, results


def test_a_batch_is_one_array_with_tasks_side_by_side(tmp_path, cluster):
    meet = "touch ../{0}.here; while [ ! -e ../{1}.here ]; do sleep 0.05; done; echo $SLURM_JOB_ID > result"
    scripts = {f"t{i}": meet.format(f"t{i}", f"t{i ^ 1}") for i in range(8)}  # each waits for its neighbour
    result = run_scripts(tmp_path, scripts, slurm(group_size=2, parallel_tasks=2, tasks_per_node=2))
    assert len(result.done) == 8 and result.failed == {}
    assert len({(tmp_path / name / "result").read_text() for name in scripts}) == 4
    assert len(array_ids(tmp_path)) == 1


@pytest.mark.parametrize("key", ["partition", "nodes"])
def test_what_the_site_refuses_stops_at_once_with_its_words(tmp_path, cluster, key):
    keys = {"partition": "no such 'one'"} if key == "partition" else {"nodes": 50}
    with pytest.raises(ConfigError) as refused:
        run_scripts(tmp_path, {"t": "touch result"}, slurm(**keys))
    words = {"partition": "invalid partition specified: no such 'one'", "nodes": "Batch job submission failed: "}[key]
    assert str(refused.value).startswith("SLURM refused the job: ") and words in str(refused.value)
    assert f"{tmp_path}/jobs/array.0000/submit.sh" in str(refused.value)
    assert len(run_scripts(tmp_path, {"t": "touch result"}, slurm()).done) == 1


def test_what_runs_goes_on_when_a_retry_is_refused(tmp_path, cluster):
    scripts = {"short": "kill -9 $$", "long": f"echo x >> {tmp_path}/log; sleep 8; touch result"}
    with pytest.raises(ConfigError, match=r"Requested time limit is invalid"):
        run_scripts(tmp_path, scripts, slurm(timeout_min=(5, 2000)))  # the partition allows 1000
    scripts["short"] = "touch result"
    assert len(run_scripts(tmp_path, scripts, slurm(timeout_min=(5, 10))).done) == 2
    assert (tmp_path / "log").read_text() == "x\n"


def test_a_second_try_is_given_more_time(tmp_path, cluster):
    script = (
        "squeue -h -o %l -j $SLURM_JOB_ID > limit; "
        f"[ -e {tmp_path}/again ] || {{ touch {tmp_path}/again; kill -9 $$; }}; touch result"
    )
    assert len(run_scripts(tmp_path, {"t": script}, slurm(timeout_min=(2, 7))).done) == 1
    assert (tmp_path / "t.try-1/limit").read_text() == "2:00\n" and (tmp_path / "t/limit").read_text() == "7:00\n"


def test_a_job_of_two_nodes_prints_each_of_its_ranks_once(tmp_path, cluster):
    script = "srun --mpi=none sh -c 'echo $SLURM_PROCID $SLURMD_NODENAME' > ranks; mv ranks result"
    assert len(run_scripts(tmp_path, {"t": script}, slurm(nodes=2, tasks_per_node=2)).done) == 1
    lines = sorted(line.split() for line in (tmp_path / "t/result").read_text().splitlines())
    assert [rank for rank, _ in lines] == ["0", "1", "2", "3"] and len({node for _, node in lines}) == 2


@pytest.mark.parametrize("use_srun", [False, True])
def test_what_a_site_sets_for_python_does_not_reach_ours(tmp_path, cluster, use_srun, monkeypatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/json.py").write_text("raise ImportError('of the site')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path / "site"))
    profile = slurm(use_srun=use_srun, setup=("export FROM=setup",))
    assert len(run_scripts(tmp_path, {"t": 'echo "$PYTHONPATH $FROM" > result'}, profile).done) == 1
    assert (tmp_path / "t/result").read_text() == f"{tmp_path}/site setup\n"


def test_nothing_of_a_users_words_is_run(tmp_path, cluster):
    nasty = f"a b'c\"d\n#SBATCH --hold\n$(touch {tmp_path}/ran)`touch {tmp_path}/ran`;touch {tmp_path}/ran&&*~\\"
    folder = tmp_path / 'it\'s $(touch ran) "x"\n#SBATCH --hold\ntouch ran\n`touch ran`; y'
    task = make_task(folder / "t $(touch ran)", 'printf %s "$1" > result; printf %s "$VALUE" > value', nasty)
    words = {"comment": 'it\'s $(touch ran) `touch ran` "x"; touch ran'}
    profile = slurm(env={"VALUE": nasty}, extra=words)
    assert run_batch([task], profile, jobs_dir=folder / "jobs").done == (task,)
    assert (task.folder / "result").read_text() == nasty == (task.folder / "value").read_text()
    assert not list(tmp_path.rglob("ran"))


@pytest.mark.parametrize("name", ["100 %", "back\\slash"])
def test_a_folder_where_slurm_cannot_write_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=r"holds a % or a backslash, which SLURM replaces"):
        run_scripts(tmp_path / name, {"t": "touch result"}, slurm())


def test_queued_jobs_are_found_again_too(tmp_path, cluster):
    scripts = logging_scripts(tmp_path, 3, 0.1)
    keys = {"executor": "slurm", "extra": {"begin": "now+4"}}
    driver = start_driver(tmp_path, scripts, **keys)
    wait_until(lambda: array_ids(tmp_path) != [], 20)
    driver.kill()
    driver.wait()
    assert finish(tmp_path, scripts, **keys)["done"] == list(scripts)
    assert count_lines(tmp_path) == 6 and len(array_ids(tmp_path)) == 1


def test_an_interrupted_driver_cancels_its_own_jobs_alone(tmp_path, cluster):
    before = running_jobs(cluster)
    other = cluster.run("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 30").strip()
    script = f"if [ -e {tmp_path}/again ]; then touch result; else echo $$ > pid; exec sleep 60; fi"
    scripts = {f"t{i}": script for i in range(2)}
    driver = start_driver(tmp_path, scripts, executor="slurm")
    wait_until(lambda: all((tmp_path / f"{name}.try-1/pid").exists() for name in scripts), 30)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(timeout=30) == 130
    wait_until(lambda: running_jobs(cluster) == sorted([*before, other]), 30)
    cluster.run("scancel", other)
    (tmp_path / "again").touch()
    assert len(finish(tmp_path, scripts, executor="slurm")["done"]) == 2
    assert details(tmp_path) == []  # what a driver cancelled is held against no task


def test_a_step_that_is_set_aside_leaves_no_job_behind(tmp_path, cluster):
    before, step = running_jobs(cluster), tmp_path / "label"
    step.mkdir()
    driver = start_driver(step, {"t": f"touch {tmp_path}/begun; exec sleep 60"}, executor="slurm")
    wait_until(lambda: (tmp_path / "begun").exists(), 30)
    driver.kill()
    driver.wait()
    aside = set_aside(step)
    assert aside.name == "label.bak.1" and not step.exists()
    wait_until(lambda: running_jobs(cluster) == before, 30)


def test_a_job_that_cannot_begin_says_why(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr("al_driver.jobs.executor.sys.executable", "/no/such/python")
    with pytest.raises(TasksFailed) as failed:
        run_scripts(tmp_path, {"t": "touch result"}, slurm(retries=0, max_failed=0, max_failed_fraction=0.0))
    assert "its job ended (FAILED) before it began: " in str(failed.value) and "/no/such/python" in str(failed.value)


def test_a_time_limit_of_the_scheduler_is_a_timeout(limited):
    thread, results = limited
    thread.join(150)
    failure = results[0].failed["t"]
    assert (failure.reason, failure.detail) == ("timeout", "its job was ended by SLURM: TIMEOUT")
