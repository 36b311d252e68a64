"""Where the selected frames lie among all frames: step, temperature, and pressure where it is swept. K, bar."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from al_driver.plots.deviation import Bounds, set_ticks
from al_driver.plots.frames import Axis, FrameCensus
from al_driver.plots.style import INK, make_figure, number, spreads

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vP"
OTHERS = "X"
_SHADE = 0.18
"""The densest bin in the range of greys from white to black: light, so that every point is seen on it."""
_LETTER, _HANDLE = 0.072, 0.7
"""Inches that a letter and a marker of the legend take."""
_JITTER = 0.32
"""Points of one row are spread by so much of its height, so that they are seen apart."""
_FEW = 10
"""So few points are seen apart as they are, unless two lie in one place."""


def draw_selected(title: str, census: FrameCensus, bounds: Bounds) -> "Figure":
    """Draw the selected frames, coloured by score, over the density of all frames."""
    pressure = census.pressure if census.pressure is not None and len(census.pressure.values) > 1 else None
    n_rows = len(census.temperature.values) if census.temperature.has_rows else 8
    figure = make_figure(title, width=9.6 if pressure else 7.2, height=2.6 + 0.36 * max(n_rows, 3))
    panels: NDArray[Any] = figure.subplots(
        1, 2 if pressure else 1, sharey=True, squeeze=False, width_ratios=(2, 1) if pressure else None
    )[0]
    points = _draw_panel(panels[0], census, bounds, census.step, census.selected.step, census.by_step)
    panels[0].set_xlabel("MD step")
    spread = ", points spread\nwithin each row" if census.temperature.has_rows and _are_spread(census) else ""
    panels[0].set_ylabel(f"temperature (K){spread}")
    set_ticks(panels[0], "y", census.temperature)
    if pressure is not None and census.by_pressure is not None:
        _draw_panel(panels[1], census, bounds, pressure, census.selected.pressure, census.by_pressure)
        panels[1].set_xlabel("pressure (bar)")
        set_ticks(panels[1], "x", pressure)
    if points is not None:
        figure.colorbar(points, ax=list(panels), label=bounds.label.replace(" (", "\n("), aspect=30)
    handles, labels = _legend(panels[0], census)
    n_columns = int(figure.get_figwidth() / (_LETTER * max(map(len, labels)) + _HANDLE))
    figure.legend(handles, labels, loc="outside lower left", ncols=min(max(n_columns, 1), 4))
    return figure


def _draw_panel(
    axes: "Axes", census: FrameCensus, bounds: Bounds, axis: Axis, places: NDArray[Any], density: NDArray[np.int64]
) -> Any:
    """Draw the density of all frames and, over it, the selected; return what a colour bar needs."""
    shown = np.ma.masked_equal(density, 0)
    axes.pcolormesh(
        axis.edges, census.temperature.edges, shown, cmap="Greys", vmin=0, vmax=max(density.max(), 1) / _SHADE
    )
    axes.grid(visible=False)
    for own, lines in ((axis, axes.axvline), (census.temperature, axes.axhline)):
        for edge in own.edges[1:-1] if own.has_rows else ():
            lines(edge, color="white", linewidth=2.0)
    selected = census.selected
    rng = np.random.default_rng(0)
    width = _JITTER if _are_spread(census) else 0.0
    x, y = (
        own.place(numbers.astype(np.float64)) + (rng.uniform(-width, width, len(numbers)) if own.has_rows else 0.0)
        for own, numbers in ((axis, places), (census.temperature, selected.temperature))
    )
    points = None
    for name, marker in _markers(selected.structure).items():
        own_frames = np.isin(selected.structure, name) & np.isfinite(x)
        points = axes.scatter(
            x[own_frames], y[own_frames], c=selected.score[own_frames], norm=_norm(selected.score, bounds),
            cmap="plasma", marker=marker, s=26, edgecolors=INK, linewidths=0.4, zorder=3,
        )  # fmt: skip
    return points


def _are_spread(census: FrameCensus) -> bool:
    """Say whether points of one row would hide each other."""
    places = np.stack((census.selected.step, census.selected.temperature), axis=1)
    return len(places) > _FEW or len(np.unique(places, axis=0)) < len(places)


def _norm(score: NDArray[np.float64], bounds: Bounds) -> Any:
    """Return one scale of colours for all points: the scores', within the window where they lie in it."""
    from matplotlib.colors import LogNorm, Normalize

    finite = score[np.isfinite(score)]
    known = list(bounds.known.values()) or [1.0]
    first, last = (finite.min(), finite.max()) if len(finite) else (known[0], known[-1])
    if first == last:
        first, last = min(first, known[0]), max(last, known[-1])
    return LogNorm(first, last) if spreads(first, last) else Normalize(first, last)


def _markers(structures: NDArray[np.str_]) -> dict[tuple[str, ...], str]:
    """Return a marker for each structure; those beyond the markers share one."""
    names, counts = np.unique(structures, return_counts=True)
    ordered = [str(name) for name in names[np.argsort(-counts, kind="stable")]]
    marked = {(name,): marker for name, marker in zip(ordered, MARKERS, strict=False)}
    return marked | ({tuple(ordered[len(MARKERS) :]): OTHERS} if len(names) > len(MARKERS) else {})


def _legend(axes: "Axes", census: FrameCensus) -> tuple[list[Any], list[str]]:
    from matplotlib import colormaps
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=colormaps["Greys"](_SHADE))]
    labels = [f"grey: all {census.counts.sum():,} frames (darker: more)"]
    structures = census.selected.structure
    for names, marker in _markers(structures).items():
        handles.append(Line2D([], [], marker=marker, linestyle="", color="#AA3377", markeredgecolor=INK))
        what = names[0] if len(names) == 1 else f"{len(names)} more structures"
        labels.append(f"{number(int(np.isin(structures, names).sum()))} selected of {what}")
    if census.n_selected > len(structures):
        handles.append(Line2D([], [], linestyle=""))
        labels.append(f"{census.n_selected - len(structures):,} more selected, not drawn")
    if not census.n_selected:
        axes.annotate("no frame was selected", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center")
    return handles, labels
