"""What CP2K writes, or reads, beside its log: full digits of the cell, positions and cells of each step. Å."""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from ase.cell import Cell

from al_driver.data.formats.steps import parse_float
from al_driver.data.frames import Array

_LOG_DIGITS = 1e-3  # the log's cell vectors have three decimals
_ENERGY_DIGITS = 1e-10  # hartree; a trajectory prints ten decimals
_FRAME = re.compile(r"^ i = +(\d+),.* E = +(\S+)$")
_CELL_SECTION = re.compile(r"^\s*&CELL\b(?!_)(.*?)^\s*&END\b", re.MULTILINE | re.DOTALL | re.IGNORECASE)


def read_input_cell(path: Path, printed: Array) -> Array:
    """Return the cell of an input file, if it is the one that was printed; otherwise the printed one."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        section = _CELL_SECTION.search(path.read_text(encoding="utf-8", errors="replace"))
        lines = (line.split() for line in (section[1] if section else "").splitlines())
        rows = {words[0].upper(): [float(word) for word in words[1:4]] for words in lines if len(words) == 4}
        angles = rows.get("ALPHA_BETA_GAMMA", [90.0, 90.0, 90.0])
        vectors = [rows[name] for name in "ABC"] if "A" in rows else Cell.fromcellpar([*rows["ABC"], *angles]).array
        cell = np.array(vectors, dtype=float)
        if np.abs(cell - printed).max() < _LOG_DIGITS:
            return cell
    return printed


Frame: TypeAlias = tuple[int, float, Array]
"""Step, energy in hartree, positions."""


def read_positions(path: Path) -> list[Frame]:
    """Return step, energy and positions, shape (n_atoms, 3), of each frame of a ``-pos-1.xyz``; of a whole one."""
    found: list[Frame] = []
    if not path.is_file():
        return found
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    start = 0
    while start + 1 < len(lines) and lines[start].strip().isdigit():
        end = start + 2 + int(lines[start])
        head = _FRAME.match(lines[start + 1])
        rows = [line.split()[1:4] for line in lines[start + 2 : end]]
        if head and end <= len(lines) and {*map(len, rows)} == {3}:
            positions = np.array([[parse_float(word) for word in row] for row in rows])
            found.append((int(head[1]), parse_float(head[2]), positions))
        start = end
    return found


def find_frame(frames: Sequence[Frame], printed: str) -> Frame | None:
    """Return the last frame whose energy is that of a log, to the ten decimals that a trajectory has.

    >>> find_frame([(3, -7.1161154346, np.zeros((2, 3)))], "-7.116115434564097")[0]
    3
    """
    energy = parse_float(printed)
    return next((frame for frame in reversed(frames) if abs(frame[1] - energy) < _ENERGY_DIGITS), None)


def read_cells(path: Path) -> dict[int, Array]:
    """Return the cell of each step of a ``-1.cell`` file."""
    if not path.is_file():
        return {}
    table = np.loadtxt(path, ndmin=2)
    return {int(row[0]): row[2:11].reshape(3, 3) for row in table}
