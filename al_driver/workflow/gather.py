"""``al gather``: every labelled frame that runs made, as one dataset that another run can start from.

It reads finished label steps of runs, and the training half of an ``init_bulk``. What that held back for validation,
or a run validates on, stays where it is, and is left out wherever else it occurs. eV, eV/Å.
"""

import logging
import os
import shutil
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from al_driver.data.dataset import find_systems, read_system, stored_key, write_systems
from al_driver.data.frames import sort_by_type, write_frames
from al_driver.data.ledger import write_ledger
from al_driver.errors import ConfigError
from al_driver.files import hash_path, write_json_lines
from al_driver.layout import REJECTED_FILE, WorkFolder
from al_driver.schema.suggest import nearest
from al_driver.words import many, shown_path
from al_driver.workflow.labelled import LabelStep, find_label_steps, find_valid, find_work_folders, named_valid
from al_driver.workflow.split import describe_held_back
from al_driver.workflow.step import describe_changes
from al_driver.workflow.target import check_target

log = logging.getLogger(__name__)
NPY, MIXED, EXTXYZ = "deepmd/npy", "deepmd/npy/mixed", "extxyz"
SAME_ENERGY = 1e-4  # eV/atom: two labels of one frame that differ by more disagree
SAME_FORCE = 1e-2  # eV/Å
MOST_TOLD = 3  # disagreements on the screen; the file has all


@dataclass(frozen=True)
class Gathered:
    """What `gather` wrote, and what it left out."""

    folder: Path
    """Or the file."""
    systems: dict[str, int]
    """Frames of each system; of the file."""
    duplicates: int
    held_back: int
    """Frames that are held back for validation."""
    between: int
    """Frames between training and validation, on neither side."""
    disagreements: list[str]
    """Two labels of one frame that differ, in words."""
    is_new: bool
    """Whether it was not there already, just the same."""


def gather(
    directories: Sequence[Path | str] | Path | str, out: Path | str, *, to: str | None = None, allow_mixed: bool = False
) -> Gathered:
    """Write every labelled frame of some runs to ``out/<formula>/``; ``out/frames.jsonl`` tells where each is from.

    Or to one file, ``out.extxyz``, with 17 digits; each frame's comment line tells where it is from.

    ``out/settings.json`` holds the settings of the reference, so that a run that starts from it can compare them.
    Frames stand in the order of folders, iterations and selection. The first of several equal frames is kept; the
    others are listed in ``out/rejected.jsonl``.

    Parameters
    ----------
    directories
        Work folders of `al run` and `al init_bulk`, or folders that hold some at any depth.
    out
        Must not hold anything, unless it holds just this.
    to
        With "deepmd/npy/mixed", all frames of one size share a system ``mixed_<number of atoms>``: for datasets where
        nearly every frame has a composition of its own. When None, "extxyz" where ``out`` ends so, and
        "deepmd/npy" otherwise.
    allow_mixed
        Take labels of different references together.

    Raises
    ------
    ConfigError
        If there is nothing to gather, references differ, or ``out`` holds something else.
    StateMismatch
        If a finished step has lost its frames.
    """
    to = _checked_format(Path(out), to)
    given = [Path(name) for name in ([directories] if isinstance(directories, (str, Path)) else directories)]
    works = find_work_folders(given)
    steps = [step for work in works for step in find_label_steps(work)]
    if not steps:
        raise ConfigError(f"no label step has finished in {', '.join(map(str, given))}; there is nothing to gather.")
    if not allow_mixed:
        _check_one_engine(steps)
    type_map = list(dict.fromkeys(symbol for step in steps for symbol in step.record.inputs["type_map"]))
    _warn_of_valid(works)
    valid = {key for work in works for path in find_valid(work) for key in _keys(path, type_map)}
    chosen = _choose(steps, valid, type_map)
    if not chosen.frames:
        raise ConfigError(f"{', '.join(map(str, given))}: no frame to train on; nothing was written.")
    gathered = _write(Path(out), chosen, type_map, to)
    _tell(gathered)
    return gathered


@dataclass
class _Chosen:
    """Frames to write, and a row of the ledger for each; rows of those that equal one of them."""

    frames: list[Atoms] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    duplicates: list[tuple[int, dict[str, Any], str]] = field(default_factory=list)
    """The index in ``frames`` of the frame that it equals, where it is from, and how their labels differ."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of each reference, by the hash that stands in the rows."""
    held_back: int = 0
    between: int = 0


def _checked_format(out: Path, to: str | None) -> str:
    """Return the format to write, once the place has been found good for it."""
    is_file = out.suffix in {".extxyz", ".xyz"}
    to = to or (EXTXYZ if is_file else NPY)
    if to not in (NPY, MIXED, EXTXYZ):
        raise ConfigError(f"--to {to}: there is no such format{nearest(to, (NPY, MIXED, EXTXYZ))}")
    if is_file and to != EXTXYZ:
        raise ConfigError(f"-o {out} is one extxyz file; {to} needs a folder")
    if to == EXTXYZ and not is_file:
        raise ConfigError(f"-o {out}: extxyz is one file; call it {out.name}.extxyz")
    check_target(out)
    return to


def _check_one_engine(steps: Sequence[LabelStep]) -> None:
    first = steps[0]
    for step in steps:
        old, new = (one.record.inputs.get("label") or {} for one in (first, step))
        if changes := list(describe_changes(old, new)):
            raise ConfigError(
                f"{first.folder} and {step.folder} were labelled by different references: {'; '.join(changes[:3])}\n"
                "  Their energies do not make one dataset. Gather them apart, or say --allow-mixed."
            )


def _warn_of_valid(works: Sequence[WorkFolder]) -> None:
    """Say which work folder is what a run beside it, that is not gathered too, validates on."""
    given = {work.root.resolve() for work in works}
    for history in sorted({path for root in given for path in root.parent.glob("*/history.json")}):
        run = WorkFolder(history.parent)
        for root in sorted({root for path in named_valid(run) for root in given if root in path.resolve().parents}):
            if run.root not in given:
                text = "warning: %s validates on %s: trained on, those frames show nothing there"
                log.warning(text, shown_path(run.root), shown_path(root))


def _choose(steps: Sequence[LabelStep], valid: Container[str], type_map: Sequence[str]) -> _Chosen:
    """Take each frame once, and none that is held back for validation."""
    chosen = _Chosen()
    seen: dict[str, int] = {}
    for step in steps:
        train = set(_keys(step.work.dataset, type_map)) if step.is_split else None
        before = len(chosen.frames)
        frames = step.frames()
        for labelled, told in zip(frames, step.rows(frames), strict=True):
            frame = sort_by_type(labelled, type_map)
            key = stored_key(frame, type_map)
            row = told | {"work": step.work.root, "label": step.name}
            if key in valid:
                chosen.held_back += 1
            elif train is not None and key not in train:
                chosen.between += 1
            elif key in seen:
                chosen.duplicates.append((seen[key], row, _describe_difference(chosen.frames[seen[key]], frame)))
            else:
                seen[key] = len(chosen.frames)
                chosen.frames.append(frame)
                chosen.rows.append(row)
                chosen.settings |= step.settings()
        log.info("%s: %s", step.folder, many(len(chosen.frames) - before, "frame"))
    return chosen


def _keys(dataset: Path, type_map: Sequence[str]) -> Iterator[str]:
    """Yield the keys of a dataset's frames; those with an element that is not gathered equal no frame that is."""
    for system in find_systems(dataset) if dataset.exists() else ():
        for atoms in read_system(system):
            if set(atoms.symbols) <= set(type_map):
                yield stored_key(atoms, type_map)


def _describe_difference(one: Atoms, other: Atoms) -> str:
    """Say by how much two labels of one frame differ; nothing where they agree."""
    energy = abs(one.info["energy"] - other.info["energy"]) / len(one)
    force = float(np.abs(one.arrays["forces"] - other.arrays["forces"]).max())
    if energy < SAME_ENERGY and force < SAME_FORCE:
        return ""
    return f"; its label differs by {energy:.2g} eV/atom and {force:.2g} eV/Å"


def _write(out: Path, chosen: _Chosen, type_map: Sequence[str], to: str) -> Gathered:
    """Write the dataset and its ledgers beside ``out``, then rename; ``out`` is left alone where it holds the same."""
    temporary = out.absolute().with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # left by an interrupted write
    temporary.mkdir(parents=True)
    try:
        if to == EXTXYZ:
            return _write_file(temporary / out.name, out, chosen)
        return _write_beside(temporary, out, chosen, type_map, mixed=to == MIXED)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # of one that was interrupted


def _write_beside(temporary: Path, out: Path, chosen: _Chosen, type_map: Sequence[str], *, mixed: bool) -> Gathered:
    places = write_systems(temporary, chosen.frames, type_map, mixed=mixed)
    rows = [
        row | {"system": system, "index": index, "work": os.path.relpath(row["work"], out)}
        for (system, index), row in zip(places, chosen.rows, strict=True)
    ]
    rejected = []
    disagreements = []
    for kept, row, difference in chosen.duplicates:
        detail = "equals {}/{}".format(*places[kept]) + difference
        where = f"{os.path.relpath(row['work'], out)}/{row['label']}"
        rejected.append({"frame": row["frame"], "reason": "duplicate", "detail": detail, "where": where})
        if difference:
            disagreements.append(f"frame {row['frame']} of {row['work']}/{row['label']} {detail}")
    write_ledger(temporary, rows, chosen.settings)
    write_json_lines(temporary / REJECTED_FILE, rejected)
    is_new = _publish(temporary, out)
    systems = dict(Counter(system for system, _ in places))
    return Gathered(out, systems, len(rejected), chosen.held_back, chosen.between, disagreements, is_new)


def _write_file(temporary: Path, out: Path, chosen: _Chosen) -> Gathered:
    for frame, row in zip(chosen.frames, chosen.rows, strict=True):
        told = {name: row[name] for name in ("label", "frame", "settings")}
        frame.info |= {"work": os.path.relpath(row["work"], out.parent), **told}
    write_frames(temporary, chosen.frames)
    is_new = _publish(temporary, out)
    disagreements = [
        f"frame {row['frame']} of {row['work']}/{row['label']} equals frame {kept} of {out.name}{difference}"
        for kept, row, difference in chosen.duplicates
        if difference
    ]
    return Gathered(
        out,
        {out.name: len(chosen.frames)},
        len(chosen.duplicates),
        chosen.held_back,
        chosen.between,
        disagreements,
        is_new,
    )


def _publish(temporary: Path, out: Path) -> bool:
    """Put what was written in its place; False where the same is there already."""
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()
    if not out.exists():
        temporary.rename(out)
        return True
    if out.is_dir() != temporary.is_dir() or hash_path(out) != hash_path(temporary):
        raise ConfigError(f"{out} is there already and holds something else.\n  Name another folder, or move it away.")
    return False


def _tell(gathered: Gathered) -> None:
    counts = ", ".join(f"{name} {count}" for name, count in list(gathered.systems.items())[:8])
    more = f" and {len(gathered.systems) - 8} more" if len(gathered.systems) > 8 else ""
    same = "" if gathered.is_new else "; the same was there already, and is left alone"
    log.info("%s: %s: %s%s%s", gathered.folder, many(sum(gathered.systems.values()), "frame"), counts, more, same)
    if gathered.held_back or gathered.between:
        log.info("left out: %s", describe_held_back(gathered.held_back, gathered.between))
    if gathered.duplicates:
        where = f"; see {gathered.folder / REJECTED_FILE}" if gathered.folder.is_dir() else ""
        log.info("left out: %s%s", many(gathered.duplicates, "duplicate"), where)
    for text in gathered.disagreements[:MOST_TOLD]:
        log.warning("warning: %s", text)
    if len(gathered.disagreements) > MOST_TOLD:
        log.warning("warning: and %d more labels that differ", len(gathered.disagreements) - MOST_TOLD)
