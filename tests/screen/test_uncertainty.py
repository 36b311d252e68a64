"""Scores of doubt get a scale on held-out crystals, and one that does not rank errors is not what a surrogate tells."""

import numpy as np
import pytest

from al_driver.screen.uncertainty import Scale, choose_kind, judge, rank_correlation


def draw(n: int, seed: int, a: float = 0.5, b: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and errors whose deviation is sqrt((a s)² + b²)."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0, 2, n)
    return scores, rng.normal(0, np.hypot(a * scores, b))


def test_the_scale_of_a_true_score_is_found():
    scale = Scale.fit("ensemble", *draw(4000, 1))
    assert (scale.a, scale.b) == (pytest.approx(0.5, rel=0.05), pytest.approx(0.1, rel=0.3))
    assert scale.factor == pytest.approx(1.645, rel=0.05)
    scores, errors = draw(4000, 2)
    found = judge(errors, scale.std(scores), scale.factor)
    assert found["coverage"] == pytest.approx(0.9, abs=0.015)
    assert found["spearman"] > 0.4 and found["p"] < 1e-6
    flat = Scale.fit("constant", np.ones(4000), errors)
    plain = judge(errors, flat.std(np.ones(4000)), flat.factor)
    assert plain["coverage"] == pytest.approx(0.9, abs=0.001) and plain["spearman"] == 0
    assert found["nll"] < plain["nll"] and found["sharpness"] < plain["sharpness"]
    assert found["sure_half_mae"] < 0.6 * np.abs(errors).mean()


def test_a_scale_has_the_unit_of_the_property_whatever_that_of_the_score():
    scores, errors = draw(500, 3)
    one, other = Scale.fit("distance", scores, errors), Scale.fit("distance", 1e4 * scores, 1e-3 * errors)
    assert other.std(1e4 * scores) == pytest.approx(1e-3 * one.std(scores), rel=1e-2)
    assert other.factor == pytest.approx(one.factor, rel=1e-2)


def test_coverage_holds_on_average_for_few_crystals():
    """The promise of split conformal prediction, with 19 held-out crystals: 90 % at least."""
    rates = []
    for seed in range(60):
        scale = Scale.fit("ensemble", *draw(19, seed))
        scores, errors = draw(200, 10_000 + seed)
        rates.append(judge(errors, scale.std(scores), scale.factor)["coverage"])
    assert 0.87 < np.mean(rates) < 0.97


def test_what_does_not_rank_errors_is_not_told():
    scores, errors = draw(200, 4)
    noise = np.random.default_rng(0).uniform(size=200)
    assert choose_kind(errors, {"constant": np.ones(200), "ensemble": scores, "dropout": noise}) == "ensemble"
    assert choose_kind(errors, {"constant": np.ones(200), "ensemble": -scores, "dropout": noise}) == "constant"
    assert rank_correlation(errors, np.ones(200)) == (0.0, 1.0)


def test_errors_and_scores_that_are_all_alike():
    scale = Scale.fit("ensemble", np.zeros(20), np.full(20, 0.2))
    assert scale.std(np.zeros(3)) == pytest.approx(0.2)
    assert Scale.fit("constant", np.ones(9), np.zeros(9)).std(np.ones(1))[0] < 1e-9
