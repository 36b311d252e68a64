"""Parity of energies and forces: each member of a committee against the labels. eV/atom, eV/Å.

Energies stand relative to the mean label of their formula: the atoms' own energies would hide every difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from al_driver.plots.style import MEMBER_COLOURS, make_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
MOST_COLUMNS = 4
MOST_POINTS = 2_000
"""Of more numbers the density is drawn in place of the points."""


@dataclass(frozen=True)
class Member:
    """One member against the labels.

    Attributes
    ----------
    energy_reference, energy_predicted
        eV/atom, shape (n_frames,); with ``formula``, numbers that tell the compositions apart, shape (n_frames,).
    force_reference, force_predicted
        Components, eV/Å, shape (n,).
    n_energies, n_forces
        How many there were before some were drawn at random.
    energy_rmse, force_rmse
        Of all of them, eV/atom and eV/Å.
    """

    name: str
    energy_reference: Floats
    energy_predicted: Floats
    formula: NDArray[np.int64]
    n_energies: int
    force_reference: Floats
    force_predicted: Floats
    n_forces: int
    energy_rmse: float
    force_rmse: float


def draw_parity(title: str, members: Sequence[Member]) -> "Figure":
    """Draw a panel for the energies and one for the forces of each member, all on the same axes."""
    n_columns = min(len(members), MOST_COLUMNS)
    n_rows = -(-len(members) // MOST_COLUMNS)
    figure = make_figure(title, width=1.0 + 2.75 * max(n_columns, 2), height=0.9 + 5.5 * n_rows)
    energies, forces = cast("NDArray[Any]", figure.subfigures(2, 1))
    first = members[0]
    n_formulas = len(np.unique(first.formula))
    relative = "less the mean label" + (" of its formula" if n_formulas > 1 else "")
    shown = [
        (
            _relative(member, member.energy_reference),
            _relative(member, member.energy_predicted),
            1e3 * member.energy_rmse,
        )
        for member in members
    ]
    labels = (f"label: energy {relative} (meV/atom)", "model (meV/atom)")
    _draw_rows(energies, n_rows, n_columns, members, shown, labels, "meV/atom")
    shown = [(member.force_reference, member.force_predicted, member.force_rmse) for member in members]
    labels = ("label: component of a force (eV/Å)", "model (eV/Å)")
    _draw_rows(forces, n_rows, n_columns, members, shown, labels, "eV/Å")
    notes = []
    for what, drawn, of in (
        ("energies", len(first.energy_reference), first.n_energies),
        ("force components", len(first.force_reference), first.n_forces),
    ):
        notes.append(f"{of:,} {what}" + (f" ({drawn:,} drawn at random are shown)" if drawn < of else ""))
    figure.supxlabel(f"{' and '.join(notes)}; RMSE of all of them", fontsize=8.5, x=0.01, ha="left", color="#555555")
    return figure


def _relative(member: Member, energies: Floats) -> Floats:
    """Return energies less the mean label of their formula, meV/atom."""
    _, places = np.unique(member.formula, return_inverse=True)
    means = np.bincount(places, weights=member.energy_reference) / np.bincount(places)
    relative: Floats = 1e3 * (energies - means[places])
    return relative


def _draw_rows(
    figure: Any,
    n_rows: int,
    n_columns: int,
    members: Sequence[Member],
    shown: Sequence[tuple[Floats, Floats, float]],
    labels: tuple[str, str],
    unit: str,
) -> None:
    """Draw a panel a member, all with one range."""
    decimals = 2 if unit == "meV/atom" else 4  # as `al status` and the log have them
    panels: NDArray[Any] = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True).ravel()
    every = [numbers for reference, predicted, _ in shown for numbers in (reference, predicted) if len(numbers)]
    low, high = min(map(np.min, every)), max(map(np.max, every))
    margin = 0.05 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    for index, (axes, member, (reference, predicted, rmse)) in enumerate(zip(panels, members, shown, strict=False)):
        _draw_panel(axes, reference, predicted, limits, MEMBER_COLOURS[index % len(MEMBER_COLOURS)])
        # above the panel: points may lie anywhere in it
        axes.set_title(f"{member.name}\nRMSE {rmse:.{decimals}f} {unit}")
    for axes in panels[len(members) :]:
        axes.set_axis_off()
    figure.supxlabel(labels[0], fontsize=9.0)
    figure.supylabel(labels[1], fontsize=9.0)


def _draw_panel(axes: "Axes", reference: Floats, predicted: Floats, limits: tuple[float, float], colour: str) -> None:
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    axes.plot(limits, limits, color="#888888", linewidth=0.8, zorder=1)
    if len(reference) > MOST_POINTS:
        shades = LinearSegmentedColormap.from_list("member", ["#E8E8E8", colour, "#111111"])
        counts, x_edges, y_edges = np.histogram2d(reference, predicted, bins=110, range=(limits, limits))
        shown = np.ma.masked_equal(counts.T, 0)
        axes.pcolormesh(x_edges, y_edges, shown, cmap=shades, norm=LogNorm(0.7, max(counts.max(), 2)), zorder=2)
    else:
        size = 14 if len(reference) < 300 else 6
        axes.scatter(reference, predicted, s=size, color=colour, alpha=0.55, linewidths=0, zorder=2)
    axes.set_xlim(limits)
    axes.set_ylim(limits)
    axes.set_aspect("equal")
