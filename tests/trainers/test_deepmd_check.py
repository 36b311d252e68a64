"""Contradictions and misspelt keys of a DeePMD input."""

from typing import Any

import pytest
from tiny_trainings import tiny_input

from al_driver.trainers.deepmd_check import find_contradictions, find_schema_errors

NAMES_DATA = "names data; list them under `{}` of the param file instead"


def contradictions(config: dict[str, Any], *, needs_steps: bool = True) -> list[tuple[str, str]]:
    return list(find_contradictions(config, ["Si"], needs_steps))


def test_a_sound_input_has_no_finding() -> None:
    assert contradictions(tiny_input()) == []
    assert list(find_schema_errors(tiny_input(), ["Si"])) == []


@pytest.mark.parametrize(
    ("training", "key", "text"),
    [
        ({"training_data": {"systems": ["a"]}}, "training.training_data.systems", NAMES_DATA.format("init_data")),
        ({"validation_data": {"systems": "a"}}, "training.validation_data.systems", NAMES_DATA.format("valid_data")),
        ({"training_data": {"batch_size": [1, 2]}}, "training.training_data.batch_size", "one value a system"),
        ({"systems": ["a"]}, "training.systems", "layout of DeePMD-kit 1"),
        ({"stat_file": "stat"}, "training.stat_file", "statistics of old data"),
    ],
)
def test_what_the_driver_must_say_is_refused(training: dict[str, Any], key: str, text: str) -> None:
    ((found, message),) = contradictions(tiny_input(training={"numb_steps": 5, **training}))
    assert found == key
    assert text in message


@pytest.mark.parametrize("section", ["training_data", "validation_data"])
def test_data_that_are_no_object_are_named(section: str) -> None:
    config = tiny_input(training={"numb_steps": 5, section: ["a", "b"]})
    assert contradictions(config) == [(f"training.{section}", 'needs an object; found ["a", "b"]')]
    assert contradictions(tiny_input(training={"numb_steps": 5, section: None})) == []


def test_type_map_in_another_order_is_refused() -> None:
    config = tiny_input()
    config["model"]["type_map"] = ["C", "Si"]
    ((key, message),) = find_contradictions(config, ["Si", "C"], False)
    assert (key, message[:18]) == ("model.type_map", "is ['C', 'Si'], bu")


def test_sel_counts_the_elements() -> None:
    config = tiny_input()
    config["model"]["descriptor"]["sel"] = [40, 40]
    assert contradictions(config) == [("model.descriptor.sel", "has 2 numbers, but type_map ['Si'] has 1")]


def test_several_tasks_are_refused() -> None:
    ((key, _),) = contradictions(tiny_input(model={"model_dict": {}}))
    assert key == "model.model_dict"


def test_a_number_of_steps_must_come_from_somewhere() -> None:
    config = tiny_input(training={})
    assert [key for key, _ in contradictions(config)] == ["training.numb_steps"]
    assert contradictions(config, needs_steps=False) == []


def test_every_misspelt_key_is_named_and_the_nearest_proposed() -> None:
    config = tiny_input(trainning={})
    config["model"]["descriptor"] |= {"Rmax": 4.2, "rcutt": 6.0}
    config["loss"]["start_perf_e"] = 1
    assert sorted(find_schema_errors(config, ["Si"])) == [
        ("loss.start_perf_e", "`start_perf_e` is no key of DeePMD-kit; did you mean 'start_pref_e'?"),
        ("model.descriptor.Rmax", "`Rmax` is no key of DeePMD-kit"),
        ("model.descriptor.rcutt", "`rcutt` is no key of DeePMD-kit; did you mean 'rcut'?"),
        ("trainning", "`trainning` is no key of DeePMD-kit; did you mean 'training'?"),
    ]


def test_a_value_of_the_wrong_kind_is_named() -> None:
    config = tiny_input()
    config["model"]["descriptor"]["rcut"] = "6"
    ((key, message),) = find_schema_errors(config, ["Si"])
    assert key == "model.descriptor"
    assert "`rcut` gets wrong value type" in message


def test_the_input_is_not_changed_by_the_check() -> None:
    config = tiny_input()
    list(find_schema_errors(config, ["Si"]))
    assert config == tiny_input()
