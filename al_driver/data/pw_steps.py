"""The ionic steps that Quantum ESPRESSO's ``pw.x`` prints: scf, relax, vc-relax or md, one step in memory at a time.

Before its first step pw.x prints the structure in units of the lattice parameter, with six and seven digits; after each
move it prints cell and positions in blocks, with nine and ten digits, in the units of the input. Those blocks belong to
the SCF that *follows* them; nothing is taken from the step before where one of them is missing. Several runs in one
file follow one another. eV, Å, eV/Å.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from ase.data import atomic_numbers

from al_driver.data.formats.steps import KBAR_TO_EV_PER_A3
from al_driver.data.frames import Array
from al_driver.data.pw_head import OF_HUBBARD, OF_REFERENCE, take_reference, tell_no_hubbard
from al_driver.data.reference import Told
from al_driver.units import BOHR_TO_ANGSTROM, RYDBERG_TO_EV

_EVENT = re.compile(
    r" *(?:Program PWSCF +(?P<version>\S+)|(?P<done>JOB DONE)|(?P<error>%{20,})"
    r"|number of atoms/cell\s*=\s*(?P<n_atoms>\d+)|(?:scf )?convergence threshold\s*=\s*(?P<threshold>\S+)"
    rf"|{OF_REFERENCE}|{OF_HUBBARD}"
    r"|celldm\(1\)=\s*(?P<alat>\S+)|(?P<axes>crystal axes:)|(?P<species>atomic species   valence)"
    r"|(?P<site>\d+ +\S+ +tau\(.*)|(?P<scf>Self-consistent Calculation)"
    r"|(?:new )?unit-cell volume\s*=\s*(?P<volume>\S+)|(?P<moving>Cell gradient error|enthalpy (?:old|new))"
    r"|iteration #\s*(?P<iteration>\d+)|convergence has been achieved in\s+(?P<achieved>\d+) iterations"
    r"|(?:EXX +)?convergence NOT (?P<unconverged>.*)|EXX (?P<refined>self-consistency reached)|(?P<exx>EXX)"
    r"|estimated scf accuracy\s+<\s+(?P<accuracy>\S+)|! +total energy\s*=\s*(?P<energy>\S+) Ry"
    r"|!! +total energy\s*=\s*(?P<exact>\S+) Ry"
    r"|(?P<forces>Forces acting on atoms)|total\s+stress\s+\(Ry/bohr(?P<stress>.*)"
    r"|(?P<magnetic>Magnetic moment per site)|atom:? +\d+ +(?:\(R=[^)]*\) +)?charge[:=] *\S+ +magn[:=] *(?P<moment>\S+)"
    r"|CELL_PARAMETERS(?P<cell>.*)|ATOMIC_POSITIONS(?P<positions>.*)|(?P<relaxed>End of BFGS Geometry Optimization))"
)
"""What a line begins with."""
_DECIMAL = re.compile(r"-?\d+\.\d+")
_FORCE = re.compile(r" *atom +(?P<atom>\d+) +type +\d+ +force =(?P<numbers>.*)")
_PRESSURE_DIGITS = 0.01 * KBAR_TO_EV_PER_A3
_SKEW = 10 * _PRESSURE_DIGITS
_LABEL = re.compile(r"([A-Z][a-z]?)(?:[\d_-].*)?$")


@dataclass
class PwStep:
    """What was printed of one structure and its SCF; what was not printed is None or empty."""

    run: int = 0
    """Which run of the file it is of, from 1."""
    version: str = "unknown"
    n_atoms: int = 0
    alat: float = float("nan")
    """Å."""
    elements: dict[str, str] = field(default_factory=dict)
    """By the names of ATOMIC_SPECIES."""
    threshold: float = float("nan")
    """Of the run's first SCF, Ry; a relaxation lowers it on its way."""
    told: Told = field(default_factory=dict)
    """What the run says of its reference: cutoffs and smearing in Ry, functional, md5 sums of potentials."""
    has_exx: bool = False
    """Exact exchange has thresholds of its own on the way."""
    symbols: list[str] = field(default_factory=list)
    positions: list[list[float]] = field(default_factory=list)
    """Å."""
    cell: Array | None = None
    """Shape (3, 3), Å."""
    volume: float = float("nan")
    """Of the cell as the output says it, Å³."""
    next_volume: float = float("nan")
    moves_cell: bool = False
    """The run is seen to move its cell, so that each of its steps prints one."""
    has_blocks: bool = False
    """The structure is of the blocks, not of the start of the run."""
    has_begun: bool = False
    """Its SCF was begun."""
    accuracies: list[str] = field(default_factory=list)
    """What each iteration of the SCF estimated, Ry."""
    iteration: int = 0
    """The last one that was begun of the SCF, from 1."""
    is_torn: bool = False
    """Iterations are missing: what follows may be of another structure."""
    unconverged: str = ""
    """What follows "convergence NOT"."""
    energy: float | None = None
    """The line with ``!``, eV; with smearing the free energy, which the forces derive from. With exact exchange the one
    with ``!!``, since each round on the way has a ``!`` of its own."""
    is_exact: bool = False
    """The energy is that of ``!!``."""
    forces: Array | None = None
    """Shape (n_atoms, 3), eV/Å."""
    moments: list[float] = field(default_factory=list)
    """Of each atom in the end, integrated over a sphere of pw.x's choice, μ_B; empty where none were printed."""
    pressure: Array | None = None
    """−stress, shape (3, 3), eV/Å³, positive under compression."""
    is_relaxed: bool = False
    """A BFGS relaxation ended with this step, or before it."""
    is_refined: bool = False
    """pw.x says that its exact exchange is self-consistent."""
    error: str = ""
    """The words in which pw.x stopped."""
    is_done: bool = False
    """The run came to its end with this step."""

    def follow(self) -> "PwStep":
        """Return the next step of the run, before anything is printed of it: positions, and a cell that moves, too."""
        return PwStep(
            self.run, self.version, self.n_atoms, self.alat, self.elements, self.threshold, self.told, self.has_exx,
            cell=None if self.moves_cell else self.cell, volume=self.next_volume if self.moves_cell else self.volume,
            moves_cell=self.moves_cell, has_blocks=True, is_relaxed=self.is_relaxed,
        )  # fmt: skip

    def begins_anew(self, kind: str) -> bool:
        """Say whether something, by its name in `_EVENT`, can only be of the next step; an SCF that is begun again, or
        has a second energy, is of a structure that was not printed."""
        if kind in {"cell", "positions"}:
            return self.has_begun
        if kind == "scf":
            return self.has_begun and (self.is_exact or not self.has_exx)
        return kind == "energy" and self.energy is not None and not self.has_exx


def read_pw_steps(lines: Iterable[str]) -> Iterator[PwStep]:
    """Yield the ionic steps; the last one of a run may be without an SCF, and then says only how the run ended."""
    stream = (line for line in lines if line.endswith("\n"))  # a last line that was cut may have lost digits
    step = PwStep()
    for line in stream:
        step.is_torn |= "\0" in line  # a page of the disk that was never written
        match = _EVENT.match(line)
        if match is None or match.lastgroup is None:
            continue
        kind, text = match.lastgroup, match[match.lastgroup]
        if kind == "version":
            if step.run:
                yield step
            step = PwStep(run=step.run + 1, version=text.removeprefix("v."))
            continue
        step.moves_cell |= kind in {"cell", "moving"} or (kind == "volume" and step.has_begun)
        if step.begins_anew(kind):
            yield step
            step = step.follow()
        if not take_reference(step.told, step.elements, match, stream):
            _take(step, kind, text, stream)
    if step.run:
        yield step


def _take(step: PwStep, kind: str, text: str, stream: Iterator[str]) -> None:
    """Put what one line says, and the lines that belong to it, into a step."""
    if kind in {"alat", "axes", "site", "species", "n_atoms", "threshold", "volume"}:
        _take_start(step, kind, text, stream)
    elif kind == "cell":
        step.cell, step.has_blocks = _scale(text, step) * _floats(islice(stream, 3)), True
    elif kind == "positions":
        _take_positions(step, text, stream)
    elif kind == "scf":
        step.has_begun, step.iteration = True, 0
    elif kind == "iteration":
        step.is_torn |= not step.has_begun or (step.iteration > 0 and int(text) != step.iteration + 1)
        step.iteration = int(text)
    elif kind == "achieved":
        step.is_torn |= int(text) != step.iteration
    elif kind == "accuracy":
        step.accuracies.append(text)
    elif kind == "magnetic":
        step.moments = []
    elif kind == "moment":
        step.moments.append(to_float(text))
    elif kind in {"energy", "exact"}:
        step.energy, step.is_exact, step.has_begun = RYDBERG_TO_EV * to_float(text), kind == "exact", True
    elif kind == "forces":
        step.forces = _read_forces(stream, step.n_atoms)
    elif kind == "stress":
        step.pressure = _read_stress(text, stream)
    elif kind == "error":
        step.error = step.error or " ".join(" ".join(islice(stream, 2)).replace("%", " ").split())
    else:
        step.unconverged = text if kind == "unconverged" else step.unconverged
        step.has_exx |= kind == "exx"
        step.is_refined |= kind == "refined"
        step.is_relaxed |= kind == "relaxed"
        step.is_done |= kind == "done"


def _take_start(step: PwStep, kind: str, text: str, stream: Iterator[str]) -> None:
    """Take what is printed before the first SCF, and again, with fewer digits, before the last one of a vc-relax."""
    if kind == "n_atoms":
        step.n_atoms = int(text)
    elif kind == "threshold":
        step.threshold = to_float(text)
    elif kind == "alat":
        step.alat = BOHR_TO_ANGSTROM * to_float(text)
    elif kind == "species":
        rows = (line.split() for line in iter(lambda: next(stream, "").strip(), ""))
        step.elements = {row[0]: _element(row[0], row[3]) for row in rows if len(row) > 3}
        tell_no_hubbard(step.told, step.elements)
    elif kind == "volume":
        volume = BOHR_TO_ANGSTROM**3 * to_float(text)
        step.volume, step.next_volume = (step.volume, volume) if step.has_begun else (volume, volume)
    elif step.has_blocks:
        return
    elif kind == "axes":
        axes = [_DECIMAL.findall(line.partition("= (")[2]) for line in islice(stream, 3)]
        step.cell = step.alat * np.array(axes, dtype=float) if {*map(len, axes)} == {3} else None
    elif len(step.symbols) < step.n_atoms:  # a second list is in crystal coordinates
        number, name, rest = text.split(maxsplit=2)
        known = step.elements.get(name, name)
        step.symbols = [*step.symbols, known if int(number) == len(step.symbols) + 1 else ""]  # a line is missing
        numbers = [*_DECIMAL.findall(rest.rpartition("= (")[2]), "", "", ""][:3]
        step.positions = [*step.positions, [step.alat * to_float(number) for number in numbers]]


def _take_positions(step: PwStep, text: str, stream: Iterator[str]) -> None:
    rows = [line.split() for line in islice(stream, step.n_atoms + 1)]
    step.symbols = []
    if any(len(row) < 4 for row in rows[:-1]) or len(rows) <= step.n_atoms or len(rows.pop()) > 3:
        return  # cut short, or too long
    numbers = np.array([[to_float(word) for word in row[1:4]] for row in rows])
    unit = step.cell if "crystal" in text and step.cell is not None else _scale(text, step) * np.eye(3)
    step.symbols = [step.elements.get(row[0], row[0]) for row in rows]
    step.positions, step.has_blocks = (numbers @ unit).tolist(), True


def _scale(option: str, step: PwStep) -> float:
    """Return the unit of a block, Å: ``(angstrom)``, ``(bohr)``, ``(alat)`` or ``(alat= 7.1)`` with its own."""
    if "angstrom" in option:
        return 1.0
    if "bohr" in option:
        return BOHR_TO_ANGSTROM
    number = _DECIMAL.search(option)
    return BOHR_TO_ANGSTROM * float(number[0]) if number else step.alat


def _read_forces(stream: Iterator[str], n_atoms: int) -> Array | None:
    """Read the total forces; blank lines and, with some features, others stand among them."""
    rows: list[str] = []
    for found in filter(None, map(_FORCE.match, islice(stream, n_atoms + 10))):
        if int(found["atom"]) != len(rows) + 1:
            break  # a part of them follows, such as the non-local one
        rows.append(found["numbers"])
        if len(rows) == n_atoms:
            return RYDBERG_TO_EV / BOHR_TO_ANGSTROM * _floats(rows)
    return None


def _read_stress(title: str, stream: Iterator[str]) -> Array | None:
    """Read minus the stress, eV/Å³; not a number where it is not symmetric, or its trace not the pressure, kbar, of its
    title: then a row is missing, or stands twice."""
    rows = _floats(islice(stream, 3))
    if len(rows) < 3:
        return None
    pressure: Array = RYDBERG_TO_EV / BOHR_TO_ANGSTROM**3 * rows
    printed = to_float(title.partition("P=")[2]) * KBAR_TO_EV_PER_A3
    is_other = abs(np.trace(pressure) / 3 - printed) > _PRESSURE_DIGITS
    is_other |= np.abs(pressure - pressure.T).max() > _SKEW
    return np.full((3, 3), np.nan) if is_other else pressure


def _element(name: str, potential: str) -> str:
    """Return the element that ATOMIC_SPECIES means by ``Fe1`` or ``O_up``; else the one its potential is for."""
    match = _LABEL.match(name)
    return match[1] if match and match[1] in atomic_numbers else potential.partition("(")[0]


def to_float(text: str) -> float:
    """Return a printed number; one that did not fit its field (``****``) is not a number, and the gate refuses it."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _floats(lines: Iterable[str]) -> Array:
    """Return the first three numbers of each line, shape (n, 3); not a number where there are fewer."""
    rows = [[to_float(word) for word in [*line.split()[:3], "", "", ""][:3]] for line in lines]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)
