"""The keys under ``query`` that compare candidates."""

from typing import Any

import pytest
from pydantic import ValidationError

from al_driver.query.params import QueryParams
from al_driver.schema.run import RunParams
from al_driver.trainers.deepmd import DeepmdTrainer

WINDOW: dict[str, Any] = {"lower": 0.1, "upper": 0.3}
JOB = {"structures": 0, "ensemble": "nvt", "temperatures": 300, "n_steps": 10}
PARAM: dict[str, Any] = {
    "seed": 1, "type_map": ["Si"], "init_data": ["data"], "train": {"trainer": "deepmd", "preset": "small"},
    "explore": {"explorer": "lammps", "structures": ["POSCAR"], "iterations": [[JOB]]},
    "query": WINDOW | {"choose": "diverse"},
    "label": {"engine": "lammps", "pair_style": "sw", "pair_coeff": ["* * Si.sw Si"]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"worst_atoms": 2}, '`worst_atoms` belongs to "choose": "diverse" and "lookahead"; found "random"'),
        ({"choose": "largest", "score_power": 0}, "`score_power` belongs to"),
        ({"shortlist": 3}, "`shortlist` belongs to"),
        ({"choose": "diverse", "worst_atoms": 0}, "greater than 0"),
        ({"choose": "diverse", "score_power": -1.0}, "greater than or equal to 0"),
        ({"choose": "different"}, "'random', 'largest', 'diverse' or 'lookahead'"),
        ({"choose": "lookahead"}, 'needs the covariance of one model: add "uncertainty": "kpu"'),
        ({"choose": "lookahead", "uncertainty": "kpu", "score_power": 2.0}, '`score_power` belongs to "choose": "div'),
    ],
)  # fmt: skip
def test_keys_that_do_not_fit_are_errors(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        QueryParams.model_validate(WINDOW | keys)


def test_defaults_may_be_written_for_any_choice() -> None:
    written = QueryParams(**WINDOW).model_dump(mode="json")
    assert QueryParams.model_validate(written) == QueryParams(**WINDOW)


def test_a_trainer_without_descriptors_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RunParams.model_validate(PARAM).query.compares
    monkeypatch.setattr(DeepmdTrainer, "describes", False)
    with pytest.raises(
        ValidationError, match='"diverse" compares atoms, and models of this trainer do not describe them'
    ):
        RunParams.model_validate(PARAM)
