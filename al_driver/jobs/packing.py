"""How tasks that wait become jobs: which of them go together, and what such a job is on disk."""

from collections.abc import Callable, Sequence
from pathlib import Path

from al_driver.jobs.attempts import Attempt
from al_driver.jobs.group import write_group
from al_driver.jobs.job import Job
from al_driver.layout import job_name
from al_driver.schema.resource import Profile


def choose_groups(
    waiting: Sequence[str], limit_of: Callable[[str], float | None], profile: Profile, n_free: int, max_jobs: int
) -> list[list[str]]:
    """Return the tasks of the jobs to submit next, all with the time limit of the first that waits.

    Where many jobs may be in flight, a few free places are not worth a call of the scheduler.
    """
    if not waiting:
        return []
    limit = limit_of(waiting[0])
    alike = [name for name in waiting if limit_of(name) == limit]
    size = profile.tasks_per_job(len(alike))
    if n_free < min(-(-len(alike) // size), max(1, max_jobs // 4)):
        return []
    chosen = alike[: size * n_free]
    return [chosen[first : first + size] for first in range(0, len(chosen), size)]


def write_job(jobs_dir: Path, attempts: Sequence[Attempt], profile: Profile) -> Job:
    """Write the folder of a job that is to run these attempts. It is not submitted yet."""
    last = max((int(path.name) for path in jobs_dir.iterdir() if path.name.isdecimal()), default=-1)
    folder = (jobs_dir / job_name(last + 1)).absolute()
    folder.mkdir()
    write_group(folder, attempts, profile)
    numbers = {attempt.task.name: attempt.number for attempt in attempts}
    folders = {attempt.task.name: str(attempt.folder) for attempt in attempts}
    return Job(folder, numbers, folders, side_by_side=profile.side_by_side)
