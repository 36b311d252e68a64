"""Setting folders aside: a rename to ``.bak.N``, the latest step first; nothing is deleted.

What still runs in a folder is ended before: whoever makes the folder anew would not know of it.
"""

from pathlib import Path

from al_driver.errors import ConfigError
from al_driver.files import read_json
from al_driver.jobs.array import find_handles
from al_driver.jobs.job import Job, end_jobs
from al_driver.jobs.slurm import Watch
from al_driver.layout import GROUP_FILE, JOBS_DIR, STEPS, WorkFolder


def set_aside(path: Path) -> Path:
    """Rename a folder to the next free ``.bak.N`` beside it, once its jobs have ended; return what it is called now."""
    _end_jobs_below(path)
    number = 1
    while (target := path.with_name(f"{path.name}.bak.{number}")).exists():
        number += 1
    path.rename(target)
    return target


def set_aside_from(folder: WorkFolder, iteration: int, step: str = STEPS[0]) -> list[Path]:
    """Rename a step, all later ones and ``final`` to ``.bak.N``; return what they are called now.

    The last goes first: at whatever moment it is interrupted, what stands follows from what stands before it.
    """
    first = [folder.step(iteration, name) for name in STEPS[STEPS.index(step) :]]
    if step == STEPS[0]:
        first = [first[0].parent]
    later = [folder.step(index, STEPS[0]).parent for index in folder.iterations() if index > iteration]
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


def _end_jobs_below(path: Path) -> None:
    """End the jobs that an earlier driver left running in a step's folder, or in an iteration's."""
    jobs, watch = [], Watch()
    for above in ("", "*/", "*/*/"):  # a retry lies in its label step
        for jobs_dir in sorted(path.glob(f"{above}{JOBS_DIR}*")):
            handles = find_handles(jobs_dir, watch)
            for group in sorted(jobs_dir.glob(f"*/{GROUP_FILE}")):
                rows = read_json(group)["tasks"]
                folders = {row["task"]: row["folder"] for row in rows}
                job = Job(group.parent.absolute(), {row["task"]: row["attempt"] for row in rows}, folders)
                job.handle = handles.get(group.parent.name)
                job.read_ends()
                if not job.ended and (job.handle is not None or not job.give_up()):
                    jobs.append(job)
    end_jobs(jobs)
    for job in jobs:  # children that a killed runner had no time to tell of
        job.is_alive()
        job.adopt_strays()
        job.kill()
