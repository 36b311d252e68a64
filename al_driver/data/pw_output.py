"""What Quantum ESPRESSO's ``pw.x`` prints of one SCF calculation. eV, Å, eV/Å.

A parser of our own, since dpdata's reader takes the stress from the column in kbar, which has two decimals (1e-3 eV in
the virial of eight atoms), does not look at convergence, and does not say which version ran.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from al_driver.data.frames import Array
from al_driver.errors import EngineError
from al_driver.units import BOHR_TO_ANGSTROM, RYDBERG_TO_EV

START = "Program PWSCF"
END = "JOB DONE"
_ERROR = re.compile(r"%{20,}\s*\n(.*?)\n\s*%{20,}", re.DOTALL)
_UNCONVERGED = re.compile(r"convergence NOT achieved(?: after\s+(\d+))?")
_ACCURACY = re.compile(r"estimated scf accuracy\s+<\s+(\S+) Ry")
_THRESHOLD = re.compile(r"scf convergence threshold\s*=\s*(\S+)")
_ENERGY = re.compile(r"^!+\s+total energy\s*=\s*(\S+) Ry", re.MULTILINE)
_FORCE = re.compile(r"^\s+atom\s+\S+ type\s+\S+\s+force =(.*)$", re.MULTILINE)
_STRESS = re.compile(r"total\s+stress\s+\(Ry/bohr\*\*3\).*\n((?:.*\n){3})")
_ALAT = re.compile(r"celldm\(1\)=\s*(\S+)")
_AXIS = re.compile(r"^\s+a\(\d\) = \((.*?)\)", re.MULTILINE)
_SITE = re.compile(r"^\s+\S+\s+(\S+)\s+tau\(.*?\) = \((.*?)\)", re.MULTILINE)
_VERSION = re.compile(r"^ v\.\s*(\S+)")
_DECIMAL = re.compile(r"-?\d+\.\d+")


@dataclass(frozen=True)
class PwOutput:
    """The numbers of a converged calculation."""

    version: str
    symbols: tuple[str, ...]
    """As printed; empty where this version prints them otherwise."""
    positions: Array
    """Shape (n_atoms, 3), Å, as printed: seven digits of the first cell vector's length."""
    cell: Array
    """Shape (3, 3), Å, as printed: six digits."""
    energy: float
    """The line with ``!``, eV; with smearing the free energy, which the forces derive from."""
    forces: Array
    """Shape (n_atoms, 3), eV/Å."""
    pressure: Array | None
    """−stress, shape (3, 3), eV/Å³, positive under compression."""


def is_done(path: Path) -> bool:
    """Say whether the program ran to its end, from the last lines of what it printed."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 4096))
        tail = stream.read().decode(errors="replace")
    return END in tail.rpartition(START)[2]


def read_pw_output(path: Path, n_atoms: int) -> PwOutput:
    """Read the last run in an output.

    Raises
    ------
    EngineError
        ``no_output``, ``engine_error`` with the words of pw.x, ``scf_unconverged`` with the number of iterations and
        the accuracy reached.
    """
    where = path.parent
    if not path.is_file():
        raise EngineError("no_output", where, f"pw.x left no {path.name}")
    text = path.read_text(encoding="utf-8", errors="replace").rpartition(START)[2]
    check_run(text, where)
    energies, forces = _ENERGY.findall(text), _FORCE.findall(text.rpartition("Forces acting on atoms")[2])
    if not energies or len(forces) < n_atoms:
        missing = "energy" if not energies else f"forces on {n_atoms} atoms"
        raise EngineError("engine_error", where, f"pw.x ended, but printed no {missing}; it may have been told to stop")
    alat = BOHR_TO_ANGSTROM * _float((_ALAT.findall(text) or ["nan"])[0])
    sites = _SITE.findall(text)[:n_atoms]
    stress = _STRESS.findall(text)
    return PwOutput(
        version=(_VERSION.findall(text) or ["unknown"])[0],
        symbols=tuple(symbol for symbol, _ in sites),
        positions=alat * _decimals(row for _, row in sites),
        cell=alat * _decimals(_AXIS.findall(text)[:3]),
        energy=RYDBERG_TO_EV * _float(energies[-1]),
        forces=RYDBERG_TO_EV / BOHR_TO_ANGSTROM * _floats(row.split()[:3] for row in forces[:n_atoms]),
        pressure=RYDBERG_TO_EV / BOHR_TO_ANGSTROM**3 * _floats(row.split()[:3] for row in stress[-1].splitlines())
        if stress
        else None,
    )


def check_run(text: str, where: Path) -> None:
    """Refuse a run that was stopped, crashed, or did not converge.

    With ``scf_must_converge = .false.`` pw.x 6.7 prints "convergence has been achieved" of a calculation that ran out
    of iterations; so the accuracy it reached is compared with the threshold it was given.
    """
    error = _ERROR.search(text)
    if error:
        raise EngineError("engine_error", where, " ".join(error[1].split()))
    accuracies, threshold = _ACCURACY.findall(text), _THRESHOLD.search(text)
    reached = f"{accuracies[-1]} Ry" if accuracies else "nothing"
    unconverged = _UNCONVERGED.search(text)
    if unconverged:
        after = f" after {unconverged[1]} iterations" if unconverged[1] else ""
        raise EngineError("scf_unconverged", where, f"not converged{after}; the accuracy reached is {reached}")
    if END not in text:
        last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "nothing")
        raise EngineError("no_output", where, f"pw.x did not end by itself; its last words: {last[:100]}")
    if threshold and accuracies and "EXX" not in text:  # an exact-exchange run has thresholds of its own on the way
        asked = _float(threshold[1])
        if not _float(accuracies[-1]) <= 1.1 * asked + 1e-8:  # both are printed rounded
            raise EngineError("scf_unconverged", where, f"the accuracy reached is {reached}; {asked:g} was asked for")


def _float(text: str) -> float:
    """Return a printed number; one that did not fit its field (``****``) is not a number, and the gate refuses it."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _floats(rows: Iterable[Iterable[str]]) -> Array:
    return np.array([[_float(word) for word in row] for row in rows], dtype=np.float64).reshape(-1, 3)


def _decimals(rows: Iterable[str]) -> Array:
    return _floats(_DECIMAL.findall(row) for row in rows)
