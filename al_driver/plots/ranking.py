"""A ranking of candidates: the property of each, by composition, with its uncertainty; which go on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from al_driver.plots.style import CLASS_COLOURS, FAINT, make_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 40
"""Compositions that have a row each; of more, those with the best candidates."""
_SPREAD = 0.3
"""Points of one row are spread by so much of its height, so that they are seen apart."""


@dataclass(frozen=True)
class RankedCandidates:
    """Candidates, the best first, then those that are left out.

    Attributes
    ----------
    formula
        Of each candidate, shape (n_candidates,).
    value, deviation
        The property, and its standard deviation where it is known, shape (n_candidates,).
    ranked, selected
        Whether it passed the filters, and whether it goes on, shape (n_candidates,).
    """

    formula: Sequence[str]
    value: NDArray[np.float64]
    deviation: NDArray[np.float64] | None
    ranked: NDArray[np.bool_]
    selected: NDArray[np.bool_]


def draw_ranking(title: str, axis: str, candidates: RankedCandidates) -> "Figure":
    """Draw the candidates of each composition in a row of its own.

    Parameters
    ----------
    axis
        The property and its unit.
    """
    formulas = list(dict.fromkeys(candidates.formula))[:MOST_ROWS]
    row = {formula: number for number, formula in enumerate(formulas)}
    figure = make_figure(title, width=7.2, height=1.9 + 0.3 * max(len(formulas), 4))
    axes = figure.subplots()
    shown = np.array([formula in row for formula in candidates.formula])
    spread = np.random.default_rng(0).uniform(-_SPREAD, _SPREAD, len(shown))
    height = np.array([row.get(formula, 0) for formula in candidates.formula]) + spread
    groups = {
        "left out by filters": (~candidates.ranked, FAINT, 10.0),
        "ranked": (candidates.ranked & ~candidates.selected, CLASS_COLOURS["accurate"], 14.0),
        "selected": (candidates.selected, CLASS_COLOURS["failed"], 34.0),
    }
    for name, (which, colour, size) in groups.items():
        mask = which & shown
        if not mask.any():
            continue
        if candidates.deviation is not None:
            axes.errorbar(
                candidates.value[mask], height[mask], xerr=candidates.deviation[mask], fmt="none", ecolor=FAINT, lw=0.8
            )
        label = f"{name} ({int(which.sum())})"
        axes.scatter(candidates.value[mask], height[mask], s=size, color=colour, label=label, zorder=3, lw=0)
    axes.set_yticks(range(len(formulas)), formulas)
    axes.set_ylim(len(formulas) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    hidden = len(set(candidates.formula)) - len(formulas)
    axes.set_xlabel(axis + (f"\n({hidden} more compositions are not shown)" if hidden else ""))
    figure.legend(loc="outside lower left", ncols=3)
    return figure
