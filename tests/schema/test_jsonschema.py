"""The JSON Schemas in the repository are those of the code, and every JSON in it passes them."""

from pathlib import Path

import pytest

from al_driver.errors import ConfigError
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.schema.jsonc import read_jsonc
from al_driver.schema.jsonschema import FILES, schema_of, schema_text
from al_driver.schema.load import kind_of, load_params
from al_driver.schema.resource import Resources
from al_driver.schema.run import RunParams
from al_driver.schema.screen import ScreenParams

ROOT = Path(__file__).parents[2]
KINDS = {"run": RunParams, "init_bulk": InitBulkParams, "screen": ScreenParams, "resource": Resources}
EXAMPLES = sorted(
    file
    for pattern in ("params/*.json", "resources/*.json", "examples/*/*.json")
    for file in ROOT.glob(pattern)
    if not file.name.endswith(".schema.json")
)


def _name_of(file: Path) -> str:
    return "resource" if "resource" in read_jsonc(file)["$schema"] else kind_of(file)


@pytest.mark.parametrize("name", FILES)
def test_the_repository_holds_the_schema_of_the_code(name):
    stored = (ROOT / FILES[name]).read_text(encoding="utf-8")
    assert stored == schema_text(name), "run `python -m al_driver.schema.jsonschema` in the repository's root"
    assert str(ROOT) not in stored and str(Path.home()) + "/" not in stored


def test_there_are_starting_points_of_every_kind():
    assert {_name_of(file) for file in EXAMPLES} == set(KINDS)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_example_is_sound_and_names_its_schema(file):
    name = _name_of(file)
    load_params(file, KINDS[name])
    assert (file.parent / read_jsonc(file)["$schema"]).resolve() == ROOT / FILES[name]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: str(file.relative_to(ROOT)))
def test_an_editor_accepts_every_example(file):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(read_jsonc(file), schema_of(_name_of(file)), cls=jsonschema.Draft202012Validator)


def test_an_editor_accepts_short_forms_and_refuses_misspelt_keys():
    jsonschema = pytest.importorskip("jsonschema")
    run = read_jsonc(ROOT / "params/run.embedded.json")
    job = {"structures": 0, "ensemble": "npt", "temperatures": 300, "pressures": 0.0, "n_steps": 10}
    run["explore"] |= {"structures": ["POSCAR"], "iterations": [[job], {"jobs": [job | {"temperatures": [1, 2]}]}]}
    jsonschema.validate(run, schema_of("run"))
    jsonschema.validate({"default": {"timeout_min": 5}}, schema_of("resource"))
    inline = {"candidates": ["al.vasp"], "models": "efermi", "rank": {"property": "efermi"}}
    screened = [run["explore"] | {"structures": [{"screen": form}]} for form in ("screen.json", inline)]
    for explore in screened:
        jsonschema.validate(run | {"explore": explore}, schema_of("run"))
    misspelt = run["explore"] | {"structures": [{"screen": inline | {"selct": 3}}]}
    long = run["explore"] | {"iterations": [[job | {"n_step": 1}]]}
    for spoilt in (run | {"sed": 1}, run | {"explore": misspelt}, run | {"explore": long}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(spoilt, schema_of("run"))


def test_a_schema_is_itself_sound():
    jsonschema = pytest.importorskip("jsonschema")
    for name in FILES:
        jsonschema.Draft202012Validator.check_schema(schema_of(name))


def test_units_descriptions_and_defaults_are_in_the_schema():
    job = schema_of("run")["$defs"]["Job"]["properties"]
    assert job["tau_t"]["unit"] == "ps"
    assert job["tau_t"]["default"] == 0.1
    assert job["n_steps"]["description"] == "Steps of each trajectory."
    assert '"unit": "bar"' in schema_text("run")
    assert schema_of("resource")["properties"]["label"]["description"] == "Reference calculations."


def test_every_key_has_a_description():
    for name in FILES:
        schema = schema_of(name)
        for owner in (schema, *schema["$defs"].values()):
            for key, node in owner.get("properties", {}).items():
                assert "description" in node or "const" in node, f"{name}: {owner.get('title')}.{key}"


def test_a_schema_that_does_not_exist_is_told():
    assert schema_of("init-bulk") == schema_of("init_bulk")
    with pytest.raises(ConfigError, match="there is no schema 'rnu'; did you mean 'run'"):
        schema_of("rnu")
