"""What VASP calculated, from its OUTCAR or vasprun.xml: labels in the order of atoms that was sent. eV, Å, eV/Å, μ_B.

A label's frame is the one that was sent, in full precision; the OUTCAR, which has five decimals of a position, must
show the same. Later frames have those five. The reader of the file says what converged.

The OUTCAR is read where it begins and ends as it should, the vasprun.xml otherwise; that has eight decimals, and tells
no moments of the atoms: those of a label with spin are None then.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

from al_driver.data.formats.steps import Step
from al_driver.data.formats.vasp_outcar import read_outcar
from al_driver.data.formats.vasp_xml import read_vasprun
from al_driver.data.frames import Label, carry_sites
from al_driver.data.gate import GateLimits, check_same_frame
from al_driver.engines.base import Dynamics, Relaxation
from al_driver.engines.motion import what_is_missing
from al_driver.engines.vasp.incar import read_incar
from al_driver.engines.vasp.poscar import read_sent
from al_driver.engines.vasp.sites import has_spin, is_noncollinear
from al_driver.errors import EngineError
from al_driver.files import read_tail

OUTCAR, VASPRUN = "OUTCAR", "vasprun.xml"
_END = b"General timing and accounting informations for this job"
_END_OF_XML = b"</modeling>"
_TAIL = 20_000  # bytes at the end of an OUTCAR that hold the timing
_MOMENTS = re.compile(r"magnetization \(x\)\s*\n.*?\n-+\n(.*?)\n-+\n", re.DOTALL)
_TOLD = re.compile(
    r"^.*(?:\berror\b|VERY BAD NEWS|incompatible|internal error|not found|EDDDAV|ZBRENT).*$", re.I | re.M
)
_UNREADABLE = (ValueError, IndexError, KeyError)
"""What a reader raises that does not find what it knows."""


def is_done(directory: Path) -> bool:
    """Say whether VASP wrote the closing lines of one of its outputs."""
    return _is_closed(directory / OUTCAR) or _is_closed(directory / VASPRUN)


def choose_output(directory: Path) -> Path:
    """Return the output to read: the vasprun.xml where it is whole and the OUTCAR is missing, broken off or damaged."""
    outcar, vasprun = directory / OUTCAR, directory / VASPRUN
    if not _is_closed(vasprun) or (_is_closed(outcar) and _begins(outcar)):
        return outcar
    return vasprun


def _is_closed(path: Path) -> bool:
    return (_END_OF_XML if path.name == VASPRUN else _END) in read_tail(path, _TAIL)


def _begins(outcar: Path) -> bool:
    """Say whether the first step of an OUTCAR can be read."""
    try:
        first = next(read_outcar(outcar), None)
    except _UNREADABLE:
        return False
    return first is not None and not (isinstance(first, EngineError) and first.reason == "no_output")


def read_single(directory: Path, output: str) -> Label:
    """Read the label of the frame that was sent."""
    sent, order = read_sent(directory)
    run = _read_run(directory, output)
    if len(run.steps) > 1:
        raise EngineError("engine_error", directory, f"{len(run.steps)} ionic steps, where one frame was asked for")
    label = _require(run.steps[0], directory)
    _check_start(sent, order, label, directory)
    return _in_order(label, sent, order, directory, run.moments(-1, order))


def read_relaxed(directory: Path, output: str, relaxation: Relaxation) -> Label:
    """Read the last frame of a relaxation, which must keep its limits."""
    sent, order = read_sent(directory)
    run = _read_run(directory, output)
    steps = run.steps
    if isinstance(steps[0], Label):
        _check_start(sent, order, steps[0], directory)
    last = _require(steps[-1], directory)
    positions = _unwrapped(sent.positions, last, order)
    cell = last.atoms.cell.array if relaxation.what == "cell" else sent.cell.array
    atoms = carry_sites(sent, Atoms(sent.numbers, positions=positions, cell=cell, pbc=sent.pbc))
    label = _in_order(last, atoms, order, directory, run.moments(-1, order))
    missing = what_is_missing(label.forces, last.virial, relaxation)
    if missing:
        limits = f"max_force is {relaxation.max_force:g}, max_steps {relaxation.max_steps}"
        raise EngineError("engine_error", directory, f"not relaxed after {len(steps)} steps: {missing}; {limits}")
    return label


def read_trajectory(directory: Path, output: str, dynamics: Dynamics) -> list[tuple[int, Label | EngineError]]:
    """Read the frames of dynamics, each checked by itself."""
    sent, order = read_sent(directory)
    run = _read_run(directory, output)
    steps = run.steps
    if isinstance(steps[0], Label):
        _check_start(sent, order, steps[0], directory)
    if len(steps) <= dynamics.n_steps:
        words = f"VASP calculated {len(steps)} steps, not {dynamics.n_steps + 1}; it may have been told to stop"
        raise EngineError("no_output", directory, words)
    positions, frames = sent.positions, dict[int, Label | EngineError]()
    for index, step in enumerate(steps):
        if isinstance(step, EngineError):
            frames[index] = EngineError(step.reason, directory, step.detail)
            continue
        positions = _unwrapped(positions, step, order) if index else positions
        atoms = carry_sites(sent, Atoms(sent.numbers, positions=positions, cell=sent.cell, pbc=sent.pbc))
        try:
            frames[index] = _in_order(step, atoms, order, directory, run.moments(index, order))
        except EngineError as error:
            frames[index] = EngineError(error.reason, directory, f"step {index}: {error.detail}")
    return [(step, frames[step]) for step in dynamics.steps]


@dataclass(frozen=True)
class _Run:
    """What one of the outputs tells."""

    steps: list[Step]
    has_moments: bool
    """Whether VASP was to print the moments of atoms, one number each."""
    tables: list[list[float]]
    """Moments of the atoms at each step, in the order of the POSCAR; none where this output has none."""

    def moments(self, step: int, order: "np.ndarray") -> dict[str, list[float] | None]:
        """Return what ``info`` tells of the moments at a step, in the order that was sent; None is not known."""
        if not self.has_moments:
            return {}
        is_told = len(self.tables) == len(self.steps) or (self.tables and step == -1)
        table = self.tables[step] if is_told else []
        return {"magmoms": [table[index] for index in np.argsort(order)] if len(table) == len(order) else None}


def _read_run(directory: Path, output: str) -> _Run:
    """Read every ionic step; where there is none, say what VASP said."""
    path = choose_output(directory)
    if not path.is_file():
        raise _without_result(directory, output, "VASP wrote neither OUTCAR nor vasprun.xml")
    try:
        steps = list(read_outcar(path) if path.name == OUTCAR else read_vasprun(path))
    except _UNREADABLE as error:
        raise _without_result(directory, output, f"the {path.name} cannot be read ({error})") from error
    if not steps:
        raise _without_result(directory, output, f"the {path.name} holds no step")
    if isinstance(steps[0], EngineError) and steps[0].reason == "no_output" and len(steps) == 1:
        raise _without_result(directory, output, steps[0].detail)
    tags = read_incar(directory / "INCAR")
    has_moments = has_spin(tags) and not is_noncollinear(tags)
    return _Run(steps, has_moments, _read_moments(path) if has_moments and path.name == OUTCAR else [])


def _without_result(directory: Path, output: str, otherwise: str) -> EngineError:
    path = directory / output
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    told = [" ".join(line.strip(" |*\n").split()) for line in _TOLD.findall(text)]
    if told:
        return EngineError("engine_error", directory, f"{otherwise}; it said: {'; '.join(told[:3])}"[:500])
    return EngineError("no_output", directory, otherwise)


def _require(step: Step, directory: Path) -> Label:
    if isinstance(step, EngineError):
        raise EngineError(step.reason, directory, step.detail)
    return step


def _check_start(sent: Atoms, order: "np.ndarray", label: Label, directory: Path) -> None:
    """Refuse an output of another frame, as VASP sees it: periodic, in the order of the POSCAR."""
    there = Atoms(sent.numbers, positions=sent.positions, cell=sent.cell, pbc=True)[order]
    check_same_frame(there, label.atoms, directory, GateLimits())


def _unwrapped(before: "np.ndarray", label: Label, order: "np.ndarray") -> "np.ndarray":
    """Return positions in the order that was sent, each nearest to where its atom was in the step before."""
    found = np.empty_like(before)
    found[order] = label.atoms.positions
    steps, _ = find_mic(found - before, label.atoms.cell, True)
    return np.asarray(before + steps)


def _in_order(
    label: Label, atoms: Atoms, order: "np.ndarray", directory: Path, moments: dict[str, list[float] | None]
) -> Label:
    """Return a label with its forces in the order that was sent, and what is told of its atoms' moments."""
    forces = np.empty_like(label.forces)
    forces[order] = label.forces
    virial = label.virial if atoms.pbc.all() else None
    if virial is None and atoms.pbc.all():
        raise EngineError("no_output", directory, "VASP printed no stress of this frame")
    if not (
        np.isfinite(label.energy) and np.isfinite(forces).all() and np.isfinite(0 if virial is None else virial).all()
    ):
        raise EngineError("not_finite", directory, "energy, a force or the virial is not a finite number")
    info = {name: label.info[name] for name in ("program", "version")}  # the ledger has the settings themselves
    return replace(label, atoms=atoms, forces=forces, virial=virial, info=info | moments)


def _read_moments(outcar: Path) -> list[list[float]]:
    """Return the moments of the atoms at each ionic step, in the order of the POSCAR."""
    text = outcar.read_text(encoding="utf-8", errors="replace")
    rows = [[line.split() for line in table.splitlines()] for table in _MOMENTS.findall(text)]
    return [[float(row[-1]) for row in table if row and row[0].isdecimal()] for table in rows]
