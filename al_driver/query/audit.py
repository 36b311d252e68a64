"""Audit frames: drawn at random from what was explored, so that their errors speak for all frames.

Of each structure so many frames are drawn, all sound ones being equally likely whatever their class, but at most one
from each stretch of a trajectory: two frames of one stretch would say the same twice. A stretch is twice the integrated
autocorrelation time of the trajectory's scores, τ = 1/2 + Σ ρ(k), so that a trajectory holds as many stretches as it is
worth independent frames. The sum ends at the first k ≥ 5 τ(k) (N. Madras & A. D. Sokal, J. Stat. Phys. 50, 109 (1988)).
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from al_driver.query.lines import ENTRY, Entries
from al_driver.query.window import Scored

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
WINDOW = 5.0
"""The sum over the autocorrelation ends at so many times the correlation time it has given so far."""


def correlation_time(series: Floats) -> float:
    """Return the integrated autocorrelation time of an evenly spaced series, in its spacing; 0.5 for white noise.

    A series that does not change tells nothing: half its length, so that all of it is one stretch.
    """
    n = len(series)
    deviations = series - series.mean() if n else series
    if n < 2 or not np.ptp(series) > 1e-12 * np.abs(series).max():
        return max(n, 1) / 2
    spectrum = np.fft.rfft(deviations, 1 << (2 * n - 1).bit_length())  # zeros behind: no circle
    correlation = np.fft.irfft(spectrum * spectrum.conj())[:n]
    tau = 0.5 + np.cumsum(correlation[1:] / correlation[0])
    closed = np.arange(1, n) >= WINDOW * tau
    return max(float(tau[np.argmax(closed)] if closed.any() else tau[-1]), 0.5)


@dataclass
class Course:
    """The frames of one trajectory, gathered block by block."""

    steps: list[Ints] = field(default_factory=list)
    scores: list[Floats] = field(default_factory=list)
    marks: list[Ints] = field(default_factory=list)

    def add(self, scored: Scored, marks: Ints) -> None:
        """Add the sound frames of a block; ``marks`` as in `selection.Census.add`."""
        self.steps.append(scored.rows.step[scored.sound])
        self.scores.append(scored.score[scored.sound])
        self.marks.append(marks[scored.sound])

    def stretches(self, task: int, rng: np.random.Generator) -> Entries:
        """Draw a rank for each frame, and return the first of each stretch, whose rank is the smallest.

        Frames taken in the order of these ranks are those of a draw from all frames in which each frame that shares
        its stretch with one drawn before is passed over.
        """
        if not self.scores:
            return np.empty(0, dtype=ENTRY)
        steps, marks = np.concatenate(self.steps), np.concatenate(self.marks)
        scores: Floats = np.concatenate(self.scores)
        length = math.ceil(2 * correlation_time(scores))
        rank = rng.random(len(scores))
        stretch = np.arange(len(scores)) // length
        order = np.lexsort((rank, stretch))
        first = order[np.diff(stretch[order], prepend=-1) > 0]
        entries = np.empty(len(first), dtype=ENTRY)
        for name, values in (("rank", rank), ("step", steps), ("score", scores), ("mark", marks)):
            entries[name] = values[first]
        entries["task"] = task
        return entries
