"""Why a run has not converged: each reason from made-up measurements."""

from typing import Any

import pytest

from al_driver.query.params import QueryParams
from al_driver.trainers.deepmd import DeepmdTrainer
from al_driver.workflow.reasons import Seen, find_reason, why_worse

WINDOW = QueryParams(lower=0.1, upper=0.3)
TARGET = QueryParams(target_force_error=0.1)


def seen(
    error: float, *, halted: int = 0, failed: int = 0, selected: int = 10, rejected: int = 0, audited: bool = True
) -> Seen:
    audit: dict[str, Any] = {"target": 0.1, "frames": [{"error": error}] * 3}
    return Seen(
        {"force_rmse": error if not audited else 9.9}, {"trajectories": 10, "failed": 0, "halted": halted},
        {"frames": 100, "failed": failed, "selected": selected}, {"labelled": selected, "rejected": rejected},
        audit if audited else None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("history", "query", "words"),
    [
        ([seen(0.5), seen(0.3), seen(0.2)], TARGET, "errors still fall (0.5 → 0.2 eV/Å): too few labels so far"),
        ([seen(0.5, audited=False), seen(0.2, audited=False)], WINDOW, "errors still fall (0.5 → 0.2 eV/Å)"),
        (
            [seen(1.0), seen(0.88)],
            TARGET,
            "errors fall (1 → 0.88 eV/Å in 2 iterations), but at this pace 0.1 is",
        ),
        ([seen(0.5)], TARGET, "one iteration is too few"),
        ([seen(0.2), seen(0.21), seen(0.19), seen(0.2)], TARGET, "errors no longer fall (0.2 → 0.2 eV/Å in 4"),
        ([seen(0.5), seen(0.3, halted=6)], TARGET, "failures dominate (6 of 10 trajectories ended early"),
        ([seen(0.5), seen(0.3, failed=51)], WINDOW, "failures dominate (0 of 10 trajectories ended early, 51 of 100"),
        ([seen(0.5), seen(0.3, selected=0)], WINDOW, "nothing was labelled in the last iteration, so that the models"),
        ([seen(0.5, rejected=11), seen(0.3, rejected=10)], TARGET, "21 of 41 calculations failed or were refused"),
    ],
)
def test_each_reason(history: list[Seen], query: QueryParams, words: str) -> None:
    assert find_reason(history, query).startswith(words)


def test_a_short_training_is_told_as_what_to_mend_first() -> None:
    told = find_reason([seen(0.5), seen(0.5)], WINDOW, 100)
    assert told.startswith("errors no longer fall")
    assert told.endswith(". But 100 training steps are few: raise train.steps or numb_steps first")
    assert "few: raise" not in find_reason([seen(0.5), seen(0.3, halted=6)], TARGET, 100)


@pytest.mark.parametrize(
    ("keys", "covariance", "short"),
    [
        ({"preset": "small"}, False, None),
        ({"preset": "small", "steps": {"first": 100, "next": 80}}, False, 80),
        ({"preset": "small", "steps": {"first": 2000, "next": 80}, "warm_start": {"steps": 90}}, False, None),
        ({"preset": "small"}, True, None),
        ({"preset": "small", "steps": {"first": 20}}, True, 20),
    ],
)
def test_which_trainings_are_short(keys: dict[str, Any], covariance: bool, short: int | None) -> None:
    trainer = DeepmdTrainer.model_validate({"trainer": "deepmd", **keys})
    assert (trainer.with_covariance() if covariance else trainer).short_training() == short


def test_a_final_model_that_is_worse_is_told() -> None:
    last = {"on": "valid", "energy_rmse": 0.0046, "force_rmse": 0.02}
    final = {"on": "valid", "energy_rmse": 0.071, "force_rmse": 0.024}
    told = why_worse(final, last)
    assert told == (
        "worse than the models of the last iteration: energy RMSE 71 meV/atom, and 4.6 theirs. "
        "Raise train.steps.final, and run again"
    )
    assert why_worse(last, final) is None
    assert why_worse(final | {"on": "train"}, last) is None  # of two sets of frames
