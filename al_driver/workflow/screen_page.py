"""What a screening came to, for people: its ranking, hull and voltage as pictures, and one page with all of it."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from al_driver.data.frames import Array, read_frames
from al_driver.layout import CANDIDATES_FILE, PREDICTIONS_FILE, RANKED_FILE, SCREEN_STAGES
from al_driver.plots.page import Page, Section
from al_driver.plots.ranking import RankedCandidates, draw_ranking
from al_driver.plots.voltage import draw_hull, draw_voltage
from al_driver.screen.agreement import Agreement, compare
from al_driver.screen.intercalation import Intercalation, Series, make_series
from al_driver.screen.ranking import KNOWN, STD, Predictions
from al_driver.words import many
from al_driver.workflow.step import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_COMPOSITIONS = 60


@dataclass(frozen=True)
class Screening:
    """A finished screening, by its folder."""

    root: Path

    @cached_property
    def result(self) -> dict[str, Any]:
        record = Record.read(self.root / SCREEN_STAGES[-1])
        assert record is not None  # noqa: S101  (planned from it)
        return record.result

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The ranked table, the best first."""
        with (self.root / SCREEN_STAGES[-1] / RANKED_FILE).open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    @cached_property
    def candidates(self) -> list[Atoms]:
        """As they were made, in the order of the predictions."""
        return read_frames(self.root / SCREEN_STAGES[0] / CANDIDATES_FILE)

    @cached_property
    def formulas(self) -> list[str]:
        return [row["formula"] for row in self.rows]

    @cached_property
    def columns(self) -> dict[str, Array]:
        """What each model said before anything was learnt, and what is known, in the order of `rows`."""
        text = (self.root / SCREEN_STAGES[1] / PREDICTIONS_FILE).read_text(encoding="utf-8")
        predictions = Predictions.parse(text, np.empty((0, 0)))
        place = {str(atoms.info["id"]): index for index, atoms in enumerate(self.candidates)}
        order = [place[row["id"]] for row in self.rows]
        found = {name: values[order] for name, values in predictions.values.items()}
        return found | ({KNOWN: self.column(KNOWN)} if KNOWN in self.rows[0] else {})

    def column(self, name: str) -> Array:
        """Return a column of the ranked table; NaN where it is empty, or not there."""
        return np.array([float(row.get(name) or "nan") for row in self.rows])

    @property
    def values(self) -> Array:
        """What is ranked by, in the order of `rows`: known where it is, else as it is predicted."""
        known = self.column(KNOWN)
        return np.where(np.isnan(known), self.column(self.result["property"]), known)

    @property
    def axis(self) -> str:
        """What is ranked by, with its unit."""
        name, unit = self.result["property"], self.result["unit"]
        return f"{name} ({unit})" if unit else str(name)

    @cached_property
    def intercalation(self) -> Intercalation | None:
        found = self.result.get("intercalation")
        return None if found is None else Intercalation.model_validate(found)

    def series(self) -> dict[str, list[Series]]:
        """Return the series of each column whose metal's energy is known."""
        assert self.intercalation is not None  # noqa: S101  (asked before)
        by_id = {str(atoms.info["id"]): atoms for atoms in self.candidates}
        crystals = [by_id[row["id"]] for row in self.rows]
        there = {name: self.columns[name] for name in self.intercalation.metal if name in self.columns}
        found = {name: make_series(crystals, values, self.intercalation.ion) for name, values in there.items()}
        return {name: several for name, several in found.items() if several}


def draw_ranking_of(folder: Screening) -> "Figure | str":
    """Draw the candidates of a ranking by what they are ranked by."""
    name, rows = folder.result["property"], folder.rows
    deviation = folder.column(f"{name}{STD}") if f"{name}{STD}" in rows[0] else None
    if deviation is not None:
        deviation[~np.isnan(folder.column(KNOWN))] = 0.0
    candidates = RankedCandidates(
        folder.formulas,
        folder.values,
        deviation,
        np.array([bool(row["rank"]) for row in rows]),
        np.array([row["selected"] == "1" for row in rows]),
    )
    return draw_ranking("which candidates go on", folder.axis, candidates)


def draw_hull_of(folder: Screening) -> "Figure | str":
    """Draw the hull over the content of the ion."""
    asked, series = folder.intercalation, folder.series()
    if asked is None or not series:
        return "no host has candidates with two contents of the ion"
    return draw_hull(f"hull over the {asked.ion} content, at 0 K", asked.ion, series)


def draw_voltage_of(folder: Screening) -> "Figure | str":
    """Draw the voltage over the content of the ion."""
    asked, series = folder.intercalation, folder.series()
    if asked is None or not series:
        return "no host has candidates with two contents of the ion"
    curves = {
        name: [(one.host, one.voltages(asked.metal[name], asked.charge)) for one in several]
        for name, several in series.items()
    }
    return draw_voltage(f"voltage against {asked.ion}, from the hull at 0 K", asked.ion, curves)


def make_page(folder: Screening, pictures: Sequence[tuple[str, Path]], found: Section | None = None) -> Page:
    """Return the page of a screening.

    Parameters
    ----------
    pictures
        Headings and PNG files; those that are not there are left out.
    found
        What its labels found, where there are some.
    """
    result = folder.result
    words = (
        f"{many(result['ranked'], 'candidate')} passed the filters and {result['selected']} go on, by {folder.axis}."
    )
    left_out = f"Of {many(len(folder.rows), 'candidate')}: {result['lines']}."
    there = [Section(heading, picture=path) for heading, path in pictures if path.exists()]
    sections = [Section("What goes on", [words, left_out]), *there[:1]]
    sections += [*([found] if found else []), _best_section(folder), *_model_sections(folder)]
    return Page(f"Screening by {result['property']}", sections + there[1:])


def _best_section(folder: Screening) -> Section:
    """Return the best candidate of each composition, and how far the next ones lie."""
    places = dict[str, list[int]]()
    for place, row in enumerate(folder.rows):
        if row["rank"]:
            places.setdefault(row["formula"], []).append(place)
    values = folder.values
    rows = []
    for formula, own in list(places.items())[:MOST_COMPOSITIONS]:
        spread = f"{np.ptp(values[own]):.4g}"
        following = f"{values[own[1]] - values[own[0]]:+.4g}" if len(own) > 1 else "–"
        rows.append([formula, str(len(own)), folder.rows[own[0]]["id"], f"{values[own[0]]:.6g}", following, spread])
    head = ["composition", "candidates", "the first", folder.axis, "the second, against it", "from lowest to highest"]
    return Section("The first of each composition", head=head, rows=rows)


def _model_sections(folder: Screening) -> Iterator[Section]:
    """Yield how models order candidates within compositions: against labels, or against each other."""
    columns = {name: values for name, values in folder.columns.items() if name != KNOWN}
    if KNOWN in folder.columns:
        found = {name: compare(folder.formulas, values, folder.columns[KNOWN]) for name, values in columns.items()}
        yield _rank_models(found)
    if len(columns) > 1:
        names = list(columns)
        rows = [
            [one, *(_show(compare(folder.formulas, columns[one], columns[other]).mean) for other in names)]
            for one in names
        ]
        words = ["Spearman's ρ of their orders within compositions, the mean over candidates."]
        if KNOWN not in folder.columns:
            words.append("Nothing was labelled: which of them is right cannot be said.")
        yield Section("How models agree", words, head=["", *names], rows=rows)


def _rank_models(found: dict[str, Agreement]) -> Section:
    """Return which model orders labelled candidates as their labels do."""
    order = sorted(found, key=lambda name: found[name].mean or 0.0, reverse=True)
    rows = [[name, _show(found[name].mean), str(found[name].n)] for name in order]
    n = max((agreement.n for agreement in found.values()), default=0)
    words = [
        f"Spearman's ρ with the labels, within compositions of at least three labels, {many(n, 'candidate')} in all."
    ]
    wins = n > 0 and (found[order[0]].mean or 0.0) > 0
    words.append(f"{order[0]} orders them best." if wins else "None orders them better than chance.")
    head = ["model", "ρ", "candidates"]
    return Section("Which model orders orderings", words, head=head, rows=rows, best=[0] if wins else ())


def _show(rho: float | None) -> str:
    return "–" if rho is None else f"{rho:.2f}"
