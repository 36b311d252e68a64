"""The stages of ``al init_bulk`` before the labels: each makes structures from every structure of the one before.

A structure's ``info`` tells where it comes from: ``entry`` of the param file, ``file`` and ``moment`` in it (frames of
one file with other numbers of atoms are no trajectory, and count as files of their own), its
``lineage`` in words, and, where it is a frame of an AIMD, ``aimd`` (which trajectory) and ``aimd_step``, 0 for the
structure that the trajectory starts from. For the ledger it also tells ``structure`` and ``source``, the entry's name
and its file, and what the stages did: ``relax`` (the task), ``supercell``, ``scale``, ``copy``.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from al_driver.data.frames import Label, carry_sites, labelled_frame, sort_by_type
from al_driver.data.gate import check_label
from al_driver.data.sources import find_paths, read_structures
from al_driver.engines.base import Dynamics, Engine
from al_driver.errors import EngineError
from al_driver.files import hash_path
from al_driver.layout import task_name
from al_driver.schema.base import identity
from al_driver.schema.init_bulk import Aimd, InitBulkParams, InitStructure
from al_driver.schema.relax import Relax
from al_driver.seeds import make_rng
from al_driver.structures.perturb import perturb_atoms
from al_driver.structures.scale import scale_cell
from al_driver.structures.supercell import make_supercell
from al_driver.workflow.context import Context
from al_driver.workflow.engine_tasks import EngineTask, EngineTasks, calculation_key
from al_driver.workflow.relax import Made, relax_structures, run_calculations
from al_driver.workflow.step import Step

LARGEST_SEED = 900_000_000  # that every program takes
TOLD_OF_AIMD = ("program", "version", "calculation", "input")
"""What a frame that an AIMD labelled tells of it; when and where it ran is not in files that two runs have alike."""
Moments = list[tuple[int, Label | EngineError]]
Child = tuple[Atoms, dict[str, Any]]
"""A structure, and what of its making is told in its ``info``."""


def read_entries(params: InitBulkParams) -> list[Atoms]:
    """Read every structure that the param file names, atoms in the order of the type map.

    Raises
    ------
    ConfigError
        If a file cannot be read.
    """
    frames: list[Atoms] = []
    for number, entry in enumerate(params.structures):
        first = len(frames)
        series: dict[tuple[Path, bytes], int] = {}
        for path in find_paths(entry.path):
            for moment, atoms in enumerate(read_structures(path, params.type_map)):
                structure = sort_by_type(atoms, params.type_map)
                file = series.setdefault((path, structure.numbers.tobytes()), len(series))
                structure.info = {
                    "structure": entry.called,
                    "source": os.path.relpath(path, params.work_dir),
                    "entry": number,
                    "file": file,
                    "moment": moment,
                    "lineage": f"{entry.called}/{len(frames) - first}",
                }
                frames.append(structure)
    return frames


def stage_inputs(params: InitBulkParams, stage: str) -> dict[str, Any]:
    """Return what of the input a stage reads, as JSON."""
    inputs: dict[str, Any] = {"type_map": list(params.type_map)}
    if stage == next(iter(STAGES)):
        inputs["structures"] = [
            {"name": entry.called, "files": [hash_path(path) for path in find_paths(entry.path)]}
            for entry in params.structures
        ]
    if stage in {"perturb", "aimd"}:
        inputs["seed"] = params.seed
    return inputs | {stage: [_entry_inputs(params, getattr(entry, stage)) for entry in params.structures]}


def _entry_inputs(params: InitBulkParams, keys: Any) -> Any:
    """Return the keys of one stage of one entry; an engine stands as what decides its numbers."""
    if not isinstance(keys, Relax | Aimd):
        return identity(keys)
    own = {key: value for key, value in identity(keys).items() if key != "engine"}
    if isinstance(keys, Relax):
        return own | {"identity": {"sha256": params.engine_of(keys).identity("relax")}}
    own["identity"] = {"sha256": params.engine_of(keys).identity("aimd")}
    return own | {"keeps_labels": keeps_labels(params, keys)}


def keeps_labels(params: InitBulkParams, aimd: Aimd) -> bool:
    """Say whether the frames of an AIMD are labelled by it: its settings are the label engine's."""
    reference = params.label_engine
    return reference is not None and params.engine_of(aimd).identity("aimd") == reference.identity()


def _relax(context: Context, params: InitBulkParams, step: Step, structures: Sequence[Atoms]) -> Made:
    entries = (_entry(params, atoms).relax for atoms in structures)
    wanted = {i: (params.engine_of(relax), relax.relaxation) for i, relax in enumerate(entries) if relax is not None}
    return relax_structures(context, step, structures, wanted)


def _aimd(context: Context, params: InitBulkParams, step: Step, structures: Sequence[Atoms]) -> Made:
    tasks = {
        task_name(index): _aimd_task(params.engine_of(aimd), structures[index], aimd.dynamics(_seed(params, index)))
        for index, aimd in _choose_starts(params, structures)
    }
    keeps = {
        i: entry.aimd is not None and keeps_labels(params, entry.aimd) for i, entry in enumerate(params.structures)
    }
    made, calculations = Made(), EngineTasks(tasks, step.folder)
    for index, atoms, found in run_calculations(context, step, "aimd", structures, calculations):
        if isinstance(found, EngineError):
            made.reject(index, atoms.info["lineage"], found)
        start = {} if task_name(index) not in tasks else {"aimd": index, "aimd_step": 0}
        atoms.info |= start
        made.structures.append(atoms)
        for moment, label in found if isinstance(found, list) else []:
            lineage = f"{atoms.info['lineage']}/aimd.{moment}"
            if isinstance(label, EngineError):
                made.reject(index, lineage, label)
                continue
            carry_sites(atoms, label.atoms)
            frame = label.atoms.copy()
            if keeps[int(atoms.info["entry"])]:
                told = label.info | calculations.provenance(task_name(index), context.folder.root)
                frame = labelled_frame(label, {key: told[key] for key in TOLD_OF_AIMD if told.get(key)})
            frame.info |= atoms.info | {"lineage": lineage, "aimd_step": moment}
            made.structures.append(frame)
            made.add_version(label)
    return made


def _aimd_task(engine: Engine, atoms: Atoms, dynamics: Dynamics) -> EngineTask[Moments]:
    key = calculation_key(engine, atoms, engine.identity("aimd"), "aimd", asdict(dynamics))
    return EngineTask(
        key,
        engine,
        lambda directory: engine.write_dynamics(atoms, dynamics, directory),
        lambda directory: _read_moments(engine, dynamics, directory),
    )


def _read_moments(engine: Engine, dynamics: Dynamics, directory: Path) -> Moments:
    """Read an AIMD and pass each frame through the gate; a run may end early only by the fault of its last frame."""
    moments = engine.read_dynamics(directory, dynamics)
    n_wanted = len(dynamics.steps)
    if len(moments) < n_wanted and not (moments and isinstance(moments[-1][1], EngineError)):
        raise EngineError("no_output", directory, f"{len(moments)} frames of {n_wanted}")
    checked = [(moment, _checked(label, engine, directory)) for moment, label in moments]
    if all(isinstance(label, EngineError) for _, label in checked) and isinstance(checked[0][1], EngineError):
        raise checked[0][1]
    return checked


def _checked(label: Label | EngineError, engine: Engine, directory: Path) -> Label | EngineError:
    if isinstance(label, Label):
        try:
            check_label(label.atoms, label, directory, engine.gate)
        except EngineError as error:
            return error
    return label


def _choose_starts(params: InitBulkParams, structures: Iterable[Atoms]) -> Iterator[tuple[int, Aimd]]:
    """Yield the index of each structure that starts a trajectory, and what it is asked for."""
    of_entry: dict[int, list[int]] = {}
    for index, atoms in enumerate(structures):
        of_entry.setdefault(int(atoms.info["entry"]), []).append(index)
    for entry, own in of_entry.items():
        aimd = params.structures[entry].aimd
        if aimd is not None:
            yield from ((own[start], aimd) for start in aimd.choose_starts(len(own)))


def _seed(params: InitBulkParams, index: int) -> int:
    return int(make_rng(params.seed, "init_bulk", "aimd", index).integers(1, LARGEST_SEED))


def _supercell(atoms: Atoms, entry: InitStructure, _: np.random.Generator) -> Iterator[Child]:
    told = {} if entry.supercell == (1, 1, 1) else {"supercell": json.dumps(entry.supercell)}
    yield make_supercell(atoms, entry.supercell), told


def _scale(atoms: Atoms, entry: InitStructure, _: np.random.Generator) -> Iterator[Child]:
    for factor in entry.scale:
        yield scale_cell(atoms, factor), {} if entry.scale == (1.0,) else {"scale": factor}


def _perturb(atoms: Atoms, entry: InitStructure, rng: np.random.Generator) -> Iterator[Child]:
    if entry.perturb is None:
        yield atoms, {}
        return
    for copy in range(entry.perturb.copies):
        yield perturb_atoms(atoms, entry.perturb, rng), {"copy": copy}


def _reshape(
    make: Callable[[Atoms, InitStructure, np.random.Generator], Iterator[Child]],
    _: Context,
    params: InitBulkParams,
    step: Step,
    structures: Sequence[Atoms],
) -> Made:
    """Make structures from each in turn, by geometry alone."""
    made = Made()
    for number, atoms in enumerate(structures):
        rng = make_rng(params.seed, "init_bulk", step.name, number)
        children = list(make(atoms, _entry(params, atoms), rng))
        for index, (child, told) in enumerate(children):
            own = f"/{step.name}.{index}" if len(children) > 1 else ""
            child.info = atoms.info | {"lineage": f"{atoms.info['lineage']}{own}", **told}
            made.structures.append(child)
    return made


def _entry(params: InitBulkParams, atoms: Atoms) -> InitStructure:
    return params.structures[int(atoms.info["entry"])]


STAGES: dict[str, Callable[[Context, InitBulkParams, Step, Sequence[Atoms]], Made]] = {
    "relax": _relax,
    "supercell": partial(_reshape, _supercell),
    "scale": partial(_reshape, _scale),
    "perturb": partial(_reshape, _perturb),
    "aimd": _aimd,
}
