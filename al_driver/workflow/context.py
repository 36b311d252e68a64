"""What every step of a run or of an ``init_bulk`` needs: the input, the folder, and a way to run tasks."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from al_driver.files import write_json
from al_driver.jobs.batch import BatchResult, Progress, run_batch
from al_driver.jobs.task import Task
from al_driver.layout import JOBS_DIR, WorkFolder
from al_driver.schema.resource import Resources, Role
from al_driver.workflow.history import History
from al_driver.workflow.step import Record, Step, run_step

log = logging.getLogger(__name__)


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
    accepted_below: int = 0
    """Iterations below this one keep what they were made from."""
    new_data: bool = False
    """The user knows that the data a run starts from have changed."""

    @property
    def history(self) -> History:
        return History(self.folder.history)

    def run_step(
        self, step: Step, work: Callable[[], dict[str, Any]], outputs: Sequence[str], *, accepted: bool = False
    ) -> Record:
        """Run a step unless it is done; see `al_driver.workflow.step.run_step`."""
        self.check_held()
        if Record.read(step.folder) is None:
            self.history.add(f"{step.name} begins", step=step.name)
        return run_step(step, work, outputs, accepted=accepted)

    def run_tasks(self, step: Step, role: Role, tasks: Sequence[Task], *, stop_on_failure: bool = False) -> BatchResult:
        """Run a step's tasks, and keep ``progress.json`` of the work folder up to date, at most twice a second."""
        last = 0.0

        def report(progress: Progress) -> None:
            nonlocal last
            self.display.show(step.name, progress)
            finished = progress.done + progress.failed >= progress.total
            if finished or time.monotonic() - last > 0.5:
                last = time.monotonic()
                self.check_held()
                write_json(self.folder.progress, {"step": step.name, **vars(progress)})

        try:
            return run_batch(
                tasks,
                self.resources.role(role),
                jobs_dir=step.folder / JOBS_DIR,
                stop_on_failure=stop_on_failure,
                on_progress=report,
            )
        finally:
            self.display.done()
