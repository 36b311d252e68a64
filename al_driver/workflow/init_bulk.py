"""First data: supercell → scale → perturb → label, each stage from every output of the one before."""

import json
import logging
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
from al_driver.errors import ConfigError
from al_driver.files import hash_path, write_json_lines
from al_driver.layout import LABELLED_FILE, REJECTED_FILE, WorkFolder
from al_driver.schema.base import identity
from al_driver.schema.init_bulk import InitBulkParams, InitStructure
from al_driver.schema.suggest import nearest
from al_driver.seeds import make_rng
from al_driver.structures.perturb import perturb_atoms
from al_driver.structures.scale import scale_cell
from al_driver.structures.supercell import make_supercell
from al_driver.workflow.context import Context
from al_driver.workflow.history import set_aside
from al_driver.workflow.label import label_inputs, run_label
from al_driver.workflow.step import Step

log = logging.getLogger(__name__)
STAGE_FILE = "structures.extxyz"


Make = Callable[[Atoms, InitStructure, np.random.Generator], list[Atoms]]


def make_initial_data(context: Context, params: InitBulkParams) -> Path:
    """Run every stage; return the folder of the dataset, or of the structures when nothing is labelled.

    Raises
    ------
    TasksFailed
        If more labels than allowed failed.
    StateMismatch
        If the folder was made from another input.
    """
    source: Path | None = None
    after: tuple[str, ...] = ()
    for stage, make in STAGES.items():
        step = Step(stage, context.folder.root / stage, _stage_inputs(params, stage), after)
        record = context.run_step(step, _stage_work(params, step, make, source), [STAGE_FILE, REJECTED_FILE])
        log.info("%s: %d structures, %d dropped", stage, record.result["structures"], record.result["dropped"])
        source, after = step.folder / STAGE_FILE, (record.fingerprint,)
    assert source is not None  # noqa: S101  (there are stages)
    write_structures(context.folder.structures, read_frames(source))
    engine = params.label_engine
    if engine is None:
        return context.folder.structures
    step = Step("label", context.folder.root / "label", label_inputs(engine, params.type_map), after)
    run_label(context, engine, step=step, selected=source, type_map=params.type_map)
    write_datasets(context.folder, params, read_frames(step.folder / LABELLED_FILE))
    return context.folder.dataset


def set_aside_stages(folder: WorkFolder, stage: str) -> list[Path]:
    """Rename a stage, all later ones and what was made from them to ``.bak.N``; return what they are called now.

    Raises
    ------
    ConfigError
        If there is no such stage.
    """
    names = [*STAGES, "label"]
    if stage not in names:
        raise ConfigError(f"--redo {stage}: stages are {', '.join(names)}{nearest(stage, names)}")
    later = [folder.root / name for name in names[names.index(stage) :]]
    return [set_aside(path) for path in (*later, folder.structures, folder.dataset, folder.valid) if path.exists()]


def write_structures(folder: Path, frames: Sequence[Atoms]) -> None:
    """Write ``NNN.vasp``, for a person to look at and for ``explore`` to start from."""
    folder.mkdir(exist_ok=True)
    for index, atoms in enumerate(frames):
        bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        ase.io.write(folder / f"{index:03d}.vasp", bare, format="vasp")


def write_datasets(folder: WorkFolder, params: InitBulkParams, frames: Sequence[Atoms]) -> None:
    """Split labelled frames, seeded, into ``dataset/`` and ``valid/``, and gather what was dropped or rejected.

    Copies are drawn one by one from a structure that is not in the data itself, so that none is another's neighbour.
    """
    n_valid = round(params.valid_fraction * len(frames))
    drawn = make_rng(params.seed, "init_bulk", "valid").permutation(len(frames))[:n_valid]
    held_back = set(drawn.tolist())
    write_dataset(folder.dataset, [atoms for i, atoms in enumerate(frames) if i not in held_back], params.type_map)
    if held_back:
        write_dataset(folder.valid, [atoms for i, atoms in enumerate(frames) if i in held_back], params.type_map)
    rejected = [
        json.loads(line) | {"stage": stage}
        for stage in (*STAGES, "label")
        for line in (folder.root / stage / REJECTED_FILE).read_text().splitlines()
    ]
    write_json_lines(folder.root / REJECTED_FILE, rejected)
    log.info("dataset: %d frames, %d more kept for validation", len(frames) - n_valid, n_valid)


def _supercell(atoms: Atoms, entry: InitStructure, _: np.random.Generator) -> list[Atoms]:
    return [make_supercell(atoms, entry.supercell)]


def _scale(atoms: Atoms, entry: InitStructure, _: np.random.Generator) -> list[Atoms]:
    return [scale_cell(atoms, factor) for factor in entry.scale]


def _perturb(atoms: Atoms, entry: InitStructure, rng: np.random.Generator) -> list[Atoms]:
    if entry.perturb is None:
        return [atoms]
    return [perturb_atoms(atoms, entry.perturb, rng) for _ in range(entry.perturb.copies)]


STAGES: dict[str, Make] = {"supercell": _supercell, "scale": _scale, "perturb": _perturb}


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
                child.info = {"entry": int(atoms.info["entry"]), "lineage": f"{atoms.info['lineage']}/{index}"}
                made.append(child)
        kept, dropped = _drop(made, step.folder)
        write_frames(step.folder / STAGE_FILE, kept)
        write_json_lines(step.folder / REJECTED_FILE, dropped)
        return {"structures": len(kept), "dropped": len(dropped)}

    return work


def _read_entries(params: InitBulkParams) -> list[Atoms]:
    frames = []
    for number, entry in enumerate(params.structures):
        for index, atoms in enumerate(read_structures(entry.path, params.type_map)):
            sorted_atoms = sort_by_type(atoms, params.type_map)
            sorted_atoms.info = {"entry": number, "lineage": f"{entry.name or entry.path.stem}/{index}"}
            frames.append(sorted_atoms)
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
