"""From predictions to a ranked table, and the candidates that go on."""

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from al_driver.data.frames import Array
from al_driver.errors import ConfigError, Problem
from al_driver.schema.suggest import nearest
from al_driver.screen.acquisition import Acquisition, choose
from al_driver.screen.filters import Filters, describe

STD = "_std"  # the end of the name of an uncertainty's column
UNKNOWN = "unknown"  # why a candidate is left out of which nothing is known or predicted
KNOWN = "known"
"""The column of labels, where there are some."""
TOLD = ("parent", "file", "composition", "multiplicity", "complete", "strain")
"""What of a candidate's provenance stands in the table; its frame has all of it."""


@dataclass(frozen=True)
class Predictions:
    """What models say of candidates.

    Attributes
    ----------
    values
        By the name of the property, shape (n_candidates,) each.
    deviations
        Their standard deviations, of those properties whose model has them.
    features
        Shape (n_candidates, n_features), whose Euclidean distances say how different candidates are.
    """

    values: Mapping[str, Array]
    deviations: Mapping[str, Array]
    features: Array

    @classmethod
    def parse(cls, table: str, features: Array) -> "Predictions":
        """Read the table that `al screen predict` writes."""
        rows = list(csv.DictReader(io.StringIO(table)))
        columns = {
            name: np.array([float(row[name]) for row in rows]) for name in (rows[0] if rows else ()) if name != "id"
            and name != "path"
        }  # fmt: skip
        is_std = {name: name.endswith(STD) and name.removesuffix(STD) in columns for name in columns}
        deviations = {name.removesuffix(STD): column for name, column in columns.items() if is_std[name]}
        return cls({name: column for name, column in columns.items() if not is_std[name]}, deviations, features)

    def with_property(self, name: str, other: "Predictions") -> "Predictions":
        """Return these with what another model says of a property, and with its features."""
        values, deviations = dict(self.values), dict(self.deviations)
        deviations.pop(name, None)
        values[name] = other.values[name]
        deviations |= {name: other.deviations[name]} if name in other.deviations else {}
        return Predictions(values, deviations, other.features)

    def with_known(self, name: str, known: Mapping[int, float]) -> "Predictions":
        """Return these with known values of a property, by the candidate's index, in place of what is predicted.

        What is neither known nor predicted is not a number.
        """
        index, deviations = list(known), dict(self.deviations)
        values = self.values[name].copy() if name in self.values else np.full(len(self.features), np.nan)
        values[index] = list(known.values())
        if name in deviations:
            deviations[name] = deviations[name].copy()
            deviations[name][index] = 0.0
        return Predictions({**self.values, name: values}, deviations, self.features)


@dataclass(frozen=True)
class Ranking:
    """Candidates in order.

    Attributes
    ----------
    order
        Those that pass the filters, the best first: indices.
    scores
        Of all, shape (n_candidates,).
    reasons
        Why a candidate is left out; an empty word for the others.
    selected
        Those that go on, the best first.
    """

    order: list[int]
    scores: Array
    reasons: list[str]
    selected: list[int]

    def check(self, filters: Filters, table: Path) -> None:
        """Refuse a ranking of nothing.

        Raises
        ------
        ConfigError
            With what left the candidates out, and the table that says it of each.
        """
        if not self.order:
            near = (
                f"; close: nearer than {filters.min_distance:g} × the sum of radii" if "close" in self.reasons else ""
            )
            message = f"no candidate passes: {describe(self.reasons)}{near}; {table} has all of them"
            raise ConfigError(Problem(message, "filters"))


def check_properties(filters: Filters, acquisition: Acquisition, predicted: Collection[str]) -> None:
    """Refuse keys that name a property which no model predicts.

    Raises
    ------
    ConfigError
        With the names that there are.
    """
    named = {"rank.property": acquisition.property, **{f"filters.windows.{name}": name for name in filters.windows}}
    problems = [
        Problem(f"no model predicts {name!r}{nearest(name, predicted, otherwise='there are')}", key)
        for key, name in named.items()
        if name not in predicted
    ]
    if problems:
        raise ConfigError(problems)


def rank(
    crystals: Sequence[Atoms],
    predictions: Predictions,
    filters: Filters,
    acquisition: Acquisition,
    n_selected: int,
    *,
    per_composition: bool = False,
    failed: Mapping[int, str] | None = None,
) -> Ranking:
    """Rank candidates.

    Parameters
    ----------
    n_selected
        How many go on: in all, or of each composition.
    failed
        Why a candidate could not be calculated, by its index: it is left out.

    Raises
    ------
    ConfigError
        If the score needs an uncertainty that the model does not give.
    """
    deviation = predictions.deviations.get(acquisition.property)
    reasons = filters.judge(crystals, predictions.values, deviation)
    if deviation is None and (acquisition.by != "mean" or filters.max_uncertainty is not None):
        key = "filters.max_uncertainty" if acquisition.by == "mean" else "rank.by"
        message = f"the model of {acquisition.property!r} gives no uncertainty; fit an ensemble (`al screen fit`)"
        raise ConfigError(Problem(message, key))
    unknown = dict.fromkeys(np.flatnonzero(np.isnan(predictions.values[acquisition.property])).tolist(), UNKNOWN)
    for index, reason in (unknown | dict(failed or {})).items():
        reasons[index] = reason
    passed = np.array([index for index, reason in enumerate(reasons) if not reason], dtype=int)
    scores = np.full(len(crystals), np.nan)
    if len(passed):
        scores[passed] = acquisition.score(
            predictions.values[acquisition.property][passed],
            None if deviation is None else deviation[passed],
            np.array([]),
        )
    selected = {
        group[place]
        for group in group_by(group_names(crystals, per_composition=per_composition), passed.tolist()).values()
        for place in choose(scores[group], predictions.features[group], n_selected, acquisition.diversity)
    }
    order = [int(index) for index in passed[np.argsort(-scores[passed], kind="stable")]]
    return Ranking(order, scores, reasons, [index for index in order if index in selected])


def group_names(crystals: Sequence[Atoms], *, per_composition: bool) -> list[str]:
    """Return the composition of each crystal, or one name for all."""
    return [atoms.get_chemical_formula(empirical=True) if per_composition else "" for atoms in crystals]


def group_by(names: Sequence[str], indices: Sequence[int]) -> dict[str, list[int]]:
    """Return the indices of each name, in order."""
    groups: dict[str, list[int]] = {}
    for index in indices:
        groups.setdefault(names[index], []).append(index)
    return groups


def write_table(
    crystals: Sequence[Atoms], predictions: Predictions, ranking: Ranking, known: Mapping[int, float] | None = None
) -> str:
    """Return the table of all candidates as CSV, the ranked ones first.

    Parameters
    ----------
    known
        Where labels were collected: the known values of what is ranked by, by index; they have a column of their own.
    """
    columns: dict[str, Sequence[float] | Array] = {}
    for name, values in predictions.values.items():
        columns[name] = values
        if name in predictions.deviations:
            columns[f"{name}{STD}"] = predictions.deviations[name]
    if known is not None:
        columns[KNOWN] = [known.get(index, np.nan) for index in range(len(crystals))]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["rank", "id", "formula", "n_atoms", *columns, "score", "selected", "left_out", *TOLD])
    places = {index: place for place, index in enumerate(ranking.order, start=1)}
    left_out = [index for index in range(len(crystals)) if index not in places]
    for index in [*ranking.order, *left_out]:
        atoms = crystals[index]
        table.writerow(
            [
                places.get(index, ""), atoms.info["id"], atoms.get_chemical_formula(), len(atoms),
                *("" if np.isnan(values[index]) else f"{values[index]:.8g}" for values in columns.values()),
                f"{ranking.scores[index]:.8g}" if index in places else "",
                int(index in ranking.selected), ranking.reasons[index],
                *(_plain(atoms.info[name]) for name in TOLD),
            ]
        )  # fmt: skip
    return text.getvalue()


def add_columns(table: str, columns: Mapping[str, Array]) -> str:
    """Return a table of predictions with more columns, by the property, shape (n_rows,) each."""
    head, *rows = csv.reader(io.StringIO(table))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*head, *columns])
    for row, *values in zip(rows, *columns.values(), strict=True):
        writer.writerow([*row, *(f"{value:.8g}" for value in values)])
    return text.getvalue()


def _plain(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple, np.ndarray)) else value
