"""Setting folders aside: a rename to ``.bak.N``, the latest step first; nothing is deleted.

What still runs in a folder is ended before: whoever makes the folder anew would not know of it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from al_driver.errors import ConfigError
from al_driver.jobs.array import find_handles
from al_driver.jobs.job import Job, end_jobs
from al_driver.jobs.watch import Watch
from al_driver.layout import GROUP_FILE, JOBS_DIR, STEPS, TASK_PREFIXES, WorkFolder
from al_driver.words import many


def set_aside(path: Path) -> Path:
    """Rename a folder to the next free ``.bak.N`` beside it, once its jobs have ended; return what it is called now."""
    end_jobs_below(path)
    number = 1
    while (target := path.with_name(f"{path.name}.bak.{number}")).exists():
        number += 1
    path.rename(target)
    return target


def set_aside_from(
    folder: WorkFolder, iteration: int, step: str = STEPS[0], steps: Sequence[str] = STEPS
) -> list[Path]:
    """Rename a step, all later ones and ``final`` to ``.bak.N``; return what they are called now.

    The last goes first: at whatever moment it is interrupted, what stands follows from what stands before it.

    Parameters
    ----------
    steps
        Of an iteration, in order.
    """
    first = [folder.step(iteration, name) for name in steps[steps.index(step) :]]
    if step == steps[0]:
        first = [first[0].parent]
    later = [folder.step(index, step).parent for index in folder.iterations() if index > iteration]
    return [set_aside(path) for path in reversed([*first, *later, folder.final]) if path.exists()]


def check_reached(folder: WorkFolder, iteration: int) -> None:
    """Refuse an iteration that the run has not come to.

    Raises
    ------
    ConfigError
        Naming the iterations that there are.
    """
    there = folder.iterations()
    if iteration > (there[-1] + 1 if there else 0):
        known = f"the last is {there[-1]}" if there else "the run has not begun one"
        raise ConfigError(f"there is no iteration {iteration} in {folder.root}: {known}.\n  Nothing was changed.")


def end_jobs_below(path: Path) -> int:
    """End the jobs that an earlier driver left running anywhere in a folder; return how many still ran or waited.

    Raises
    ------
    ConfigError
        If SLURM does not take the order to cancel them; they start nothing more.
    """
    jobs, watch = [], Watch()
    for jobs_dir in _find_jobs_dirs(path):
        handles = find_handles(jobs_dir, watch)
        for group in sorted(jobs_dir.glob(f"*/{GROUP_FILE}")):
            job = Job.of_earlier_driver(group.parent, handles.get(group.parent.name))
            job.read_ends()
            if not job.ended and (job.handle is not None or not job.give_up()):
                jobs.append(job)
    alive = [job for job in jobs if job.is_alive()]
    end_jobs(jobs)
    for job in jobs:  # children that a killed runner had no time to tell of
        job.is_alive()
        job.adopt_strays()
        job.kill()
    if watch.not_cancelled:
        raise ConfigError(
            f"SLURM does not answer: {many(watch.not_cancelled, 'job')} below {path} cannot be cancelled.\n"
            "  They start nothing more. Give the command again when SLURM answers."
        )
    return len(alive)


def _find_jobs_dirs(path: Path) -> Iterator[Path]:
    """Find the folders of jobs in a folder, without a look into those of the tasks, which may be many."""
    for entry in sorted(path.iterdir()):
        if entry.name.startswith(JOBS_DIR):
            yield entry
        elif not entry.name.startswith(TASK_PREFIXES) and ".bak." not in entry.name and entry.is_dir():
            yield from _find_jobs_dirs(entry)
