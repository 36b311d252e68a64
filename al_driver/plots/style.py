"""How every picture looks, and how it is written. matplotlib is imported when something is drawn, not before.

Colours are told apart without red and green (P. Tol, high contrast and bright schemes).
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASS_COLOURS = {"accurate": "#4477AA", "candidate": "#DDAA33", "failed": "#BB5566"}
MEMBER_COLOURS = ("#4477AA", "#EE6677", "#228833", "#AA3377", "#66CCEE", "#997700", "#CCBB44", "#555555")
INK, FAINT = "#222222", "#BBBBBB"
DECADE = 12.0
"""Positive numbers that spread over more than this factor stand on a logarithmic axis."""
DPI = 150
_STYLE: dict[str, Any] = {
    "font.size": 9.0, "axes.titlesize": 9.5, "axes.labelsize": 9.0, "legend.fontsize": 8.5, "figure.titlesize": 11.0,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.edgecolor": "#666666",
    "axes.grid": True, "grid.color": "#E4E4E4", "grid.linewidth": 0.7,
    "legend.framealpha": 0.85, "legend.edgecolor": "none",
    "xtick.color": "#444444", "ytick.color": "#444444", "text.color": INK, "axes.labelcolor": INK,
    "axes.titlelocation": "left", "lines.linewidth": 1.6,
}  # fmt: skip


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draw in our style, whatever the user's own matplotlibrc says; afterwards that holds again."""
    import matplotlib as mpl

    plain = {key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith("backend")}
    with mpl.rc_context(cast(Any, plain | _STYLE)):
        yield


def make_figure(title: str, *, width: float = 7.2, height: float = 4.5) -> "Figure":
    """Return an empty figure of a size in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return figure


def write_figure(figure: "Figure", path: Path) -> None:
    """Write a PNG; a reader sees the old file or the new one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    FigureCanvasAgg(figure)
    try:
        figure.savefig(temporary, format="png", dpi=DPI)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def spreads(smallest: float, largest: float) -> bool:
    """Say whether positive numbers ask for a logarithmic axis."""
    return smallest > 0 and largest > DECADE * smallest


def use_log(axes: "Axes", axis: str, smallest: float, largest: float) -> None:
    """Make an axis logarithmic; where it spans less than two decades, numbers stand at 2 and 5 too."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    which = axes.xaxis if axis == "x" else axes.yaxis
    (axes.set_xscale if axis == "x" else axes.set_yscale)("log")
    subs = (1.0,) if largest > 1000 * smallest else (1.0, 2.0, 5.0)
    which.set_major_locator(LogLocator(subs=subs, numticks=12))
    which.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    which.set_minor_formatter(NullFormatter())


def number(value: float) -> str:
    """Return a number for an axis or a legend.

    >>> number(0.02), number(12000.0), number(2e-6)
    ('0.02', '12000', '2e-6')
    """
    if value and not 1e-4 <= abs(value) < 1e6:
        mantissa, _, exponent = f"{value:.3g}".partition("e")
        return f"{mantissa}e{int(exponent)}" if exponent else mantissa
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def percent(share: float) -> str:
    """Return a share for a legend; a small one is not rounded away.

    >>> percent(0.5), percent(0.0002255), percent(0.0)
    ('50.0 %', '0.023 %', '0.0 %')
    """
    return f"{100 * share:.1f} %" if share >= 0.0095 or not share else f"{100 * share:.2g} %"


def say_nothing(axes: "Axes", text: str) -> None:
    """Say in an empty panel why it is empty."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", color="#777777", transform=axes.transAxes)
