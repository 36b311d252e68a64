"""The label step: calculate the chosen frames, check each result, keep what is good and say what is not."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from al_driver.data.dataset import write_dataset
from al_driver.data.frames import (
    Label,
    carry_sites,
    frame_key,
    labelled_frame,
    read_frames,
    read_label,
    sort_by_type,
    write_frames,
)
from al_driver.data.gate import CHECKS, check_label
from al_driver.data.ledger import Row, comment_of, told_of, write_ledger
from al_driver.engines.base import Engine
from al_driver.errors import EngineError
from al_driver.files import hash_json, write_json_lines
from al_driver.layout import DATASET_DIR, LABELLED_FILE, LEDGER_FILE, REJECTED_FILE, task_name
from al_driver.schema.base import identity
from al_driver.schema.plugins import plugin_name
from al_driver.workflow.context import Context
from al_driver.workflow.engine_tasks import EngineTask, EngineTasks
from al_driver.workflow.step import Record, Step

log = logging.getLogger(__name__)


def run_label(
    context: Context,
    engine: Engine,
    *,
    step: Step,
    selected: Path,
    type_map: Sequence[str],
    accepted: bool = False,
) -> Record:
    """Calculate every frame of an extxyz file; one that carries its label keeps it.

    Leaves ``dataset/<formula>/`` and ``labelled.extxyz`` with the frames that passed the gate, in the order in which
    they were selected, ``frames.jsonl`` with the lineage of each, and ``rejected.jsonl`` with the others.

    Raises
    ------
    TasksFailed
        If more tasks failed than allowed.
    """

    def work() -> dict[str, Any]:
        frames = [sort_by_type(frame, type_map) for frame in read_frames(selected)]
        return _label(context, engine, step, frames, type_map)

    def outputs(result: dict[str, Any]) -> list[str]:
        return [LABELLED_FILE, LEDGER_FILE, REJECTED_FILE, *([DATASET_DIR] if result["labelled"] else [])]

    record = context.run_step(step, work, outputs, accepted=accepted)
    log.info(
        "%s: labelled %d (%d found again), rejected %d",
        step.name, *(record.result[key] for key in ("labelled", "reused", "rejected")),
    )  # fmt: skip
    return record


def label_inputs(engine: Engine, type_map: Sequence[str]) -> dict[str, Any]:
    """Return what of the input a label step reads: whatever decides the engine's numbers, and nothing else."""
    return {"identity": {"sha256": engine.identity()}, "gate": identity(engine.gate), "type_map": list(type_map)}


def label_detail(engine: Engine) -> dict[str, Any]:
    """Return the engine's settings, to say which of them changed, and with which the labels were made."""
    return {"label": engine.settings()}


def _label(
    context: Context, engine: Engine, step: Step, frames: Sequence[Atoms], type_map: Sequence[str]
) -> dict[str, Any]:
    """Calculate frames and write what came out; return the counts and the versions of the programs."""
    settings = engine.identity()
    reference = {"engine": plugin_name(type(engine), "engine"), "settings": settings}
    passed = {"checks": list(CHECKS), "gate": identity(engine.gate)}
    tasks = {
        task_name(index): EngineTask(
            hash_json([frame_key(frame, decimals=12), settings]),
            engine,
            lambda directory, frame=frame: engine.write_inputs(frame, directory),  # type: ignore[misc]
            lambda directory, frame=frame: _gated(engine, frame, engine.read_label(directory), directory),  # type: ignore[misc]
        )
        for index, frame in enumerate(frames)
        if "energy" not in frame.info
    }
    labels: EngineTasks[Label] = EngineTasks(tasks, step.folder)
    failed = labels.run(context, step, "label").failed
    labelled, rows, rejected, versions = [], [], [], set()
    for index, frame in enumerate(frames):
        name = task_name(index)
        if name in failed:
            reason, detail, folder = failed[name].reason, failed[name].detail, failed[name].where
            where = os.path.relpath(folder, step.folder)
            rejected.append({"frame": index, "reason": reason, "detail": detail, "where": where})
            continue
        try:
            label = labels.result(name) if name in tasks else _gated(engine, frame, read_label(frame), step.folder)
        except EngineError as error:  # of a frame that carries its label; the limits may have changed since
            rejected.append({"frame": index, "reason": error.reason, "detail": error.detail, "where": "."})
            continue
        versions.add(" ".join(str(label.info[key]) for key in ("program", "version") if key in label.info))
        row = {"frame": index, **told_of(frame.info), **reference, **told_of(label.info), **passed}
        rows.append(row | (labels.provenance(name, context.folder.root) if name in tasks else {}))
        labelled.append(labelled_frame(label, frame.info | comment_of(rows[-1])))
    ledger = _write_frames(context, step, labelled, rows, type_map)
    write_ledger(step.folder, ledger, {settings: engine.settings()})
    write_json_lines(step.folder / REJECTED_FILE, rejected)
    counts = {"labelled": len(labelled), "rejected": len(rejected), "reused": labels.n_reused}
    return counts | {"versions": sorted(versions - {""})}


def _write_frames(
    context: Context, step: Step, labelled: Sequence[Atoms], rows: Sequence[Row], type_map: Sequence[str]
) -> list[Row]:
    """Write the frames that passed; return their lines of the ledger, which say where each lies."""
    folder, root = step.folder, context.folder.root
    places = write_dataset(folder / DATASET_DIR, labelled, type_map) if labelled else []
    write_frames(folder / LABELLED_FILE, labelled)
    where = {"work": os.path.relpath(root, folder), "label": os.path.relpath(folder, root)}
    return [
        {"system": f"{DATASET_DIR}/{system}", "index": index, **where, **row}
        for (system, index), row in zip(places, rows, strict=True)
    ]


def _gated(engine: Engine, frame: Atoms, label: Label, directory: Path) -> Label:
    """Pass a label of a frame through the gate, and give its atoms back what they carry: no program prints that."""
    check_label(frame, label, directory, engine.gate)
    carry_sites(frame, label.atoms)
    return label
