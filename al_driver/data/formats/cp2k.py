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
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms

from al_driver.data.formats.cp2k_files import find_frame, read_cells, read_input_cell, read_positions
from al_driver.data.formats.cp2k_head import told_in_log
from al_driver.data.formats.steps import GPA_TO_EV_PER_A3, Step, open_bytes, parse_float
from al_driver.data.frames import Array, Label
from al_driver.data.reference import REFERENCE, Told, format_reference
from al_driver.errors import EngineError
from al_driver.units import BOHR_TO_ANGSTROM, HARTREE_TO_EV

_START = "PROGRAM STARTED AT"
_ENERGY = re.compile(r"^ ENERGY\| Total FORCE_EVAL \( *(\S+) *\) energy.*?(\S+)\s*$", re.MULTILINE)
_SITES = re.compile(r"ATOMIC COORDINATES IN +\[?(\w+)")
_SITE_UNITS = {"angstrom": 1.0, "bohr": BOHR_TO_ANGSTROM}
_SITE = re.compile(r"^ +\d+ +\d+ +\S+ +(\d+) +(\S+) +(\S+) +(\S+) +\S+ +\S+ *$", re.MULTILINE)
_FORCES = re.compile(
    r"(?:ATOMIC FORCES in \[a\.u\.\]|FORCES\| Atomic forces \[hartree/bohr\])(.*?)SUM", re.DOTALL | re.I
)
_STRESS = re.compile(r"(?:STRESS TENSOR|STRESS\| (?:Analytical|Numerical) stress tensor) \[(\w+)\]")
_STRESS_ROW = re.compile(r"^ *(?:STRESS\|)? +([xyzXYZ]) +(\S+) +(\S+) +(\S+) *$", re.MULTILINE)
_STRESS_UNITS = {"GPa": GPA_TO_EV_PER_A3, "bar": 1e-4 * GPA_TO_EV_PER_A3}
_VECTOR = re.compile(r"CELL\| Vector ([abc]) \[angstrom\]: +(\S+) +(\S+) +(\S+)")
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
    for run in read_texts(path):
        yield from _read_run(run, path)


@dataclass(frozen=True)
class Head:
    """What a run says of itself before its first energy; the cell has the digits of the input beside it, if any."""

    words: dict[str, str]
    told: Told
    """What it says of its reference, see `data.formats.cp2k_head`."""
    numbers: Array
    positions: Array
    cell: Array

    @property
    def pbc(self) -> list[bool]:
        axes = self.words.get("periodic", "XYZ")
        return [axis in axes and axes != "NONE" for axis in "XYZ"]

    @property
    def moves_cell(self) -> bool:
        """Whether each evaluation has a cell of its own; so it is where the log does not say what moves."""
        kind, ensemble = self.words.get("kind", ""), self.words.get("ensemble", "NP")
        return kind in {"", "CELL_OPT"} or (kind == "MD" and ensemble.startswith("NP"))

    @property
    def info(self) -> dict[str, str]:
        return {"program": "cp2k", "version": self.words.get("version", "unknown")}


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of energy and forces, wherever the atoms were.

    Attributes
    ----------
    printed
        The energy as printed, hartree.
    is_converged
        What the last words on its SCF say; true of a force field.
    forces
        Shape (n_atoms, 3), eV/Å; (0, 3) where none were printed.
    stress
        Shape (3, 3), eV/Å³, positive under compression; None where it was not printed.
    """

    printed: str
    is_converged: bool
    forces: Array
    stress: Array | None

    @property
    def energy(self) -> float:
        """eV."""
        return HARTREE_TO_EV * parse_float(self.printed)


def read_texts(path: Path) -> list[str]:
    """Return the text of each run in a log, since ``cp2k -o`` appends."""
    with open_bytes(path) as opened:
        text = bytes(opened).decode(errors="replace")
    return text.split(_START)[1:]


def read_evaluations(text: str) -> list[Evaluation]:
    """Return the evaluations of one run, in their order; one that was cut off before its forces has none."""
    energies = list(_ENERGY.finditer(text))
    bounds = [0, *(match.start() for match in energies), len(text)]
    found = []
    for number, energy in enumerate(energies):
        before, after = text[bounds[number] : energy.start()], text[energy.end() : bounds[number + 2]]
        forces = HARTREE_TO_EV / BOHR_TO_ANGSTROM * np.array(_read_forces(after), dtype=float).reshape(-1, 3)
        is_converged = energy[1] == "FIST" or _is_converged(before)
        found.append(Evaluation(energy[2], is_converged, forces, _read_stress(after)))
    return found


def read_head(text: str, path: Path) -> Head:
    """Read what a run says before its first energy.

    Raises
    ------
    ValueError
        Where it names no atoms or no cell, or prints positions in another unit than Å or bohr.
    """
    energy = _ENERGY.search(text)
    text = text[: energy.start()] if energy else text
    words = {name: found[1] for name, pattern in _WORDS.items() if (found := pattern.search(text))}
    titles = list(_SITES.finditer(text))
    sites = [[parse_float(word) for word in row] for row in _SITE.findall(text, titles[-1].end())] if titles else []
    cell_rows = _VECTOR.findall(text)[-3:]
    vectors = [[parse_float(word) for word in row[1:]] for row in cell_rows]
    if not sites or "".join(row[0] for row in cell_rows) != "abc":
        raise ValueError("the log names no atoms or no cell; run CP2K with PRINT_LEVEL MEDIUM")
    unit = titles[-1][1].lower()
    if unit not in _SITE_UNITS:
        raise ValueError(f"the log has atomic coordinates in {unit}; angstrom or bohr was expected")
    array = np.array(sites)
    cell = read_input_cell(path.parent / Path(words.get("input", "?")).name, np.array(vectors))
    return Head(words, told_in_log(text), array[:, 0].astype(int), _SITE_UNITS[unit] * array[:, 1:], cell)


def _read_run(text: str, path: Path) -> Iterator[Step]:
    evaluations = read_evaluations(text)
    if not evaluations:
        yield EngineError("no_output", path, "the run ended before its first energy")
        return
    head = read_head(text, path)
    project = head.words.get("project", "")
    moved = read_positions(path.with_name(f"{project}-pos-1.xyz")) if len(evaluations) > 1 else []
    cells = read_cells(path.with_name(f"{project}-1.cell")) if head.moves_cell else {}
    for number, evaluation in enumerate(evaluations):
        detail = f"evaluation {number + 1}"
        frame = find_frame(moved, evaluation.printed)
        index, positions = (0, head.positions if number == 0 else None) if frame is None else frame[::2]
        cell = cells.get(index) if head.moves_cell and (number or cells) else head.cell
        if positions is None or cell is None:
            what, name = ("positions are", "pos-1.xyz") if positions is None else ("cell is", "1.cell")
            yield EngineError("no_output", path, f"{detail}: its {what} not in the log, and not in {project}-{name}")
        elif not evaluation.is_converged:
            yield EngineError("scf_unconverged", path, f"{detail}: the SCF did not converge")
        elif len(evaluation.forces) != len(head.numbers):
            found = f"{len(evaluation.forces)} forces for {len(head.numbers)} atoms"
            yield EngineError("no_output", path, f"{detail}: {found}; CP2K prints them with FORCE_EVAL/PRINT/FORCES")
        else:
            label = make_label(head, Atoms(head.numbers, positions=positions, cell=cell, pbc=head.pbc), evaluation)
            yield replace(label, info=label.info | {REFERENCE: format_reference(head.told)})


def make_label(head: Head, atoms: Atoms, evaluation: Evaluation) -> Label:
    """Return the label of a frame from what was printed of it."""
    stress = evaluation.stress if atoms.pbc.all() else None
    virial = None if stress is None else stress * atoms.get_volume()
    return Label(atoms, evaluation.energy, evaluation.forces, virial, dict(head.info))


def _is_converged(text: str) -> bool:
    """Say what the last words on the SCF before an energy are."""
    return max(map(text.rfind, _CONVERGED)) > max(map(text.rfind, _UNCONVERGED))


def _read_forces(text: str) -> list[list[float]]:
    """Return the first table of forces, hartree/bohr; older versions have kind and element before the numbers."""
    table = _FORCES.search(text)
    lines = (line.replace("FORCES|", " ").split() for line in (table[1] if table else "").splitlines())
    rows = (words for words in lines if words and words[0].isdigit())
    return [[parse_float(word) for word in (row[3:6] if row[1].isdigit() else row[1:4])] for row in rows]


def _read_stress(text: str) -> Array | None:
    title = _STRESS.search(text)
    rows = _STRESS_ROW.findall(text, title.end())[:3] if title else []
    if title is None or "".join(row[0] for row in rows).lower() != "xyz" or title[1] not in _STRESS_UNITS:
        return None
    return _STRESS_UNITS[title[1]] * np.array([[parse_float(word) for word in row[1:]] for row in rows])
