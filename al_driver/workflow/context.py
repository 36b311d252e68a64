"""What every step of a run or of an ``init_bulk`` needs: the input, the folder, and a way to run tasks."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from al_driver.files import write_json
from al_driver.jobs.batch import run_batch
from al_driver.jobs.progress import BatchResult, Progress
from al_driver.jobs.task import Task
from al_driver.layout import JOBS_DIR, STEP_FILE, STEPS, WorkFolder
from al_driver.schema.resource import Profile, Resources, Role
from al_driver.words import many
from al_driver.workflow.history import History, Position
from al_driver.workflow.pack import pack_step, unpack
from al_driver.workflow.step import Outputs, Record, Step, run_step
from al_driver.workflow.versions import find_version_changes

log = logging.getLogger(__name__)
_WORK: dict[Role, tuple[str, str]] = {
    "train": ("model", "train"), "explore": ("trajectory", "run"), "label": ("frame", "calculate"),
    "relax": ("structure", "relax"), "aimd": ("trajectory", "run"),
}  # fmt: skip
"""What a batch is about, as it is told when it begins."""


class Display(Protocol):
    """Whatever shows a person how far a step is."""

    def show(self, step: str, progress: Progress) -> None: ...
    def done(self) -> None: ...


class NoDisplay:
    """Shows nothing: for Python callers and for logs."""

    def show(self, step: str, progress: Progress) -> None:
        pass

    def done(self) -> None:
        pass


@dataclass
class Context:
    """A work folder while a driver holds it."""

    folder: WorkFolder
    resources: Resources
    display: Display = field(default_factory=NoDisplay)
    check_held: Callable[[], None] = lambda: None
    """Raises when another driver has taken the folder."""
    accepted_before: Position = (0, STEPS[0])
    """Finished steps before this one keep what they were made from."""
    new_data: bool = False
    """The user knows that the data a run starts from have changed."""

    @property
    def history(self) -> History:
        return History(self.folder.history)

    def run_step(
        self, step: Step, work: Callable[[], dict[str, Any]], outputs: Outputs, *, accepted: bool = False
    ) -> Record:
        """Run a step unless it is done; see `al_driver.workflow.step.run_step`."""

        def held_work() -> dict[str, Any]:
            unpack(step.folder)
            result = work()
            self.check_held()
            return result

        self.check_held()
        finished = Record.read(step.folder)
        if finished is None:
            self.history.add(f"{step.name} begins", step=step.name)
        record = run_step(step, held_work, outputs, accepted=accepted)
        if record != finished:
            for warning in find_version_changes(self.folder):
                if warning.startswith(f"{step.name}: "):
                    log.warning("%s", warning)
        return record

    def pack(self, folder: Path, role: Role) -> None:
        """Pack a finished step, and the steps in it, where the role's profile asks for it."""
        if self.resources.role(role).pack:
            for place in (folder, *(path.parent for path in sorted(folder.glob(f"*/{STEP_FILE}")))):
                if Record.read(place) is not None and ".bak." not in place.name:
                    pack_step(place)

    def run_tasks(
        self,
        step: Step,
        role: Role,
        tasks: Sequence[Task],
        *,
        stop_on_failure: bool = False,
        batch: str = "",
        tolerant: bool = False,
        what: str = "",
    ) -> BatchResult:
        """Run a step's tasks, and keep ``progress.json`` of the work folder up to date, at most twice a second.

        A step that runs several batches, one after another, gives each a name: their jobs lie in folders of their own.
        A tolerant batch goes on however many of its tasks fail. What the unnamed batch is about, ``what`` or the words
        of the role, is logged when something of it is left to do.
        """
        profile = self.resources.role(role)
        if tolerant:
            profile = profile.model_copy(update={"max_failed": len(tasks)})
        last = 0.0
        is_told = bool(batch)

        def report(progress: Progress) -> None:
            nonlocal last, is_told
            finished = progress.done + progress.failed >= progress.total
            if not (is_told or finished):
                log.info("%s begins: %s", step.name, _describe(role, progress, profile, what))
            is_told = True
            self.display.show(step.name, progress)
            if finished or time.monotonic() - last > 0.5:
                last = time.monotonic()
                write_json(self.folder.progress, {"step": step.name, **vars(progress)})

        try:
            return run_batch(
                tasks,
                profile,
                jobs_dir=step.folder / (f"{JOBS_DIR}.{batch}" if batch else JOBS_DIR),
                stop_on_failure=stop_on_failure,
                on_progress=report,
                check_held=self.check_held,
            )
        finally:
            self.display.done()


def _describe(role: Role, found: Progress, profile: Profile, what: str) -> str:
    """Say what a batch is about, how much of it is done or has failed already, and how many run at a time."""
    if not what:
        noun, verb = _WORK[role]
        what = f"{many(found.total, noun)} to {verb}"
    left = found.total - found.done - found.failed
    done = f", {found.done} done already" if found.done else ""
    done += f", {found.failed} failed" if found.failed else ""
    if profile.is_slurm:
        return f"{what}{done}, as jobs of SLURM"
    return f"{what}{done}" + (f", {min(profile.workers, left)} at a time" if left > 1 else "")
