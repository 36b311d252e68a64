"""What Quantum ESPRESSO's ``pw.x`` prints, judged: one label, a run's steps, or every frame of anybody's output.

A parser of our own, since dpdata's reader takes the stress from the column in kbar, which has two decimals (1e-3 eV in
the virial of eight atoms), does not look at convergence, and does not say which version ran. eV, Å, eV/Å.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from al_driver.data.frames import Label
from al_driver.data.pw_steps import PwStep, read_pw_steps, to_float
from al_driver.data.reference import REFERENCE, format_reference
from al_driver.errors import EngineError
from al_driver.files import read_tail

_START = "Program PWSCF"
_END = "JOB DONE"
_VOLUME_DIGITS = 1e-4  # of what is printed


def is_done(path: Path) -> bool:
    """Say whether the program ran to its end, from the last lines of what it printed."""
    return _END in _tail(path).rpartition(_START)[2]


def read_pw_run(path: Path) -> list[PwStep]:
    """Return the steps of the last run in an output; the last one says how the run ended.

    Raises
    ------
    EngineError
        ``no_output`` where there is no file, or pw.x printed nothing into it.
    """
    if not path.is_file():
        raise EngineError("no_output", path.parent, f"pw.x left no {path.name}")
    steps: list[PwStep] = []
    with path.open(encoding="utf-8", errors="replace") as stream:
        for step in read_pw_steps(stream):
            if steps and steps[0].run != step.run:
                steps.clear()
            steps.append(step)
    if not steps:
        raise EngineError("no_output", path.parent, f"pw.x did not start; its last words: {_last_words(path)}")
    return steps


def check_end(steps: Sequence[PwStep], path: Path) -> None:
    """Refuse a run that crashed, or was stopped from outside.

    Raises
    ------
    EngineError
        ``engine_error`` with the words of pw.x, or ``no_output`` with the last ones it said.
    """
    if steps[-1].is_done:
        return
    raise (
        EngineError("engine_error", path.parent, steps[-1].error) if steps[-1].error else _cut_short(path, path.parent)
    )


def check_step(step: PwStep, path: Path, where: Path) -> None:
    """Refuse a step that did not converge, or of which energy or forces are missing; ``where`` is for the error.

    The reason is ``scf_unconverged`` with the number of iterations and the accuracy reached, ``engine_error`` with the
    words of pw.x, or ``no_output``.

    With ``scf_must_converge = .false.`` pw.x 6.7 prints "convergence has been achieved" of a calculation that ran out
    of iterations; so the accuracy it reached is compared with the threshold it was given.
    """
    if step.error and (step.energy is None or step.forces is None):
        raise EngineError("engine_error", where, step.error)
    reached = f"{step.accuracies[-1]} Ry" if step.accuracies else "nothing"
    if step.unconverged:
        words = " ".join(["not converged", *step.unconverged.partition(":")[0].split()[1:]])
        raise EngineError("scf_unconverged", where, f"{words}; the accuracy reached is {reached}")
    if step.energy is None or step.forces is None:
        if not step.is_done:
            raise _cut_short(path, where)
        missing = "energy" if step.energy is None else f"forces on {step.n_atoms} atoms"
        message = f"pw.x ended, but printed no {missing}; it needs tprnfor = .true., or was told to stop"
        raise EngineError("engine_error", where, message)
    if step.is_torn:
        raise EngineError("engine_error", where, "iterations of the SCF are missing in what pw.x printed")
    if unshown := _what_is_not_shown(step, reached):
        raise EngineError("scf_unconverged", where, unshown)


def _what_is_not_shown(step: PwStep, reached: str) -> str:
    """Say what is missing of a proof of convergence; each SCF of pw.x prints its accuracy, and a run its threshold."""
    if not step.accuracies or not np.isfinite(step.threshold):
        missing = "threshold" if step.accuracies else "accuracy"
        return f"no {missing} of the SCF is printed, so nothing shows that it converged"
    if step.has_exx:  # it has thresholds of its own on the way, and a last energy
        is_shown = step.is_refined and step.is_exact
        return "" if is_shown else "pw.x does not say that the exact exchange is self-consistent, with its energy (!!)"
    if not to_float(step.accuracies[-1]) <= 1.1 * step.threshold + 1e-8:  # both are printed rounded
        return f"the accuracy reached is {reached}; {step.threshold:g} was asked for"
    return ""


def read_pw_frames(path: Path) -> Iterator[Label | EngineError]:
    """Yield every ionic step of an output (scf, relax, vc-relax or md; several runs) from what was printed alone.

    Of the first structure of a run cell and positions have six and seven digits, in units of the lattice parameter;
    later ones have nine and ten decimals. The steps of a vc-relax are calculated with the plane waves of its first
    cell, but for the last one. A step that did not converge, or was cut short, is yielded as what is wrong with it.

    Raises
    ------
    EngineError
        Where the whole file has no step: ``no_output``, or ``engine_error`` with the words of pw.x.
    """
    if not path.is_file():
        raise EngineError("no_output", path, "there is no such file")
    n_steps, before, step = 0, PwStep(), PwStep()
    with path.open(encoding="utf-8", errors="replace") as stream:
        for following in read_pw_steps(stream):
            if step.has_begun:
                n_steps += 1
                yield _make_label(step, before, path, is_last=following.run != step.run)
            before, step = step, following
    if step.has_begun:
        yield _make_label(step, before, path, is_last=True)
    elif not n_steps:
        words = step.error or f"no SCF of pw.x in it; its last words: {_last_words(path)}"
        raise EngineError("engine_error" if step.error else "no_output", path, words)


def make_atoms(step: PwStep, where: Path) -> Atoms:
    """Return the structure as it was printed, periodic in three directions.

    Raises
    ------
    EngineError
        ``engine_error`` if cell or positions are missing, a species is no element, or the cell has not the volume that
        was printed.
    """
    is_whole = step.cell is not None and len(step.symbols) == len(step.positions) == step.n_atoms > 0
    if not is_whole or "" in step.symbols:
        raise EngineError("engine_error", where, "the structure was not printed whole")
    if unknown := sorted(set(step.symbols) - set(atomic_numbers)):
        raise EngineError("engine_error", where, f"{unknown[0]!r} is no element")
    atoms = Atoms(step.symbols, positions=step.positions, cell=step.cell, pbc=True)
    if abs(atoms.get_volume() - step.volume) > _VOLUME_DIGITS * step.volume:
        words = f"the cell has {atoms.get_volume():.3f} Å³, and pw.x printed {step.volume:.3f} Å³: lines are missing"
        raise EngineError("engine_error", where, words)
    return atoms


def _make_label(step: PwStep, before: PwStep, path: Path, *, is_last: bool) -> Label | EngineError:
    """Return a step's label; ``before`` tells whether a last step without stress was cut short."""
    try:
        check_step(step, path, path)
        atoms = make_atoms(step, path)
    except EngineError as error:
        return error
    if step.energy is None or step.forces is None:
        return _cut_short(path, path)
    expects_stress = before.run != step.run or before.pressure is not None
    if is_last and not step.is_done and step.pressure is None and expects_stress:
        return _cut_short(path, path)
    virial = None if step.pressure is None else step.pressure * atoms.get_volume()
    numbers = (atoms.cell.array, atoms.positions, step.energy, step.forces, 0.0 if virial is None else virial)
    if not all(np.isfinite(values).all() for values in numbers):
        return EngineError("not_finite", path, "a number of this step is not finite")
    info = {"program": "pw.x", "version": step.version, REFERENCE: format_reference(step.told)}
    return Label(atoms, step.energy, step.forces, virial, info)


def _cut_short(path: Path, where: Path) -> EngineError:
    return EngineError("no_output", where, f"pw.x did not end by itself; its last words: {_last_words(path)}")


def _last_words(path: Path) -> str:
    lines = [line.strip() for line in _tail(path).splitlines() if line.strip()]
    return lines[-1][:100] if lines else "nothing"


def _tail(path: Path) -> str:
    return read_tail(path, 4096).decode(errors="replace")
