"""Scores against what they are by definition, filters, and a choice that spreads."""

import numpy as np
import pytest
from ase.build import bulk
from pydantic import ValidationError

from al_driver.screen.acquisition import Acquisition, choose, expected_improvement
from al_driver.screen.filters import Filters, describe

MEAN, DEVIATION = np.array([1.0, 0.0, 2.0]), np.array([0.1, 0.2, 3.0])
NOTHING = np.array([])


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, [1, 0, 2]),
        ({"goal": "max"}, [2, 0, 1]),
        ({"goal": 0.9}, [0, 1, 2]),
        ({"by": "lower_bound"}, [2, 1, 0]),
        ({"by": "lower_bound", "kappa": 0.1}, [1, 0, 2]),
        ({"by": "upper_bound"}, [1, 0, 2]),
        ({"by": "uncertainty"}, [2, 1, 0]),
        ({"goal": "max", "by": "lower_bound"}, [2, 0, 1]),
    ],
)
def test_the_order_is_that_of_the_goal(keys, expected):
    scores = Acquisition(property="e", **keys).score(MEAN, DEVIATION, NOTHING)
    assert np.argsort(-scores).tolist() == expected


@pytest.mark.parametrize(("goal", "sign"), [("min", 1), ("max", -1)])
def test_expected_improvement_is_the_mean_of_what_is_gained(goal, sign):
    known = np.array([0.5, 0.7])
    draws = MEAN + DEVIATION * np.random.default_rng(0).normal(size=(400_000, 3))
    best = sign * (sign * known).min()
    gained = np.maximum(0.0, sign * (best - draws)).mean(axis=0)
    scores = Acquisition(property="e", goal=goal, by="expected_improvement").score(MEAN, DEVIATION, known)
    np.testing.assert_allclose(scores, gained, atol=0.01)


def test_without_uncertainty_nothing_but_the_difference_is_expected():
    np.testing.assert_array_equal(expected_improvement(np.array([0.3, -0.3]), np.zeros(2)), [0.3, 0.0])
    with pytest.raises(ValueError, match="uncertainty needs a model that knows its uncertainty"):
        Acquisition(property="e", by="uncertainty").score(MEAN, None, NOTHING)


def test_improvement_on_a_value_to_come_near_to_is_refused():
    with pytest.raises(ValidationError, match="needs the goal min or max"):
        Acquisition(property="e", goal=1.0, by="expected_improvement")


def test_the_choice_spreads_among_the_best_alone():
    scores = np.array([5.0, 4.9, 4.8, 4.7, 0.0])
    features = np.array([[0.0], [0.1], [0.2], [3.0], [99.0]])
    assert choose(scores, features, 2, 1) == [0, 1]
    assert choose(scores, features, 2, 2) == [0, 3]  # the last one is not among the best four
    assert choose(scores, features, 9, 3) == [0, 1, 2, 3, 4]


def test_equal_candidates_are_not_taken_twice():
    assert sorted(choose(np.zeros(4), np.zeros((4, 2)), 3, 2)) == [0, 1, 2]


def test_filters_name_what_each_candidate_fails_by():
    near = bulk("Si", a=5.43)
    near.positions[1] = near.positions[0] + 0.5
    crystals = [bulk("Si", a=5.43), bulk("Si", a=5.43), near, bulk("Si", a=5.43, cubic=True), bulk("Si", a=5.43)]
    filters = Filters.model_validate({"windows": {"gap": [0.5, None]}, "max_atoms": 4, "max_uncertainty": 0.2})
    gap = np.array([0.5, 0.4, 1.0, 1.0, 1.0])
    reasons = filters.judge(crystals, {"gap": gap}, np.array([0.2, 0.2, 0.2, 0.2, 0.3]))
    assert reasons == ["", "gap", "close", "large", "uncertain"]
    assert describe(reasons) == "1 pass; left out: close 1, gap 1, large 1, uncertain 1"


def test_what_is_no_number_passes_no_window():
    filters = Filters.model_validate({"windows": {"gap": [None, 1.0]}})
    assert filters.judge([bulk("Si")] * 2, {"gap": np.array([np.nan, 0.5])}, None) == ["gap", ""]


def test_a_window_that_nothing_passes_is_refused():
    with pytest.raises(ValidationError, match="2 is more than 1: nothing would pass"):
        Filters.model_validate({"windows": {"gap": [2.0, 1.0]}})
