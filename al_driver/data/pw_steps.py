"""The ionic steps that Quantum ESPRESSO's ``pw.x`` prints: scf, relax, vc-relax or md, one step in memory at a time.

Before its first step pw.x prints the structure in units of the lattice parameter, with six and seven digits; after each
move it prints cell and positions in blocks, with nine and ten digits, in the units of the input. Those blocks belong to
the SCF that *follows* them. Several runs in one file follow one another. eV, Å, eV/Å.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from ase.data import atomic_numbers

from al_driver.data.frames import Array
from al_driver.data.ledger import SHORT
from al_driver.data.reference import Told, round_number
from al_driver.units import BOHR_TO_ANGSTROM, RYDBERG_TO_EV

_EVENT = re.compile(
    r" *(?:Program PWSCF +(?P<version>\S+)|(?P<done>JOB DONE)|(?P<error>%{20,})"
    r"|number of atoms/cell\s*=\s*(?P<n_atoms>\d+)|(?:scf )?convergence threshold\s*=\s*(?P<threshold>\S+)"
    r"|(?P<cutoff>kinetic-energy cutoff|charge density cutoff)\s*=(?P<rydberg>.*)Ry|Exchange-correlation\s*=(?P<xc>.*)"
    r"|PseudoPot\. #\s*\d+ for\s+(?P<pseudo>[A-Za-z]{1,2})\b"
    r"|number of k points=\s*\d+(?P<occupations>.*)"
    r"|celldm\(1\)=\s*(?P<alat>\S+)|(?P<axes>crystal axes:)|(?P<species>atomic species   valence)"
    r"|\d+ +(?P<site>\S+ +tau\(.*)|(?P<scf>Self-consistent Calculation)"
    r"|(?:EXX +)?convergence NOT (?P<unconverged>.*)|EXX (?P<refined>self-consistency reached)|(?P<exx>EXX)"
    r"|estimated scf accuracy\s+<\s+(?P<accuracy>\S+)|!+ +total energy\s*=\s*(?P<energy>\S+) Ry"
    r"|(?P<forces>Forces acting on atoms)|total\s+stress\s+\((?P<stress>Ry/bohr)"
    r"|(?P<magnetic>Magnetic moment per site)|atom:? +\d+ +(?:\(R=[^)]*\) +)?charge[:=] *\S+ +magn[:=] *(?P<moment>\S+)"
    r"|CELL_PARAMETERS(?P<cell>.*)|ATOMIC_POSITIONS(?P<positions>.*)|(?P<relaxed>End of BFGS Geometry Optimization))"
)
"""What a line begins with."""
_OF_REFERENCE = frozenset({"rydberg", "xc", "pseudo", "occupations"})
_SMEARING = re.compile(r"\s*(?P<kind>.*\S)\s+smearing, width \(Ry\)=\s*(?P<width>\S+)")
_DECIMAL = re.compile(r"-?\d+\.\d+")
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
    has_blocks: bool = False
    """The structure is of the blocks, not of the start of the run."""
    has_begun: bool = False
    """Its SCF was begun."""
    accuracies: list[str] = field(default_factory=list)
    """What each iteration of the SCF estimated, Ry."""
    unconverged: str = ""
    """What follows "convergence NOT"."""
    energy: float | None = None
    """The line with ``!``, eV; with smearing the free energy, which the forces derive from."""
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
        """Return the next step of the run, before anything is printed of it."""
        return PwStep(
            self.run, self.version, self.n_atoms, self.alat, self.elements, self.threshold, self.told, self.has_exx,
            self.symbols, self.positions, self.cell, self.has_blocks, is_relaxed=self.is_relaxed,
        )  # fmt: skip


def read_pw_steps(lines: Iterable[str]) -> Iterator[PwStep]:
    """Yield the ionic steps; the last one of a run may be without an SCF, and then says only how the run ended."""
    stream = (line for line in lines if line.endswith("\n"))  # a last line that was cut may have lost digits
    step = PwStep()
    for line in stream:
        match = _EVENT.match(line)
        if match is None or match.lastgroup is None:
            continue
        kind, text = match.lastgroup, match[match.lastgroup]
        if kind == "version":
            if step.run:
                yield step
            step = PwStep(run=step.run + 1, version=text.removeprefix("v."))
            continue
        if kind in {"cell", "positions"} and step.has_begun:
            yield step
            step = step.follow()
        if kind in _OF_REFERENCE:
            _take_reference(step, match, stream)
            continue
        _take(step, kind, text, stream)
    if step.run:
        yield step


def _take(step: PwStep, kind: str, text: str, stream: Iterator[str]) -> None:
    """Put what one line says, and the lines that belong to it, into a step."""
    if kind in {"alat", "axes", "site", "species", "n_atoms", "threshold"}:
        _take_start(step, kind, text, stream)
    elif kind == "cell":
        step.cell, step.has_blocks = _scale(text, step) * _floats(islice(stream, 3)), True
    elif kind == "positions":
        _take_positions(step, text, stream)
    elif kind == "scf":
        step.has_begun = True
    elif kind == "accuracy":
        step.accuracies.append(text)
    elif kind == "magnetic":
        step.moments = []
    elif kind == "moment":
        step.moments.append(to_float(text))
    elif kind == "energy":
        step.energy = RYDBERG_TO_EV * to_float(text)
    elif kind == "forces":
        step.forces = _read_forces(stream, step.n_atoms)
    elif kind == "stress":
        rows = _floats(islice(stream, 3))
        step.pressure = RYDBERG_TO_EV / BOHR_TO_ANGSTROM**3 * rows if len(rows) == 3 else None
    elif kind == "error":
        step.error = step.error or " ".join(" ".join(islice(stream, 2)).replace("%", " ").split())
    else:
        step.unconverged = text if kind == "unconverged" else step.unconverged
        step.has_exx |= kind == "exx"
        step.is_refined |= kind == "refined"
        step.is_relaxed |= kind == "relaxed"
        step.is_done |= kind == "done"


def _take_reference(step: PwStep, match: re.Match[str], stream: Iterator[str]) -> None:
    """Take what the run's reference is from the lines that tell of it; a functional by its numbers, which stay."""
    if match["cutoff"]:
        name = "ecutwfc" if match["cutoff"].startswith("kinetic") else "ecutrho"
        step.told[name] = round_number(match["rydberg"], 2)
    elif match["occupations"] is not None:
        smearing = _SMEARING.match(match["occupations"])
        step.told["degauss"] = round_number(smearing["width"], 4) if smearing else "none"
        step.told["occupations"] = smearing["kind"] if smearing else match["occupations"].strip(" ()\n")
    elif match["pseudo"]:
        checksum = next((line.split()[-1] for line in islice(stream, 2) if "MD5" in line), "")
        step.told[f"pseudo {match['pseudo'].capitalize()}"] = checksum[:SHORT]
    else:
        numbers = (match["xc"] if "(" in match["xc"] else next(stream, "")).partition("(")[2]
        step.told["functional"] = _functional(numbers)


def _functional(text: str) -> str:
    """Return the numbers of a functional, without zeros at the end; pw.x 4 printed them without spaces.

    >>> _functional("1434)"), _functional("  1   4   3   4   0   0   0)"), _functional(" 0 0 0 0 0 5 0)")
    ('1 4 3 4', '1 4 3 4', '0 0 0 0 0 5')
    """
    numbers = re.findall(r"\d+", text)
    numbers = [*numbers[0]] if len(numbers) == 1 else numbers
    while numbers and int(numbers[-1]) == 0:
        numbers.pop()
    return " ".join(numbers)


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
    elif step.has_blocks:
        return
    elif kind == "axes":
        axes = [_DECIMAL.findall(line.partition("= (")[2]) for line in islice(stream, 3)]
        step.cell = step.alat * np.array(axes, dtype=float)
    elif len(step.symbols) < step.n_atoms:  # a second list is in crystal coordinates
        name, _, rest = text.partition(" ")
        step.symbols = [*step.symbols, step.elements.get(name, name)]
        numbers = _DECIMAL.findall(rest.rpartition("= (")[2])
        step.positions = [*step.positions, [step.alat * float(number) for number in numbers]]


def _take_positions(step: PwStep, text: str, stream: Iterator[str]) -> None:
    rows = [line.split() for line in islice(stream, step.n_atoms)]
    if any(len(row) < 4 for row in rows) or len(rows) < step.n_atoms:
        return  # cut short
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
    for line in islice(stream, n_atoms + 10):
        _, found, numbers = line.partition("force =")
        rows += [numbers] if found else []
        if len(rows) == n_atoms:
            return RYDBERG_TO_EV / BOHR_TO_ANGSTROM * _floats(rows)
    return None


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
