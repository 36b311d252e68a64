"""Labels of two references do not get into one training set."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from ase.build import bulk
from fake_run import LJ, PARAM

from al_driver.engines.cp2k import Cp2k
from al_driver.files import write_json
from al_driver.schema.load import load_params
from al_driver.schema.run import RunParams
from al_driver.workflow.label import label_detail, label_inputs
from al_driver.workflow.references import check_references, describe_difference
from al_driver.workflow.step import Record

sys.path.append(str(Path(__file__).parents[1] / "standins"))
from vasp_case import INCAR, make_engine, write_potcar

OTHER = LJ | {"pair_style": "lj/cut 6.0"}


def read_params(folder: Path, **changes: Any) -> RunParams:
    (folder / "param.json").write_text(json.dumps(PARAM | changes))
    return load_params(folder / "param.json", RunParams)


def write_init(folder: Path, label: dict[str, Any]) -> Path:
    bulk("Si").write(folder / "POSCAR", format="vasp")
    content = {"seed": 1, "type_map": ["Si"], "label": label, "structures": ["POSCAR"]}
    (folder / "init.json").write_text(json.dumps(content))
    return folder


def write_labelled(folder: Path, label: dict[str, Any]) -> None:
    """Leave a label step as `al init_bulk` does, with a dataset beside it."""
    engine = read_params(folder, label=label).label_engine
    record = Record("f", label_inputs(engine, ["Si"]) | label_detail(engine), {"labelled": 1}, [], "now")
    (folder / "made/label").mkdir(parents=True)
    (folder / "made/dataset/Si8").mkdir(parents=True)
    write_json(folder / "made/label/step.json", {**vars(record)})


def test_an_init_bulk_that_is_still_to_be_made(tmp_path: Path) -> None:
    write_init(tmp_path, OTHER)
    source = [{"init_bulk": "init.json"}]
    (found,) = check_references(read_params(tmp_path, init_data=source))
    assert found.key == "init_data[0]"
    assert "labelled with other settings than `label` has: pair_style: lj/cut 6.0 → lj/cut 5.0" in found.message
    assert not list(check_references(read_params(tmp_path, init_data=source, allow_mixed=True)))
    assert not list(check_references(read_params(write_init(tmp_path, LJ), init_data=source)))


@pytest.mark.parametrize("data", ["made/dataset", "made/dataset/Si8", "made/dataset/*", "m*/dataset"])
def test_a_dataset_beside_its_label_step(tmp_path: Path, data: str) -> None:
    write_labelled(tmp_path, OTHER)
    (found,) = check_references(read_params(tmp_path, init_data=[data]))
    assert "pair_style: lj/cut 6.0 → lj/cut 5.0" in found.message
    assert not list(check_references(read_params(tmp_path, init_data=[data], label=OTHER)))


@pytest.mark.parametrize("data", ["made/label/dataset", "made/label/dataset/Si8"])
def test_the_labels_of_an_iteration(tmp_path: Path, data: str) -> None:
    write_labelled(tmp_path, OTHER)
    (tmp_path / "made/label/dataset/Si8").mkdir(parents=True)
    (found,) = check_references(read_params(tmp_path, init_data=[data]))
    assert "pair_style: lj/cut 6.0 → lj/cut 5.0" in found.message


def test_validation_data_of_another_reference_are_a_warning(tmp_path: Path) -> None:
    write_labelled(tmp_path, OTHER)
    (found,) = check_references(read_params(tmp_path, init_data=["data"], valid_data=["made/dataset"]))
    assert (found.key, found.severity) == ("valid_data[0]", "warning")
    assert "against another reference than the models learn from" in found.message


@pytest.mark.parametrize("below", [".", "Si8"])
def test_what_was_gathered(tmp_path: Path, below: str) -> None:
    engines = [read_params(tmp_path, label=label).label_engine for label in (LJ, OTHER)]
    (tmp_path / "all/Si8").mkdir(parents=True)
    write_json(tmp_path / "all/settings.json", {engine.identity(): engine.settings() for engine in engines})
    (found,) = check_references(read_params(tmp_path, init_data=[f"all/{below}"]))
    assert "pair_style" in found.message


def test_of_other_data_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "data/Si8").mkdir(parents=True)
    assert not list(check_references(read_params(tmp_path, init_data=["data", "not_there"])))


def test_an_element_or_a_structure_more_is_no_other_reference(tmp_path: Path) -> None:
    """The data hold none of it, so that nothing of them was calculated otherwise."""
    for name in ("old", "new", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "INCAR.slab").write_text(INCAR.replace("SIGMA = 0.05", "SIGMA = 0.02"))
    old = make_engine(tmp_path / "old", ["Al", "Si"])
    new = make_engine(tmp_path / "new", ["Al", "Si", "O"], incar_of={"slab": str(tmp_path / "INCAR.slab")})
    assert not describe_difference(old.settings(), new) and not describe_difference(new.settings(), old)
    other = make_engine(tmp_path / "other", ["Al", "Si"])
    write_potcar(tmp_path / "other/POTCAR.Si", "Si", title="PAW_PBE Si_GW 01Jan2001")
    assert describe_difference(old.settings(), other).startswith("potcar.Si.")


def test_an_element_more_in_an_input_of_cp2k_is_no_other_reference(tmp_path: Path) -> None:
    """Unless one &KIND is for whatever has none of its own: then the elements that both know may not be the same."""
    text = (
        "&FORCE_EVAL\n &DFT\n  &MGRID\n   CUTOFF 80\n  &END\n &END\n &SUBSYS\n  &KIND Si\n   BASIS_SET SZV-GTH\n"
        "   POTENTIAL GTH-PADE-q4\n  &END\n &END\n&END\n"
    )
    more = text.replace("  &KIND Si", "  &KIND C\n   BASIS_SET SZV-GTH\n   POTENTIAL GTH-PADE-q4\n  &END\n  &KIND Si")
    texts = {"old": text, "new": more, "other": more.replace("Si\n   BASIS_SET SZV", "Si\n   BASIS_SET DZVP")}
    texts["default"] = more.replace("KIND C", "KIND DEFAULT")
    engines = {}
    for name, content in texts.items():
        (tmp_path / f"{name}.inp").write_text(content)
        engines[name] = Cp2k.model_validate({"engine": "cp2k", "input": str(tmp_path / f"{name}.inp")})
    old, new = engines["old"], engines["new"]
    assert not describe_difference(old.settings(), new) and not describe_difference(new.settings(), old)
    assert describe_difference(old.settings(), engines["other"]).startswith("kinds.Si.BASIS_SET: SZV-GTH → DZVP-GTH")
    assert describe_difference(old.settings(), engines["default"])
    assert describe_difference(engines["default"].settings(), new)


def test_data_of_another_engine_are_told_by_the_engines_alone(tmp_path: Path) -> None:
    write_labelled(tmp_path, LJ)
    ase = {"engine": "ase", "calculator": "ase.calculators.lj.LennardJones"}
    (found,) = check_references(read_params(tmp_path, init_data=["made/dataset"], label=ase))
    assert found.message.splitlines() == [
        'was labelled by the engine "lammps", and `label` is "ase"',
        "  Use one reference for both: label these data by `label` too, or take theirs there; "
        '"allow_mixed": true trains on them together',
    ]
