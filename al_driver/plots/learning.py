"""The learning curve of a run: errors of the committee, and how sure it was, iteration after iteration. eV, Å."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from al_driver.plots.style import CLASS_COLOURS, FAINT, INK, MEMBER_COLOURS, make_figure, say_nothing, spreads, use_log
from al_driver.query.window import CLASS_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LABELS = 16
"""So many iterations are named below the axis."""
DATA_NAMES = {"valid": "validation", "train": "training"}


@dataclass(frozen=True)
class Point:
    """One iteration, or the final model."""

    name: str
    energy_rmse: tuple[float, ...]
    """Of each member, eV/atom."""
    force_rmse: tuple[float, ...]
    """Of each member, eV/Å."""
    on: str
    """``valid`` or ``train``."""
    n_frames: int | None = None
    """Frames that the errors are of."""
    n_train: int | None = None
    """Frames that the members learnt from."""
    counts: tuple[int, ...] | None = None
    """Accurate, candidate and failed frames; None before the query."""


def draw_learning(title: str, points: Sequence[Point]) -> "Figure":
    """Draw the errors of each member, and the shares of the three classes, over the iterations."""
    figure = make_figure(title, height=6.4, width=max(7.2, 1.4 + 0.34 * min(len(points), 40)))
    energy, force, shares = figure.subplots(3, 1, sharex=True, height_ratios=(1, 1, 0.8))
    _draw_errors(energy, [np.array(point.energy_rmse) * 1e3 for point in points], "energy RMSE\n(meV/atom)")
    _draw_errors(force, [np.array(point.force_rmse) for point in points], "force RMSE\n(eV/Å)")
    energy.set_title(f"errors on {_describe_data(points)}", fontsize=9.0)
    if len(points[-1].force_rmse) > 1:
        energy.legend(loc="best")
    _draw_shares(shares, points)
    every = -(-len(points) // MOST_LABELS)
    ticks = [index for index in range(len(points)) if index % every == 0 or index == len(points) - 1]
    named = [points[index] for index in ticks]
    with_frames = [p.name if p.n_train is None else f"{p.name}\n{p.n_train:,}" for p in named]
    shares.set_xticks(ticks, with_frames)
    counted = any(point.n_train is not None for point in named)
    shares.set_xlabel("iteration" + (", and frames it was trained on" if counted else ""))
    shares.set_xlim(-0.6, max(len(points), 2) - 0.4)
    return figure


def _describe_data(points: Sequence[Point]) -> str:
    """Return which data the errors are of, and how many frames the last one had."""
    kinds = list(dict.fromkeys(DATA_NAMES[point.on] for point in points))
    last = points[-1].n_frames
    frames = "" if last is None or len(kinds) > 1 else f" ({last:,} frames)"
    warning = ", which says little about new structures" if "training" in kinds else ""
    return f"{' and '.join(kinds)} data{frames}{warning}"


def _draw_errors(axes: "Axes", errors: list[NDArray[np.float64]], label: str) -> None:
    for index, members in enumerate(errors):
        axes.plot(np.full(len(members), index), members, "o", color=FAINT, markersize=4.5, zorder=1)
    axes.plot([], [], "o", color=FAINT, markersize=4.5, label="each member")
    means = [members.mean() for members in errors]
    axes.plot(means, "o-", color=MEMBER_COLOURS[0], markersize=4.5, label="mean of the committee")
    every = np.concatenate(errors)
    if spreads(every.min(), every.max()):
        use_log(axes, "y", every.min(), every.max())
    else:
        axes.set_ylim(0, 1.15 * every.max() if every.max() > 0 else 1)
    axes.set_ylabel(label)
    axes.annotate(
        f"{means[-1]:.3g}", (len(means) - 1, means[-1]), (7, 0), textcoords="offset points", va="center", color=INK,
        fontweight="bold",
    )  # fmt: skip


def _draw_shares(axes: "Axes", points: Sequence[Point]) -> None:
    counted: dict[int, tuple[int, ...]] = {
        index: point.counts for index, point in enumerate(points) if point.counts is not None and any(point.counts)
    }
    if not counted:
        say_nothing(axes, "no frame has been scored")
        return
    numbers = np.array(list(counted.values()), dtype=np.float64)
    percent = 100 * numbers / numbers.sum(axis=1, keepdims=True)
    below = np.zeros(len(counted))
    bars: dict[str, Any] = {"width": 0.62, "linewidth": 0}
    for name, heights in zip(CLASS_NAMES, percent.T, strict=True):
        axes.bar(list(counted), heights, bottom=below, color=CLASS_COLOURS[name], label=name, **bars)
        below += heights
    axes.set_ylim(0, 100)
    axes.set_ylabel("explored frames\n(%)")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.1)
