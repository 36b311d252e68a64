"""Labels from what ``pw.x`` printed and the frame that was sent: of one SCF, a relaxation, or dynamics. eV, Å, eV/Å.

The frame that was sent is read back from the input, in full precision, and compared with what pw.x printed of it.
Later ones have the ten decimals that pw.x prints of positions, and the nine of a cell that it moved.
"""

from pathlib import Path

import numpy as np
from ase import Atoms

from al_driver.data.frames import Label
from al_driver.data.gate import GateLimits, check_same_frame
from al_driver.data.pw_output import check_end, check_step, make_atoms, read_pw_run
from al_driver.data.pw_steps import PwStep
from al_driver.engines.base import Dynamics, Relaxation
from al_driver.engines.motion import what_is_missing
from al_driver.engines.pw_input import parse_pw_input
from al_driver.engines.sites import element_of
from al_driver.errors import EngineError


def read_scf(source: Path, output: Path) -> Label:
    """Read the label of the frame in an input."""
    steps = read_pw_run(output)
    check_step(steps[-1], output, output.parent)
    check_end(steps, output)
    return _make_label(_read_frame(source), steps[-1], output.parent)


def read_relaxed(source: Path, output: Path, relaxation: Relaxation) -> Label:
    """Read a relaxed structure; of a cell, the label is that of the SCF with the final cell's plane waves."""
    where = output.parent
    run = read_pw_run(output)
    steps = [step for step in run if step.has_begun] or run
    check_step(steps[-1], output, where)
    check_end(run, output)
    sent, last = _read_frame(source), steps[-1]
    _check_start(sent, steps[0], where)
    ends_anew = relaxation.what == "cell" and len(steps) > 1 and steps[-2].is_relaxed
    searched = steps[:-1] if ends_anew else steps
    end = searched[-1]
    volume = np.nan if end.cell is None else abs(np.linalg.det(end.cell))
    virial = None if end.pressure is None else volume * end.pressure
    missing = what_is_missing(np.asarray(end.forces), virial, relaxation)
    if not end.is_relaxed or (relaxation.what == "cell" and not ends_anew):
        missing = missing or "pw.x did not end its search"
    if missing:
        limits = f"max_force is {relaxation.max_force:g}, max_steps {relaxation.max_steps}"
        raise EngineError("engine_error", where, f"not relaxed after {len(searched)} steps: {missing}; {limits}")
    return _make_label(_frame_of(sent, last, where, moves_cell=relaxation.what == "cell"), last, where)


def read_trajectory(source: Path, output: Path, dynamics: Dynamics) -> list[tuple[int, Label | EngineError]]:
    """Read the frames of dynamics. pw.x stops where an SCF does not converge: so that is what later ones lack."""
    where = output.parent
    run = read_pw_run(output)
    check_end(run, output)
    steps = [step for step in run if step.has_begun]
    sent, frames = _read_frame(source), dict[int, Label | EngineError]()
    for index, step in enumerate(steps):
        try:
            check_step(step, output, where)
            if index == 0:
                _check_start(sent, step, where)
            atoms = _frame_of(sent, step, where, moves_cell=False) if index else sent
            frames[index] = _make_label(atoms, step, where)
        except EngineError as error:
            if index == 0:
                raise
            frames[index] = EngineError(error.reason, where, f"step {index}: {error.detail}")
    ended = frames.get(len(steps) - 1)
    if isinstance(ended, EngineError) and ended.reason == "scf_unconverged":
        frames |= dict.fromkeys(range(len(steps), dynamics.n_steps + 1), ended)
    if len(frames) <= dynamics.n_steps:
        words = f"pw.x calculated {len(steps)} steps, not {dynamics.n_steps + 1}; it may have been told to stop"
        raise EngineError("no_output", where, words)
    return [(step, frames[step]) for step in dynamics.steps]


def _frame_of(sent: Atoms, step: PwStep, where: Path, *, moves_cell: bool) -> Atoms:
    """Return the frame of a step; some versions print atoms otherwise, of which the first are those that were sent."""
    if not step.symbols and not step.has_blocks:
        return sent
    found = make_atoms(step, where)
    return Atoms(sent.numbers, positions=found.positions, cell=found.cell if moves_cell else sent.cell, pbc=sent.pbc)


def _make_label(atoms: Atoms, step: PwStep, where: Path) -> Label:
    """Return the label of a frame from the converged step that calculated it.

    Raises
    ------
    EngineError
        Where something else was calculated, or a number is not finite.
    """
    _check_start(atoms, step, where)
    forces, energy = np.asarray(step.forces), float(np.nan if step.energy is None else step.energy)
    virial = step.pressure * atoms.get_volume() if step.pressure is not None and atoms.pbc.all() else None
    if not all(np.isfinite(numbers).all() for numbers in (energy, forces, 0.0 if virial is None else virial)):
        raise EngineError("not_finite", where, "energy, a force or the virial is not a finite number")
    moments = {"magmoms": step.moments} if len(step.moments) == len(atoms) else {}
    return Label(atoms, energy, forces, virial, {"program": "pw.x", "version": step.version, **moments})


def _check_start(sent: Atoms, step: PwStep, where: Path) -> None:
    """Refuse what pw.x printed of another frame; some versions print atoms otherwise, and say nothing to compare."""
    if step.symbols or step.has_blocks:
        periodic = Atoms(sent.numbers, sent.positions, cell=sent.cell, pbc=True)  # as pw.x sees it
        check_same_frame(periodic, make_atoms(step, where), where, GateLimits())


def _read_frame(path: Path) -> Atoms:
    """Read back the frame that was sent."""
    if not path.is_file():
        raise EngineError("no_output", path.parent, f"there is no {path.name}")
    text = path.read_text(encoding="utf-8")
    cards = parse_pw_input(text, path).cards
    periodic = [word == "T" for word in text.splitlines()[0].split()[-3:]]
    atoms = [line.split() for line in cards["ATOMIC_POSITIONS"].lines]
    cell = [[float(word) for word in line.split()] for line in cards["CELL_PARAMETERS"].lines]
    positions = [[float(word) for word in row[1:4]] for row in atoms]
    return Atoms([element_of(row[0]) for row in atoms], positions=positions, cell=cell, pbc=periodic)
