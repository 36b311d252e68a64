"""Bounds on errors: each statement against its definition, or against many simulated runs."""

import math

import numpy as np
import pytest

from al_driver.query.calibration import (
    Audit,
    Calibration,
    Floats,
    audits_needed,
    conformal_factor,
    fit_beta,
    split_audits,
)

TARGETS = {"Si": 0.2}


def make_audit(score: float, error: float, **keys: object) -> Audit:
    audit = {"iteration": 0, "structure": "si", "task": "task.000000", "step": 10, "temperature": 300.0}
    return Audit.model_validate(audit | {"score": score, "errors": {"Si": error}} | keys)


def make_audits(n: int, rng: np.random.Generator, **keys: object) -> list[Audit]:
    """Return frames whose error is about 2 s + 0.02."""
    scores = rng.lognormal(-3, 0.5, n)
    errors = (2 * scores + 0.02) * rng.uniform(0.2, 1.0, n)
    return [make_audit(float(s), float(e), **keys) for s, e in zip(scores, errors, strict=True)]


def pinball(scores: Floats, errors: Floats, a: float, b: float, q: float) -> float:
    rest = errors - a * scores - b
    return float(np.maximum(q * rest, (q - 1) * rest).sum())


@pytest.mark.parametrize(("coverage", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_a_bound_needs_so_many_audits(coverage: float, needed: int) -> None:
    ratios = np.arange(1.0, needed + 1)
    assert audits_needed(coverage) == needed
    assert conformal_factor(ratios, coverage) == needed  # the largest
    assert conformal_factor(ratios[1:], coverage) is None


def test_the_factor_is_a_rank() -> None:
    ratios = np.random.default_rng(1).permutation(np.arange(1.0, 100))  # n = 99: rank 90
    assert conformal_factor(ratios, 0.9) == 90.0


def test_coverage_is_what_was_promised_however_few_the_audits() -> None:
    rng = np.random.default_rng(2)
    for n in (9, 15, 30):
        held = []
        for _ in range(3000):
            audits = make_audits(n + 1, rng)
            calibration = Calibration.fit(audits[:n], TARGETS, 0.9)
            assert calibration.general is not None
            held.append(audits[n].errors["Si"] <= calibration.general.a * (audits[n].score + calibration.beta))
        exact = math.ceil(0.9 * (n + 1) - 1e-9) / (n + 1)
        assert abs(np.mean(held) - exact) < 4 * math.sqrt(exact * (1 - exact) / 3000)


def test_beta_from_older_audits_keeps_the_coverage_and_serves_both_ends() -> None:
    rng = np.random.default_rng(3)
    held, low, betas = [], [], []
    for _ in range(300):
        audits = [audit for k in range(4) for audit in make_audits(30, rng, iteration=k)]
        calibration = Calibration.fit(audits, TARGETS, 0.9)
        assert calibration.general is not None
        betas.append(calibration.beta)
        for audit in make_audits(20, rng):
            covered = audit.errors["Si"] <= calibration.general.a * (audit.score + calibration.beta)
            held.append(covered)
            if audit.score < 0.03:
                low.append(covered)
    assert np.median(betas) == pytest.approx(0.01, rel=0.5)  # 0.02 / 2
    assert 0.89 < np.mean(held) < 0.93
    assert 0.85 < np.mean(low) < 0.95  # without beta the small scores would be promised too little


def test_beta_minimises_the_pinball_loss() -> None:
    rng = np.random.default_rng(4)
    scores = rng.lognormal(-3, 0.7, 60)
    errors = (2 * scores + 0.05) * rng.uniform(0.3, 1.0, 60)
    beta = fit_beta(scores, errors, 0.9)

    def best_loss(beta: float) -> float:
        ratios = errors / (scores + beta)  # the best a makes one of them exact
        return min(pinball(scores, errors, a, a * beta, 0.9) for a in ratios)

    grid = [best_loss(b) for b in np.linspace(0, 0.5, 501)]
    assert best_loss(beta) <= min(grid) * (1 + 1e-9)


def test_beta_at_its_ends() -> None:
    scores = np.linspace(0.01, 0.1, 20)
    assert fit_beta(scores, 3 * scores, 0.9) == pytest.approx(0.0, abs=1e-9)
    assert fit_beta(scores, np.full(20, 0.1), 0.9) == pytest.approx(10.0)  # scores say nothing: 100 times the largest
    assert fit_beta(scores, np.zeros(20), 0.9) == 0.0


def test_a_group_with_enough_audits_has_its_own_factor() -> None:
    cold = [make_audit(0.01 * (i + 1), 0.01 * (i + 1)) for i in range(40)]
    hot = [make_audit(0.01 * (i + 1), 0.05 * (i + 1), temperature=1200.0) for i in range(39)]
    calibration = Calibration.fit([*cold, *hot], TARGETS, 0.9)
    own, general = calibration.factor("si", (300.0, 300.0)), calibration.factor("si", (1200.0, 1200.0))
    assert own is not None and own.a == pytest.approx(1.0) and own.n == 40
    assert general == calibration.general and general is not None and general.a == pytest.approx(5.0)
    assert calibration.factor("other", (300.0, 300.0)) == general
    assert calibration.factor("si", (200.0, 400.0)) == general  # a ramp is of no group
    assert calibration.bound(make_audit(0.1, 0.0)) == pytest.approx(0.1)
    assert calibration.bound(make_audit(0.1, 0.0, ramped=True)) == pytest.approx(0.5)


def test_a_frame_above_every_score_is_outside() -> None:
    calibration = Calibration.fit([make_audit(0.01 * (i + 1), 0.0) for i in range(9)], TARGETS, 0.9)
    assert calibration.bound(make_audit(0.09, 0.0)) == 0.0
    assert calibration.bound(make_audit(0.0901, 0.0)) is None
    assert 0.09 < calibration.lower(calibration.general) < 0.0900001  # and is to be labelled


def test_the_window_begins_where_the_bound_meets_the_target() -> None:
    calibration = Calibration.fit([make_audit(0.1 * (i + 1), 0.2 * (i + 1)) for i in range(9)], TARGETS, 0.9)
    assert calibration.general is not None
    assert calibration.lower(calibration.general) == pytest.approx(0.1)
    too_few = Calibration.fit([make_audit(0.1, 0.2)] * 8, TARGETS, 0.9)
    assert (too_few.general, too_few.lower(None), too_few.n_needed) == (None, 0.0, 9)
    hopeless = Calibration.fit([make_audit(0.0, 1.0)] * 9, TARGETS, 0.9)
    assert hopeless.general is not None
    assert hopeless.lower(hopeless.general) == 0.0  # every frame, those without a score too
    assert hopeless.threshold(hopeless.general) < 0.0 and hopeless.bound(make_audit(0.0, 1.0)) == 1e30


def test_elements_count_in_proportion_to_their_targets() -> None:
    targets = {"Si": 0.2, "O": 0.05}
    audit = make_audit(0.1, 0.2, errors={"Si": 0.18, "O": 0.01})
    assert audit.error(targets) == pytest.approx(0.045)  # silicon, at nine tenths of its own
    assert make_audit(0.1, 0.0, errors={"Si": 0.0, "O": 0.06}).error(targets) == pytest.approx(0.06)
    assert Calibration.fit([], targets, 0.9).target == 0.05


def test_the_newest_audits_set_the_factor_and_older_ones_beta() -> None:
    audits = [make_audit(0.1, 0.1, iteration=k, step=i) for k in range(6) for i in range(5)]
    older, recent = split_audits(audits, 9)
    assert [len(older), len(recent)] == [10, 20]
    assert {audit.iteration for audit in recent} == {2, 3, 4, 5}
    older, recent = split_audits(audits[:10], 9)
    assert [len(older), len(recent)] == [0, 10]
    many = [make_audit(0.1, 0.1, iteration=k) for k in range(50) for _ in range(10)]
    assert len(split_audits(many, 9)[1]) == 100


def test_a_calibration_is_read_back_as_it_was() -> None:
    calibration = Calibration.fit(make_audits(60, np.random.default_rng(5)), TARGETS, 0.9)
    assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration
