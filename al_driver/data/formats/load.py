"""Whole files at once, for `al convert`: which there are, and what one of them holds. Runs in processes of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from al_driver.data.formats.recognise import MIXED, NPY, find_recognised, recognise
from al_driver.data.formats.registry import DUMP, READERS, full_name, read_steps
from al_driver.data.frames import Label, labelled_frame
from al_driver.errors import ConfigError, EngineError, Problem, Reason


@dataclass(frozen=True)
class Source:
    """A file, or a folder that is one deepmd system, and its format; found in a folder, or named by the user."""

    path: Path
    format: str
    is_named: bool = True


@dataclass
class Loaded:
    """What a source holds.

    Attributes
    ----------
    frames
        Labelled (``info["energy"]``, ``arrays["forces"]``, ``info["virial"]``), or bare structures; ``info["source"]``
        and ``info["step"]``, counted from 1, tell where each is from.
    moments
        Index of each frame among all steps of the file.
    n_steps
        Steps looked at: the frames, and those left out.
    left_out
        Reason and words for each step that cannot be learned from.
    problem
        Why the source is refused as a whole.
    """

    source: Source
    frames: list[Atoms] = field(default_factory=list)
    moments: list[int] = field(default_factory=list)
    n_steps: int = 0
    left_out: list[tuple[Reason, str]] = field(default_factory=list)
    problem: str = ""

    @property
    def is_labelled(self) -> bool:
        return bool(self.frames) and "energy" in self.frames[0].info


def find_sources(path: Path, format: str | None) -> list[Source]:
    """Return a file, or every file and deepmd system below a folder, whose format is recognised or given.

    Raises
    ------
    ConfigError
        If nobody knows the format that is given.
    """
    if format is None:
        if path.is_dir():
            return [Source(*found, is_named=False) for found in find_recognised(path)]
        name = recognise(path)
        return [Source(path, name)] if name else []
    name = full_name(format)
    if path.is_dir() and (name in READERS or name == DUMP):
        alike = {NPY, MIXED} if name in {NPY, MIXED} else {name}
        return [Source(*found, is_named=False) for found in find_recognised(path) if found[1] in alike]
    return [Source(path, name)]


def load_source(source: Source, type_map: Sequence[str] = (), every: int = 1) -> Loaded:
    """Read every n-th step of a source; what is wrong with the whole of it is told in `Loaded.problem`."""
    loaded = Loaded(source)
    try:
        for index, step in enumerate(read_steps(source.path, source.format, type_map)):
            if index % every:
                continue
            loaded.n_steps += 1
            if isinstance(step, EngineError):
                loaded.left_out.append((step.reason, step.detail))
                continue
            frame = _frame_of(step, {"source": str(source.path), "step": index + 1})
            bad = _what_is_not_finite(frame)
            if bad:
                loaded.left_out.append(("not_finite", f"step {index + 1}: {bad}"))
                continue
            loaded.frames.append(frame)
            loaded.moments.append(index)
    except ConfigError as error:
        loaded.problem = error.problems[0].message
    if not loaded.problem:
        loaded.problem = _check(loaded, type_map)
    return loaded


def _frame_of(step: Label | Atoms, info: dict[str, Any]) -> Atoms:
    if isinstance(step, Label):
        return labelled_frame(step, {**info, **step.info})
    frame: Atoms = step.copy()
    frame.info = {**info, **step.info}
    return frame


def _what_is_not_finite(frame: Atoms) -> str:
    numbers = {"cell": frame.cell.array, "positions": frame.positions}
    numbers |= {key: frame.info[key] for key in ("energy", "virial") if key in frame.info}
    numbers |= {key: frame.arrays[key] for key in ("forces",) if key in frame.arrays}
    return ", ".join(name for name, values in numbers.items() if not np.isfinite(values).all())


def _check(loaded: Loaded, type_map: Sequence[str]) -> str:
    """Say why the frames of a source cannot be used."""
    if not loaded.n_steps:
        return f"holds no labelled frame, read as {loaded.source.format}"
    if len({"energy" in atoms.info for atoms in loaded.frames}) > 1:
        return "has frames with and frames without a label; part them"
    for atoms, moment in zip(loaded.frames, loaded.moments, strict=True):
        if lacks_cell(atoms):
            return f"has a frame without a cell along a periodic direction (step {moment + 1}); mend it"
    elements = {symbol for atoms in loaded.frames for symbol in set(atoms.get_chemical_symbols())}
    strange = sorted(elements - set(type_map))
    if type_map and strange:
        return f"has {', '.join(strange)}, which type_map {list(type_map)} lacks"
    return ""


def lacks_cell(atoms: Atoms) -> bool:
    """Say whether a periodic direction has no cell vector of its own."""
    lengths = atoms.cell.lengths()
    flat = atoms.pbc.any() and atoms.cell.rank < np.count_nonzero(lengths)
    return bool(flat or (atoms.pbc & (lengths == 0)).any())


def refused(loaded: Loaded) -> Problem:
    """Return what to tell of a source that is refused."""
    return Problem(loaded.problem, file=loaded.source.path)
