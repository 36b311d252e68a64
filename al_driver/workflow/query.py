"""The query step: score every frame, choose which are calculated."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from al_driver.data.ledger import SHORT
from al_driver.explorers.base import Stage
from al_driver.explorers.sweep import entries_of, structure_names
from al_driver.files import hash_path, link, read_json, write_json
from al_driver.jobs.task import Task
from al_driver.layout import (
    AUDIT_FRAMES_FILE,
    FRAMES_FILE,
    MD_TASKS_FILE,
    QUERY_JOB_FILE,
    SELECTED_FILE,
    SUMMARY_FILE,
)
from al_driver.query.calibration import Calibration
from al_driver.query.job import MdTask, QueryJob, verify_query
from al_driver.schema.plugins import plugin_name
from al_driver.schema.run import RunParams
from al_driver.seeds import make_seed
from al_driver.words import many, percents
from al_driver.workflow.context import Context
from al_driver.workflow.pack import unpack
from al_driver.workflow.shortlist import describe_candidates
from al_driver.workflow.step import Record, Step
from al_driver.workflow.whole import check_whole

log = logging.getLogger(__name__)
SCORES_DIR = "scores"


def run_query(
    context: Context,
    params: RunParams,
    *,
    step: Step,
    iteration: int,
    explored: Path,
    labelled: Sequence[Path],
    models: Sequence[Path],
    labels_left: int | None,
    calibration: Calibration | None = None,
    closing: int | None = None,
    accepted: bool = False,
) -> Record:
    """Write ``summary.json``, ``frames.csv`` and ``selected.extxyz`` into the step's folder.

    Parameters
    ----------
    explored
        The explore step whose trajectories are scored.
    labelled
        Systems that are trained on; their frames are not chosen again.
    models
        The committee that the scores are from; the first drove.
    labels_left
        What remains of ``max_labels``.
    calibration
        With a target: what bounds the errors of the models that explored.
    closing
        Of a closing audit: the frames of each structure; nothing else is selected.
    """
    names = [FRAMES_FILE, SELECTED_FILE, *([AUDIT_FRAMES_FILE] if calibration else [])]

    def work() -> dict[str, Any]:
        unpack(explored)
        check_whole(explored)
        task_folder = step.folder / SCORES_DIR
        job = make_job(params, iteration, task_folder, explored, labelled, labels_left, calibration)
        if closing is not None:
            seed = make_seed(params.seed, "closing", iteration)
            job = job.model_copy(update={"n_audits": closing, "audits_only": True, "seed": seed})
        job = job.model_copy(update={"models": _hash_models(models)})
        if job.compares:
            job = describe_candidates(context, params, step, job, models, labelled)
        task = Task(
            folder=task_folder,
            argv=(sys.executable, "-I", "-m", "al_driver.tasks.query", "."),
            write_inputs=lambda directory: write_json(directory / QUERY_JOB_FILE, job.model_dump(mode="json")),
            verify=verify_query,
        )
        what = f"{many(len(job.tasks), 'trajectory')} to score"
        context.run_tasks(step, "query", [task], stop_on_failure=True, what=what)
        for name in (*names, SUMMARY_FILE):
            link(task_folder / name, step.folder / name)
        summary: dict[str, Any] = read_json(step.folder / SUMMARY_FILE)
        return summary

    record = context.run_step(step, work, [SUMMARY_FILE, *names], accepted=accepted)
    log.info("%s: %s", step.name, describe(record.result))
    return record


def _hash_models(models: Sequence[Path]) -> tuple[str, ...]:
    """Return what of the models' hashes is told of each frame; one that somebody took away has none."""
    return tuple(hash_path(model)[:SHORT] for model in models if model.exists())


def make_job(
    params: RunParams,
    iteration: int,
    folder: Path,
    explored: Path,
    labelled: Sequence[Path],
    labels_left: int | None,
    calibration: Calibration | None,
) -> QueryJob:
    """Return what the query program is told; its paths start at its folder."""
    names = structure_names(params.explore)
    caps = {name: entry.max_select for name, entry in zip(names, params.explore.structures, strict=True)}
    trajectories = [
        md | {"path": os.path.relpath(explored / md["path"], folder)} for md in read_json(explored / MD_TASKS_FILE)
    ]
    return QueryJob(
        query=params.query,
        explorer=plugin_name(type(params.explore), "explorer"),
        guard=params.explore.guard,
        stop_after=params.explore.stop_after,
        type_map=params.type_map,
        seed=params.seed,
        iteration=iteration,
        structures=tuple(names),
        max_select={name: cap for name, cap in caps.items() if cap is not None},
        labels_left=labels_left,
        n_audits=params.query.audit if calibration else 0,
        calibration=calibration,
        tasks=tuple(MdTask(**md) for md in trajectories),
        labelled=tuple(os.path.relpath(system, folder) for system in labelled),
    )


def query_inputs(params: RunParams, stage: Stage) -> dict[str, Any]:
    """Return what of the input the selection of a stage reads; budgets of the whole run and stop rules are not in it.

    Of the structures' own limits only those of the stage's structures.
    """
    names = structure_names(params.explore)
    used = sorted({index for job in stage.jobs for index in entries_of(params.explore, job)})
    caps = {names[index]: params.explore.structures[index].max_select for index in used}
    return {
        "seed": params.seed,
        "query": params.query.selection_identity(),
        "stop_after": params.explore.stop_after,
        "max_select": {name: cap for name, cap in caps.items() if cap is not None},
    }


def describe(summary: dict[str, Any]) -> str:
    """Return the counts of a query as one line.

    >>> describe({"frames": 4, "accurate": 2, "candidate": 1, "failed": 1, "selected": 1})
    'accurate 2 (50 %)  candidate 1 (25 %, 1 kept)  failed 1 (25 %)'
    """
    share = percents({name: summary[name] for name in ("accurate", "candidate", "failed")})
    return (
        f"accurate {summary['accurate']} ({share['accurate']} %)  "
        f"candidate {summary['candidate']} ({share['candidate']} %, {summary['selected']} kept)  "
        f"failed {summary['failed']} ({share['failed']} %)"
    )
