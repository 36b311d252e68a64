"""First data: energies over volume, and how large the forces are. eV/atom, Å³/atom, eV/Å."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from al_driver.plots.style import INK, MEMBER_COLOURS, make_figure, say_nothing, spreads, use_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Labels:
    """Labelled frames of one formula."""

    formula: str
    kind: str
    """``training`` or ``validation``."""
    energy: Floats
    """eV/atom, shape (n_frames,)."""
    volume: Floats | None
    """Å³/atom, shape (n_frames,); None for molecules, which have none."""
    force: Floats
    """Size of the force on an atom, eV/Å, shape (n,)."""


def draw_labels(title: str, systems: Sequence[Labels]) -> "Figure":
    """Draw energies over volume, a colour a formula, and the histogram of forces."""
    figure = make_figure(title, width=9.6, height=4.2)
    left, right = figure.subplots(1, 2)
    _draw_energies(left, systems)
    _draw_forces(right, systems)
    return figure


def _draw_energies(axes: "Axes", systems: Sequence[Labels]) -> None:
    if all(system.volume is None for system in systems):
        say_nothing(axes, "molecules have no volume")
        return
    formulas = list(dict.fromkeys(system.formula for system in systems))
    lowest = {name: min(s.energy.min() for s in systems if s.formula == name) for name in formulas}
    for system in systems:
        if system.volume is None:
            continue
        colour = MEMBER_COLOURS[formulas.index(system.formula) % len(MEMBER_COLOURS)]
        is_valid = system.kind == "validation"
        axes.scatter(
            system.volume, 1e3 * (system.energy - lowest[system.formula]), s=22, alpha=0.75, linewidths=1.2,
            facecolors="none" if is_valid else colour, edgecolors=colour,
            label=f"{system.formula}, {system.kind} ({len(system.energy):,})",
        )  # fmt: skip
    axes.set_xlabel("volume (Å³/atom)")
    axes.set_ylabel(f"energy above the lowest{' of its formula' if len(formulas) > 1 else ''} (meV/atom)")
    if len(axes.collections) <= 2 * len(MEMBER_COLOURS):
        axes.legend(loc="best")


def _draw_forces(axes: "Axes", systems: Sequence[Labels]) -> None:
    sizes = np.concatenate([system.force for system in systems])
    positive = sizes[sizes > 1e-6]  # by symmetry the forces of a perfect crystal are zero but for rounding
    if len(positive) == 0:
        say_nothing(axes, "every force is zero")
        return
    first, last = float(np.quantile(positive, 0.001)), float(positive.max())
    n_bins = int(np.clip(2 * np.sqrt(len(positive)), 12, 60))
    is_log = spreads(first, last)
    bins = np.geomspace(first, last * 1.001, n_bins) if is_log else np.linspace(0, last * 1.001, n_bins)
    axes.hist(np.clip(positive, bins[0], None), bins=list(bins), color=MEMBER_COLOURS[0])
    if is_log:
        use_log(axes, "x", bins[0], bins[-1])
    rms = float(np.sqrt(np.mean(sizes**2)))
    axes.axvline(rms, color=INK, linestyle="--", linewidth=1.0)
    axes.annotate(f"rms {rms:.3g}", (rms, 1.0), (3, 1), xycoords=("data", "axes fraction"), textcoords="offset points")
    axes.set_xlabel("force on an atom (eV/Å)")
    axes.set_ylabel("atoms")
    if len(positive) < len(sizes):
        axes.set_title(f"{len(sizes) - len(positive):,} of {len(sizes):,} forces are zero, not shown", fontsize=8.5)
