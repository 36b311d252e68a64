"""CP2K's output. Energy: ``ENERGY| Total FORCE_EVAL`` (with smearing the free energy); virial: the stress × volume.

A reader of our own: dpdata gives no virial for CP2K of these years, and another one where the package cp2kdata happens
to be installed. CP2K prints energy and forces of a run that did not converge too; so its words on the SCF count. Its
stress is positive under compression (−dE/dstrain, checked by finite strain), and is that of the log: the ``.stress``
file of an MD holds the kinetic part as well.

The log has the cell to 1e-3 Å and, of an optimisation or MD, only the first positions. The input file and the files
``PROJECT-pos-1.xyz`` and ``PROJECT-1.cell`` beside it are read where they are there and agree with it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from al_driver.data.formats.cp2k_files import energy_key, read_cells, read_input_cell, read_positions
from al_driver.data.formats.steps import GPA_TO_EV_PER_A3, Step, open_bytes, parse_float
from al_driver.data.frames import Array, Label
from al_driver.errors import EngineError
from al_driver.units import BOHR_TO_ANGSTROM, HARTREE_TO_EV

_START = "PROGRAM STARTED AT"
_ENERGY = re.compile(r"^ ENERGY\| Total FORCE_EVAL \( *(\S+) *\) energy.*?(\S+)\s*$", re.MULTILINE)
_SITE = re.compile(r"^ +\d+ +\d+ +\S+ +(\d+) +(\S+) +(\S+) +(\S+) +\S+ +\S+ *$", re.MULTILINE)
_FORCES = re.compile(
    r"(?:ATOMIC FORCES in \[a\.u\.\]|FORCES\| Atomic forces \[hartree/bohr\])(.*?)SUM", re.DOTALL | re.I
)
_STRESS = re.compile(r"(?:STRESS TENSOR|STRESS\| (?:Analytical|Numerical) stress tensor) \[(\w+)\]")
_STRESS_ROW = re.compile(r"^ *(?:STRESS\|)? +[xyzXYZ] +(\S+) +(\S+) +(\S+) *$", re.MULTILINE)
_STRESS_UNITS = {"GPa": GPA_TO_EV_PER_A3, "bar": 1e-4 * GPA_TO_EV_PER_A3}
_VECTOR = re.compile(r"CELL\| Vector [abc] \[angstrom\]: +(\S+) +(\S+) +(\S+)")
_WORDS = {
    "version": re.compile(r"CP2K\| version string: +CP2K version (\S+)"),
    "input": re.compile(r"CP2K\| Input file name +(\S+)"),
    "project": re.compile(r"GLOBAL\| Project name +(\S+)"),
    "kind": re.compile(r"GLOBAL\| Run type +(\S+)"),
    "ensemble": re.compile(r"Ensemble [Tt]ype +(\S+)"),
    "periodic": re.compile(r"CELL\| Periodicity +(\w+)"),
}
_UNCONVERGED = ("SCF run NOT converged", "FAILED to converge")
_CONVERGED = ("SCF run converged in", "SCF loop converged in")


def read_cp2k(path: Path) -> Iterator[Step]:
    """Yield each force evaluation of a CP2K log, which may hold several runs; none where it is no such log."""
    with open_bytes(path) as opened:
        text = bytes(opened).decode(errors="replace")
    for run in text.split(_START)[1:]:
        yield from _read_run(run, path)


@dataclass(frozen=True)
class _Head:
    """What a run says of itself; ``numbers`` of the atoms, and the first positions and cell."""

    words: dict[str, str]
    numbers: Array
    positions: Array
    cell: Array

    @property
    def pbc(self) -> list[bool]:
        axes = self.words.get("periodic", "XYZ")
        return [axis in axes and axes != "NONE" for axis in "XYZ"]

    @property
    def moves_cell(self) -> bool:
        return self.words.get("kind") == "CELL_OPT" or self.words.get("ensemble", "").startswith("NP")


def _read_run(text: str, path: Path) -> Iterator[Step]:
    energies = list(_ENERGY.finditer(text))
    if not energies:
        yield EngineError("no_output", path, "the run ended before its first energy")
        return
    head = _read_head(text[: energies[0].start()], path)
    project = head.words.get("project", "")
    moved = read_positions(path.with_name(f"{project}-pos-1.xyz")) if len(energies) > 1 else {}
    cells = read_cells(path.with_name(f"{project}-1.cell")) if head.moves_cell else {}
    bounds = [0, *(match.start() for match in energies), len(text)]
    for number, energy in enumerate(energies):
        before, after = text[bounds[number] : energy.start()], text[energy.end() : bounds[number + 2]]
        detail = f"evaluation {number + 1}"
        index, positions = moved.get(energy_key(energy[2]), (0, head.positions if number == 0 else None))
        cell = cells.get(index) if head.moves_cell and (number or cells) else head.cell
        if positions is None or cell is None:
            what, name = ("positions are", "pos-1.xyz") if positions is None else ("cell is", "1.cell")
            yield EngineError("no_output", path, f"{detail}: its {what} not in the log, and not in {project}-{name}")
        elif energy[1] != "FIST" and not _is_converged(before):
            yield EngineError("scf_unconverged", path, f"{detail}: the SCF did not converge")
        else:
            yield _make_label(head, positions, cell, energy[2], after, path, detail)


def _read_head(text: str, path: Path) -> _Head:
    words = {name: found[1] for name, pattern in _WORDS.items() if (found := pattern.search(text))}
    _, _, table = text.rpartition("ATOMIC COORDINATES IN ")
    sites = [[parse_float(word) for word in row] for row in _SITE.findall(table)]
    vectors = [[parse_float(word) for word in row] for row in _VECTOR.findall(text)[-3:]]
    if not sites or len(vectors) < 3:
        raise ValueError("the log names no atoms or no cell; run CP2K with PRINT_LEVEL MEDIUM")
    array = np.array(sites)
    cell = read_input_cell(path.parent / Path(words.get("input", "?")).name, np.array(vectors))
    return _Head(words, array[:, 0].astype(int), array[:, 1:], cell)


def _is_converged(text: str) -> bool:
    """Say what the last words on the SCF before an energy are."""
    return max(map(text.rfind, _CONVERGED)) > max(map(text.rfind, _UNCONVERGED))


def _make_label(
    head: _Head, positions: Array, cell: Array, energy: str, text: str, path: Path, detail: str
) -> Label | EngineError:
    rows = _read_forces(text)
    if len(rows) != len(head.numbers):
        found = f"{len(rows)} forces for {len(head.numbers)} atoms"
        return EngineError("no_output", path, f"{detail}: {found}; CP2K prints them with FORCE_EVAL/PRINT/FORCES")
    atoms = Atoms(head.numbers, positions=positions, cell=cell, pbc=head.pbc)
    virial = _read_virial(text, atoms.get_volume()) if all(head.pbc) else None
    forces = HARTREE_TO_EV / BOHR_TO_ANGSTROM * np.array(rows)
    info = {"program": "cp2k", "version": head.words.get("version", "unknown")}
    return Label(atoms, HARTREE_TO_EV * parse_float(energy), forces, virial, info)


def _read_forces(text: str) -> list[list[float]]:
    """Return the first table of forces, hartree/bohr; older versions have kind and element before the numbers."""
    table = _FORCES.search(text)
    lines = (line.replace("FORCES|", " ").split() for line in (table[1] if table else "").splitlines())
    rows = (words for words in lines if words and words[0].isdigit())
    return [[parse_float(word) for word in (row[3:6] if row[1].isdigit() else row[1:4])] for row in rows]


def _read_virial(text: str, volume: float) -> Array | None:
    title = _STRESS.search(text)
    rows = _STRESS_ROW.findall(text, title.end())[:3] if title else []
    if title is None or len(rows) < 3 or title[1] not in _STRESS_UNITS:
        return None
    stress = np.array([[parse_float(word) for word in row] for row in rows])
    return stress * _STRESS_UNITS[title[1]] * volume
