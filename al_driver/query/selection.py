"""Which candidates are labelled: caps, budgets, and the order in which candidates stand in line.

Every candidate gets a rank that depends only on the seed, its trajectory and its step, or on its score; the first in
line are taken, or those that an `Order` picks from the line. So the choice depends neither on the order of tasks nor on
the blocks they are read in, and only the head of each line is kept: memory does not grow with the number of frames.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
from ase import Atoms
from ase.cell import Cell
from numpy.typing import NDArray

from al_driver.data.dataset import stored_key
from al_driver.data.frames import sort_by_type
from al_driver.query.budget import share_out
from al_driver.query.lines import ENTRY, LINE_LENGTH, Entries, Line, Orders, Queue
from al_driver.query.window import CANDIDATE, FAILED, Scored

LARGEST_BATCH = 256
UNSOUND = ("too_close", "not_finite", "no_coordinates")
"""Why a frame is passed over that another, just as likely, must not stand for: it is one on which a model failed."""
SAME_WITHIN = 0.01
"""Two frames are duplicates when no atom, and no periodic cell vector, differs by as much, Å."""


class Census:
    """What was seen of one structure.

    Attributes
    ----------
    cap
        The most frames of it that may be selected.
    counts
        Accurate, candidate and failed frames.
    candidates
        Those to choose from.
    soundest
        Failed frames that could be labelled if there were nothing better, lowest score first.
    n_audits
        How many audit frames of it are wanted.
    audits
        Those to take them from, one from each stretch.
    n_stretches
        How many stretches there are: independent frames.
    n_above, n_outside
        Frames whose error bound exceeds the target, and frames above every calibration score.
    """

    def __init__(self, cap: int, n_audits: int = 0, candidates: Queue | None = None) -> None:
        self.cap = cap
        self.n_audits = n_audits
        self.audits = Line(max(LINE_LENGTH, 2 * n_audits))
        self.n_stretches = self.n_above = self.n_outside = 0
        self.counts = np.zeros(3, dtype=np.int64)
        self.candidates = candidates or Line(max(LINE_LENGTH, 2 * cap))
        self.soundest = Line(max(LINE_LENGTH, 2 * cap))

    @property
    def bad_fraction(self) -> Fraction:
        """Share of candidate and failed frames."""
        frames = int(self.counts.sum())
        return Fraction(int(self.counts[CANDIDATE] + self.counts[FAILED]), frames) if frames else Fraction(0)

    def add(self, scored: Scored, task: int, marks: NDArray[np.int64], rng: np.random.Generator | None) -> None:
        """Count frames of one trajectory, and put them in line.

        Parameters
        ----------
        marks
            Where frames.csv says of each whether it is selected, shape (n,).
        rng
            Draws the ranks of candidates; None for the largest score first.
        """
        self.counts += np.bincount(scored.classes, minlength=3)
        is_candidate = scored.classes == CANDIDATE
        score = scored.score[is_candidate]
        rank = -score if rng is None else rng.random(len(score))
        self.candidates.add(_make_entries(scored, is_candidate, rank, task, marks))
        if not self.counts[:FAILED].any():
            is_sound = (scored.classes == FAILED) & scored.sound
            self.soundest.add(_make_entries(scored, is_sound, scored.score[is_sound], task, marks))

    def count_bounds(self, scored: Scored, threshold: float, largest: float) -> None:
        """Count frames whose score is above one that bounds the target, and above the largest calibration score."""
        self.n_above += int(np.count_nonzero(scored.score > threshold))
        self.n_outside += int(np.count_nonzero(scored.score > largest))


def _make_entries(
    scored: Scored, which: NDArray[np.bool_], rank: NDArray[np.float64], task: int, marks: NDArray[np.int64]
) -> Entries:
    entries = np.empty(len(rank), dtype=ENTRY)
    entries["rank"], entries["task"] = rank, task
    entries["step"], entries["score"], entries["mark"] = scored.rows.step[which], scored.score[which], marks[which]
    return entries


@dataclass(frozen=True)
class Selected:
    """A frame that will be labelled."""

    structure: str
    task: int
    step: int
    score: float
    mark: int
    atoms: Atoms
    audit: bool = False


@dataclass(frozen=True)
class Choice:
    """The selected frames: the one list that is written and labelled."""

    frames: tuple[Selected, ...]
    """In the order of structures, then tasks, then steps."""
    fallback: bool
    """All frames had failed; these are the soundest."""
    skipped: dict[str, int]
    """Frames passed over: ``labelled``, ``duplicate``, ``too_close``, ``not_finite``, ``no_coordinates``."""
    unsound: dict[str, int] = field(default_factory=dict)
    """Of each structure: audit frames that were drawn and passed over because nothing can be calculated of them."""


ReadFrames = Callable[[int, set[int]], Iterator[tuple[int, Atoms]]]
"""Yields steps and frames of a task."""


class Chooser:
    """Takes frames from the head of each line; passes over those that must not be labelled."""

    def __init__(
        self,
        read_frames: ReadFrames,
        is_too_close: Callable[[Atoms], bool],
        type_map: Sequence[str],
        labelled: set[str],
    ) -> None:
        self._read_frames = read_frames
        self._is_too_close = is_too_close
        self._type_map = type_map
        self._labelled = labelled
        self._chosen: dict[bytes, list[Atoms]] = {}  # by species
        self.skipped: Counter[str] = Counter()

    def choose(self, structure: str, line: Entries, n_frames: int) -> list[Selected]:
        """Take the first ``n_frames`` of a line that may be labelled; return them by task and step."""
        taken: list[Selected] = []
        start, size = 0, n_frames
        while len(taken) < n_frames and start < len(line):
            batch = line[start : start + size]
            start += size
            size = min(LARGEST_BATCH, 2 * size)
            for entry, atoms in self._read(batch):
                if len(taken) == n_frames:
                    break
                taken += self._take(structure, entry, atoms)
        return sorted(taken, key=lambda frame: (frame.task, frame.step))

    def choose_by(self, orders: Orders, structure: str, line: Entries, n_frames: int) -> list[Selected]:
        """Take ``n_frames`` of a line, one after another as an order picks them; all of its frames are read."""
        taken: list[Selected] = []
        n_all = len(line)
        line, order = orders.start(line)
        if len(line) < n_all:  # only a frame whose numbers are not finite has no place in an order
            self.skipped["not_finite"] += n_all - len(line)
        frames = [atoms for _, atoms in self._read(line)]
        while len(taken) < n_frames and (index := order.best()) is not None:
            found = self._take(structure, line[index], frames[index])
            (order.take if found else order.drop)(index)
            taken += found
        return sorted(taken, key=lambda frame: (frame.task, frame.step))

    def _take(self, structure: str, entry: Any, atoms: Atoms | None) -> list[Selected]:
        """Return the frame that an entry stands for, if it may be labelled; else count why not."""
        reason = self._why_not(atoms)
        if reason or atoms is None:
            self.skipped[reason] += 1
            return []
        task, step, mark = (int(entry[name]) for name in ("task", "step", "mark"))
        return [Selected(structure, task, step, float(entry["score"]), mark, atoms)]

    def _read(self, batch: Entries) -> Iterator[tuple[Any, Atoms | None]]:
        """Yield each frame in its order; each file is read once."""
        found: dict[tuple[int, int], Atoms] = {}
        for task in np.unique(batch["task"]):
            steps = {int(step) for step in batch["step"][batch["task"] == task]}
            found |= {(int(task), step): atoms for step, atoms in self._read_frames(int(task), steps)}
        for entry in batch:
            yield entry, found.get((int(entry["task"]), int(entry["step"])))

    def _why_not(self, atoms: Atoms | None) -> str:
        """Return why a frame must not be labelled; empty if it may, which then counts as chosen."""
        if atoms is None:
            return "no_coordinates"
        if not all(np.isfinite(values).all() for values in (atoms.positions, atoms.cell.array, _forces(atoms))):
            return "not_finite"
        if self._is_too_close(atoms):
            return "too_close"
        if stored_key(atoms, self._type_map) in self._labelled:
            return "labelled"
        frame = sort_by_type(atoms, self._type_map)
        alike = self._chosen.setdefault(frame.numbers.tobytes(), [])
        if any(are_duplicates(frame, other) for other in alike):
            return "duplicate"
        alike.append(frame)
        return ""


def _forces(atoms: Atoms) -> NDArray[np.float64]:
    """Return the forces of the model that drove, shape (n_atoms, 3), or none where they were not written."""
    forces: NDArray[np.float64] = atoms.arrays.get("forces", np.empty((0, 3)))
    return forces


def are_duplicates(first: Atoms, second: Atoms) -> bool:
    """Say whether two frames of the same species, in the same order, are within `SAME_WITHIN` of each other."""
    cell, pbc = first.cell.array, first.pbc
    if (pbc != second.pbc).any() or (np.abs(cell - second.cell.array)[pbc] >= SAME_WITHIN).any():
        return False
    steps = second.positions - first.positions
    if pbc.any():
        basis = Cell(np.where(pbc[:, None], cell, 0.0)).complete().array
        shifts = np.round(np.linalg.solve(basis.T, steps.T).T)
        shifts[:, ~pbc] = 0.0
        steps = steps - shifts @ basis  # small steps are small in the basis too: the image is the nearest one
    return bool((np.linalg.norm(steps, axis=1) < SAME_WITHIN).all())


def choose_frames(
    census: dict[str, Census], *, budget: int | None, chooser: Chooser, orders: Orders | None = None
) -> Choice:
    """Choose the frames of an iteration.

    A structure's share of the budget is in proportion to its fraction of candidate and failed frames, whatever the
    number of its frames. If every frame of the iteration failed, those of lowest finite score are chosen, in line.
    Audit frames come first, whatever their class: without them nothing is known.

    Parameters
    ----------
    census
        What was seen of each structure, by name, in the order of the entries.
    budget
        The most frames in all; None for no limit.
    orders
        How candidates are picked from their lines; the first in line are taken when None.
    """
    audits, unsound = _choose_audits(census, budget, chooser)
    if budget is not None:
        budget -= len(audits)
    taken = {(frame.task, frame.step) for frame in audits}
    fallback = all(not seen.counts[:FAILED].any() for seen in census.values())
    lines = {}
    for name, seen in census.items():
        line = (seen.soundest if fallback else seen.candidates).ranked()
        is_left = [(task, step) not in taken for task, step in zip(line["task"], line["step"], strict=True)]
        lines[name] = line[np.array(is_left, dtype=bool)]
    most = [min(seen.cap, len(line)) for seen, line in zip(census.values(), lines.values(), strict=True)]
    shares = share_out(budget, [seen.bad_fraction for seen in census.values()], most)
    frames: list[Selected] = []
    for (name, line), share in zip(lines.items(), shares, strict=True):
        if share and orders is not None and not fallback:
            frames += chooser.choose_by(orders, name, line, share)
        elif share:
            frames += chooser.choose(name, line, share)
    places = {name: place for place, name in enumerate(census)}
    both = sorted([*audits, *frames], key=lambda frame: (places[frame.structure], frame.task, frame.step))
    return Choice(tuple(both), fallback and bool(frames), dict(chooser.skipped), unsound)


def _choose_audits(
    census: dict[str, Census], budget: int | None, chooser: Chooser
) -> tuple[list[Selected], dict[str, int]]:
    """Take the audit frames of each structure; a budget that is too small is shared evenly.

    Returns
    -------
    The frames, and how many of each structure were `UNSOUND`.
    """
    lines = {name: seen.audits.ranked() for name, seen in census.items()}
    most = [min(seen.n_audits, len(line)) for seen, line in zip(census.values(), lines.values(), strict=True)]
    shares = share_out(budget, [Fraction(1)] * len(most), most)
    audits: list[Selected] = []
    unsound: dict[str, int] = {}
    for (name, line), share in zip(lines.items(), shares, strict=True):
        before = sum(chooser.skipped[reason] for reason in UNSOUND)
        audits += (replace(frame, audit=True) for frame in (chooser.choose(name, line, share) if share else ()))
        unsound[name] = sum(chooser.skipped[reason] for reason in UNSOUND) - before
    return audits, unsound
