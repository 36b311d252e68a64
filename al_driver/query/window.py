"""Classes of frames, and the cut: how far a trajectory is read.

Accurate ``score < lower``, candidate ``lower ≤ score < upper``, failed ``score ≥ upper`` or not finite; so each frame
has exactly one class. Scores in the units of the metric: eV/Å for forces, eV/atom for the virial, none for relative
forces (DP-GEN, Comput. Phys. Commun. 253, 107206 (2020)).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from al_driver.query.deviation import Floats, Ints, Rows, read_deviations
from al_driver.query.params import Metric

Bools = NDArray[np.bool_]
Classes = NDArray[np.uint8]

CLASS_NAMES = ("accurate", "candidate", "failed")
ACCURATE, CANDIDATE, FAILED = range(3)
SCORE_COLUMN: dict[Metric, str] = {
    "max_force": "max_devi_f", "mean_force": "avg_devi_f", "max_virial": "max_devi_v", "relative_force": "max_devi_f"
}  # fmt: skip


@dataclass(frozen=True)
class Window:
    """What a score means.

    Attributes
    ----------
    lower, upper
        Bounds of the candidates, half-open.
    max_force
        Where the score is not the largest force deviation itself, a frame whose force deviation reaches this (eV/Å)
        or is not finite has failed, however small its score: its small virial deviation is an accident.
    stop_after
        A trajectory is read to the end of its first run of so many failed frames in a row.
    """

    metric: Metric
    lower: float
    upper: float
    max_force: float
    stop_after: int

    @property
    def column(self) -> str:
        """The column of the deviation file that is the score."""
        return SCORE_COLUMN[self.metric]

    def is_absurd(self, rows: Rows) -> Bools:
        """Return which frames have a force deviation beyond sense."""
        if self.column == "max_devi_f":  # the upper bound judges it; and relative deviations are not eV/Å
            return np.zeros(len(rows), dtype=bool)
        return ~(rows.values["max_devi_f"] < self.max_force)

    def classify(self, rows: Rows) -> Classes:
        """Return the class of each frame, shape (n,)."""
        score = rows.values[self.column]
        classes = np.full(len(rows), FAILED, dtype=np.uint8)
        classes[score < self.upper] = CANDIDATE  # false for NaN
        classes[score < self.lower] = ACCURATE
        classes[np.isneginf(score) | self.is_absurd(rows)] = FAILED
        return classes


@dataclass(frozen=True)
class Scored:
    """Frames of one trajectory that are read, each with its class."""

    rows: Rows
    score: Floats
    classes: Classes
    sound: Bools
    """Score finite and force deviation within sense: could be labelled if there were nothing better."""


def read_scored(
    path: Path, window: Window, *, steps: Ints | None = None, halted_at: int | None = None, factor: float = 1.0
) -> Iterator[Scored]:
    """Yield the frames of a trajectory up to the cut, a block at a time.

    A frame needs a score and coordinates; step 0 is not one (a perfect crystal has no deviation). The frames of the run
    that ends a trajectory are read, and have failed: they are the evidence. What follows is not read, even where it
    falls back into the window. From the step on at which a guard halted the dynamics nothing is read.

    Parameters
    ----------
    path
        The deviation file.
    steps
        Steps that have coordinates, in rising order; every step when None.
    halted_at
        The step at which a guard ended the dynamics.
    factor
        What makes scores of the deviations.

    Raises
    ------
    EngineError
        If the deviation file is damaged.
    """
    in_a_row = 0
    for rows in read_deviations(path):
        kept = rows.step > 0
        if steps is not None:
            kept &= _is_in(rows.step, steps)
        if halted_at is not None:
            kept &= rows.step < halted_at
        if not kept.all():
            rows = rows.take(kept)
        rows = rows.scaled(factor)
        classes = window.classify(rows)
        end, in_a_row = find_end(classes == FAILED, window.stop_after, in_a_row)
        if end is not None:
            rows, classes = rows.take(slice(end)), classes[:end]
        if len(rows):
            score = rows.values[window.column]
            yield Scored(rows, score, classes, np.isfinite(score) & ~window.is_absurd(rows))
        if end is not None:
            return


def _is_in(wanted: Ints, steps: Ints) -> Bools:
    if len(steps) == 0:
        return np.zeros(len(wanted), dtype=bool)
    place = np.minimum(np.searchsorted(steps, wanted), len(steps) - 1)
    found: Bools = steps[place] == wanted
    return found


def find_end(failed: Bools, stop_after: int, in_a_row: int) -> tuple[int | None, int]:
    """Find where the first run of failed frames is complete.

    Parameters
    ----------
    in_a_row
        Failed frames in a row just before these.

    Returns
    -------
    The number of frames to read, or None for all; and the failed frames in a row at their end.
    """
    if not failed.any():
        return None, in_a_row if len(failed) == 0 else 0
    index = np.arange(len(failed))
    last_fine = np.maximum.accumulate(np.where(failed, -1 - in_a_row, index))
    run = index - last_fine
    complete = run >= stop_after
    if complete.any():
        return int(np.argmax(complete)) + 1, stop_after
    return None, int(run[-1])
