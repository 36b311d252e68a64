"""Whether the bounds on force errors hold: the error of each audit over the bound it had before it was labelled. eV/Å.

Points below the diagonal kept to their bound. Audits without one, for want of audits or because their score lay above
all that were calibrated, stand at their errors along the right edge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from al_driver.plots.style import FAINT, INK, MEMBER_COLOURS, make_figure, number, percent, spreads, use_log

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class AuditPoint:
    """A labelled audit frame."""

    iteration: int
    error: float
    """The largest force error among its atoms, under the model that explored."""
    bound: float | None
    """None where there was none."""


def draw_coverage(title: str, audits: Sequence[AuditPoint], target: float, coverage: float) -> "Figure":
    """Draw the audits of all iterations, those of the newest apart."""
    figure = make_figure(title, height=5.2)
    axes = figure.subplots()
    bounded = [audit for audit in audits if audit.bound is not None]
    newest = max(audit.iteration for audit in audits)
    numbers = [audit.error for audit in audits] + [audit.bound for audit in bounded if audit.bound is not None]
    low, high = min(number for number in [*numbers, target] if number > 0), max([*numbers, target])
    for name, colour, own in (
        ("earlier iterations", FAINT, [audit for audit in bounded if audit.iteration < newest]),
        (f"iteration {newest}", MEMBER_COLOURS[0], [audit for audit in bounded if audit.iteration == newest]),
    ):
        held = sum(audit.error <= (audit.bound or 0.0) for audit in own)
        label = f"{name}: {held} of {len(own)} hold" + (f" ({percent(held / len(own))})" if own else "")
        axes.plot([audit.bound or 0.0 for audit in own], [audit.error for audit in own], "o", color=colour, label=label,
                  markersize=5, markeredgecolor="white", markeredgewidth=0.5)  # fmt: skip
    unbounded = [audit for audit in audits if audit.bound is None]
    if unbounded:
        axes.plot(
            np.ones(len(unbounded)), [audit.error for audit in unbounded], "_", transform=axes.get_yaxis_transform(),
            clip_on=False, color=INK, markersize=9, label=f"without a bound: {len(unbounded)}",
        )  # fmt: skip
    ends = (low / 1.3, 1.3 * high)
    axes.plot(ends, ends, color=INK, linewidth=1.0, label=f"error = bound; promised to {percent(coverage)}")
    axes.axhline(target, color=INK, linewidth=1.0, linestyle="--", label=f"target {number(target)}")
    for axis in ("x", "y") if spreads(low, high) else ():
        use_log(axes, axis, low, high)
    axes.set_xlim(ends)
    axes.set_ylim(ends)
    axes.set_xlabel("bound on the largest force error in the frame (eV/Å)")
    axes.set_ylabel("largest force error in the frame (eV/Å)")
    figure.legend(loc="outside lower left", ncols=2, columnspacing=1.4, handletextpad=0.5)
    return figure
