"""The keys under `train`, what is written for a member, and what of it a step is known by."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tiny_trainings import make_trainer, tiny_input

from al_driver.errors import ConfigError, EngineError
from al_driver.files import hash_json, write_json
from al_driver.schema.plugins import plugin_name
from al_driver.trainers.base import Training
from al_driver.trainers.deepmd import DeepmdTrainer


def training(tmp_path: Path, **keys: Any) -> Training:
    defaults = {"phase": "first", "seed": 5, "type_map": ("Si",), "systems": (tmp_path / "data" / "Si8",)}
    return Training(**(defaults | keys))


def messages(trainer: DeepmdTrainer, type_map: tuple[str, ...] = ("Si",)) -> list[str]:
    return [str(problem) for problem in trainer.check(type_map)]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"preset": "small", "input": {}}, "needs either `input` or `preset`"),
        ({"input": None}, "needs either `input` or `preset`"),
        ({"preset": "tiny"}, "'small' or 'standard'"),
        ({"models": 0}, "greater than 0"),
        ({"steps": {"first": 0}}, "greater than 0"),
        ({"steps": {"frist": 10}}, "Extra inputs"),
        ({"warm_start": {"start_lr": 1e-3}}, "steps"),
        ({"kalman_memory": 0}, "greater than 0"),
        ({"compress": "false"}, "valid boolean"),
    ],
)
def test_bad_keys_are_refused(keys: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        make_trainer(**keys)


def test_it_is_found_by_name() -> None:
    assert plugin_name(DeepmdTrainer, "trainer") == "deepmd"


@pytest.mark.parametrize("preset", ["small", "standard"])
def test_presets_are_sound(preset: str, tmp_path: Path) -> None:
    trainer = make_trainer(preset=preset)
    assert messages(trainer, ("Li", "Ni", "O")) == []
    trainer.write_inputs(training(tmp_path), tmp_path)
    assert json.loads((tmp_path / "input.json").read_text())["model"]["type_map"] == ["Si"]


def test_input_of_a_member_names_everything_relative_to_its_folder(tmp_path: Path) -> None:
    attempt = tmp_path / "iter.0001" / "train" / "model.000.try-1"
    parent = tmp_path / "iter.0000" / "train" / "model.000"
    attempt.mkdir(parents=True)
    trainer = make_trainer(warm_start={"steps": 7, "start_lr": 1e-4})
    valid = (tmp_path / "valid" / "Si8",)
    trainer.write_inputs(training(tmp_path, phase="next", parent=parent, valid_systems=valid), attempt)
    config = json.loads((attempt / "input.json").read_text())
    assert config["training"]["training_data"]["systems"] == ["../../../data/Si8"]
    assert config["training"]["validation_data"] == {"batch_size": "auto", "systems": ["../../../valid/Si8"]}
    assert config["training"]["numb_steps"] == 7
    assert config["learning_rate"]["start_lr"] == 1e-4
    spec = json.loads((attempt / "train.json").read_text())
    assert spec == {"phase": "next", "seed": 5, "parent": "../../../iter.0000/train/model.000", "compress": False}


def test_first_and_final_trainings_start_from_scratch(tmp_path: Path) -> None:
    trainer = make_trainer(warm_start={"steps": 7, "start_lr": 1e-4}, steps={"final": 40})
    trainer.write_inputs(training(tmp_path, phase="final", parent=tmp_path / "parent"), tmp_path)
    assert json.loads((tmp_path / "train.json").read_text())["parent"] is None
    config = json.loads((tmp_path / "input.json").read_text())
    assert (config["training"]["numb_steps"], config["learning_rate"]["start_lr"]) == (40, 1e-3)


def test_a_warm_start_without_a_parent_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(warm_start={"steps": 7, "start_lr": 1e-4})
    with pytest.raises(ConfigError, match="needs the model of the iteration before"):
        trainer.write_inputs(training(tmp_path, phase="next"), tmp_path)


def test_no_training_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="list labelled frames under `init_data`"):
        make_trainer().write_inputs(training(tmp_path, systems=()), tmp_path)


def test_identity_of_a_phase_holds_that_phase_alone() -> None:
    one = make_trainer(steps={"first": 10, "next": 10, "final": 10})
    other = make_trainer(steps={"first": 10, "next": 10, "final": 99})
    assert one.phase_identity("first") == other.phase_identity("first")
    assert one.phase_identity("next") == other.phase_identity("next")
    assert one.phase_identity("final") != other.phase_identity("final")


def test_warm_start_is_in_the_identity_of_next_alone() -> None:
    cold, warm = make_trainer(), make_trainer(warm_start={"steps": 20, "start_lr": 1e-3})
    assert cold.phase_identity("first") == warm.phase_identity("first")
    assert cold.phase_identity("final") == warm.phase_identity("final")
    assert cold.phase_identity("next") != warm.phase_identity("next")


def test_identity_is_the_content_of_the_input_not_its_place(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        write_json(tmp_path / name, tiny_input())
    hashes = {
        hash_json(make_trainer(input=str(tmp_path / name)).phase_identity("first")) for name in ("a.json", "b.json")
    }
    assert hashes == {hash_json(make_trainer().phase_identity("first"))}
    changed = tiny_input(loss={"start_pref_e": 0.5})
    assert hash_json(make_trainer(input=changed).phase_identity("first")) not in hashes


def test_contradictions_are_named_with_file_and_key(tmp_path: Path) -> None:
    path = tmp_path / "dp.json"
    config = tiny_input()
    config["model"]["type_map"] = ["Ge"]
    config["training"]["training_data"]["systems"] = ["here"]
    write_json(path, config)
    first, second = messages(make_trainer(input=str(path)))
    assert first == f"{path}: model.type_map: is ['Ge'], but the run's type_map is ['Si']; leave it out here"
    assert second.endswith(
        "training.training_data.systems: names data; list them under `init_data` of the param file instead"
    )


def test_an_input_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    (tmp_path / "dp_train.json").write_text("{,}")
    assert messages(make_trainer(input=str(tmp_path / "dp_trian.json")))[0].endswith("did you mean 'dp_train.json'?")
    (message,) = messages(make_trainer(input=str(tmp_path / "dp_train.json")))
    assert message == f"{tmp_path / 'dp_train.json'}:1:2: a key in double quotes was expected here"
    assert messages(make_trainer(input={"modle": {}})) == ["input: lacks the object `model` of a `dp train` input"]


def test_a_number_that_is_not_finite_is_no_input(tmp_path: Path) -> None:
    (tmp_path / "dp.json").write_text('{"model": {}, "training": {},\n "loss": {"start_pref_e": NaN}}')
    (message,) = messages(make_trainer(input=str(tmp_path / "dp.json")))
    assert message == f"{tmp_path / 'dp.json'}:2:27: NaN is not a number in JSON; give a finite one, or null"


@pytest.mark.parametrize("rates", [5, None, ["exp"]])
def test_a_learning_rate_that_is_no_object_is_named(rates: Any) -> None:
    trainer = make_trainer(input=tiny_input(learning_rate=rates), warm_start={"steps": 20, "start_lr": 1e-3})
    assert messages(trainer) == [f"input.learning_rate: needs an object; found {json.dumps(rates)}"]


def test_learning_rate_of_a_warm_start_lies_above_the_last_one() -> None:
    trainer = make_trainer(warm_start={"steps": 20, "start_lr": 1e-5})
    assert messages(trainer) == ["warm_start.start_lr: 1e-05 is not above the input's learning_rate.stop_lr, 1e-05"]


def test_a_warm_start_of_adam_needs_a_learning_rate() -> None:
    trainer = make_trainer(warm_start={"steps": 20})
    assert messages(trainer) == ["warm_start.start_lr: is missing: the learning rate that a warm start begins with"]


def test_what_the_driver_sets_is_told() -> None:
    told = "\n".join(make_trainer(steps={"final": 40}, warm_start={"steps": 7, "start_lr": 1e-4}).set_by_driver())
    assert "numb_steps: first 20 (as in the input), next 7, final 40" in told
    assert "start_lr: 0.0001 in a warm start" in told
    assert "numb_steps" not in "\n".join(make_trainer().set_by_driver())


def write_member(directory: Path, **evaluation: Any) -> None:
    (directory / "frozen_model.pth").write_bytes(b"model")
    (directory / "evaluation.json").write_text(json.dumps({"energy_rmse": 0.1, "force_rmse": 0.2} | evaluation))


def test_a_whole_member_is_accepted(tmp_path: Path) -> None:
    write_member(tmp_path)
    make_trainer().verify(tmp_path)


def test_a_member_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer()
    (tmp_path / "output").write_text("something\nKeyError: 'axis'\n\n")
    with pytest.raises(EngineError, match="training did not end: KeyError: 'axis'"):
        trainer.verify(tmp_path)
    write_member(tmp_path, force_rmse=float("nan"))
    with pytest.raises(EngineError, match="not_finite: force_rmse of the member is nan"):
        trainer.verify(tmp_path)
    write_member(tmp_path)
    (tmp_path / "frozen_model.pth").write_bytes(b"")
    with pytest.raises(EngineError, match=r"frozen_model\.pth is missing or empty"):
        trainer.verify(tmp_path)
