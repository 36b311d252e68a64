"""The statement on a model against plain counting."""

import numpy as np
import pytest
from scipy.stats import binomtest

from al_driver.query.statement import ClosingFrame, Demand, Survival, describe_statement, state_structure

DEMAND = Demand(0.05, 0.95, 1, 1)
LIVES = Survival(10, 10, (300.0, 600.0), (), 1000, 0)


def frames(n: int, bad: int = 0) -> list[ClosingFrame]:
    """Return frames of 4 atoms, two wanted to 0.1 and two to 0.2; an atom of each bad one misses by a hair."""
    made = []
    for index in range(n):
        errors = np.array([0.1, 0.05, 0.2, 0.15])  # at the target is not above it
        if index < bad:
            errors[2] = np.nextafter(0.2, 1)
        made.append(ClosingFrame(f"task.{index % 5}", errors, np.array([0.1, 0.1, 0.2, 0.2])))
    return made


def test_clean_frames_are_enough_at_the_size_that_was_demanded() -> None:
    assert DEMAND.n_frames == 59
    part = state_structure("si", frames(59), 0, LIVES, DEMAND)
    assert part["met"] and part["bad_at_most"] <= 0.05
    assert not state_structure("si", frames(58), 0, LIVES, DEMAND)["met"]
    assert not state_structure("si", frames(59, bad=1), 0, LIVES, DEMAND)["met"]
    assert state_structure("si", frames(93, bad=1), 0, LIVES, DEMAND)["met"]


def test_a_frame_without_a_label_counts_as_bad() -> None:
    part = state_structure("si", frames(58), 1, LIVES, DEMAND)
    assert (part["frames"], part["bad"], part["without_label"], part["met"]) == (59, 1, 1, False)
    nothing = state_structure("si", [], 0, LIVES, DEMAND)
    assert (nothing["bad_at_most"], nothing["met"], nothing["force_rmse"]) == (1.0, False, None)


def test_errors_that_are_no_numbers_are_no_small_errors() -> None:
    made = frames(59)
    made[7].errors[1] = np.nan
    part = state_structure("si", made, 0, LIVES, DEMAND)
    assert (part["bad"], part["met"]) == (1, False) and part["bad_atoms"] == pytest.approx(1 / 236)


@pytest.mark.parametrize(
    ("ended", "failed", "why"),
    [
        (5, 50, None),
        (4, 0, "6 of 10 trajectories of the final model ended early"),
        (10, 51, "51 of 1000 frames of the final model failed"),
    ],
)
def test_clean_frames_of_unstable_dynamics_prove_nothing(ended: int, failed: int, why: str | None) -> None:
    """What a guard cut away was not drawn from: the frames before it are all fine."""
    part = state_structure("si", frames(59), 0, Survival(10, ended, (300.0,), (), 1000, failed), DEMAND)
    assert (part["bad"], part["unstable"], part["met"]) == (0, why, why is None)


def test_numbers_beside_it() -> None:
    part = state_structure("si", frames(60, bad=6), 0, Survival(10, 7, (300.0,), (0.0, 1e4), 1000, 0), DEMAND)
    assert part["bad_atoms"] == pytest.approx(6 / 240)
    assert part["force_rmse"] == pytest.approx(np.sqrt((0.01 + 0.0025 + 0.04 + 0.0225) / 12), rel=1e-9)
    low, high = part["bad_atoms_interval"]
    assert 0 <= low < part["bad_atoms"] < high
    exact = binomtest(7, 10, alternative="greater").proportion_ci(0.95, method="exact").low
    assert part["survival_at_least"] == pytest.approx(exact)


def test_words_promise_no_more_than_is_known() -> None:
    part = state_structure("si", frames(94), 0, LIVES, DEMAND) | {"survival_at_least": 0.8659}
    text = describe_statement({"model": "abc", "target_text": "1", "confidence": 1 - 0.05 / 12, "structures": [part]})
    assert 1 - part["bad_at_most"] == pytest.approx(0.96863, abs=1e-5)
    assert "in at least 96.8% of frames" in text and "99.5% confidence" in text and "at least 86% do" in text


def test_in_words() -> None:
    part = state_structure("si", frames(59), 0, LIVES, DEMAND)
    text = describe_statement(
        {"model": "abc", "target_text": "0.2 (Si), 0.1 (C)", "confidence": 0.95, "structures": [part]}
    )
    assert text == (
        "model abc: si (4 atoms, 300–600 K): in at least 95.0% of frames no atom's force error exceeds "
        "0.2 (Si), 0.1 (C) eV/Å (0 of 59 did, 95.0% confidence); force RMSE 0.0791 eV/Å, 0.00% of atoms above. "
        "Stability: 10 of 10 trajectories reached their end (at least 74% do)"
    )
