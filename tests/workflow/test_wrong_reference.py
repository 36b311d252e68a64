"""The field's most common mistakes, wrong potentials and mixed references: refused before anything is started."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from small_run import RESOURCE, RUN, merge

from al_driver.data.dataset import write_dataset
from al_driver.engines.base import Engine
from al_driver.errors import ConfigError
from al_driver.files import write_json
from al_driver.layout import STEP_FILE
from al_driver.schema.load import load_params
from al_driver.schema.run import RunParams
from al_driver.workflow import verbs
from al_driver.workflow.label import label_detail

sys.path.append(str(Path(__file__).parents[1] / "standins"))
from vasp_case import COMMAND, make_keys

PSEUDO = Path("/usr/share/espresso/pseudo")
pytestmark = pytest.mark.needs("dp", "lmp")


def write_run(folder: Path, label: dict[str, Any], command: str, **changes: Any) -> Path:
    """Write a run of an aluminium–silicon compound with data to start from."""
    atoms = bulk("AlSi", "zincblende", a=5.6)
    atoms.write(folder / "POSCAR", format="vasp")
    atoms.info, atoms.arrays["forces"] = {"energy": -8.0, "virial": np.eye(3)}, np.zeros((2, 3))
    write_dataset(folder / "made/dataset", [atoms], ["Al", "Si"])
    own = {"type_map": ["Al", "Si"], "label": label, "init_data": ["made/dataset"], "valid_data": []}
    param = merge(RUN, {"train": {"input": {"model": {"descriptor": {"sel": [40, 40]}}}}}) | own | changes
    write_json(folder / "param.json", param)
    write_json(folder / "resource.json", merge(RESOURCE, {"label": {"command": command}}))
    return folder


def write_record(folder: Path, engine: Engine) -> None:
    """Say with which settings the data were labelled."""
    inputs = label_detail(engine)
    record = {"fingerprint": "1", "inputs": inputs, "result": {}, "outputs": [], "finished": ""}
    (folder / "made" / STEP_FILE).write_text(json.dumps(record))


def refusal(folder: Path) -> str:
    """Return why `al run` does not begin; nothing was made."""
    with pytest.raises(ConfigError) as refused:
        verbs.run(folder / "param.json", folder / "resource.json")
    assert not (folder / "work").exists()
    return str(refused.value)


def test_two_potcars_that_are_swapped(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, ["Al", "Si"])
    potcar = {"Al": keys["potcar"]["Si"], "Si": keys["potcar"]["Al"]}
    told = refusal(write_run(tmp_path, keys | {"potcar": potcar}, COMMAND))
    assert "label.potcar.Al" in told and "is for Si (TITEL PAW_PBE Si 01Jan2001), not for Al" in told
    assert "label.potcar.Si" in told and "is for Al (TITEL PAW_PBE Al 01Jan2001), not for Si" in told


def test_a_potcar_of_both_in_whatever_order(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, ["Al", "Si"])
    both = tmp_path / "POTCAR"
    both.write_text("".join(Path(keys["potcar"][symbol]).read_text() for symbol in ("Si", "Al")))
    told = refusal(write_run(tmp_path, keys | {"potcar": {"Al": str(both), "Si": str(both)}}, COMMAND))
    assert f"label.potcar.Al: {both}" in told and "2 potentials" in told


def test_a_species_without_a_potcar(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, ["Si"])
    assert "label.potcar: no POTCAR for Al of the type_map; there are Si" in refusal(write_run(tmp_path, keys, COMMAND))


@pytest.mark.needs("pw.x", str(PSEUDO / "Al.pz-vbc.UPF"))
def test_potentials_of_pw_that_are_swapped_or_missing(tmp_path: Path) -> None:
    (tmp_path / "scf.in").write_text("&system\n ecutwfc = 14\n/\n&electrons\n/\n")
    files = {symbol: str(PSEUDO / f"{symbol}.pz-vbc.UPF") for symbol in ("Al", "Si")}
    engine = {"engine": "qe", "input": "scf.in", "kpoints": [1, 1, 1]}
    swapped = {"Al": files["Si"], "Si": files["Al"]}
    told = refusal(write_run(tmp_path, engine | {"pseudopotentials": swapped}, "pw.x"))
    assert "label.pseudopotentials.Al" in told and "is for Si, not for Al" in told
    shutil.rmtree(tmp_path / "made")
    told = refusal(write_run(tmp_path, engine | {"pseudopotentials": {"Si": files["Si"]}}, "pw.x"))
    assert "label.pseudopotentials: no pseudopotential for Al of the type_map" in told


def test_two_cutoffs_in_one_training_set(tmp_path: Path) -> None:
    write_run(tmp_path, make_keys(tmp_path, ["Al", "Si"]), COMMAND)
    write_record(tmp_path, load_params(tmp_path / "param.json", RunParams).label_engine)
    incar = (tmp_path / "INCAR.user").read_text()
    (tmp_path / "INCAR.user").write_text(incar.replace("ENCUT = 400", "ENCUT = 520"))
    told = refusal(tmp_path)
    assert "init_data[0]: was labelled with other settings than `label` has: incar.ENCUT: 400 → 520" in told
    assert '"allow_mixed": true trains on them together' in told
    (tmp_path / "INCAR.user").write_text(incar + "! another comment\nNELM = 300\n".replace("NELM = 300\n", ""))
    assert not verbs.check(tmp_path / "param.json", tmp_path / "resource.json").errors


def test_limits_of_a_named_engine_are_keys_of_the_label_too(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, ["Al", "Si"], gate={"max_label_force": 60, "min_distance": 0.4})
    label = {"engine": "pbe", "gate": {"max_label_force": 30}}
    write_run(tmp_path, label, COMMAND, engines={"pbe": keys})
    params = load_params(tmp_path / "param.json", RunParams)
    assert (params.label_engine.gate.max_label_force, params.label_engine.gate.min_distance) == (30, 0.4)
    assert params.engines["pbe"].gate.max_label_force == 60
    label["gate"]["max_label_forc"] = label["gate"].pop("max_label_force")
    write_run(tmp_path, label, COMMAND, engines={"pbe": keys})
    assert "label.gate.max_label_forc" in refusal(tmp_path)
