"""What SLURM says, as text: no cluster is needed here."""

import json
from pathlib import Path

import pytest
from batch_program import make_task, verify_result, write_nothing

from al_driver.errors import ConfigError
from al_driver.jobs.array import find_handles, make_array, submit_array
from al_driver.jobs.attempts import Attempt
from al_driver.jobs.batch import run_batch
from al_driver.jobs.executor import ADVICE, Inline, Slurm, render_script
from al_driver.jobs.job import end_jobs
from al_driver.jobs.journal import claim_job
from al_driver.jobs.packing import choose_groups, write_job
from al_driver.jobs.processes import this_process
from al_driver.jobs.runner import Group
from al_driver.jobs.slurm import is_transient, read_job_id, read_states
from al_driver.jobs.task import Task
from al_driver.jobs.watch import SlurmHandle, Watch
from al_driver.schema.resource import Profile
from al_driver.workflow.aside import end_jobs_below

SACCT = """\
12_0|COMPLETED
12_1|CANCELLED by 1000
12_2|OUT_OF_ME+
12_[3-5,8%2]|PENDING
13|NODE_FAIL
no mark here

14|
15_[1-5:2]|PENDING
16|SOMETHING_NEW
"""


def test_states_are_read_from_lines():
    assert read_states(SACCT) == {
        "12_0": "COMPLETED", "12_1": "CANCELLED", "12_2": "OUT_OF_ME", "12_3": "PENDING", "12_4": "PENDING",
        "12_5": "PENDING", "12_8": "PENDING", "13": "NODE_FAIL", "15_1": "PENDING", "15_3": "PENDING",
        "15_5": "PENDING", "16": "SOMETHING_NEW",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "job_id"),
    [("123\n", "123"), ("123;cluster\n", "123"), ("the site says hello\n77\n", "77"), ("", None), ("hello", None)],
)
def test_the_id_is_read_from_what_sbatch_prints(text, job_id):
    assert read_job_id(text) == job_id


POLICY = (
    "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
)
"""What SLURM says of every limit; before it stands the name of the one that is meant."""


@pytest.mark.parametrize(
    ("words", "transient"),
    [
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", True),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", True),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", True),
        (f"AssocMaxSubmitJobLimit; {POLICY}", True),
        (f"QOSMaxSubmitJobPerUserLimit; {POLICY}", True),
        (f"AssocGrpSubmitJobsLimit; {POLICY}", True),
        (POLICY, True),
        (f"QOSMaxWallDurationPerJobLimit; {POLICY}", False),
        (f"QOSMaxMemoryPerJob; {POLICY}", False),
        ("sbatch: error: invalid partition specified: cpuu", False),
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition combination", False),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not available", False),
    ],
)
def test_what_is_refused_for_now_and_what_for_good(words, transient):
    assert is_transient(words) is transient


class Scheduler:
    """Answers as it is told, and counts."""

    def __init__(self, **answers: str | None) -> None:
        self.answers, self.asked, self.now = answers, [], 0.0
        self.told: list[list[str]] = []

    def __call__(self, argv: list[str]) -> str | None:
        self.asked.append(argv[0])
        self.told.append(argv)
        return self.answers.get("why" if "pending" in argv else argv[0])

    def watch(self, *job_ids: str) -> Watch:
        watch = Watch(ask=self, clock=lambda: self.now)
        for job_id in job_ids:
            watch.add(job_id)
        return watch


def look(scheduler: Scheduler, watch: Watch, seconds: int) -> None:
    """Look at a job every second, as a batch does."""
    for _ in range(seconds):
        scheduler.now += 1
        watch.state("5_0")


def test_why_jobs_wait_is_asked_seldom_and_told_once(caplog):
    caplog.set_level("INFO", "al_driver")
    scheduler = Scheduler(
        squeue="5_[0-2]|PENDING\n5_3|RUNNING\n", why="5_0|Resources\n5_[1-2]|Priority\n6|Dependency\n"
    )
    watch = scheduler.watch("5_0", "5_1", "5_2", "5_3")
    look(scheduler, watch, 25)
    assert watch.waits == "" and not any("pending" in argv for argv in scheduler.told)
    look(scheduler, watch, 900)
    assert watch.waits == "2 × Priority, 1 × Resources"
    assert 2 <= sum("pending" in argv for argv in scheduler.told) <= 4
    assert [record.message for record in caplog.records] == ["jobs wait in the queue: 2 × Priority, 1 × Resources"]
    scheduler.answers["squeue"] = "5_[0-3]|RUNNING\n"
    look(scheduler, watch, 100)
    assert watch.waits == ""


def test_a_request_that_can_never_start_ends_with_the_word_of_the_scheduler():
    scheduler = Scheduler(squeue="5_[0-2]|PENDING\n", why="5_0|Resources\n5_[1-2]|PartitionTimeLimit\n")
    watch = scheduler.watch("5_0", "5_1", "5_2")
    with pytest.raises(ConfigError) as refused:
        look(scheduler, watch, 200)
    assert str(refused.value).startswith("SLURM will not start 2 jobs as they are: PartitionTimeLimit.")
    assert "timeout_min" in str(refused.value) and scheduler.told[-1] == ["scancel", "--quiet", "5_1", "5_2"]


def test_that_the_scheduler_is_silent_is_told_once_and_taken_back(caplog):
    caplog.set_level("INFO", "al_driver")
    scheduler = Scheduler()
    watch = scheduler.watch("5_0", "5_1")
    look(scheduler, watch, 50)
    assert watch.waits == ""
    look(scheduler, watch, 600)
    assert watch.waits == "SLURM does not answer: 2 of its jobs are waited for"
    assert [record.message for record in caplog.records] == [watch.waits]
    scheduler.answers["squeue"] = "5_[0-1]|RUNNING\n"
    look(scheduler, watch, 100)
    assert watch.waits == ""


def test_one_query_tells_of_all_jobs_and_quiet_ones_are_asked_for_seldom():
    scheduler = Scheduler(sacct="".join(f"7_{i}|RUNNING\n" for i in range(500)))
    ids = [f"7_{i}" for i in range(500)]
    watch = scheduler.watch(*ids)
    for second in range(3600):
        scheduler.now = float(second)
        assert {watch.state(job_id) for job_id in ids[::100]} == {"RUNNING"}
    assert set(scheduler.asked) == {"sacct"} and 50 <= len(scheduler.asked) <= 90


def test_without_accounting_squeue_is_asked_from_then_on():
    scheduler = Scheduler(squeue="7_0|RUNNING\n")
    watch = scheduler.watch("7_0")
    for second in range(60):
        scheduler.now = float(second)
        watch.state("7_0")
    assert scheduler.asked[:2] == ["sacct", "squeue"] and scheduler.asked.count("sacct") == 1


@pytest.mark.parametrize("answer", [None, "", "7_0|\n", "7_0|SOMETHING_NEW\n", "8_0|COMPLETED\n"])
def test_no_answer_a_missing_job_and_an_unknown_word_are_no_end(answer):
    scheduler = Scheduler(sacct=answer, squeue=answer)
    handle = SlurmHandle(scheduler.watch(), "7_0", Path("log"))
    for second in range(100):
        scheduler.now = float(second)
        assert handle.is_alive() and handle.cause() is None


def test_a_scheduler_that_is_away_for_a_day_is_waited_for():
    scheduler = Scheduler()
    handle = SlurmHandle(scheduler.watch(), "7_0", Path("log"))
    for hour in range(24):
        scheduler.now = 3600.0 * hour
        assert handle.is_alive()
    scheduler.answers["squeue"] = "7_0|NODE_FAIL\n"
    scheduler.now += 3600
    assert not handle.is_alive() and handle.cause() == "NODE_FAIL"


def test_a_job_that_both_programs_leave_out_for_minutes_is_lost():
    scheduler = Scheduler(sacct="", squeue="")
    handle = SlurmHandle(scheduler.watch(), "7_0", Path("log"))
    alive = []
    for second in range(400):
        scheduler.now = float(second)
        alive.append(handle.is_alive())
    assert all(alive[:120]) and not alive[-1] and handle.cause() is None
    assert {"sacct", "squeue"} == set(scheduler.asked)


def job_of(folder: Path, handle_of, n: int = 2, side_by_side: int = 1):
    folder.mkdir(exist_ok=True)
    tasks = [make_task(folder / f"t{i}", "true") for i in range(n)]
    profile = Profile(executor="slurm", parallel_tasks=side_by_side, timeout_min=5)
    job = write_job(folder, [Attempt(task, 1, 300.0) for task in tasks], profile)
    job.handle = handle_of
    claim_job(job.folder, {"by": "runner", **this_process(), "host": "n17"})
    return job


def journal(job, *events: dict) -> None:
    with (job.folder / "journal.jsonl").open("a") as stream:
        stream.writelines(json.dumps(event) + "\n" for event in events)


def begin(name: str) -> dict:
    return {"event": "begin", "task": name, "attempt": 1, "pid": 1, "started": "1@0"}


def end(name: str, **more) -> dict:
    return {"event": "end", "task": name, "attempt": 1, "code": 0, **more}


def test_the_last_lines_of_a_job_are_read_though_its_files_seem_unchanged(tmp_path, monkeypatch):
    """A network file system may remember for seconds how large a file was, or that there was none."""
    scheduler = Scheduler(sacct="7_0|RUNNING\n")
    job = job_of(tmp_path, SlurmHandle(scheduler.watch(), "7_0", tmp_path / "log"))
    journal(job, begin("t0"))
    assert job.is_alive() and job.read_ends() == []
    before, stat = (job.folder / "journal.jsonl").stat(), Path.stat
    monkeypatch.setattr(Path, "stat", lambda path: before if path.name == "journal.jsonl" else stat(path))
    journal(job, end("t0", code=1), {"event": "finished"})
    assert job.read_ends() == []
    scheduler.answers["sacct"], scheduler.now = "7_0|COMPLETED\n", 100.0
    assert [event["code"] for event in job.read_ends(alive=job.is_alive())] == [1] and job.ended


def test_of_a_cancelled_task_the_cause_is_waited_for(tmp_path):
    scheduler = Scheduler(sacct="7_0|RUNNING\n")
    job = job_of(tmp_path, SlurmHandle(scheduler.watch(), "7_0", tmp_path / "log"))
    journal(job, begin("t0"), end("t0", code=-15, cancelled=True), {"event": "cancelled"})
    assert job.is_alive() and job.read_ends() == [] and not job.ended
    scheduler.answers["sacct"], scheduler.now = "7_0|PREEMPTED\n", 100.0
    assert not job.is_alive()
    assert [event["task"] for event in job.read_ends()] == ["t0"] and job.ended
    ending = job.ending("was cancelled")
    assert ending.error == "its job was ended by SLURM: PREEMPTED" and not ending.out_of_time and job.counts("t0")


def test_a_time_limit_is_held_against_those_who_used_it_up(tmp_path):
    scheduler = Scheduler(sacct="7_0|TIMEOUT\n")
    job = job_of(tmp_path, SlurmHandle(scheduler.watch(), "7_0", tmp_path / "log"))
    journal(job, begin("t0"), end("t0"), begin("t1"))
    assert not job.is_alive() and len(job.read_ends()) == 1
    assert job.ending("was killed").out_of_time
    assert not job.counts("t1")  # t0 had used up the time
    alone = job_of(tmp_path / "other", job.handle)
    journal(alone, begin("t0"))
    assert alone.read_ends() == [] and alone.counts("t0")


def test_what_a_driver_cancelled_is_held_against_nobody(tmp_path):
    scheduler = Scheduler(sacct="7_0|CANCELLED by 0\n", scancel="")
    job = job_of(tmp_path, SlurmHandle(scheduler.watch(), "7_0", tmp_path / "log"))
    job.watched = True
    assert not job.is_alive() and job.counts("t0")
    job.ask_to_end()
    assert not job.counts("t0")


def test_one_order_cancels_all_jobs_also_where_the_executor_was_changed(tmp_path):
    scheduler = Scheduler(sacct="7_0|RUNNING\n7_1|RUNNING\n7_2|COMPLETED\n", scancel="")
    watch = scheduler.watch()
    jobs = [job_of(tmp_path / str(i), SlurmHandle(watch, f"7_{i}", tmp_path / "log")) for i in range(3)]
    here = job_of(tmp_path / "here", Inline._Handle(Group(jobs[0].folder)))
    watch.state("7_0")
    scheduler.answers["sacct"], scheduler.now = "7_0|CANCELLED\n7_1|CANCELLED\n7_2|COMPLETED\n", 10.0
    end_jobs([here, *jobs])
    assert [argv for argv in scheduler.told if "scancel" in argv] == [["scancel", "--quiet", "7_0", "7_1"]]
    assert here.handle.group._cancelled and all(job.is_drained for job in jobs) and watch.not_cancelled == 0


def test_a_scheduler_that_takes_no_order_to_cancel_is_told_of(tmp_path, caplog):
    watch = Scheduler().watch()
    watch.cancel(["7_0", "7_1"])
    assert watch.not_cancelled == 2
    assert [record.message for record in caplog.records] == [
        "SLURM does not answer: 2 jobs go on with what they run, and start nothing more"
    ]


def test_jobs_that_cannot_be_cancelled_are_not_said_to_have_ended(tmp_path, monkeypatch):
    jobs_dir = tmp_path / "label/jobs"
    jobs_dir.mkdir(parents=True)
    job = job_of(jobs_dir, None)
    folder, _ = make_array([job.folder])
    (folder / "submitted.json").write_text('{"job_id": "7"}')
    fake_sbatch(tmp_path / "bin", monkeypatch, "")
    for name, answer in {"squeue": "echo '7_0|RUNNING'", "sacct": "exit 1", "scancel": "exit 1"}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setattr("al_driver.jobs.job.CANCEL_SECONDS", 0.1)
    with pytest.raises(ConfigError, match=r"1 job below .* cannot be cancelled\.\n  They start nothing more"):
        end_jobs_below(tmp_path)
    assert job.is_drained


def test_a_lost_job_lives_as_long_as_its_runner_shows_it(tmp_path, monkeypatch):
    scheduler = Scheduler(sacct="", squeue="")
    job = job_of(tmp_path, SlurmHandle(scheduler.watch(), "7_0", tmp_path / "log"))
    monkeypatch.setattr("al_driver.jobs.job.time.monotonic", lambda: scheduler.now)
    alive = []
    for second in range(0, 600, 5):
        scheduler.now = float(second)
        if second < 300:
            (job.folder / "claim").touch()
        alive.append(job.is_alive())
    assert all(alive[: 300 // 5]) and not alive[-1]


@pytest.mark.parametrize(("state", "cancelled"), [("PREEMPTED", True), ("COMPLETED", False), ("RUNNING", False)])
def test_a_task_that_is_killed_before_its_runner_is_told_ended_with_the_job(tmp_path, monkeypatch, state, cancelled):
    scheduler = Scheduler(sacct="7_0|RUNNING\n")
    job = job_of(tmp_path, SlurmHandle(scheduler.watch(), "7_0", tmp_path / "log"))
    monkeypatch.setattr("al_driver.jobs.job.time.monotonic", lambda: scheduler.now)
    journal(job, begin("t0"), end("t0", code=-15))
    assert job.read_ends() == [] and job.is_alive()
    scheduler.answers["sacct"], scheduler.now = f"7_0|{state}\n", 30.0
    assert [event.get("cancelled", False) for event in job.read_ends()] == [cancelled]


@pytest.mark.parametrize(
    ("n", "free", "keys", "sizes"),
    [
        (5, 200, {}, [1] * 5),
        (1000, 200, {}, [5] * 200),
        (1000, 200, {"group_size": 10}, [10] * 100),
        (1000, 49, {"group_size": 1}, []),  # a quarter of the places must be free
        (1000, 50, {"group_size": 1}, [1] * 50),
        (3, 3, {"group_size": 1}, [1] * 3),  # or enough for all that wait
        (7, 1, {"executor": "local", "max_jobs": 1}, [7]),
    ],
)
def test_waiting_tasks_become_few_calls(n, free, keys, sizes):
    profile = Profile(**({"executor": "slurm"} | keys))
    groups = choose_groups([f"t{i}" for i in range(n)], lambda name: None, profile, free, profile.max_jobs)
    assert [len(group) for group in groups] == sizes


def test_an_array_has_one_time_limit():
    profile = Profile(executor="slurm")
    groups = choose_groups(["a", "b", "c"], {"a": 60.0, "b": 120.0, "c": 60.0}.get, profile, 200, 200)
    assert groups == [["a"], ["c"]]


def test_the_script_says_what_the_profile_says():
    profile = Profile(
        executor="slurm", partition="gpu", account="it's", qos="q", nodes=2, tasks_per_node=4, cpus_per_task=3,
        gpus_per_node=1, mem_gb=1.5, wckey="w", extra={"constraint": "a&b", "exclusive": True, "mail_user": "x@y"},
    )  # fmt: skip
    lines = render_script(profile, 90.0, name="al-1").splitlines()
    assert [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")] == [
        "--account='it'\"'\"'s'", "--constraint='a&b'", "--cpus-per-task=3", "--exclusive", "--gpus-per-node=1",
        "--job-name=al-1", "--mail-user=x@y", "--mem=1536MB", "--no-requeue", "--nodes=2", "--ntasks-per-node=4",
        "--open-mode=append", "--output=%a_log.out", "--partition=gpu", "--qos=q", "--time=2", "--wckey=w",
    ]  # fmt: skip
    assert lines[-1].endswith(" -E -P -m al_driver.jobs.runner .") and "srun" not in lines[-1]


def test_by_default_no_srun_no_wckey_and_no_limit():
    text = render_script(Profile(executor="slurm"), None)
    assert all(word not in text for word in ("srun", "wckey", "--time", "--mem", "--gpus", "--signal", "submitit"))
    with_srun = render_script(Profile(executor="slurm", use_srun=True, tasks_per_node=4), None).splitlines()[-1]
    assert with_srun.startswith("srun --unbuffered --nodes=1 --ntasks=1 --cpus-per-task=4 --overlap /")


@pytest.mark.parametrize("key", ["partition", "account", "qos", "wckey"])
def test_a_line_break_is_no_part_of_an_option(key):
    with pytest.raises(ValueError, match="pattern"):
        Profile(executor="slurm", **{key: "a\ntouch ran"})
    with pytest.raises(ValueError, match="pattern"):
        Profile(executor="slurm", extra={"comment": "a\ntouch ran"})
    with pytest.raises(ValueError, match="pattern"):
        Profile(executor="slurm", extra={"x=1\ntouch ran": "a"})


@pytest.mark.parametrize(("option", "told"), [("mem", "the key 'mem_gb'"), ("no_requeue", "the driver itself")])
def test_an_option_is_set_in_one_place(option, told):
    with pytest.raises(ValueError, match=f"`{option}` is set by {told}; take it out"):
        Profile(executor="slurm", extra={option: "1"})


def fake_sbatch(folder: Path, monkeypatch, script: str) -> None:
    folder.mkdir(exist_ok=True)
    program = folder / "sbatch"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_a_lost_answer_is_looked_up_before_anything_is_submitted_again(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "al_driver")
    fake_sbatch(tmp_path / "bin", monkeypatch, f"echo x >> {tmp_path}/calls; echo Socket timed out >&2; exit 1")
    scheduler = Scheduler(squeue="")
    profile = Profile(executor="slurm")
    watch = scheduler.watch()
    executor = Slurm(profile, watch)
    (tmp_path / "jobs").mkdir()
    job = write_job(tmp_path / "jobs", [Attempt(make_task(tmp_path / "t", "true"), 1)], profile)
    now = [0.0]
    monkeypatch.setattr("al_driver.jobs.executor.time.monotonic", lambda: now[0])
    for seconds in (0.1, 0.1, 100.0, 200.0):
        now[0] += seconds
        assert executor.submit([job.folder]) is None
    assert (tmp_path / "calls").read_text() == "x\n" * 3  # once it was too early to ask again
    assert watch.waits == "SLURM takes no array of 1 job for now: Socket timed out"
    assert [record.message for record in caplog.records] == [f"{watch.waits}{ADVICE}"]
    scheduler.answers["squeue"], now[0] = "41\n", 1000.0
    assert [handle.job_id for handle in executor.submit([job.folder]) or ()] == ["41_0"] and watch.waits == ""
    assert (tmp_path / "calls").read_text() == "x\n" * 3
    assert json.loads((tmp_path / "jobs/array.0000/submitted.json").read_text())["job_id"] == "41"
    assert list(find_handles(tmp_path / "jobs", scheduler.watch())) == ["0000"]


def test_a_driver_that_is_a_job_hands_nothing_of_it_down(tmp_path, monkeypatch):
    fake_sbatch(tmp_path / "bin", monkeypatch, f'env > {tmp_path}/env; printf "%s\\n" "$@" > {tmp_path}/words; echo 5')
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "64")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    (tmp_path / "0000").mkdir()
    folder, _ = make_array([tmp_path / "0000"])
    assert submit_array(folder, "#!/bin/bash\n", 1) == "5"
    told = (tmp_path / "env").read_text()
    assert "SLURM_CPUS_PER_TASK" not in told and "SLURM_CONF=/etc/slurm.conf" in told
    assert (tmp_path / "words").read_text().splitlines()[:3] == ["--parsable", f"--chdir={folder}", "--array=0-0"]


def test_the_options_of_a_script_are_words_for_sbatch_too(tmp_path, monkeypatch):
    """There they count more than what `SBATCH_PARTITION`, `SBATCH_JOB_NAME` and the like say."""
    fake_sbatch(tmp_path / "bin", monkeypatch, f'printf "%s\\n" "$@" > {tmp_path}/words; echo 5')
    (tmp_path / "0000").mkdir()
    folder, name = make_array([tmp_path / "0000"])
    profile = Profile(executor="slurm", partition="it's", extra={"comment": "a b  'c' $(d)"})
    submit_array(folder, render_script(profile, 60.0, name=name), 1)
    words = (tmp_path / "words").read_text().splitlines()
    wanted = {"--partition=it's", "--comment=a b  'c' $(d)", f"--job-name={name}", "--no-requeue", "--time=1"}
    assert wanted < set(words) and words[-2:] == ["--array=0-0", f"{folder}/submit.sh"]


def test_a_folder_that_was_moved_to_where_there_is_no_slurm_goes_on(tmp_path, monkeypatch):
    """Nobody will ever say how its jobs ended: a queued one is taken from its runner."""
    (tmp_path / "jobs").mkdir()
    task = make_task(tmp_path / "t", "touch result")
    attempt = Attempt(task, 1)
    attempt.folder.mkdir()
    job = write_job(tmp_path / "jobs", [attempt], Profile(executor="slurm"))
    folder, _ = make_array([job.folder])
    (folder / "submitted.json").write_text('{"job_id": "7"}')
    assert list(find_handles(tmp_path / "jobs", Scheduler().watch())) == ["0000"]
    (tmp_path / "bin").mkdir()
    for name in ("sh", "touch"):
        (tmp_path / "bin" / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_handles(tmp_path / "jobs", Scheduler().watch()) == {}
    assert run_batch([task], Profile(executor="inline"), jobs_dir=tmp_path / "jobs").done == (task,)
    assert json.loads((job.folder / "claim").read_text())["by"] == "driver"


def test_without_sbatch_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    task = Task(tmp_path / "t", ("no-such-program",), write_nothing, verify_result)
    with pytest.raises(ConfigError, match="sbatch was not found: SLURM is not here"):
        run_batch([task], Profile(executor="slurm"), jobs_dir=tmp_path / "jobs")
    assert list(tmp_path.iterdir()) == []
