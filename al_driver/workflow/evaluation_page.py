"""What `al screen evaluate --plots` writes: pictures of a surrogate against known values, and a page with all of it."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from al_driver.files import write_atomic
from al_driver.plots.page import Page, Section
from al_driver.plots.properties import draw_calibration, draw_property_parity
from al_driver.plots.style import drawing, write_figure
from al_driver.words import many

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE_FILE = "index.html"
MOST_ROWS = 20
"""Crystals with the largest errors that the page lists."""


def write_evaluation(folder: Path, table: str, found: Mapping[str, Any]) -> Path:
    """Draw parity and, with an uncertainty, coverage; write the page, and return it.

    Parameters
    ----------
    folder
        It is made where it is not there.
    table
        What `surrogates.evaluate` writes: the last column holds the known values.
    found
        What it returns.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with drawing():
        page = _make_page(folder, table, found)
    write_atomic(folder / PAGE_FILE, page.render())
    return folder / PAGE_FILE


def _make_page(folder: Path, table: str, found: Mapping[str, Any]) -> Page:
    rows = list(csv.DictReader(io.StringIO(table)))
    name, unit = str(found["property"]), str(found.get("unit", ""))
    axis = f"{name} ({unit})" if unit else name
    last = next(reversed(rows[0]))
    known = np.array([float(row[last]) for row in rows])
    predicted = np.array([float(row[name]) for row in rows])
    deviation = np.array([float(row[f"{name}_std"]) for row in rows]) if f"{name}_std" in rows[0] else None
    sections = [_errors_section(found, unit)]
    if "accuracy" not in found:  # probabilities of two classes lie on no diagonal
        figure = draw_property_parity("prediction against known value", axis, known, predicted, deviation)
        sections.append(_draw(folder / "parity.png", figure, "Parity"))
    if deviation is not None:
        figure = draw_calibration("do the uncertainties hold?", predicted - known, deviation)
        sections.append(_draw(folder / "coverage.png", figure, "Coverage"))
    worst = np.argsort(-np.abs(predicted - known), kind="stable")[:MOST_ROWS]
    head = ["crystal", f"known {axis}", "predicted", "error", *(["σ"] if deviation is not None else [])]
    cells = [
        [rows[i]["id"], *(f"{number:.4g}" for number in (known[i], predicted[i], predicted[i] - known[i])),
         *([f"{deviation[i]:.3g}"] if deviation is not None else [])]
        for i in worst.tolist()
    ]  # fmt: skip
    sections.append(Section("The largest errors", head=head, rows=cells))
    return Page(f"{name}: {many(len(rows), 'crystal')} with known values", sections)


def _draw(path: Path, figure: "Figure", heading: str) -> Section:
    write_figure(figure, path)
    return Section(heading, picture=path)


def _errors_section(found: Mapping[str, Any], unit: str) -> Section:
    """Return the errors in words, and how good each uncertainty is."""
    words = f"MAE {found['mae']:.4g} {unit}, RMSE {found['rmse']:.4g} {unit}".replace(" ,", ",").rstrip()
    members = found["mae_by_member"]
    if len(members) > 1:
        words += f"; MAE of the members: {', '.join(f'{error:.4g}' for error in members)}"
    if "accuracy" in found:
        words += f"; on the right side of 0.5: {found['accuracy']:.1%}"
    kinds = found.get("uncertainties", {})
    head = ["uncertainty", "90 % intervals hold", f"half-width {unit}".rstrip(), "ρ with |error|", "NLL"]
    rows = [
        [f"{kind} (told)" if kind == found["uncertainty"] else kind, f"{row['coverage']:.1%}",
         f"{row['sharpness']:.4g}", f"{row['spearman']:.2f}", f"{row['nll']:.3f}"]
        for kind, row in kinds.items()
    ]  # fmt: skip
    best = [place for place, kind in enumerate(kinds) if kind == found["uncertainty"]]
    return Section("Errors", [f"{words}."], head=head, rows=rows, best=best)
