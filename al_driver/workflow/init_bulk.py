"""First data: supercell → scale → perturb → label → split, each stage from every output of the one before."""

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from al_driver.data.dataset import write_dataset
from al_driver.data.frames import frame_key, read_frames, sort_by_type, write_frames
from al_driver.data.gate import GateLimits, too_close
from al_driver.data.sources import find_paths, read_structures
from al_driver.errors import ConfigError, TasksFailed
from al_driver.files import hash_path, write_json_lines
from al_driver.layout import DATASET_DIR, LABELLED_FILE, REJECTED_FILE, STRUCTURES_DIR, VALID_DIR, WorkFolder
from al_driver.schema.base import identity
from al_driver.schema.init_bulk import InitBulkParams, InitStructure
from al_driver.schema.suggest import nearest
from al_driver.seeds import make_rng
from al_driver.structures.perturb import perturb_atoms
from al_driver.structures.scale import scale_cell
from al_driver.structures.supercell import make_supercell
from al_driver.workflow.aside import set_aside
from al_driver.workflow.context import Context
from al_driver.workflow.label import label_detail, label_inputs, run_label
from al_driver.workflow.split import split_frames
from al_driver.workflow.step import Record, Step

log = logging.getLogger(__name__)
STAGE_FILE = "structures.extxyz"


Make = Callable[[Atoms, InitStructure, np.random.Generator], list[Atoms]]


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
    for stage, make in STAGES.items():
        step = Step(stage, context.folder.root / stage, _stage_inputs(params, stage), after)
        outputs = [STAGE_FILE, REJECTED_FILE, *([f"../{STRUCTURES_DIR}"] if stage == LAST_STAGE else [])]
        record = context.run_step(step, _stage_work(params, step, make, source), outputs)
        log.info("%s: %d structures, %d dropped", stage, record.result["structures"], record.result["dropped"])
        source, after = step.folder / STAGE_FILE, (record.fingerprint,)
    assert source is not None  # noqa: S101  (there are stages)
    engine = params.label_engine
    if engine is None:
        return context.folder.structures
    inputs = label_inputs(engine, params.type_map)
    step = Step("label", context.folder.root / "label", inputs, after, label_detail(engine))
    record = run_label(context, engine, step=step, selected=source, type_map=params.type_map)
    if not record.result["labelled"]:
        raise TasksFailed(
            f"every label was rejected; the reasons are in {step.folder / REJECTED_FILE}\n"
            "  Mend the reference's input, then make the labels anew: --redo label"
        )
    return _run_split(context, params, step.folder / LABELLED_FILE, record.fingerprint)


def _run_split(context: Context, params: InitBulkParams, labelled: Path, after: str) -> Path:
    """Write ``dataset/`` and ``valid/``, and gather what was dropped or rejected on the way."""
    folder = context.folder
    step = Step(
        "split", folder.root / "split", {"seed": params.seed, "valid_fraction": params.valid_fraction}, (after,)
    )
    if Record.read(step.folder) is None:  # an input that cannot be used must not be the one the step was begun from
        split_frames(read_frames(labelled), params.valid_fraction, params.seed)

    def work() -> dict[str, Any]:
        frames = read_frames(labelled)
        split = split_frames(frames, params.valid_fraction, params.seed)
        for target, indices in ((folder.dataset, split.train), (folder.valid, split.valid)):
            if indices:
                write_dataset(target, [frames[index] for index in indices], params.type_map)
        rejected = [
            json.loads(line) | {"stage": stage}
            for stage in (*STAGES, "label")
            for line in (folder.root / stage / REJECTED_FILE).read_text(encoding="utf-8").splitlines()
        ]
        write_json_lines(folder.root / REJECTED_FILE, rejected)
        return {"dataset": len(split.train), "valid": len(split.valid), "left_out": len(split.left_out)}

    def outputs(result: dict[str, Any]) -> list[str]:
        names = [DATASET_DIR, REJECTED_FILE, *([VALID_DIR] if result["valid"] else [])]
        return [f"../{name}" for name in names]

    counts = context.run_step(step, work, outputs).result
    log.info(
        "dataset: %d frames, %d more kept for validation, %d left out between the two",
        counts["dataset"], counts["valid"], counts["left_out"],
    )  # fmt: skip
    return folder.dataset


def check_split(params: InitBulkParams) -> None:
    """Refuse a share for validation that would leave nothing to train on, were every structure labelled.

    Raises
    ------
    ConfigError
        If so, or if a structure cannot be read.
    """
    frames = []
    for atoms in _read_entries(params):
        entry = params.structures[atoms.info["entry"]]
        frames += [atoms] * (len(entry.scale) * (entry.perturb.copies if entry.perturb else 1))
    split_frames(frames, params.valid_fraction, params.seed)


def check_stage(stage: str) -> None:
    """Refuse a stage that does not exist.

    Raises
    ------
    ConfigError
        Naming those there are.
    """
    names = [*STAGES, "label", "split"]
    if stage not in names:
        raise ConfigError(f"--redo {stage}: stages are {', '.join(names)}{nearest(stage, names)}")


def set_aside_stages(folder: WorkFolder, stage: str) -> list[Path]:
    """Rename a stage, all later ones and what was made from them to ``.bak.N``, the last first; return the names."""
    names = [*STAGES, "label", "split"]
    later = [folder.root / name for name in names[names.index(stage) :]]
    made = [folder.dataset, folder.valid, *([folder.structures] if stage in STAGES else [])]
    return [set_aside(path) for path in (*made, *reversed(later)) if path.exists()]


def write_structures(folder: Path, frames: Sequence[Atoms]) -> None:
    """Write ``NNN.vasp``, for a person to look at and for ``explore`` to start from; without a cell ``NNN.extxyz``."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # left by an interrupted write
    temporary.mkdir()
    for index, atoms in enumerate(frames):
        bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        if bare.cell.rank == 3:
            ase.io.write(temporary / f"{index:03d}.vasp", bare, format="vasp")
        else:
            write_frames(temporary / f"{index:03d}.extxyz", [bare])
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def _supercell(atoms: Atoms, entry: InitStructure, _: np.random.Generator) -> list[Atoms]:
    return [make_supercell(atoms, entry.supercell)]


def _scale(atoms: Atoms, entry: InitStructure, _: np.random.Generator) -> list[Atoms]:
    return [scale_cell(atoms, factor) for factor in entry.scale]


def _perturb(atoms: Atoms, entry: InitStructure, rng: np.random.Generator) -> list[Atoms]:
    if entry.perturb is None:
        return [atoms]
    return [perturb_atoms(atoms, entry.perturb, rng) for _ in range(entry.perturb.copies)]


STAGES: dict[str, Make] = {"supercell": _supercell, "scale": _scale, "perturb": _perturb}
LAST_STAGE = list(STAGES)[-1]


def _stage_inputs(params: InitBulkParams, stage: str) -> dict[str, Any]:
    """Return what of the input a stage reads."""
    inputs: dict[str, Any] = {"type_map": list(params.type_map)}
    if stage == next(iter(STAGES)):
        inputs["structures"] = [[hash_path(path) for path in find_paths(entry.path)] for entry in params.structures]
    if stage == "perturb":
        inputs["seed"] = params.seed
    return inputs | {stage: [identity(getattr(entry, stage)) for entry in params.structures]}


def _stage_work(params: InitBulkParams, step: Step, make: Make, source: Path | None) -> Callable[[], dict[str, Any]]:
    """Return the work of a stage: every output of the stage before, in order, becomes some of its own."""

    def work() -> dict[str, Any]:
        made: list[Atoms] = []
        for number, atoms in enumerate(read_frames(source) if source else _read_entries(params)):
            entry = params.structures[int(atoms.info["entry"])]
            rng = make_rng(params.seed, "init_bulk", step.name, number)
            for index, child in enumerate(make(atoms, entry, rng)):
                child.info = atoms.info | {"lineage": f"{atoms.info['lineage']}/{index}"}
                made.append(child)
        kept, dropped = _drop(made, step.folder)
        write_frames(step.folder / STAGE_FILE, kept)
        if step.name == LAST_STAGE:
            write_structures(step.folder.parent / STRUCTURES_DIR, kept)
        write_json_lines(step.folder / REJECTED_FILE, dropped)
        return {"structures": len(kept), "dropped": len(dropped)}

    return work


def _read_entries(params: InitBulkParams) -> list[Atoms]:
    frames: list[Atoms] = []
    for number, entry in enumerate(params.structures):
        own: list[Atoms] = []
        for file, path in enumerate(find_paths(entry.path)):
            for moment, atoms in enumerate(read_structures(path, params.type_map)):
                sorted_atoms = sort_by_type(atoms, params.type_map)
                lineage = f"{entry.name or entry.path.stem}/{len(own)}"
                sorted_atoms.info = {"entry": number, "file": file, "moment": moment, "lineage": lineage}
                own.append(sorted_atoms)
        frames += own
    return frames


def _drop(frames: Sequence[Atoms], folder: Path) -> tuple[list[Atoms], list[dict[str, Any]]]:
    """Take out structures with atoms too close, and those that are there already."""
    kept: list[Atoms] = []
    dropped: list[dict[str, Any]] = []
    seen: dict[str, str] = {}
    for index, atoms in enumerate(frames):
        close = too_close(atoms, GateLimits().min_distance)
        key = frame_key(atoms)
        lineage = str(atoms.info["lineage"])
        if close is not None:
            first, second, distance = close
            reason, detail = "too_close", f"{lineage}: atoms {first} and {second} are {distance:.3f} Å apart"
        elif key in seen:
            reason, detail = "duplicate", f"{lineage} equals {seen[key]}"
        else:
            seen[key] = lineage
            kept.append(atoms)
            continue
        dropped.append({"frame": index, "reason": reason, "detail": detail, "where": folder.name})
    return kept, dropped
