"""Whole files at once, for `al convert`: which there are, and what one of them holds. Runs in processes of its own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.cell import Cell
from ase.data import chemical_symbols
from numpy.typing import NDArray

from al_driver.data.blocks import Block, pack
from al_driver.data.formats.recognise import MIXED, NPY, find_recognised, recognise, why_unreadable
from al_driver.data.formats.registry import DUMP, READERS, full_name, read_steps
from al_driver.data.formats.steps import UNREADABLE
from al_driver.data.frames import Array, Label
from al_driver.errors import ConfigError, EngineError, Problem, Reason
from al_driver.words import many


@dataclass(frozen=True)
class Source:
    """A file, or a folder that is one deepmd system, and its format; found in a folder, or named by the user.

    Attributes
    ----------
    problem
        Why it cannot be read, if that is known already.
    """

    path: Path
    format: str
    is_named: bool = True
    problem: str = ""


@dataclass
class Loaded:
    """What a source holds.

    Attributes
    ----------
    blocks
        The frames in their order, labelled or bare; ``source``, its ``format`` and ``step``, counted from 1, in the
        info of each tell where it is from, unless the file itself told.
    moments
        Index of each frame among all steps of the file.
    n_steps
        Steps looked at: the frames, and those left out.
    left_out
        Reason and words for each step that cannot be learned from.
    problem
        Why the source is refused as a whole.
    is_strange
        Whether that is an element that the type map lacks.
    """

    source: Source
    blocks: list[Block] = field(default_factory=list)
    moments: list[int] = field(default_factory=list)
    n_steps: int = 0
    left_out: list[tuple[Reason, str]] = field(default_factory=list)
    problem: str = ""
    is_strange: bool = False

    @property
    def is_labelled(self) -> bool:
        return bool(self.blocks) and self.blocks[0].is_labelled

    @property
    def elements(self) -> set[str]:
        return {chemical_symbols[number] for block in self.blocks for number in set(block.numbers.tolist())}


def find_sources(path: Path, format: str | None) -> list[Source]:
    """Return a file, or every file and deepmd system below a folder, whose format is recognised or given.

    What cannot be read is among them, with its ``problem``: nobody knows what it is.

    Raises
    ------
    ConfigError
        If nobody knows the format that is given.
    """
    if format is None:
        return _find_in(path) if path.is_dir() else _look_at(path)
    name = full_name(format)
    if path.is_dir() and (name in READERS or name == DUMP):
        alike = {NPY, MIXED} if name in {NPY, MIXED} else {name}
        return [source for source in _find_in(path) if source.problem or source.format in alike]
    return [Source(path, name)]


def _find_in(folder: Path) -> list[Source]:
    return [Source(found.path, found.format, False, found.problem) for found in find_recognised(folder)]


def _look_at(path: Path) -> list[Source]:
    try:
        name = recognise(path)
    except UNREADABLE as error:
        return [Source(path, "unknown", problem=why_unreadable(error))]
    return [Source(path, name)] if name else []


def load_source(source: Source, type_map: Sequence[str] = (), every: int = 1) -> Loaded:
    """Read every n-th step of a source; what is wrong with the whole of it is told in `Loaded.problem`."""
    loaded = Loaded(source, problem=source.problem)
    if loaded.problem:
        return loaded
    steps: list[Label | Atoms] = []
    infos: list[dict[str, Any]] = []
    try:
        for index, step in enumerate(read_steps(source.path, source.format, type_map)):
            if index % every:
                continue
            loaded.n_steps += 1
            if isinstance(step, EngineError):
                loaded.left_out.append((step.reason, step.detail))
            elif isinstance(step, Label) and step.forces.shape != (len(step.atoms), 3):
                detail = f"step {index + 1}: {len(step.forces)} forces for {many(len(step.atoms), 'atom')}"
                loaded.left_out.append(("no_output", detail))
            elif bad := _what_is_not_finite(step):
                loaded.left_out.append(("not_finite", f"step {index + 1}: {bad}"))
            else:
                steps.append(step)
                told = {"source": str(source.path), "format": source.format, "step": index + 1}
                infos.append(told | step.info)
                loaded.moments.append(index)
    except ConfigError as error:
        loaded.problem = error.problems[0].message
        return loaded
    loaded.blocks = pack(steps, infos)
    loaded.problem = _check(loaded, type_map)
    return loaded


def _what_is_not_finite(step: Label | Atoms) -> str:
    atoms = step.atoms if isinstance(step, Label) else step
    numbers = {"cell": atoms.cell.array, "positions": atoms.positions}
    if isinstance(step, Label):
        numbers |= {"energy": np.array(step.energy), "forces": step.forces}
        numbers |= {} if step.virial is None else {"virial": step.virial}
    if math.isfinite(sum(float(values.sum()) for values in numbers.values())):
        return ""
    return ", ".join(name for name, values in numbers.items() if not np.isfinite(values).all())


def _check(loaded: Loaded, type_map: Sequence[str]) -> str:
    """Say why the frames of a source cannot be used."""
    if not loaded.n_steps:
        return f"holds no labelled frame, read as {loaded.source.format}"
    if len({block.is_labelled for block in loaded.blocks}) > 1:
        return "has frames with and frames without a label; part them"
    if any(lacks_cell(cell, block.pbc) for block in loaded.blocks for cell in block.cells):
        return "has a frame without a cell along a periodic direction; mend its Lattice"
    strange = sorted(loaded.elements - set(type_map))
    if type_map and strange:
        loaded.is_strange = True
        return f"has {', '.join(strange)}, which type_map {list(type_map)} lacks"
    return ""


def lacks_cell(cell: Array, pbc: NDArray[np.bool_]) -> bool:
    """Say whether a periodic direction has no cell vector of its own."""
    if pbc.all() and abs(np.linalg.det(cell)) > 1e-6:
        return False
    lengths = np.linalg.norm(cell, axis=1)
    flat = pbc.any() and Cell(cell).rank < np.count_nonzero(lengths)
    return bool(flat or (pbc & (lengths == 0)).any())


def refused(loaded: Loaded) -> Problem:
    """Return what to tell of a source that is refused."""
    return Problem(loaded.problem, file=loaded.source.path, once=loaded.is_strange)
