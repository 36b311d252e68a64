"""A predicted property against known values: parity with uncertainties, and whether those hold, in its own unit.

An uncertainty σ promises that a share erf(z/√2) of the known values lie within z σ. The curve of coverage has that
share along and what was found up (V. Kuleshov, N. Fenner, S. Ermon, ICML 2018, arXiv 1807.00263): below the diagonal
intervals are too narrow, above it too wide.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, erfinv

from al_driver.plots.style import FAINT, INK, MEMBER_COLOURS, make_figure, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
MOST_BARS = 600
"""Of more crystals the bars would hide the points, and are left out."""


def draw_property_parity(title: str, axis: str, known: Floats, predicted: Floats, deviation: Floats | None) -> "Figure":
    """Draw predictions over known values, shape (n_crystals,) each, with a bar of a standard deviation each way.

    Parameters
    ----------
    axis
        The property and its unit.
    """
    figure = make_figure(title, width=5.6, height=5.6)
    axes = figure.subplots()
    low, high = float(min(known.min(), predicted.min())), float(max(known.max(), predicted.max()))
    margin = 0.05 * (high - low) or 1.0
    ends = (low - margin, high + margin)
    axes.plot(ends, ends, color=INK, linewidth=0.8, zorder=1)
    if deviation is not None and len(known) <= MOST_BARS:
        axes.errorbar(known, predicted, yerr=deviation, fmt="none", ecolor=FAINT, elinewidth=0.8, zorder=2)
    axes.scatter(known, predicted, s=14, color=MEMBER_COLOURS[0], alpha=0.7, linewidths=0, zorder=3)
    errors = predicted - known
    unit = axis[axis.rfind("(") + 1 : -1] if axis.endswith(")") else ""
    numbers = f"MAE {np.abs(errors).mean():.3g}, RMSE {np.sqrt(np.mean(errors**2)):.3g}"
    axes.set_title(f"{len(known):,} crystals: {numbers} {unit}".rstrip())
    axes.set_xlim(ends)
    axes.set_ylim(ends)
    axes.set_aspect("equal")
    axes.set_xlabel(f"known {axis}")
    axes.set_ylabel(f"predicted {axis}")
    return figure


def draw_calibration(title: str, errors: Floats, deviation: Floats) -> "Figure":
    """Draw how often intervals of all sizes hold, and the errors over the deviations; shape (n_crystals,) each."""
    figure = make_figure(title, width=8.6, height=4.4)
    coverage, spread = figure.subplots(1, 2)
    ratios = np.sort(np.abs(errors) / np.maximum(deviation, 1e-12))
    promised = np.linspace(0, 1, 101)[:-1]
    found = np.searchsorted(ratios, np.sqrt(2) * erfinv(promised), side="right") / len(ratios)
    error = np.sqrt(promised * (1 - promised) / len(ratios))
    coverage.fill_between(
        promised, promised - 2 * error, promised + 2 * error, color=FAINT, alpha=0.4, lw=0,
        label="±2 standard errors of a share",
    )  # fmt: skip
    coverage.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
    coverage.plot(
        promised, found, color=MEMBER_COLOURS[0], label=f"90 % promised, {percent(_share(ratios, 0.9))} found"
    )
    coverage.set_xlim(0, 1)
    coverage.set_ylim(0, 1)
    coverage.set_xlabel("share that an interval of normal errors holds")
    coverage.set_ylabel("share of known values in it")
    coverage.legend(loc="upper left")
    spread.scatter(deviation, np.abs(errors), s=12, color=MEMBER_COLOURS[0], alpha=0.7, linewidths=0)
    top = float(max(deviation.max(), 1e-12))
    line = np.array([0.0, 1.05 * top])
    for size, style in ((1.0, "-"), (1.645, "--")):
        spread.plot(line, size * line, color=INK, linewidth=0.8, linestyle=style,
                    label=f"{size:g} σ: {percent(float(erf(size / np.sqrt(2))))} below")  # fmt: skip
    spread.set_xlim(0, line[1])
    spread.set_ylim(bottom=0)
    spread.set_xlabel("uncertainty σ")
    spread.set_ylabel("|error|")
    spread.legend(loc="upper left")
    return figure


def _share(ratios: Floats, promised: float) -> float:
    """Return the share of errors within the interval of normal errors that promises a share."""
    return float(np.mean(ratios <= np.sqrt(2) * erfinv(promised)))
