"""The example inputs pass ``al check``: all by keys and values, those of free programs with files and programs too."""

from pathlib import Path

import pytest

import al_driver
from al_driver.schema.jsonc import read_jsonc

EXAMPLES = Path(__file__).parents[1] / "examples/si"
PARAMS = sorted(path for path in EXAMPLES.glob("*param*.json"))


def kind_of(param: Path) -> str:
    """Return what stands between the dots: the engine."""
    return param.name.removesuffix(".json").partition(".")[2]


def resource_of(param: Path) -> Path:
    """Return the resource file of the param file's engine; what keeps the embedded reference shares its file."""
    own = EXAMPLES / f"resource.{kind_of(param)}.json"
    return own if own.exists() else EXAMPLES / "resource.json"


def test_there_is_an_example_of_each_engine_and_command() -> None:
    found = {(path.name.partition(".")[0], kind_of(path)) for path in PARAMS}
    engines = ("", "qe", "cp2k", "vasp", "pwmat", "dftb")
    assert {(name, engine) for name in ("param", "init_param") for engine in engines} <= found
    for path in PARAMS:
        if path.name.startswith("init_param") and kind_of(path):
            (entry,) = read_jsonc(path)["structures"]
            assert {"relax", "scale", "perturb", "aimd"} <= set(entry), path.name


@pytest.mark.parametrize("param", PARAMS, ids=lambda path: path.name)
def test_keys_and_values_are_sound(param: Path) -> None:
    assert al_driver.check(param, resource_of(param), no_files=True).problems == []


@pytest.mark.needs("pw.x", "cp2k", "dp", "lmp", "/usr/share/espresso/pseudo/Si.pz-vbc.UPF")
@pytest.mark.parametrize("kind", ["qe", "cp2k"])
def test_free_programs_find_their_files(kind: str) -> None:
    for name in ("init_param", "param"):
        report = al_driver.check(EXAMPLES / f"{name}.{kind}.json", EXAMPLES / f"resource.{kind}.json")
        assert report.errors == []
        assert any(key.startswith("label/") for key in report.inputs)
