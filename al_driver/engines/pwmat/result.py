"""Labels from what PWmat wrote, and the frame that was sent: OUT.MLMD of an SCF, MOVEMENT of what moves. eV, Å, eV/Å.

REPORT says at its end how long the run took, and for an SCF why it ended: ``ending_scf_reason = tol …`` where a
tolerance was reached. The number of electronic steps of a frame is held against what ``etot.input`` allows; a label has
one or the other. PWmat prints cells with eleven digits and energies with ten; the frame of a label is the one
that was sent, once the printed one has been compared with it. No file names PWmat's version. Sources:
introduceREPORT.md of github.com/HongzhenTian/PWmat-doc, MOVEMENT_1 and OUT.MLMD of dpdata's tests.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms

from al_driver.data.formats.pwmat import ETOT, read_movement, read_times
from al_driver.data.formats.steps import Step
from al_driver.data.frames import Array, Label
from al_driver.data.gate import GateLimits, check_same_frame
from al_driver.engines.base import Dynamics, Relaxation
from al_driver.engines.motion import what_is_missing
from al_driver.engines.pwmat.atom_config import read_sent, sent_order
from al_driver.engines.pwmat.etot import read_etot_input
from al_driver.errors import ConfigError, EngineError
from al_driver.files import read_tail

REPORT, STDOUT, MLMD, MOVEMENT = "REPORT", "pwmat.out", "OUT.MLMD", "MOVEMENT"
_END = b"total computation time"
_REASON = re.compile(r"ending_scf_reason\s*=\s*(\S[^\n]*)")
_TOLERANCE = "tol"
_TAIL = 4000  # bytes; the end of REPORT is one line, before it at most the eigenvalues of a k-point
_FIRST_STEP = 0.5  # Å, farther than an atom goes in one step
_TIME_TOLERANCE = 0.01  # of a time step


def has_ended(directory: Path) -> bool:
    """Say whether REPORT tells the run's time, which PWmat writes last."""
    return _END in read_tail(directory / REPORT, _TAIL)


def read_scf(directory: Path) -> Label:
    """Read the label of the frame in ``atom.config``."""
    sent, is_told = read_sent(directory), _reached_tolerance(directory)
    steps = _read_steps(directory, MLMD, needs_count=not is_told)
    if len(steps) > 1:
        raise EngineError("engine_error", directory, f"{MLMD} holds {len(steps)} frames, where one was asked for")
    found = _require(steps[0], directory)
    order = sent_order(sent, found.atoms.numbers, directory)
    check_same_frame(_periodic(sent), found.atoms[order], directory, GateLimits())
    return _make_label(sent, found, order, directory)


def read_relaxed(directory: Path, relaxation: Relaxation) -> Label:
    """Read the last structure of a relaxation, which must keep to its limits; it is a start, and trains nothing."""
    _reached_tolerance(directory)
    sent, steps = read_sent(directory), _read_steps(directory, MOVEMENT, needs_count=False)
    _check_start(sent, steps[0], directory, moves_cell=relaxation.what == "cell")
    found = _require(steps[-1], directory)
    order = sent_order(sent, found.atoms.numbers, directory)
    cell = found.atoms.cell.array if relaxation.what == "cell" else sent.cell.array
    fractional = _unwrapped(_fractional(found, order), sent.cell.scaled_positions(sent.positions))
    atoms = Atoms(sent.numbers, positions=fractional @ cell, cell=cell, pbc=sent.pbc)
    missing = what_is_missing(found.forces, found.virial, relaxation)
    if missing:
        limits = f"max_force is {relaxation.max_force:g}, max_steps {relaxation.max_steps}"
        raise EngineError("engine_error", directory, f"not relaxed after {len(steps)} frames: {missing}; {limits}")
    return _make_label(atoms, found, order, directory)


def read_trajectory(directory: Path, dynamics: Dynamics) -> list[tuple[int, Label | EngineError]]:
    """Read the frames of dynamics, each told by its time; positions go on beyond the cell."""
    _require_end(directory)
    sent, steps = read_sent(directory), _read_steps(directory, MOVEMENT, needs_count=True)
    _check_start(sent, steps[0], directory)
    fractional = sent.cell.scaled_positions(sent.positions)
    frames = dict[int, Label | EngineError]()
    timestep = dynamics.timestep * 1000
    for number, step in zip(_numbers(directory, timestep), steps, strict=True):
        if isinstance(step, EngineError):
            frames[number] = EngineError(step.reason, directory, step.detail)
            continue
        order = sent_order(sent, step.atoms.numbers, directory)
        fractional = _unwrapped(_fractional(step, order), fractional)
        atoms = Atoms(sent.numbers, positions=fractional @ sent.cell.array, cell=sent.cell, pbc=sent.pbc)
        try:
            check_same_frame(_periodic(atoms), step.atoms[order], directory, GateLimits())
            frames[number] = _make_label(atoms, step, order, directory)
        except EngineError as error:
            frames[number] = EngineError(error.reason, directory, f"step {number}: {error.detail}")
    missing = [number for number in dynamics.steps if number not in frames]
    if missing:
        detail = f"{len(missing)} of {len(dynamics.steps)} frames are missing in {MOVEMENT}{_last_words(directory)}"
        raise EngineError("no_output", directory, detail)
    return [(number, frames[number]) for number in dynamics.steps]


def _read_steps(directory: Path, name: str, *, needs_count: bool) -> list[Step]:
    """Read every frame of a run, held against the electronic steps that it was allowed."""
    try:
        is_dftb = read_etot_input(directory / ETOT).value("USE_DFTB").startswith(("T", ".T"))
        method = "the charges of DFTB" if is_dftb else "it"
        return list(read_movement(directory / name, needs_count=needs_count, method=method))
    except (OSError, ValueError, ConfigError) as error:
        detail = f"{name} cannot be read ({error}){_last_words(directory)}"
        raise EngineError("no_output", directory, detail) from error


def _require_end(directory: Path) -> None:
    if not has_ended(directory):
        raise EngineError("no_output", directory, f"PWmat did not reach its end{_last_words(directory)}")


def _reached_tolerance(directory: Path) -> bool:
    """Say whether REPORT tells that the last SCF reached a tolerance; False where it tells nothing.

    Raises
    ------
    EngineError
        ``scf_unconverged`` where it tells that none was, with the reason in PWmat's words; ``no_output`` where the run
        did not reach its end.
    """
    _require_end(directory)
    text = (directory / REPORT).read_text(encoding="utf-8", errors="replace")
    reasons = _REASON.findall(text)
    if reasons and not reasons[-1].startswith(_TOLERANCE):
        (*_, last) = ("0", *re.findall(r"^ *iter= *(\d+)", text, re.MULTILINE))
        detail = f"{REPORT} says ending_scf_reason = {reasons[-1].strip()}, after {last} iterations"
        raise EngineError("scf_unconverged", directory, detail)
    return bool(reasons)


def _check_start(sent: Atoms, first: Step, directory: Path, *, moves_cell: bool = False) -> None:
    """Refuse a MOVEMENT of another structure: its first frame is the start, or one step from it."""
    is_start = read_times(directory / MOVEMENT)[0] == 0
    if isinstance(first, Label) and (is_start or not moves_cell):
        order = sent_order(sent, first.atoms.numbers, directory)
        limits = GateLimits() if is_start else GateLimits(position_tolerance=_FIRST_STEP)
        check_same_frame(_periodic(sent), first.atoms[order], directory, limits)


def _require(step: Step, directory: Path) -> Label:
    if isinstance(step, EngineError):
        raise EngineError(step.reason, directory, step.detail)
    return step


def _numbers(directory: Path, timestep: float) -> Iterator[int]:
    """Yield the step of each frame."""
    for time in read_times(directory / MOVEMENT):
        ratio = time / timestep
        if not abs(ratio - round(ratio)) < _TIME_TOLERANCE * max(1.0, abs(ratio)):
            detail = f"{MOVEMENT} has a frame at {time:g} fs; steps of {timestep:g} fs were asked for"
            raise EngineError("engine_error", directory, detail)
        yield round(ratio)


def _make_label(atoms: Atoms, found: Label, order: "np.ndarray", directory: Path) -> Label:
    virial = found.virial if atoms.pbc.all() else None
    if not all(np.isfinite(part).all() for part in (found.energy, found.forces, 0.0 if virial is None else virial)):
        raise EngineError("not_finite", directory, "energy, a force or the virial is not a finite number")
    info = {"program": "PWmat", "version": "unknown"}
    return Label(atoms, found.energy, found.forces[order], virial, info)


def _periodic(atoms: Atoms) -> Atoms:
    """Return the frame as PWmat sees it."""
    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)


def _fractional(found: Label, order: "np.ndarray") -> Array:
    fractional: Array = found.atoms.cell.scaled_positions(found.atoms.positions)[order]
    return fractional


def _unwrapped(fractional: Array, before: Array) -> Array:
    """Return fractional positions without the jumps of atoms that left the cell since the frame before."""
    return fractional - np.round(fractional - before)


def _last_words(directory: Path) -> str:
    """Return the last line that PWmat printed, for a message."""
    path = directory / STDOUT
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"; it printed last: {last[:200]}" if last else ""
