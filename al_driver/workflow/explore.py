"""The explore step: molecular dynamics of every structure at every temperature and pressure of a stage."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from al_driver.data.sources import find_paths
from al_driver.explorers.base import Stage, Trajectory
from al_driver.explorers.sweep import entries_of, make_trajectories, read_entries, structure_names
from al_driver.files import read_json, write_json
from al_driver.jobs.task import Task
from al_driver.layout import CONTINUED_FILE, MD_TASKS_FILE, task_name
from al_driver.query.job import MdTask
from al_driver.schema.base import identity
from al_driver.schema.run import RunParams
from al_driver.words import many
from al_driver.workflow.context import Context
from al_driver.workflow.step import Record, Step
from al_driver.workflow.whole import check_whole

log = logging.getLogger(__name__)


def run_explore(
    context: Context,
    params: RunParams,
    *,
    step: Step,
    iteration: int,
    stage: Stage,
    models: Sequence[Path],
    purpose: str | None = None,
    accepted: bool = False,
) -> Record:
    """Run the stage's molecular dynamics into ``step.folder/task.NNNNNN``, and list it in ``tasks.json``.

    A trajectory that a guard halted, or that crashed after it had begun, is kept: its frames before are good.

    Raises
    ------
    TasksFailed
        If more trajectories than allowed did not begin.
    """

    def work() -> dict[str, Any]:
        check_whole(models[0].parent.parent)
        structures = read_entries(params.explore, params.type_map)
        trajectories = make_trajectories(
            params.explore, stage, structures, seed=params.seed, iteration=iteration, purpose=purpose
        )
        argv = params.explore.command(context.resources.role("explore").argv(params.explore.default_command))
        tasks = [
            _make_task(argv, params, trajectory, models, step.folder / task_name(index))
            for index, trajectory in enumerate(trajectories)
        ]
        context.run_tasks(step, "explore", tasks)
        done = [
            (task, trajectory) for task, trajectory in zip(tasks, trajectories, strict=True) if task.folder.exists()
        ]
        factor = params.train.score_factor(models[0].parent)
        write_json(step.folder / MD_TASKS_FILE, [_describe(task, trajectory, factor) for task, trajectory in done])
        outcomes: Counter[str] = Counter(params.explore.outcome(task.folder)["state"] for task, _ in done)
        versions = sorted({version for task, _ in done if (version := params.explore.version(task.folder))})
        n_continued = sum((task.folder / CONTINUED_FILE).exists() for task, _ in done)
        continued = {"continued": n_continued} if n_continued else {}
        return {
            "trajectories": len(tasks), "failed": len(tasks) - len(done), **outcomes, **continued, "versions": versions,
        }  # fmt: skip

    def outputs(_: dict[str, Any]) -> list[str]:
        return [MD_TASKS_FILE, *(str(md["path"]) for md in read_json(step.folder / MD_TASKS_FILE))]

    record = context.run_step(step, work, outputs, accepted=accepted)
    hidden = {"trajectories", "versions"}
    ends = ", ".join(f"{key} {value}" for key, value in record.result.items() if key not in hidden and value)
    log.info("%s: %s: %s", step.name, many(record.result["trajectories"], "trajectory"), ends)
    return record


def explore_inputs(params: RunParams, stage: Stage) -> dict[str, Any]:
    """Return what of the input the exploration of a stage reads: its own jobs and their structures only.

    Structures go by their names, which stand in what the step leaves; a job that counts them names them too.
    """
    names = structure_names(params.explore)
    explorer = {
        name: identity(getattr(params.explore, name))
        for name in type(params.explore).model_fields
        if name not in ("structures", "iterations", "stop_after")
    }
    structures: dict[str, Any] = {}
    jobs = []
    for job in stage.jobs:
        entries = entries_of(params.explore, job)
        for index in entries:
            entry = params.explore.structures[index]
            own = entry.model_dump(mode="json", exclude={"path", "screen", "name", "max_select"})
            structures[names[index]] = own | {"files": identity(find_paths(entry.path))}
        jobs.append(job.model_dump(mode="json") | {"structures": [names[index] for index in entries]})
    return {
        "seed": params.seed,
        "type_map": list(params.type_map),
        "relative_epsilon": params.query.relative_epsilon,
        "explore": explorer,
        "structures": structures,
        "jobs": jobs,
    }


def _make_task(
    argv: tuple[str, ...], params: RunParams, trajectory: Trajectory, models: Sequence[Path], folder: Path
) -> Task:
    explorer = params.explore
    names = [os.path.relpath(model, folder) for model in models]

    def write_inputs(directory: Path) -> None:
        explorer.write_inputs(
            trajectory, params.type_map, names, directory, relative_epsilon=params.query.relative_epsilon
        )

    return Task(
        folder=folder,
        argv=argv,
        write_inputs=write_inputs,
        verify=explorer.verify,
        salvage=explorer.salvage,
        go_on=explorer.go_on,
        output=explorer.output_name,
    )


def _describe(task: Task, trajectory: Trajectory, score_factor: float) -> dict[str, Any]:
    described = MdTask(
        path=task.name,
        structure=trajectory.structure,
        temperature=trajectory.temperature,
        pressure=trajectory.pressure,
        n_steps=trajectory.job.n_steps,
        score_factor=score_factor,
    )
    return described.model_dump(mode="json")
