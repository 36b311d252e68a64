"""The hull of an intercalation compound over the content of its ion, and its voltage. eV, V."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from al_driver.plots.style import INK, MEMBER_COLOURS, make_figure
from al_driver.screen.intercalation import Series

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_hull(title: str, ion: str, columns: Mapping[str, Sequence[Series]]) -> "Figure":
    """Draw the formation energies of every series over the content of the ion, a panel for each column of energies."""
    figure = make_figure(title, width=1.2 + 3.6 * len(columns), height=4.4)
    for axes, (name, several) in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns.items(), strict=True):
        for number, series in enumerate(several):
            colour = MEMBER_COLOURS[number % len(MEMBER_COLOURS)]
            share, height = series.n_ions / series.full, 1e3 * series.formation()
            axes.scatter(share, height, s=12, color=colour, alpha=0.45, linewidths=0)
            own = [int(((series.n_ions == n) & (series.energies == energy)).argmax()) for n, energy in series.hull()]
            axes.plot(share[own], height[own], "o-", color=colour, markersize=5, label=series.host)
        axes.axhline(0, color=INK, linewidth=0.8, zorder=0)
        axes.set_title(name)
        axes.set_xlabel(f"{ion} content x, of the most")
        axes.set_ylabel(f"energy against both ends (meV per {ion} place)")
        axes.legend(loc="best")
    return figure


def draw_voltage(
    title: str, ion: str, curves: Mapping[str, Sequence[tuple[str, Sequence[tuple[float, float, float]]]]]
) -> "Figure":
    """Draw the voltage over the content of the ion: a panel for each column, a line of steps for each host.

    Parameters
    ----------
    curves
        Of each column: hosts, and their steps as `Series.voltages` returns them.
    """
    figure = make_figure(title, width=1.2 + 3.6 * len(curves), height=4.2)
    panels = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for axes, (name, hosts) in zip(panels, curves.items(), strict=True):
        for number, (host, steps) in enumerate(hosts):
            x = [end for first, last, _ in steps for end in (first, last)]
            y = [voltage for _, _, voltage in steps for _ in range(2)]
            axes.plot(x, y, color=MEMBER_COLOURS[number % len(MEMBER_COLOURS)], label=host)
        axes.set_title(name)
        axes.set_xlim(0, 1)
        axes.set_xlabel(f"{ion} content x, of the most")
        axes.legend(loc="best")
    panels[0].set_ylabel(f"voltage against {ion} (V)")
    return figure
