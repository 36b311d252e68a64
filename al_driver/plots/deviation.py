"""The distribution of an iteration's scores, with the window that decides which frames are labelled.

Scores in the units of the metric. A bin never lies across a bound of the window.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from al_driver.plots.frames import Axis, FrameCensus
from al_driver.plots.style import CLASS_COLOURS, FAINT, INK, make_figure, number, percent, use_log
from al_driver.query.params import Metric, Uncertainty
from al_driver.query.window import CANDIDATE, CLASS_NAMES, FAILED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_METRICS: dict[Metric, str] = {
    "max_force": "largest force deviation in the frame (eV/Å)",
    "mean_force": "mean force deviation of the frame (eV/Å)",
    "max_virial": "largest virial deviation of the frame (eV/atom)",
    "relative_force": "largest relative force deviation in the frame (no unit)",
}


_JOINED = 5
"""Bins of temperature that make one strip; it divides their number."""


@dataclass(frozen=True)
class Bounds:
    """The window, and what is measured."""

    metric: Metric
    lower: float | None
    """None where there is none: a query with a target whose errors have no bound yet."""
    upper: float | None
    """None where only the guard is one."""
    uncertainty: Uncertainty = "committee"

    @property
    def label(self) -> str:
        """What a score is, for an axis."""
        label = _METRICS[self.metric]
        return label if self.uncertainty == "committee" else label.replace("deviation", "Kalman uncertainty")

    @property
    def known(self) -> dict[str, float]:
        """Those that there are, by name, in rising order."""
        return {name: bound for name, bound in (("lower", self.lower), ("upper", self.upper)) if bound is not None}


def draw_deviation(title: str, census: FrameCensus, bounds: Bounds) -> "Figure":
    """Draw the histogram of the scores by class, and below it by temperature where there are several."""
    n_rows = len(census.temperature.values)
    strips = 0.0 if n_rows == 1 else 0.4 + 0.24 * n_rows if census.temperature.has_rows else 2.4
    figure = make_figure(f"{title}, {census.counts.sum():,} frames", height=4.3 + strips)
    if strips:
        top, last = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, strips))
        _draw_temperatures(last, census)
    else:
        top = last = figure.subplots()
    _draw_histogram(top, census)
    figure.legend(loc="outside lower left", ncols=5, columnspacing=1.4, handletextpad=0.5)
    if census.log_scores:
        use_log(last, "x", census.bins[0], census.bins[-1])
    last.set_xlim(census.bins[0], census.bins[-1])
    last.set_xlabel(bounds.label)
    for axes in (top, last):
        for bound in bounds.known.values():
            axes.axvline(bound, color=INK, linewidth=1.0, linestyle="--")
    for name, bound in bounds.known.items():
        top.annotate(
            f"{name} {number(bound)}", (bound, 1.0), (3, 1), xycoords=("data", "axes fraction"),
            textcoords="offset points", fontsize=8.5,
        )  # fmt: skip
    return figure


def _draw_histogram(axes: "Axes", census: FrameCensus) -> None:
    from matplotlib.ticker import MaxNLocator

    total = max(int(census.counts.sum()), 1)
    by_class = census.scores.sum(axis=0)
    peaks = by_class.max(axis=1)
    is_log = peaks.max(initial=0) > 50 * peaks[peaks > 0].min(initial=1)
    below = np.zeros(len(census.bins) - 1)
    for name, count, heights in zip(CLASS_NAMES, census.counts, by_class, strict=True):
        axes.stairs(
            below + heights, census.bins, baseline=np.maximum(below, 0.5) if is_log else below, fill=True,
            color=CLASS_COLOURS[name], label=f"{name}: {count:,} ({percent(count / total)})",
        )  # fmt: skip
        below = below + heights
    if census.n_selected:
        axes.plot(
            np.clip(census.selected.score, census.bins[0], census.bins[-1]), np.full(len(census.selected.step), -0.025),
            "|", transform=axes.get_xaxis_transform(), clip_on=False, color=INK, markersize=6, markeredgewidth=0.8,
            label=f"selected: {census.n_selected:,}",
        )  # fmt: skip
        axes.tick_params(axis="x", pad=9)
    if is_log:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.5)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))
    if census.not_finite:
        axes.plot([], [], " ", label=f"not finite, not shown: {census.not_finite:,}")
    axes.set_ylabel("frames")
    axes.margins(y=0.12)


def _draw_temperatures(axes: "Axes", census: FrameCensus) -> None:
    """Draw each temperature's distribution as a strip in the colours of the classes, each up to its own maximum."""
    from matplotlib.colors import to_rgb

    heights, edges = census.scores.sum(axis=1), census.temperature.edges
    if not census.temperature.has_rows:
        heights, edges = heights.reshape(-1, _JOINED, len(census.bins) - 1).sum(axis=1), edges[::_JOINED]
    density = heights / np.diff(np.log(census.bins) if census.log_scores else census.bins)
    strength = density / np.maximum(density.max(axis=1, keepdims=True), 1e-300)
    strength = np.where(heights > 0, 0.12 + 0.88 * strength, 0.0)[:, :, None]
    classes = np.argmax(census.scores.sum(axis=0), axis=0)
    colours = np.array([to_rgb(CLASS_COLOURS[name]) for name in CLASS_NAMES])[classes]
    axes.pcolormesh(census.bins, edges, 1.0 - strength * (1.0 - colours))
    axes.set_ylabel("temperature (K)")
    axes.grid(visible=False)
    set_ticks(axes, "y", census.temperature)
    if census.temperature.has_rows:
        _say_shares(axes, census)


def _say_shares(axes: "Axes", census: FrameCensus) -> None:
    """Write beside each row which share of its frames is not accurate."""
    unsure = census.by_class[:, [CANDIDATE, FAILED]].sum(axis=1) / np.maximum(census.by_class.sum(axis=1), 1)
    for row, share in enumerate(unsure):
        axes.annotate(
            f"{percent(share)} unsure", (1.0, row), (4, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", fontsize=8.0, color="#555555", annotation_clip=False,
        )  # fmt: skip
    for edge in census.temperature.edges[1:-1]:
        axes.axhline(edge, color=FAINT, linewidth=0.6)


def set_ticks(axes: "Axes", which: str, axis: Axis) -> None:
    """Label the rows of an axis with their values; bins keep a scale of numbers."""
    own = axes.yaxis if which == "y" else axes.xaxis
    if axis.has_rows:
        own.set_ticks(range(len(axis.values)), [number(value) for value in axis.values])
