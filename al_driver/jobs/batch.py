"""Runs the tasks of a step, whatever became of earlier drivers, and says what failed.

What is complete is skipped; jobs that still run are taken over; the rest is packed into groups and submitted. The
driver alone judges and publishes, and only the current attempt of a task. See ``architecture.md``, *Jobs*.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from al_driver.errors import ConfigError, DiskError, EngineError, FolderLocked, LeaveJobs, TasksFailed
from al_driver.files import disk_errors, write_json
from al_driver.jobs.array import find_handles
from al_driver.jobs.attempts import (
    Attempt,
    Ending,
    Failure,
    allowed_failures,
    conclude,
    describe_failures,
    find_attempts,
    is_judged,
    judge,
    prepare,
    recall_failures,
    write_failure,
)
from al_driver.jobs.disk import check_disk, leave_batch
from al_driver.jobs.executor import Handle, make_executor
from al_driver.jobs.group import check_programs
from al_driver.jobs.job import Job, end_jobs
from al_driver.jobs.packing import choose_groups, write_job
from al_driver.jobs.progress import BatchResult, Progress, log_retries, log_taken_over
from al_driver.jobs.task import Task
from al_driver.jobs.watch import Watch
from al_driver.layout import GROUP_FILE, STOPPED_FILE
from al_driver.schema.resource import Profile

SHORTEST_WAIT = 0.02


def run_batch(
    tasks: Sequence[Task],
    profile: Profile,
    *,
    jobs_dir: Path,
    stop_on_failure: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    check_held: Callable[[], None] = lambda: None,
) -> BatchResult:
    """Run tasks to their ends.

    Parameters
    ----------
    tasks
        With names of their own within the batch.
    profile
        How they are run.
    jobs_dir
        Where jobs leave their traces; each batch has one of its own.
    stop_on_failure
        End everything when one task fails for good.
    on_progress
        Told when something changed; first before anything is submitted, with what earlier drivers' jobs have finished.
    check_held
        Called before each look at the jobs; raises `FolderLocked` when another driver has taken the folder.

    Raises
    ------
    ConfigError
        If a program is missing, or the scheduler refuses a job: nothing of it was submitted, and what runs goes on.
    TasksFailed
        If more tasks failed than the profile allows. What failed is run again by the next call.
    DiskError
        If the disk takes nothing more; jobs of a cluster go on.
    FolderLocked
        If the folder is another driver's now, and the jobs with it: they were left alone.
    KeyboardInterrupt
        After everything was ended, unless it is `LeaveJobs`. The next call goes on.
    """
    batch = _Batch(tasks, profile, jobs_dir, stop_on_failure, on_progress, check_held)
    try:
        with disk_errors(jobs_dir):
            batch.recover()
            batch.run()
    except (FolderLocked, ConfigError, LeaveJobs):
        raise  # what runs is sound; the next call finds it again
    except DiskError:
        leave_batch([*batch.jobs, *batch.unsent], batch.attempt, keep=profile.is_slurm)
        raise
    except BaseException:
        end_jobs(batch.jobs)
        raise
    return BatchResult(tuple(task for task in tasks if task.name in batch.done), batch.failed)


@dataclass
class _Batch:
    given: Sequence[Task]
    profile: Profile
    jobs_dir: Path
    stop_on_failure: bool
    on_progress: Callable[[Progress], None] | None
    check_held: Callable[[], None]
    jobs: list[Job] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    failed: dict[str, Failure] = field(default_factory=dict)
    waiting: deque[str] = field(default_factory=deque)
    told: dict[str, list[str]] = field(default_factory=dict)
    """What the machine did to each task, so far."""
    stopping: bool = False

    def __post_init__(self) -> None:
        self.tasks = {task.name: task for task in self.given}
        if len(self.tasks) < len(self.given):
            twice, _ = Counter(task.name for task in self.given).most_common(1)[0]
            raise ConfigError(f"two tasks of one batch are called {twice!r}; each needs a name of its own.")
        self.watch = Watch()
        self.executor = make_executor(self.profile, self.watch)
        self.tries: dict[str, int] = {}
        self.unsent: list[Job] = []  # written, and not yet taken by the scheduler
        self.again: Counter[str] = Counter()  # why tasks will be run again, since that was last logged

    def recover(self) -> None:
        """Learn from the disk what is done, what failed for good, and what still runs."""
        self.done = {name for name, task in self.tasks.items() if task.folder.exists()}
        open_tasks = [task for name, task in self.tasks.items() if name not in self.done]
        check_programs(open_tasks, self.profile)
        self.jobs_dir.mkdir(parents=True, exist_ok=True)
        self.tries = find_attempts(open_tasks)
        stopped = self.jobs_dir / STOPPED_FILE
        for name, failures in recall_failures(self.tasks, self.tries, forgiving=stopped.exists()):
            if failures and failures[-1].final:
                self.failed[name] = failures[-1]
            else:
                self.told[name] = [failure.detail for failure in failures]
        stopped.unlink(missing_ok=True)
        handles = find_handles(self.jobs_dir, self.watch) if open_tasks else {}
        for folder in sorted(path.parent for path in self.jobs_dir.glob(f"*/{GROUP_FILE}")):
            self._adopt(folder, handles.get(folder.name))
        self.watch.wanted = {job.handle.job_id for job in self.jobs if job.handle is not None}
        taken = self.done.union(self.failed, *(job.open for job in self.jobs))
        self.waiting.extend(name for name in self.tasks if name not in taken)

    def _adopt(self, folder: Path, handle: Handle | None) -> None:
        """Take over an earlier driver's job with its current attempts; one neither queued nor begun never will."""
        job = Job.of_earlier_driver(folder, handle, self._is_current)
        if job.open and (handle is not None or not job.give_up()):
            self.jobs.append(job)

    def _is_current(self, row: dict[str, Any]) -> bool:
        return self.tries.get(row["task"]) == row["attempt"] and not is_judged(self.attempt(row["task"]))

    def attempt(self, name: str) -> Attempt:
        return Attempt(self.tasks[name], self.tries[name], self._limit(name))

    def _limit(self, name: str) -> float | None:
        return self.profile.timeout_seconds(len(self.told.get(name, ())))

    def run(self) -> None:
        """Submit, watch and judge until nothing is left."""
        wait, before = SHORTEST_WAIT, None
        while True:
            self.check_held()
            moved = [self._poll(job) for job in [*self.jobs]]
            log_taken_over([] if before else self.jobs)
            log_retries(self.again)
            self._check_failures()
            running = sum(len(job.begun) for job in self.jobs)
            now = Progress(len(self.tasks), len(self.done), running, len(self.failed), self.watch.waits)
            if now != before and self.on_progress:
                self.on_progress(now)
            moved.append(not self.stopping and self._fill())
            if not (self.jobs or moved[-1]) and (self.stopping or not (self.waiting or self.unsent)):
                break
            wait = SHORTEST_WAIT if any(moved) or now != before else min(1.3 * wait, self.executor.longest_wait)
            before = now
            time.sleep(wait)
        if self.stopping:
            raise TasksFailed(describe_failures(self.failed, self.tasks))

    def _fill(self) -> bool:
        """Submit what there is room for; say whether anything moved."""
        if not self.unsent:
            most = self.executor.max_jobs
            groups = choose_groups(self.waiting, self._limit, self.profile, most - len(self.jobs), most)
            chosen = {name for group in groups for name in group}
            self.waiting = deque(name for name in self.waiting if name not in chosen)
            self.unsent = [job for group in groups if (job := self._write(group)) is not None]
            if not self.unsent:
                return bool(groups)
        return self._submit()

    def _write(self, names: Sequence[str]) -> Job | None:
        """Write the inputs of a group, then its job folder; None if no input could be written."""
        attempts = []
        for name in names:
            self.tries[name] = self.tries.get(name, 0) + 1
            attempt = self.attempt(name)
            attempt.folder.mkdir(parents=True)
            try:
                prepare(attempt)
            except EngineError as error:
                self._fail(name, Failure(error.reason, error.detail, attempt.folder))
            else:
                attempts.append(attempt)
        return write_job(self.jobs_dir, attempts, self.profile) if attempts else None

    def _submit(self) -> bool:
        """Submit the jobs that are written: only now, so that nothing is run twice. Say whether they were taken."""
        handles = self.executor.submit([job.folder for job in self.unsent])
        if handles is None:
            return False
        for job, handle in zip(self.unsent, handles, strict=True):
            job.handle = handle
        self.jobs, self.unsent = [*self.jobs, *self.unsent], []
        return True

    def _poll(self, job: Job) -> bool:
        """Judge what has ended in a job; once its runner is gone, what it left. Say whether anything did."""
        ends = job.read_ends(alive=(alive := job.is_alive()))
        for event in ends:
            self._end(job, event)
        if alive and not job.ended:
            job.watched = True
            return bool(ends)
        if job.handle is not None:
            job.handle.is_alive()  # takes its exit status, so that no zombie stays
        job.adopt_strays()
        open_before = len(job.open)
        for name in list(job.open):
            if not job.leaves_running(name):
                self._lose(job, name)
        if not job.open:
            self.jobs.remove(job)
            if job.handle is not None:
                self.watch.forget(job.handle.job_id)
        return bool(ends) or len(job.open) < open_before

    def _end(self, job: Job, event: dict[str, Any]) -> None:
        """Judge an attempt whose end the runner saw."""
        name = event["task"]
        if job.open.get(name) != event["attempt"]:
            return
        del job.open[name]
        if event.get("cancelled"):
            self._judge(name, job.ending("was cancelled"), counted=job.counts(name) and not self.stopping)
        else:
            self._judge(name, Ending(event.get("code"), event.get("timeout"), event.get("error", "")), counted=True)

    def _lose(self, job: Job, name: str) -> None:
        """Judge an attempt whose runner is gone. What an earlier driver left so is not held against the task."""
        attempt = self.attempt(name)
        begun = job.begun.pop(name, None) is not None or (attempt.folder / attempt.task.output).exists()
        del job.open[name]
        known = job.counts(name) and not self.stopping
        if begun:
            self._judge(name, job.ending("was killed"), counted=known)
        elif job.worked or not known:
            self.waiting.append(name)
        else:
            self._fail(name, Failure("engine_error", job.last_words(), attempt.folder, final=False))

    def _judge(self, name: str, ending: Ending, *, counted: bool) -> None:
        failure = judge(self.attempt(name), ending)
        if failure is None:
            self.done.add(name)
            return
        check_disk(self.attempt(name))
        if failure.final or counted:
            self._fail(name, failure)
        else:
            self.waiting.append(name)

    def _fail(self, name: str, failure: Failure) -> None:
        """Record a failure; unless it is final, the task waits for another attempt."""
        told = self.told.setdefault(name, [])
        verdict = write_failure(conclude(failure, told, self.profile.retries))
        if verdict.final:
            self.failed[name] = verdict
        else:
            told.append(failure.detail)
            self.again[failure.detail] += 1
            self.waiting.append(name)

    def _check_failures(self) -> None:
        """Stop when too much failed. The mark is on disk at once: after it, what failed is run again."""
        allowed = 0 if self.stop_on_failure else allowed_failures(self.failed, len(self.tasks), self.profile)
        if self.stopping or len(self.failed) <= allowed:
            return
        self.stopping = True
        write_json(self.jobs_dir / STOPPED_FILE, {"message": describe_failures(self.failed, self.tasks)})
        if self.stop_on_failure:
            end_jobs(self.jobs)
        else:
            for job in self.jobs:
                job.drain()
