"""What the driver sets in an input, and what it leaves alone."""

import json
from pathlib import Path

import pytest
from tiny_trainings import tiny_input

from al_driver.trainers.base import Training
from al_driver.trainers.deepmd_input import fill_in, set_schedule


def member(seed: int = 5, **keys: object) -> Training:
    return Training("first", seed, ("Si",), (Path("data"),), **keys)  # type: ignore[arg-type]


def test_an_input_is_left_alone_where_nothing_is_asked() -> None:
    config = tiny_input()
    assert set_schedule(config, None, None) == tiny_input() == config


@pytest.mark.parametrize("key", ["numb_steps", "stop_batch", "num_steps", "numb_epoch"])
def test_steps_take_the_place_of_every_spelling(key: str) -> None:
    config = tiny_input(training={key: 50})
    assert set_schedule(config, 20, None)["training"] == {"numb_steps": 20}


@pytest.mark.parametrize(("given", "expected"), [({}, 100), ({"decay_steps": 2000}, 40), ({"decay_steps": 10}, 1)])
def test_the_staircase_of_the_learning_rate_shrinks_with_the_steps(given: dict[str, int], expected: int) -> None:
    config = tiny_input(training={"numb_steps": 400_000}, learning_rate={"type": "exp", "start_lr": 1e-3, **given})
    assert set_schedule(config, 8000, None)["learning_rate"]["decay_steps"] == expected


def test_other_schedules_get_no_decay_steps() -> None:
    config = tiny_input(
        training={"numb_steps": 1000}, learning_rate={"type": "cosine", "start_lr": 1e-3, "warmup_steps": 100}
    )
    assert set_schedule(config, 500, None)["learning_rate"] == {"type": "cosine", "start_lr": 1e-3, "warmup_steps": 50}


def test_every_part_that_draws_weights_is_seeded_anew_for_each_member() -> None:
    config = tiny_input(
        model={
            "descriptor": {"type": "hybrid", "list": [{"type": "se_e2_a", "seed": 1}, {"type": "se_e2_r"}]},
            "type_embedding": {"neuron": [4]},
            "fitting_net": {"neuron": [8], "seed": 1},
        }
    )

    def seeds(seed: int) -> list[int]:
        filled = fill_in(config, member(seed), Path("x"))
        model = filled["model"]
        assert "seed" not in model["descriptor"]
        parts = [*model["descriptor"]["list"], model["type_embedding"], model["fitting_net"], filled["training"]]
        return [part["seed"] for part in parts]

    assert len({*seeds(5), *seeds(6)}) == 10
    assert seeds(5) == seeds(5)


def test_models_within_a_model_are_seeded() -> None:
    config = tiny_input(
        model={"type": "linear_ener", "models": [{"descriptor": {}, "fitting_net": {}}, {"type": "pairtab"}]}
    )
    first, second = fill_in(config, member(), Path("x"))["model"]["models"]
    assert first["descriptor"]["seed"] != first["fitting_net"]["seed"]
    assert second == {"type": "pairtab"}


def test_validation_without_data_is_taken_out() -> None:
    config = tiny_input(training={"numb_steps": 5, "validation_data": {"batch_size": 4}})
    assert "validation_data" not in fill_in(config, member(), Path("x"))["training"]
    filled = fill_in(config, member(valid_systems=(Path("v"),)), Path("x"))
    assert filled["training"]["validation_data"] == {"batch_size": 4, "systems": ["../v"]}


def test_names_and_display_are_the_drivers() -> None:
    config = tiny_input(training={"numb_steps": 500, "disp_file": "mine", "save_ckpt": "mine", "disp_freq": 1000})
    section = fill_in(config, member(), Path("x"))["training"]
    assert (section["disp_file"], section["save_ckpt"], section["disp_freq"]) == ("lcurve.out", "model.ckpt", 50)
    assert json.dumps(config).count("mine") == 2, "the user's input itself is not changed"
