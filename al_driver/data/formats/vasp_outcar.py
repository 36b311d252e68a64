"""VASP's OUTCAR. Energy: ``free  energy   TOTEN``, which the forces derive from. Virial: the line ``in kB`` × volume.

A reader of our own: VASP prints "aborting loop because EDIFF is reached" also where it ran out of electronic steps
(NELM), so a step counts as converged only if it needed fewer, and the last changes of the energy and of the eigenvalues
are printed and below EDIFF.
Positions have five decimals, forces six. Steps of a machine-learned force field inside VASP are no labels.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from al_driver.data.formats.steps import (
    KBAR_TO_EV_PER_A3,
    Buffer,
    Step,
    find_all,
    lines_after,
    open_bytes,
    parse_float,
    parse_floats,
)
from al_driver.data.formats.vasp_head import ML_STEP, NO_EDIFF, told_in_outcar
from al_driver.data.frames import Array, Label
from al_driver.data.reference import REFERENCE, format_reference
from al_driver.errors import EngineError

_RUN = b"\n executed on"
_END_OF_STEP = b"free  energy   TOTEN  ="
_END_OF_ML_STEP = b"free  energy ML TOTEN"
_FORCES = b"TOTAL-FORCE (eV/Angst)"
_LATTICE = b"direct lattice vectors"
_ITERATION = re.compile(rb"Iteration\s*(\d+|\*+)\(\s*(\d+|\*+)\)")
_CHANGE = re.compile(rb"total energy-change \(2\. order\) :\s*(\S+)\s*\(\s*(\S+?)\s*\)")
_STRESS = re.compile(rb"^ *in kB(.*)$", re.MULTILINE)
_FIXED = re.compile(rb"-?\d+\.\d+|\*+")
_TITLE = re.compile(rb"TITEL\s*=\s*\S+\s+([A-Z][a-z]?)")
_COUNTS = re.compile(rb"ions per type\s*=([\d ]+)")
_ISIF = re.compile(rb"\bISIF\s*=\s*(\d)")
_FIXED_CELL = range(3)
_IVDW = re.compile(rb"^ *IVDW *= *\d+", re.MULTILINE)
_LEAST_VOLUME = 1e-3  # Å³
_RULE = b"---"
_NELM = re.compile(rb"\bNELM\s*=\s*(\d+)")
_EDIFF = re.compile(rb"\bEDIFF\s*=\s*(\S+)")
_VERSION = re.compile(rb"vasp\.(\S+)")
_ROUNDED = 1.51  # EDIFF is printed with one digit: 0.1E-05 may have been 1.5E-6


@dataclass(frozen=True)
class _Run:
    """What stands at the head of a run."""

    numbers: Array
    max_steps: int
    ediff: float | None
    moves_cell: bool
    """Each step prints its cell then."""
    info: dict[str, str]


def read_outcar(path: Path) -> Iterator[Step]:
    """Yield each ionic step of an OUTCAR, which may hold several runs.

    Raises
    ------
    ValueError
        If it is no OUTCAR, or its species cannot be told.
    """
    with open_bytes(path) as text:
        yield from _read_runs(text, path)


def _read_runs(text: Buffer, path: Path) -> Iterator[Step]:
    """Yield the steps of one run after another; a run begins where VASP counts from 1 again.

    One pass over the text: everything else is looked for backwards from the end of a step.
    """
    run = _read_head(text, max(0, text.find(_RUN)), len(text))
    position, ionic, number, cell = 0, 0, 0, None
    while (found := text.find(_END_OF_STEP, position)) >= 0:
        iteration = _find_iteration(text, position, found)
        before, ionic = ionic, int(iteration[1]) if iteration and iteration[1].isdigit() else ionic + 1
        start = text.rfind(_RUN, position, found) if ionic <= before or not number else -1
        if start >= 0:
            yield from _broken_off(text, position, start, number, path)
            run, position, cell, number = _read_head(text, start, found), start, None, 0
        number += 1
        cell = _read_cell(text, position, found, None if run.moves_cell else cell)
        yield _read_step(text, position, found, run, cell, number, path)
        position = found + len(_END_OF_STEP)
    yield from _broken_off(text, position, len(text), number, path)
    n_learned = 0 if run.info["version"].startswith("5") else sum(1 for _ in find_all(text, _END_OF_ML_STEP))
    for _ in range(n_learned - number):
        yield EngineError("no_output", path, f"a step {ML_STEP}")
    if not number and not n_learned:
        yield EngineError("no_output", path, "the run ended before its first energy")


def _broken_off(text: Buffer, start: int, end: int, number: int, path: Path) -> Iterator[EngineError]:
    """Yield a step that was begun and has no energy."""
    if number and text.find(b"Iteration", start, end) >= 0:
        yield EngineError("no_output", path, f"step {number + 1} broke off before its energy")


def _find_iteration(text: Buffer, start: int, end: int) -> re.Match[bytes] | None:
    """Return the line over the last electronic step: numbers of the ionic and of the electronic step."""
    last = text.rfind(b"Iteration", start, end)
    return _ITERATION.match(text, last) if last >= 0 else None


def _read_head(text: Buffer, start: int, end: int) -> _Run:
    first = text.find(b"Iteration", start, end)
    head = bytes(text[max(0, start - 200) : first if first >= 0 else end])
    counts, nelm = _COUNTS.search(head), _NELM.search(head)
    symbols = [name.decode() for name in _TITLE.findall(head)]
    if counts is None or nelm is None or not symbols:
        raise ValueError("no OUTCAR: it names no species (TITEL), no `ions per type` or no NELM")
    per_type = [int(word) for word in counts[1].split()]
    if len(per_type) != len(symbols):
        raise ValueError(f"{len(symbols)} potentials ({' '.join(symbols)}), but `ions per type` has {len(per_type)}")
    numbers = np.repeat([atomic_numbers[symbol] for symbol in symbols], per_type)
    ediff, version = _EDIFF.search(head), _VERSION.search(head)
    info = {"program": "vasp", "version": version[1].decode() if version else "unknown"}
    energy = text.find(_END_OF_STEP, first) if first >= 0 else -1
    dispersion = _IVDW.search(text, first, energy) if energy >= 0 else None  # where VASP 5 names it, if at all
    told = head + (b"\n" + dispersion[0] + b"\n" if dispersion else b"")
    info[REFERENCE] = format_reference(told_in_outcar(told.decode(errors="replace"), symbols))
    isif = _ISIF.search(head)
    moves_cell = isif is None or int(isif[1]) not in _FIXED_CELL
    return _Run(numbers, int(nelm[1]), parse_float(ediff[1]) if ediff else None, moves_cell, info)


def _read_cell(text: Buffer, start: int, end: int, before: Array | None) -> Array | None:
    """Return the last cell printed in a step, None of one that is not whole; that of the step before where none is."""
    found = text.rfind(_LATTICE, start, end)
    if found < 0:
        return before
    rows = [_FIXED.findall(line)[:3] for line in lines_after(text, found, 0, 3).splitlines()]
    if {*map(len, rows)} != {3} or len(rows) != 3:
        return None
    cell = np.array([[parse_float(word) for word in row] for row in rows])
    return cell if abs(np.linalg.det(cell)) > _LEAST_VOLUME else None  # two rows that are one have none


def _read_step(text: Buffer, start: int, end: int, run: _Run, cell: Array | None, number: int, path: Path) -> Step:
    where = f"step {number}"
    table = _find_forces(text, start, end)
    if table is None or cell is None:
        return EngineError("no_output", path, f"{where} has no table of forces, or no cell")
    n_atoms = len(run.numbers)
    lines, _, rule = lines_after(text, table, 1, n_atoms + 1).removesuffix(b"\n").rpartition(b"\n")
    values = parse_floats(lines) if rule.lstrip().startswith(_RULE) else np.empty(0)
    if values.size == 0 or values.size % n_atoms or values.size < 6 * n_atoms:
        return EngineError("no_output", path, f"{where}: the table of forces is not whole")
    rows = values.reshape(n_atoms, -1)
    unconverged = _why_unconverged(text, start, end, run)
    if unconverged:
        return EngineError("scf_unconverged", path, f"{where}: {unconverged}")
    atoms = Atoms(run.numbers, positions=rows[:, :3], cell=cell, pbc=True)
    energy = parse_float(bytes(text[end + len(_END_OF_STEP) : end + 60]).split()[0])
    return Label(atoms, energy, rows[:, 3:6].copy(), _read_virial(text, start, end, cell), dict(run.info))


def _find_forces(text: Buffer, start: int, end: int) -> int | None:
    """Return where the line over the table of DFT forces is."""
    found = end
    while (found := text.rfind(_FORCES, start, found)) >= 0:
        if b"(ML)" not in text[found : text.find(b"\n", found)]:
            return found
    return None


def _why_unconverged(text: Buffer, start: int, end: int, run: _Run) -> str:
    match = _find_iteration(text, start, end)
    if match is None or not match[2].isdigit():
        return "the number of its electronic steps cannot be read"
    if int(match[2]) >= run.max_steps:
        return f"{int(match[2])} electronic steps, and NELM is {run.max_steps}"
    if text.find(b"EDIFF is reached", match.end(), end) < 0:
        return "VASP does not say that EDIFF is reached"
    changes = _CHANGE.search(text, match.end(), end)
    if changes is None:
        return "no change of the energy is printed, so nothing shows that EDIFF was reached"
    if run.ediff is None:
        return NO_EDIFF
    largest = float(np.max([abs(parse_float(word)) for word in changes.groups()]))  # NaN where one is no number
    if not largest <= _ROUNDED * run.ediff:
        return f"the energy still changed by {largest:.1e} eV; EDIFF is {run.ediff:g}"
    return ""


def _read_virial(text: Buffer, start: int, end: int, cell: Array) -> Array | None:
    found = text.rfind(b"FORCE on cell =-STRESS", start, end)
    line = _STRESS.search(text, found, end) if found >= 0 else None
    if line is None:
        return None
    words = [parse_float(word) for word in _FIXED.findall(line[1])]
    if len(words) != 6:
        return None
    xx, yy, zz, xy, yz, zx = words
    pressure: Array = np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]])
    return pressure * (KBAR_TO_EV_PER_A3 * abs(float(np.linalg.det(cell))))
