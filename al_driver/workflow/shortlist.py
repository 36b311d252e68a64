"""The batches of a query whose choice compares candidates: a shortlist of them, then what they are compared by."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from al_driver.data.lammps_script import last_lines
from al_driver.errors import EngineError
from al_driver.files import write_json
from al_driver.jobs.task import Task
from al_driver.layout import FEATURES_FILE, QUERY_JOB_FILE, SHORTLIST_FILE
from al_driver.query.job import QueryJob
from al_driver.schema.run import RunParams
from al_driver.trainers.base import Description
from al_driver.workflow.context import Context
from al_driver.workflow.step import Step

SHORTLIST_DIR = "shortlist"
FEATURES_DIR = "features"


def describe_candidates(
    context: Context, params: RunParams, step: Step, job: QueryJob, models: Sequence[Path], systems: Sequence[Path]
) -> QueryJob:
    """Run the two batches; return the job that names their result.

    Parameters
    ----------
    job
        What the query program is told; its paths start at a folder beside those of the batches.
    models
        The committee that explored; the first drove.
    systems
        deepmd/npy systems that it was trained on.
    """
    shortlist, features = step.folder / SHORTLIST_DIR, step.folder / FEATURES_DIR
    command = (sys.executable, "-I", "-m", "al_driver.tasks.shortlist", ".")
    listing = Task(
        folder=shortlist,
        argv=command,
        write_inputs=lambda directory: write_json(directory / QUERY_JOB_FILE, job.model_dump(mode="json")),
        verify=lambda directory: _verify(directory, SHORTLIST_FILE),
    )
    context.run_tasks(step, "query", [listing], stop_on_failure=True, batch=SHORTLIST_DIR)
    description = Description(
        shortlist=os.path.relpath(shortlist / SHORTLIST_FILE, features),
        models=tuple(os.path.relpath(model, features) for model in models),
        systems=tuple(os.path.relpath(system, features) for system in systems),
        type_map=params.type_map,
        worst_atoms=params.query.worst_atoms,
        relative_epsilon=params.query.relative_epsilon,
        covariance=_covariance(params, models[0], features),
    )
    profile = context.resources.role("train")
    describing = Task(
        folder=features,
        argv=params.train.describe_command(profile.argv(params.train.default_command), profile.env),
        write_inputs=lambda directory: params.train.write_description(description, directory),
        verify=lambda directory: _verify(directory, FEATURES_FILE),
    )
    context.run_tasks(step, "train", [describing], stop_on_failure=True, batch=FEATURES_DIR)
    return job.model_copy(update={"features": f"../{FEATURES_DIR}/{FEATURES_FILE}"})


def _covariance(params: RunParams, driver: Path, features: Path) -> str | None:
    """Return where the covariance of the model that drives lies, if the choice looks ahead with it."""
    name = params.train.covariance_name
    return os.path.relpath(driver.with_name(name), features) if name and params.query.choose == "lookahead" else None


def _verify(directory: Path, name: str) -> None:
    """Accept a folder that holds what its program writes last.

    Raises
    ------
    EngineError
        With the last line the program printed.
    """
    if not (directory / name).is_file():
        raise EngineError("no_output", directory, f"no {name}; its program printed: {last_lines(directory / 'output')}")
