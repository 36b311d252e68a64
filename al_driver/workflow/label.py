"""The label step: calculate the chosen frames, check each result, keep what is good and say what is not."""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from al_driver.data.dataset import write_dataset
from al_driver.data.frames import (
    Label,
    carry_sites,
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
from al_driver.files import write_json_lines
from al_driver.layout import DATASET_DIR, LABELLED_FILE, LEDGER_FILE, REJECTED_FILE, task_name
from al_driver.schema.base import identity
from al_driver.schema.plugins import plugin_name
from al_driver.workflow.context import Context
from al_driver.workflow.engine_tasks import EngineTask, EngineTasks, calculation_key
from al_driver.workflow.outliers import judge_outliers
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
    known: Sequence[Path] = (),
    only: Collection[int] | None = None,
) -> Record:
    """Calculate every frame of an extxyz file; one that carries its label keeps it.

    Leaves ``dataset/<formula>/`` and ``labelled.extxyz`` with the frames that passed the gate, in the order in which
    they were selected, ``frames.jsonl`` with the lineage of each, and ``rejected.jsonl`` with the others.

    Parameters
    ----------
    known
        deepmd/npy systems of the same reference: what energies are usual is learnt from them too.
    only
        Calculate the frames with these numbers alone, as once more: a label that one carries does not count, and
        however many fail, the step goes on.

    Raises
    ------
    TasksFailed
        If more tasks failed than allowed.
    """

    def work() -> dict[str, Any]:
        frames = {n: sort_by_type(frame, type_map) for n, frame in enumerate(read_frames(selected))}
        if only is None:
            return _label(context, engine, step, frames, type_map, known)
        bare = {number: _without_label(frames[number]) for number in only}
        return _label(context, engine, step, bare, type_map, known, is_retry=True)

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
    context: Context,
    engine: Engine,
    step: Step,
    frames: Mapping[int, Atoms],
    type_map: Sequence[str],
    known: Sequence[Path],
    *,
    is_retry: bool = False,
) -> dict[str, Any]:
    """Calculate frames and write what came out; return the counts and the versions of the programs."""
    settings = engine.identity()
    reference = {"engine": plugin_name(type(engine), "engine"), "settings": settings}
    tasks = EngineTasks(_make_tasks(engine, frames), step.folder)
    results = _calculate(context, engine, step, frames, tasks, tolerant=is_retry)
    labels = {index: result for index, result in results.items() if isinstance(result, Label)}
    outliers = judge_outliers(context, engine, step, frames, labels, known)
    results |= {index: outlier.refused for index, outlier in outliers.items() if outlier.refused is not None}
    labelled, rows, rejected, versions = [], [], [], set()
    for index, frame in frames.items():
        name, label = task_name(index), results[index]
        if isinstance(label, EngineError):
            where = os.path.relpath(label.where, step.folder)
            rejected.append({"frame": index, "reason": label.reason, "detail": label.detail, "where": where})
            continue
        versions.add(" ".join(str(label.info[key]) for key in ("program", "version") if key in label.info))
        passed = {"checks": list(CHECKS), "gate": identity(engine.gate)}
        if index in outliers:
            passed |= outliers[index].as_row()
        row = {"frame": index, **told_of(frame.info), **reference, **told_of(label.info), **passed}
        rows.append(row | (tasks.provenance(name, context.folder.root) if name in tasks else {}))
        labelled.append(labelled_frame(label, frame.info | comment_of(rows[-1])))
    ledger = _write_frames(context, step, labelled, rows, type_map)
    write_ledger(step.folder, ledger, {settings: engine.settings()})
    write_json_lines(step.folder / REJECTED_FILE, rejected)
    counts = {"labelled": len(labelled), "rejected": len(rejected), "reused": tasks.n_reused}
    counts |= {"outliers": len(outliers)} if outliers else {}
    return counts | {"versions": sorted(versions - {""})}


def _make_tasks(engine: Engine, frames: Mapping[int, Atoms]) -> dict[str, EngineTask[Label]]:
    """Return a task for each frame that carries no label, by the name of its folder."""
    settings = engine.identity()
    return {
        task_name(index): EngineTask(
            calculation_key(engine, frame, settings),
            engine,
            lambda directory, frame=frame: engine.write_inputs(frame, directory),  # type: ignore[misc]
            lambda directory, frame=frame: _gated(engine, frame, engine.read_label(directory), directory),  # type: ignore[misc]
        )
        for index, frame in frames.items()
        if "energy" not in frame.info
    }


def _calculate(
    context: Context,
    engine: Engine,
    step: Step,
    frames: Mapping[int, Atoms],
    tasks: EngineTasks[Label],
    *,
    tolerant: bool,
) -> dict[int, Label | EngineError]:
    """Return the label of each frame, or why it has none."""
    failed = tasks.run(context, step, "label", tolerant=tolerant).failed
    found: dict[int, Label | EngineError] = {}
    for index, frame in frames.items():
        name = task_name(index)
        try:
            if name in failed:
                found[index] = EngineError(failed[name].reason, failed[name].where, failed[name].detail)
            elif name in tasks:
                found[index] = tasks.result(name)
            else:
                found[index] = _gated(engine, frame, read_label(frame), step.folder)
        except EngineError as error:  # of a frame that carries its label; the limits may have changed since
            found[index] = error
    return found


def _without_label(frame: Atoms) -> Atoms:
    """Return a copy that carries no label."""
    bare = frame.copy()
    bare.arrays.pop("forces", None)
    bare.info = {key: value for key, value in frame.info.items() if key not in ("energy", "virial")}
    return bare


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
