"""First data: relax → supercell → scale → perturb → aimd → label → split; each stage from every output of the last."""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms

from al_driver.data.dataset import formula_name, write_dataset
from al_driver.data.frames import carry_sites, frame_key, read_frames, site_arrays, write_frames
from al_driver.data.gate import GateLimits, too_close
from al_driver.data.ledger import Row, write_ledger
from al_driver.errors import TasksFailed
from al_driver.files import write_json_lines
from al_driver.layout import (
    DATASET_DIR,
    LEDGER_FILE,
    REJECTED_FILE,
    STRUCTURES_DIR,
    VALID_DIR,
    WorkFolder,
)
from al_driver.schema.base import identity
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.schema.resource import Role
from al_driver.words import many
from al_driver.workflow.aside import set_aside
from al_driver.workflow.context import Context
from al_driver.workflow.label import label_detail, label_inputs, run_label
from al_driver.workflow.labelled import read_labels
from al_driver.workflow.recovered import INPUT as RECOVERED
from al_driver.workflow.recovered import find_retries, retry_inputs
from al_driver.workflow.split import Split, describe_held_back, describe_lost, split_frames
from al_driver.workflow.stages import STAGES, read_entries, stage_inputs
from al_driver.workflow.step import Record, Step

log = logging.getLogger(__name__)
ALL_STAGES = (*STAGES, "label", "split")
PACKED: tuple[Role, ...] = ("relax", "aimd")
"""Stages that can be packed, beside the labels."""
STAGE_FILE = "structures.extxyz"
LAST_GEOMETRY = "perturb"  # the stage whose structures a person looks at, and `explore` starts from


def make_initial_data(context: Context, params: InitBulkParams) -> Path:
    """Run every stage; return the folder of the dataset, or of the structures when nothing is labelled.

    Raises
    ------
    ConfigError
        If the split would leave nothing to train on.
    TasksFailed
        If more labels than allowed failed, or every one was rejected.
    StateMismatch
        If the folder was made from another input.
    """
    source: Path | None = None
    after: tuple[str, ...] = ()
    for stage in STAGES:
        engines = {f"engines.{name}": identity(engine) for name, engine in params.engines.items()}
        step = Step(stage, context.folder.root / stage, stage_inputs(params, stage), after, engines)
        outputs = [STAGE_FILE, REJECTED_FILE, *([f"../{STRUCTURES_DIR}"] if stage == LAST_GEOMETRY else [])]
        record = context.run_step(step, _stage_work(context, params, step, source), outputs)
        if record.result["dropped"] or any(stage in entry.stages for entry in params.structures):
            log.info("%s: %s", stage, _describe(record.result, step))
        for role in PACKED:
            if role == stage:
                context.pack(step.folder, role)
        source, after = step.folder / STAGE_FILE, (record.fingerprint,)
    assert source is not None  # noqa: S101  (there are stages)
    engine = params.label_engine
    if engine is None:
        return context.folder.structures
    inputs = label_inputs(engine, params.type_map)
    step = Step("label", context.folder.root / "label", inputs, after, label_detail(engine))
    run_label(context, engine, step=step, selected=source, type_map=params.type_map)
    return split_labels(context, params)


def split_labels(context: Context, params: InitBulkParams) -> Path:
    """Split the labels that there are, those that `al retry` recovered among them; return the folder to learn from.

    Raises
    ------
    TasksFailed
        If there is none.
    """
    folder = context.folder.root / "label"
    record, retries = Record.read(folder), [retry for retry in find_retries(folder) if retry.n_labelled]
    assert record is not None  # noqa: S101  (the label step comes first)
    if not record.result["labelled"] and not retries:
        raise TasksFailed(
            f"every label was rejected; the reasons are in {folder / REJECTED_FILE}\n"
            "  Mend the reference's input, then make the labels anew: --redo label; or see `al retry`"
        )
    inputs = {"seed": params.seed, "valid_fraction": params.valid_fraction, **retry_inputs(context.folder, retries)}
    step = Step("split", context.folder.root / "split", inputs, (record.fingerprint,))
    finished = Record.read(step.folder)
    if finished is not None and finished.inputs.get(RECOVERED) != inputs.get(RECOVERED):
        moved = set_aside_stages(context.folder, step.name)
        log.info("split: labels were recovered; the old one is now %s", ", ".join(path.name for path in moved))
    dataset = _run_split(context, params, step)
    context.pack(folder, "label")
    return dataset


def _run_split(context: Context, params: InitBulkParams, step: Step) -> Path:
    """Write ``dataset/`` and ``valid/``, and gather what was dropped or rejected on the way."""
    folder = context.folder

    def make_split(frames: Sequence[Atoms]) -> Split:
        elements = [frozenset(frame.symbols) for frame in frames]
        return split_frames([frame.info for frame in frames], params.valid_fraction, params.seed, elements)

    if Record.read(step.folder) is None:  # an input that cannot be used must not be the one the step was begun from
        make_split(read_labels(folder.root / "label")[0])

    def work() -> dict[str, Any]:
        frames, rows, settings = read_labels(folder.root / "label")
        split, ledger = make_split(frames), list[Row]()
        for target, indices in ((folder.dataset, split.train), (folder.valid, split.valid)):
            places = write_dataset(target, [frames[index] for index in indices], params.type_map) if indices else []
            for (system, number), index in zip(places, indices, strict=True):
                ledger.append(rows[index] | {"system": f"{target.name}/{system}", "index": number, "work": "."})
        write_ledger(folder.root, ledger, settings)
        rejected = [
            json.loads(line) | {"stage": stage}
            for stage in (*STAGES, "label")
            for line in (folder.root / stage / REJECTED_FILE).read_text(encoding="utf-8").splitlines()
        ]
        write_json_lines(folder.root / REJECTED_FILE, rejected)
        elements = [set(frame.get_chemical_symbols()) for frame in frames]
        lost = describe_lost(split, elements, [formula_name(frame, params.type_map) for frame in frames])
        made = {"dataset": len(split.train), "valid": len(split.valid), "left_out": len(split.left_out)}
        return made | ({"lost": lost} if lost else {})

    def outputs(result: dict[str, Any]) -> list[str]:
        names = [DATASET_DIR, LEDGER_FILE, REJECTED_FILE, *([VALID_DIR] if result["valid"] else [])]
        return [f"../{name}" for name in names]

    counts = context.run_step(step, work, outputs).result
    if counts.get("lost"):
        log.warning("warning: %s; lower valid_fraction, or make more structures", counts["lost"])
    others = describe_held_back(counts["valid"], counts["left_out"])
    log.info("dataset: %s to train on, %s", many(counts["dataset"], "frame"), others)
    return folder.dataset


def set_aside_stages(folder: WorkFolder, stage: str) -> list[Path]:
    """Rename a stage, all later ones and what was made from them to ``.bak.N``, the last first; return the names."""
    later = ALL_STAGES[ALL_STAGES.index(stage) :]
    made = [folder.dataset, folder.valid, *([folder.structures] if LAST_GEOMETRY in later else [])]
    return [set_aside(path) for path in (*made, *(folder.root / name for name in reversed(later))) if path.exists()]


def write_structures(folder: Path, frames: Sequence[Atoms]) -> None:
    """Write ``NNN.vasp``, to look at and to explore from; without a cell, or with moments, ``NNN.extxyz``."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # left by an interrupted write
    temporary.mkdir()
    for index, atoms in enumerate(frames):
        bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        if site_arrays(atoms):
            write_frames(temporary / f"{index:03d}.extxyz", [carry_sites(atoms, bare)])
        elif bare.cell.rank == 3:
            ase.io.write(temporary / f"{index:03d}.vasp", bare, format="vasp")
        else:
            write_frames(temporary / f"{index:03d}.extxyz", [bare])
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def _stage_work(
    context: Context, params: InitBulkParams, step: Step, source: Path | None
) -> Callable[[], dict[str, Any]]:
    """Return the work of a stage: every output of the stage before, in order, becomes some of its own."""

    def work() -> dict[str, Any]:
        made = STAGES[step.name](context, params, step, read_frames(source) if source else read_entries(params))
        kept, dropped = _drop(made.structures, step.folder)
        rejected = made.rejected + dropped
        write_json_lines(step.folder / REJECTED_FILE, rejected)
        if not kept:
            raise TasksFailed(
                f"{step.name}: no structure is left; the reasons are in {step.folder / REJECTED_FILE}\n"
                f"  Mend the input, then make this stage anew: --redo {step.name}"
            )
        write_frames(step.folder / STAGE_FILE, kept)
        if step.name == LAST_GEOMETRY:
            write_structures(step.folder.parent / STRUCTURES_DIR, kept)
        reasons = dict(Counter(row["reason"] for row in rejected))
        versions = sorted(made.versions)
        return {"structures": len(kept), "dropped": len(rejected), "reasons": reasons, "versions": versions}

    return work


def _describe(result: dict[str, Any], step: Step) -> str:
    reasons = ", ".join(f"{reason} {count}" for reason, count in result.get("reasons", {}).items())
    why = f" ({reasons}; see {step.folder / REJECTED_FILE})" if reasons else ""
    return f"{many(result['structures'], 'structure')}, {result['dropped']} dropped{why}"


def _drop(frames: Sequence[Atoms], folder: Path) -> tuple[list[Atoms], list[dict[str, Any]]]:
    """Take out structures with atoms too close, and those that are there already.

    Before the last stage two entries may start from one structure, since they go different ways.
    """
    is_last = folder.name == list(STAGES)[-1]
    kept: list[Atoms] = []
    dropped: list[dict[str, Any]] = []
    seen: dict[str, Atoms] = {}
    for index, atoms in enumerate(frames):
        close = too_close(atoms, GateLimits().min_distance)
        key = frame_key(atoms) if is_last else f"{atoms.info['entry']} {frame_key(atoms)}"
        lineage = str(atoms.info["lineage"])
        if close is not None:
            first, second, distance = close
            reason, detail = "too_close", f"{lineage}: atoms {first} and {second} are {distance:.3f} Å apart"
        elif key in seen:
            twin = seen[key]
            reason, detail = "duplicate", f"{lineage} equals {twin.info['lineage']}"
            if "aimd" in atoms.info and "aimd" not in twin.info:  # it is split with its trajectory
                twin.info |= {name: atoms.info[name] for name in ("entry", "file", "moment", "aimd", "aimd_step")}
        else:
            seen[key] = atoms
            kept.append(atoms)
            continue
        dropped.append({"frame": index, "reason": reason, "detail": detail, "where": folder.name})
    return kept, dropped
