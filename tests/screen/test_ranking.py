"""A table of predictions becomes a ranking: order, filters, selection, and what is refused."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from al_driver.errors import ConfigError
from al_driver.screen.acquisition import Acquisition
from al_driver.screen.filters import Filters
from al_driver.screen.ranking import TOLD, Predictions, check_properties, rank, write_table

TABLE = "id,path,energy,energy_std,gap\na,x,1.0,0.1,2.0\nb,x,-1.0,0.1,2.0\nc,x,0.5,0.9,0.1\nd,x,0.0,0.1,2.0\n"
FEATURES = np.array([[0.0], [0.1], [5.0], [9.0]])


@pytest.fixture
def crystals():
    found = [bulk("NaCl", "rocksalt", a=5.6), bulk("NaCl", "rocksalt", a=5.7), bulk("Si", a=5.4), bulk("Si", a=5.5)]
    for name, atoms in zip("abcd", found, strict=True):
        atoms.info = {"id": name, **dict.fromkeys(TOLD, "")}
    return found


def ranked(crystals, n=1, rules=None, filters=None, **keys):
    predictions = Predictions.parse(TABLE, FEATURES)
    acquisition = Acquisition.model_validate({"property": "energy"} | (rules or {}))
    return predictions, rank(crystals, predictions, Filters.model_validate(filters or {}), acquisition, n, **keys)


def test_uncertainties_are_told_from_properties():
    predictions = Predictions.parse(TABLE, FEATURES)
    assert predictions.values.keys() == {"energy", "gap"}
    assert predictions.deviations.keys() == {"energy"}


def test_the_best_that_passes_comes_first(crystals):
    _, ranking = ranked(crystals, 2, filters={"windows": {"energy": [-0.5, None]}})
    assert ranking.order == [3, 2, 0]
    assert ranking.selected == [3, 2]
    assert ranking.reasons == ["", "energy", "", ""]


def test_so_many_of_each_composition(crystals):
    _, ranking = ranked(crystals, 1, per_composition=True)
    assert ranking.selected == [1, 3]


def test_the_table_has_every_candidate_once(crystals):
    predictions, ranking = ranked(crystals, 1, filters={"windows": {"gap": [1.0, None]}})
    rows = list(csv.DictReader(io.StringIO(write_table(crystals, predictions, ranking))))
    assert [row["id"] for row in rows] == ["b", "d", "a", "c"]
    assert [row["rank"] for row in rows] == ["1", "2", "3", ""]
    assert [row["selected"] for row in rows] == ["1", "0", "0", "0"]
    assert rows[-1]["left_out"] == "gap" and rows[-1]["score"] == ""
    assert [float(row["energy_std"]) for row in rows] == [0.1, 0.1, 0.1, 0.9]


def test_a_score_without_its_uncertainty_and_an_empty_ranking_are_refused(crystals):
    with pytest.raises(ConfigError, match=r"rank.by: the model of 'gap' gives no uncertainty"):
        ranked(crystals, rules={"property": "gap", "by": "lower_bound"})
    for filters, why in (
        (
            {"windows": {"gap": [7.0, None]}},
            "no candidate passes: 0 pass; left out: gap 4; ranked.csv has all",
        ),
        ({"min_distance": 9.0}, "left out: close 4; close: nearer than 9 × the sum of radii; ranked.csv has all"),
    ):
        predictions, ranking = ranked(crystals, filters=filters)
        assert write_table(crystals, predictions, ranking).count("\n") == 5
        with pytest.raises(ConfigError, match=why):
            ranking.check(Filters.model_validate(filters), Path("ranked.csv"))


def test_properties_that_no_model_predicts_are_named():
    filters = Filters.model_validate({"windows": {"gab": [0.0, None]}})
    with pytest.raises(ConfigError) as caught:
        check_properties(filters, Acquisition(property="hardness"), ["energy", "gap"])
    assert "rank.property: no model predicts 'hardness'" in str(caught.value)
    assert "filters.windows.gab: no model predicts 'gab'; did you mean 'gap'?" in str(caught.value)
