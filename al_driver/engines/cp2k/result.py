"""Labels from what CP2K printed and the frame that was sent: of one energy, a relaxation, or dynamics. eV, Å, eV/Å.

The frame that was sent is read back from the input, in full precision, and compared with what the log has of it, which
is six decimals of positions and three of the cell. A relaxed one is that of the restart file, in full precision;
frames of dynamics have the ten decimals of the trajectory.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ase import Atoms

from al_driver.data.formats.cp2k import Evaluation, Head, make_label, read_evaluations, read_head, read_texts
from al_driver.data.formats.cp2k_files import Frame, read_positions
from al_driver.data.formats.steps import parse_float
from al_driver.data.frames import Label
from al_driver.data.gate import GateLimits, check_same_frame
from al_driver.engines.base import Dynamics, Relaxation
from al_driver.engines.cp2k.base_input import PROJECT
from al_driver.engines.cp2k.motion import rotation_between
from al_driver.engines.cp2k.sections import Section, parse_sections
from al_driver.engines.motion import what_is_missing
from al_driver.errors import ConfigError, EngineError, Reason
from al_driver.files import read_tail

INPUT, OUTPUT = "cp2k.inp", "cp2k.out"
RESTART, TRAJECTORY = f"{PROJECT}-1.restart", f"{PROJECT}-pos-1.xyz"
SENT = "# cell as sent:"
"""Before the nine numbers, Å, of a cell that was turned; the first line of the input."""
_END = "PROGRAM ENDED AT"
_RELAXED = "OPTIMIZATION COMPLETED"
_AGAIN = "Reevaluating energy at the minimum"
_TAIL = 20_000  # bytes, which hold the last lines and the table of timings before them
_ABORT = re.compile(r"\[ABORT\](.*?)(?:={5} Routine|\Z)", re.DOTALL)
_DRAWING = re.compile(r"^ \* +(?:\\___/|\||O/\||/\| \||/ \\)|\S+\.F:\d+ *\*?$", re.MULTILINE)
_CELL_DIGITS = GateLimits(cell_tolerance=1e-3)
_ENERGY_DIGITS = 1e-9  # hartree, between log and trajectory


def is_done(path: Path) -> bool:
    """Say whether the program ran to its end, from the last lines of its log."""
    return _END.encode() in read_tail(path, _TAIL)


def read_single(directory: Path) -> Label:
    """Read the label of the frame in an input."""
    run = _Run(directory)
    run.check_end()
    return run.label(run.sent, run.evaluations[-1])


def read_relaxed(directory: Path, relaxation: Relaxation) -> Label:
    """Read a relaxed structure, turned as it was sent, with the label of its last evaluation."""
    run = _Run(directory)
    run.check_end()
    restart = _parse(directory / RESTART)
    atoms = _read_atoms(restart, run.sent, directory / RESTART)
    if relaxation.what == "positions":
        atoms.set_cell(run.sent.cell)
    label = run.label(atoms, run.last_of_search)
    missing = what_is_missing(label.forces, label.virial, relaxation)
    if _RELAXED not in run.text:
        missing = missing or "CP2K did not end its search"
    if missing:
        limits = f"max_force is {relaxation.max_force:g}, max_steps {relaxation.max_steps}"
        words = f"not relaxed after {len(run.evaluations)} evaluations: {missing}; {limits}"
        raise EngineError("engine_error", directory, words)
    return _turn_back(label, run.sent, directory / INPUT)


def read_trajectory(directory: Path, dynamics: Dynamics) -> list[tuple[int, Label | EngineError]]:
    """Read the frames of dynamics; where CP2K stopped at an SCF that did not converge, that is what later ones lack."""
    run = _Run(directory)
    stopped = run.why_it_ended()
    if stopped is not None and stopped.reason != "scf_unconverged":
        raise stopped
    moved = {step: (step, energy, positions) for step, energy, positions in read_positions(directory / TRAJECTORY)}
    frames: dict[int, Label | EngineError] = {}
    for step, evaluation in enumerate(run.evaluations):
        try:
            frames[step] = run.label(_frame_of(step, evaluation, run.sent, moved, directory), evaluation)
        except EngineError as error:
            if error.reason not in {"scf_unconverged", "not_finite"}:
                raise
            frames[step] = EngineError(error.reason, directory, f"step {step}: {error.detail}")
    if stopped is not None:
        frames |= dict.fromkeys(range(len(frames), dynamics.n_steps + 1), stopped)
    if len(frames) <= dynamics.n_steps:
        words = f"CP2K calculated {len(frames)} steps, not {dynamics.n_steps + 1}; it may have been told to stop"
        raise EngineError("no_output", directory, words)
    return [(step, frames[step]) for step in dynamics.steps]


def find_abort(text: str) -> str:
    """Return what CP2K says, in its drawing of a stop sign, of why it stopped; nothing where it did not."""
    abort = _ABORT.search(text)
    return " ".join(_DRAWING.sub("", abort[1]).replace("*", " ").split()) if abort else ""


def _why_stopped(text: str, directory: Path) -> EngineError | None:
    words = find_abort(text)
    reason: Reason = "scf_unconverged" if "NOT converged" in words else "engine_error"
    return EngineError(reason, directory, f"CP2K stopped: {words[:300]}") if words else None


def _without_start(log: Path, directory: Path) -> EngineError:
    """Return what is wrong with a log in which no run begins: of an input that it cannot read CP2K writes no other."""
    text = log.read_text(encoding="utf-8", errors="replace")
    last = (text.strip().splitlines() or ["nothing"])[-1].strip()
    other = EngineError("no_output", directory, f"{OUTPUT} is not of CP2K; its last line: {last[:120]}")
    return _why_stopped(text, directory) or other


class _Run:
    """The last run in a folder's log."""

    def __init__(self, directory: Path) -> None:
        self.directory, log = directory, directory / OUTPUT
        if not log.is_file():
            raise EngineError("no_output", directory, f"there is no {OUTPUT}")
        texts = read_texts(log)
        if not texts:
            raise _without_start(log, directory)
        self.text = texts[-1]
        self.evaluations: list[Evaluation] = read_evaluations(self.text)
        stopped = self.why_it_ended()
        if not self.evaluations:
            raise stopped or EngineError("no_output", directory, "the run ended before its first energy")
        input_path = directory / INPUT
        self.sent = _read_atoms(_parse(input_path), None, input_path)
        self.head = self._read_head(log)

    def why_it_ended(self) -> EngineError | None:
        """Return what stopped the program before its end."""
        if stopped := _why_stopped(self.text, self.directory):
            return stopped
        if _END not in self.text:
            return EngineError("no_output", self.directory, f"{OUTPUT} ends before the program did")
        return None

    def check_end(self) -> None:
        stopped = self.why_it_ended()
        if stopped is not None:
            raise stopped

    @property
    def last_of_search(self) -> Evaluation:
        """The last evaluation of a search, which CP2K follows, at the same place, with one of the energy alone."""
        *before, last = self.evaluations
        return before[-1] if before and _AGAIN in self.text and not len(last.forces) else last

    def label(self, atoms: Atoms, evaluation: Evaluation) -> Label:
        """Return the label of a frame from its evaluation.

        Raises
        ------
        EngineError
            Where the SCF did not converge, something is missing, or a number is not finite.
        """
        where, n_forces = self.directory, len(evaluation.forces)
        if not evaluation.is_converged:
            raise EngineError("scf_unconverged", where, "the SCF did not converge within MAX_SCF steps")
        if n_forces != len(atoms):
            raise EngineError("no_output", where, f"{OUTPUT} has {n_forces} forces for {len(atoms)} atoms")
        label = make_label(self.head, atoms, evaluation)
        if label.virial is None and atoms.pbc.all():
            raise EngineError("no_output", where, f"{OUTPUT} has no stress")
        numbers = (label.energy, label.forces, 0.0 if label.virial is None else label.virial)
        if not all(np.isfinite(values).all() for values in numbers):
            raise EngineError("not_finite", where, "energy, a force or the virial is not a finite number")
        return label

    def _read_head(self, log: Path) -> Head:
        try:
            head = read_head(self.text, log)
        except ValueError as error:
            raise EngineError("no_output", self.directory, f"{OUTPUT}: {error}") from error
        printed = Atoms(head.numbers, positions=head.positions, cell=head.cell, pbc=head.pbc)
        check_same_frame(self.sent, printed, self.directory, _CELL_DIGITS)
        return head


def _frame_of(step: int, evaluation: Evaluation, sent: Atoms, moved: Mapping[int, Frame], where: Path) -> Atoms:
    """Return the frame of a step, of which log and trajectory have the same energy."""
    if step == 0:
        return sent
    frame = moved.get(step)
    if frame is None or len(frame[2]) != len(sent) or not np.isfinite(frame[2]).all():
        raise EngineError("no_output", where, f"step {step} is not in {TRAJECTORY}")
    printed = parse_float(evaluation.printed)  # where it is no number, this frame alone has no label
    if np.isfinite(printed) and not abs(frame[1] - printed) <= _ENERGY_DIGITS:
        raise EngineError("no_output", where, f"step {step} has another energy in {TRAJECTORY} than in {OUTPUT}")
    return Atoms(sent.numbers, positions=frame[2], cell=sent.cell, pbc=sent.pbc)


def _parse(path: Path) -> Section:
    if not path.is_file():
        raise EngineError("no_output", path.parent, f"there is no {path.name}")
    try:
        return parse_sections(path.read_text(encoding="utf-8", errors="replace"), path)
    except ConfigError as error:
        raise EngineError("no_output", path.parent, f"{path.name} is not whole: {error}") from error


def _read_atoms(root: Section, sent: Atoms | None, path: Path) -> Atoms:
    """Read cell and positions of an input or restart; the latter's atoms are those that were sent."""
    subsys = root.find("FORCE_EVAL", "SUBSYS") or Section("SUBSYS")
    cell, coordinates = subsys.at("CELL"), [line.split() for line in subsys.at("COORD").lines]
    axes = cell.value("PERIODIC", "XYZ").upper()
    try:
        vectors = [[float(word) for word in cell.value(name).split()] for name in "ABC"]
        positions = [[float(word) for word in row[1:4]] for row in coordinates]
        atoms = Atoms([row[0] for row in coordinates], positions, cell=vectors, pbc=[axis in axes for axis in "XYZ"])
    except (ValueError, KeyError, IndexError) as error:
        raise EngineError("no_output", path.parent, f"{path.name} holds no structure: {error}") from error
    if sent is not None and atoms.get_chemical_symbols() != sent.get_chemical_symbols():
        raise EngineError(
            "species_mismatch", path.parent, f"{path.name} holds {atoms.symbols}, {sent.symbols} was sent"
        )
    return atoms


def _turn_back(label: Label, sent: Atoms, path: Path) -> Label:
    """Return a label in the orientation in which its frame was sent."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    if not first.startswith(SENT):
        return label
    cell = np.array(first.removeprefix(SENT).split(), dtype=float).reshape(3, 3)
    back = rotation_between(sent.cell.array, cell)
    atoms = label.atoms.copy()
    atoms.set_cell(label.atoms.cell.array @ back)
    atoms.positions = label.atoms.positions @ back
    virial = None if label.virial is None else back.T @ label.virial @ back
    return Label(atoms, label.energy, label.forces @ back, virial, label.info)
