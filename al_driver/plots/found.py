"""What the labels of a screening found: each value in the order of labelling, and when the wanted ones were there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from al_driver.plots.style import CLASS_COLOURS, FAINT, INK, make_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMES = 16
"""So many iterations are named on the axis."""


@dataclass(frozen=True)
class Found:
    """Labels in the order in which they were asked for.

    Attributes
    ----------
    value
        Shape (n_labels,); NaN where a candidate gave none.
    best
        The best value up to each, shape (n_labels,); NaN before the first.
    wanted
        Whether it is one of those that were looked for, shape (n_labels,).
    ends
        How many labels there were at the end of each iteration.
    names
        Of the iterations.
    n_blind
        How many labels were chosen before anything had been learnt.
    """

    value: NDArray[np.float64]
    best: NDArray[np.float64]
    wanted: NDArray[np.bool_]
    ends: Sequence[int]
    names: Sequence[str]
    n_blind: int

    @property
    def shares(self) -> NDArray[np.float64]:
        """The share of the wanted that was found with 0, 1 … labels, shape (n_labels + 1,)."""
        return np.concatenate([[0.0], np.cumsum(self.wanted) / max(int(self.wanted.sum()), 1)])

    def labels_for(self, share: float) -> int:
        """Return with how many labels a share of the wanted was found."""
        return int(np.argmax(self.shares >= share - 1e-9))


def draw_found(title: str, axis: str, found: Found) -> "Figure":
    """Draw the values and the best of them above, the share of the wanted that was found below.

    Parameters
    ----------
    axis
        The property and its unit.
    """
    figure = make_figure(title, height=5.6)
    values, shares = figure.subplots(2, 1, sharex=True, height_ratios=(1.2, 1))
    _draw_values(values, axis, found)
    n_labels = len(found.value)
    shares.plot(range(n_labels + 1), 100 * found.shares, drawstyle="steps-post", color=CLASS_COLOURS["failed"])
    shares.plot([0, n_labels], [0, 100], "--", color=INK, lw=0.9, label="the same labels in a random order")
    shares.set_ylabel(f"found of the {int(found.wanted.sum())} best\nthat were labelled (%)")
    shares.set_ylim(0, 103)
    shares.legend(loc="lower right")
    every = -(-len(found.ends) // MOST_NAMES)
    starts = [0, *found.ends[:-1]]
    shares.set_xticks(
        starts[::every], [f"{start}\n({name})" for start, name in zip(starts, found.names, strict=True)][::every]
    )
    shares.set_xlabel("labels (iteration that begins there)")
    shares.set_xlim(0, n_labels + 0.5)
    return figure


def _draw_values(axes: "Axes", axis: str, found: Found) -> None:
    number = np.arange(1, len(found.value) + 1)
    if found.n_blind:
        axes.axvspan(0, found.n_blind + 0.5, color=FAINT, alpha=0.25, lw=0)
        axes.annotate(
            "before anything was learnt",
            (0.4, 1.0),
            (0, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="bottom",
            color="#777777",
            fontsize=8.0,
        )
    groups = {
        "labelled": (~found.wanted, CLASS_COLOURS["accurate"]),
        "among the best": (found.wanted, CLASS_COLOURS["failed"]),
    }
    for name, (which, colour) in groups.items():
        axes.plot(number[which], found.value[which], "o", color=colour, markersize=4.0, label=name)
    axes.plot(number, found.best, drawstyle="steps-post", color=INK, lw=1.2, label="the best so far")
    if failed := int(np.isnan(found.value).sum()):
        axes.plot([], [], " ", label=f"({failed} gave no value)")
    axes.set_ylabel(axis)
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=4)
