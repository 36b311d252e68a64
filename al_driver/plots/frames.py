"""The frames of an iteration, counted for pictures: histograms and densities, and the selected frames themselves.

``frames.csv`` is read twice, first for the ranges, then for the counts, so that memory does not grow with its rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from al_driver.plots.style import spreads
from al_driver.query.table import TableRows, join_rows, read_table
from al_driver.query.window import CLASS_NAMES

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

MOST_ROWS = 12
"""So many values of a temperature or pressure have a row each; more are put into bins."""
MOST_BINS = 60
MOST_SELECTED = 20_000
"""Points that are drawn; of more, the first."""


@dataclass(frozen=True)
class Axis:
    """Where a quantity stands in a picture: a few values, each a row of its own, or bins of equal width.

    Attributes
    ----------
    values
        The values, or the centres of the bins, shape (n,).
    edges
        Shape (n + 1,), in the units of `place`.
    has_rows
        Whether each value has a row: `place` is then its number.
    """

    values: Floats
    edges: Floats
    has_rows: bool

    def index(self, numbers: Floats) -> Counts:
        """Return the row or bin of each number."""
        if self.has_rows:
            return np.searchsorted(self.values, numbers)
        inner: Counts = np.searchsorted(self.edges[1:-1], numbers, side="right")
        return inner

    def place(self, numbers: Floats) -> Floats:
        """Return where on the axis each number stands."""
        return self.index(numbers).astype(np.float64) if self.has_rows else numbers


@dataclass
class _Seen:
    """The values of a quantity, as far as an axis needs them."""

    smallest: float = np.inf
    largest: float = -np.inf
    few: set[float] = field(default_factory=set)
    """The values, until there are too many."""

    def add(self, numbers: Floats) -> None:
        numbers = numbers[np.isfinite(numbers)]
        if len(numbers) == 0:
            return
        self.smallest, self.largest = min(self.smallest, numbers.min()), max(self.largest, numbers.max())
        if len(self.few) <= MOST_ROWS:
            self.few.update(np.unique(numbers)[: MOST_ROWS + 1].tolist())

    def axis(self) -> Axis | None:
        """Return the axis; None where there was no value."""
        if not self.few:
            return None
        if len(self.few) <= MOST_ROWS:
            return Axis(np.array(sorted(self.few)), np.arange(-0.5, len(self.few), 1.0), True)
        edges = np.linspace(self.smallest, self.largest, MOST_BINS + 1)
        return Axis((edges[1:] + edges[:-1]) / 2, edges, False)


@dataclass
class _Steps:
    """Steps lie on a lattice: bins that hold unequally many points of it would show stripes that mean nothing."""

    first: int = 0
    last: int = 0
    stride: int = 0

    def add(self, steps: Counts) -> None:
        if not self.stride:
            self.first = self.last = int(steps[0])
        self.first, self.last = min(self.first, int(steps.min())), max(self.last, int(steps.max()))
        self.stride = int(np.gcd.reduce([self.stride, *np.unique(np.abs(np.diff(steps))), self.last - self.first]))

    def axis(self) -> Axis:
        stride = self.stride or 1
        n_points = (self.last - self.first) // stride + 1
        per_bin = -(-n_points // MOST_BINS)
        n_bins = -(-n_points // per_bin)
        edges = self.first + stride * (per_bin * np.arange(n_bins + 1.0) - 0.5)
        return Axis((edges[1:] + edges[:-1]) / 2, edges, False)


@dataclass(frozen=True)
class FrameCensus:
    """What the pictures of an iteration's frames show.

    Attributes
    ----------
    bins
        Edges of the scores' bins; the window's bounds are among them, shape (n_bins + 1,).
    scores
        Frames by temperature, class and bin, shape (n_temperatures, 3, n_bins).
    log_scores
        Whether the bins are equally wide on a logarithmic axis.
    not_finite
        Frames without a finite score; they are in no bin.
    by_step
        Frames by temperature and step, shape (n_temperatures, n_steps).
    by_pressure
        Frames by temperature and pressure, shape (n_temperatures, n_pressures); None where no pressure was set.
    by_class
        Frames by temperature and class, those without a finite score included, shape (n_temperatures, 3).
    n_selected
        All of them, those that are not drawn included.
    """

    bins: Floats
    scores: Counts
    log_scores: bool
    not_finite: int
    temperature: Axis
    step: Axis
    pressure: Axis | None
    by_step: Counts
    by_pressure: Counts | None
    by_class: Counts
    selected: TableRows
    n_selected: int

    @property
    def counts(self) -> Counts:
        """Frames of each class, shape (3,)."""
        total: Counts = self.by_class.sum(axis=0)
        return total


def take_census(path: Path, bounds: Sequence[float]) -> FrameCensus | None:
    """Count the frames of a ``frames.csv``; None when it has none.

    Parameters
    ----------
    bounds
        Of the window of the candidates, rising.

    Raises
    ------
    StateMismatch
        If the file is missing or damaged.
    """
    temperatures, pressures, steps = _Seen(), _Seen(), _Steps()
    smallest, largest, n_frames = np.inf, -np.inf, 0
    for rows in read_table(path):
        n_frames += len(rows.step)
        temperatures.add(rows.temperature)
        pressures.add(rows.pressure)
        steps.add(rows.step)
        positive = rows.score[np.isfinite(rows.score) & (rows.score > 0)]
        if len(positive):
            smallest, largest = min(smallest, float(positive.min())), max(largest, float(positive.max()))
    temperature = temperatures.axis()
    if temperature is None:
        return None
    bins, log_scores = _score_bins(smallest, largest, bounds, n_frames)
    return _count(path, bins, log_scores, temperature, steps.axis(), pressures.axis())


def _score_bins(smallest: float, largest: float, bounds: Sequence[float], n_frames: int) -> tuple[Floats, bool]:
    """Return edges that show every score and the whole window, and whether they are equally wide in the logarithm."""
    first, last = min([smallest, *bounds]), max([largest, *bounds])
    if not first < last:  # no score, or one, and no bound
        first, last = (0.5 * first, 1.5 * first) if 0 < first < np.inf else (0.5, 1.5)
    log_scores = spreads(first, last)
    first, last = (first / 1.3, last * 1.3) if log_scores else (max(first - 0.1 * (last - first), 0.0), last * 1.05)
    ends = [first, *bounds, last]
    scale = np.log if log_scores else np.asarray
    lengths = np.diff(scale(np.array(ends)))
    n_bins = np.clip(2.5 * np.sqrt(n_frames), 24, 90)
    numbers = np.maximum(np.rint(n_bins * lengths / lengths.sum()), 1).astype(int)
    make = np.geomspace if log_scores else np.linspace
    parts = [make(a, b, n + 1)[:-1] for a, b, n in zip(ends[:-1], ends[1:], numbers, strict=True)]
    return np.concatenate([*parts, [last]]), log_scores


def _count(
    path: Path, bins: Floats, log_scores: bool, temperature: Axis, step: Axis, pressure: Axis | None
) -> FrameCensus:
    n_temperatures = len(temperature.values)
    scores = np.zeros((n_temperatures, len(CLASS_NAMES), len(bins) - 1), dtype=np.int64)
    by_step = np.zeros((n_temperatures, len(step.values)), dtype=np.int64)
    by_pressure = None if pressure is None else np.zeros((n_temperatures, len(pressure.values)), dtype=np.int64)
    by_class = np.zeros((n_temperatures, len(CLASS_NAMES)), dtype=np.int64)
    chosen: list[TableRows] = []
    not_finite = n_selected = 0
    for rows in read_table(path):
        warm = temperature.index(rows.temperature)
        finite = np.isfinite(rows.score)
        place = np.clip(np.searchsorted(bins, rows.score[finite], side="right") - 1, 0, len(bins) - 2)
        np.add.at(scores, (warm[finite], rows.classes[finite], place), 1)
        np.add.at(by_step, (warm, step.index(rows.step.astype(np.float64))), 1)
        if pressure is not None and by_pressure is not None:
            pressed = np.isfinite(rows.pressure)
            np.add.at(by_pressure, (warm[pressed], pressure.index(rows.pressure[pressed])), 1)
        np.add.at(by_class, (warm, rows.classes), 1)
        not_finite += int(np.count_nonzero(~finite))
        if not chosen or n_selected < MOST_SELECTED:
            chosen.append(rows.take(rows.selected))
        n_selected += int(np.count_nonzero(rows.selected))
    return FrameCensus(
        bins, scores, log_scores, not_finite, temperature, step, pressure, by_step, by_pressure, by_class,
        join_rows(chosen).take(slice(MOST_SELECTED)), n_selected,
    )  # fmt: skip
