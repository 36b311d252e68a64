"""Energies of all candidates by a calculator: tasks of many frames each, since to load one takes seconds. eV."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from al_driver.data.frames import Array
from al_driver.jobs.task import Task
from al_driver.layout import task_name
from al_driver.schema.unrelaxed import UnrelaxedModel
from al_driver.workflow.context import Context
from al_driver.workflow.step import Step

FRAMES_A_TASK = 32


def run_unrelaxed(
    context: Context, step: Step, models: Sequence[UnrelaxedModel], frames: Sequence[Atoms]
) -> dict[str, Array]:
    """Return, by the model's name, the energy of each candidate, eV/atom, shape (n_candidates,).

    Raises
    ------
    TasksFailed
        If a candidate could not be calculated.
    """
    sizes = np.array([len(atoms) for atoms in frames])
    columns = {}
    for model in models:
        profile = context.resources.role("screen")
        parts = [frames[first : first + FRAMES_A_TASK] for first in range(0, len(frames), FRAMES_A_TASK)]
        tasks = [_make_task(step, model, index, part, profile.argv(model.engine.default_command))
                 for index, part in enumerate(parts)]  # fmt: skip
        context.run_tasks(step, "screen", tasks, batch=model.name, stop_on_failure=True)
        energies = [model.engine.read_energies(task.folder, len(part)) for task, part in zip(tasks, parts, strict=True)]
        columns[model.name] = np.concatenate(energies) / sizes
    return columns


def _make_task(step: Step, model: UnrelaxedModel, index: int, frames: Sequence[Atoms], argv: tuple[str, ...]) -> Task:
    engine = model.engine

    def verify(directory: Path) -> None:
        engine.read_energies(directory, len(frames))

    return Task(
        folder=step.folder / model.name / task_name(index),
        argv=engine.command(argv),
        write_inputs=lambda directory: engine.write_frames(frames, directory),
        verify=verify,
    )
