"""Limits of shares and means against scipy's own and against simulation."""

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from al_driver.query.verdict import closing_size, clustered_interval, look_confidence, lower_limit, upper_limit


@pytest.mark.parametrize(("hits", "n"), [(0, 59), (1, 59), (5, 20), (19, 20), (20, 20), (0, 1)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_limits_are_exact(hits: int, n: int, confidence: float) -> None:
    above = binomtest(hits, n, alternative="less").proportion_ci(confidence, method="exact").high
    below = binomtest(hits, n, alternative="greater").proportion_ci(confidence, method="exact").low
    assert upper_limit(hits, n, confidence) == pytest.approx(above, rel=1e-9)
    assert lower_limit(hits, n, confidence) == pytest.approx(below, rel=1e-9, abs=1e-12)


def test_the_limit_holds_as_often_as_it_says() -> None:
    for p in (0.02, 0.05, 0.3):
        hits = np.arange(60)
        holds = np.array([upper_limit(int(k), 59, 0.95) >= p for k in hits])
        assert binom.pmf(hits, 59, p)[holds].sum() >= 0.95


@pytest.mark.parametrize(
    ("bad", "confidence", "structures", "look", "n"),
    [
        (0.1, 0.95, 1, 1, 29),
        (0.05, 0.95, 1, 1, 59),
        (0.05, 0.95, 2, 1, 72),
        (0.05, 0.95, 1, 2, 94),
        (0.5, 0.5, 1, 1, 1),
    ],
)
def test_what_a_closing_audit_costs(bad: float, confidence: float, structures: int, look: int, n: int) -> None:
    assert closing_size(bad, confidence, structures, look) == n
    own = look_confidence(confidence, look, structures)
    assert upper_limit(0, n, own) <= bad < upper_limit(0, n - 1, own) + 1e-12


def test_all_looks_together_risk_no_more_than_half_again() -> None:
    assert sum(1 - look_confidence(0.95, look, 1) for look in range(1, 10_000)) < 1.5 * 0.05 + 1e-9


def test_frames_of_one_trajectory_are_not_independent() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(2000):
        sizes = rng.integers(5, 15, 8)
        sums = [float(rng.normal() * n + rng.normal(0, 0.3, n).sum() + 3.0 * n) for n in sizes]
        mean, interval = clustered_interval(sums, [int(n) for n in sizes], 0.95)
        assert interval is not None and interval[0] <= mean <= interval[1]
        held += interval[0] <= 3.0 <= interval[1]
    assert 0.92 < held / 2000 < 0.97
    assert clustered_interval([6.0], [3], 0.95) == (2.0, None)


def test_equal_clusters_give_the_interval_of_a_mean() -> None:
    values = np.array([1.0, 2.0, 4.0, 7.0])
    mean, interval = clustered_interval([float(10 * v) for v in values], [10] * 4, 0.95)
    half = 3.182446305284263 * values.std(ddof=1) / math.sqrt(4)  # t of 3 degrees of freedom
    assert (mean, interval) == (3.5, pytest.approx((3.5 - half, 3.5 + half)))
