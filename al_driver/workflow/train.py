"""The train step: a committee, each member from its own seed and its own parent."""

import logging
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from al_driver.data.dataset import count_frames
from al_driver.errors import ConfigError
from al_driver.files import read_json
from al_driver.jobs.task import Task
from al_driver.layout import EVALUATION_FILE, model_name
from al_driver.schema.run import RunParams
from al_driver.seeds import make_seed
from al_driver.trainers.base import Phase, Training
from al_driver.words import many
from al_driver.workflow.context import Context
from al_driver.workflow.step import Record, Step
from al_driver.workflow.whole import check_whole

log = logging.getLogger(__name__)


def run_train(
    context: Context,
    params: RunParams,
    *,
    step: Step,
    phase: Phase,
    systems: Sequence[Path],
    valid_systems: Sequence[Path],
    parents: Path | None,
    accepted: bool = False,
) -> Record:
    """Train the committee into ``step.folder/model.NNN``.

    Parameters
    ----------
    systems
        deepmd/npy systems to learn from.
    valid_systems
        Systems that are never trained on; the members are evaluated on them.
    parents
        The train step of the iteration before, where members warm-start.

    Raises
    ------
    TasksFailed
        If any member fails: a smaller committee would be another uncertainty.
    """
    trainer = params.train

    def work() -> dict[str, Any]:
        own = parents if trainer.warm_starts() else None
        if own is not None:
            _check_parents(own, trainer.models)
            check_whole(own)
        for folder in {system.parent.parent for system in systems}:
            check_whole(folder)
        tasks = []
        for member in range(trainer.models):
            training = Training(
                phase, make_seed(params.seed, step.name, member), params.type_map, tuple(systems), tuple(valid_systems),
                own / model_name(member) if own else None,
            )  # fmt: skip
            tasks.append(_make_task(context, params, training, step.folder / model_name(member)))
        what = f"{many(len(tasks), 'model')} to train on {many(sum(map(count_frames, systems)), 'frame')}"
        context.run_tasks(step, "train", tasks, stop_on_failure=True, what=what)
        return _summarise([read_json(task.folder / EVALUATION_FILE) for task in tasks])

    names = [model_name(member) for member in range(trainer.models)]
    record = context.run_step(step, work, names, accepted=accepted)
    log.info(
        "%s: energy RMSE %.2f meV/atom, force RMSE %.4f eV/Å (%s data, mean of %d)",
        step.name, 1e3 * record.result["energy_rmse"], record.result["force_rmse"],
        "validation" if record.result["on"] == "valid" else "training", len(record.result["members"]),
    )  # fmt: skip
    return record


def train_inputs(params: RunParams, phase: Phase) -> dict[str, Any]:
    """Return what of the input a training of this phase reads."""
    return {
        "seed": params.seed,
        "type_map": list(params.type_map),
        "train": {"models": params.train.models, **params.train.phase_identity(phase)},
    }


def model_paths(params: RunParams, folder: Path, trained: Record) -> list[Path]:
    """Return the files of a finished committee, as large as it was when it was trained, in the order of its members."""
    return [folder / name / file for name in trained.outputs for file in params.train.model_files(folder / name)]


def _check_parents(folder: Path, models: int) -> None:
    """Refuse a committee that has grown: two members must not start from one parent, nor one from nothing."""
    there = sum((folder / model_name(member)).is_dir() for member in range(models))
    if there < models:
        raise ConfigError(
            f"train.models is {models}, and {folder} has {there}: a member without a parent cannot start warm.\n"
            "  Keep the number of models, or set train.warm_start to false."
        )


def _make_task(context: Context, params: RunParams, training: Training, folder: Path) -> Task:
    trainer, profile = params.train, context.resources.role("train")
    return Task(
        folder=folder,
        argv=trainer.command(profile.argv(trainer.default_command), profile.env),
        write_inputs=lambda directory: trainer.write_inputs(training, directory),
        verify=trainer.verify,
        output=trainer.output_name,
        go_on=trainer.go_on,
    )


def _summarise(members: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "energy_rmse": statistics.fmean(member["energy_rmse"] for member in members),
        "force_rmse": statistics.fmean(member["force_rmse"] for member in members),
        "on": members[0]["on"],
        "members": members,
    }
