"""What was calculated with the INCAR of one structure is not used for another. With VASP's stand-in."""

import json
import sys
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import bulk
from fake_run import PARAM
from small_run import RESOURCE, call_al, merge

from al_driver.engines.vasp.incar import read_incar
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.schema.load import load_params
from al_driver.schema.run import RunParams
from al_driver.workflow.check import check_run
from al_driver.workflow.check_init import check_init_bulk

sys.path.append(str(Path(__file__).parents[1] / "standins"))
from vasp_case import COMMAND, INCAR, make_keys

PLAIN, OWN = "0.05", "0.1"  # SIGMA
STAGES = ("relax", "aimd", "label")


def make_init(folder: Path, names: list[str]) -> dict[str, Any]:
    """Return the parameters of two structures, of which the one that is called ``own`` has an INCAR of its own."""
    keys = make_keys(folder, ["Si"], INCAR)
    (folder / "INCAR.own").write_text(INCAR.replace(f"SIGMA = {PLAIN}", f"SIGMA = {OWN}"))
    stages = {
        "relax": {"what": "positions", "max_force": 5.0},
        "aimd": {"temperature": 200, "n_steps": 1, "every": 1},
    }
    entries = []
    for number, name in enumerate(names):
        bulk("Si", a=5.4 + 0.1 * number).write(folder / f"{number}.vasp", format="vasp")
        entries.append({"path": f"{number}.vasp", "name": name} | stages)
    label = keys | {"incar_of": {"own": str(folder / "INCAR.own")}}
    return {"seed": 7, "type_map": ["Si"], "label": label, "structures": entries, "valid_fraction": 0}


def read_smearing(folder: Path) -> dict[str, list[str]]:
    """Return SIGMA of each task of each stage."""
    return {
        stage: [read_incar(path)["SIGMA"] for path in sorted((folder / "init" / stage).glob("task.0*/INCAR"))]
        for stage in STAGES
    }


def test_real_space_projection_is_told_once_by_the_key_of_its_incar(tmp_path: Path) -> None:
    """Not by each stage of each entry, and of the smallest cell that the INCAR is for."""
    init = make_init(tmp_path, ["plain", "own"])
    for name in ("user", "own"):
        path = tmp_path / f"INCAR.{name}"
        path.write_text(path.read_text().replace("LREAL = .FALSE.", "LREAL = Auto"))
    for entry in init["structures"]:
        entry["supercell"] = [2, 2, 2]
    del init["structures"][1]["relax"]
    (tmp_path / "init.json").write_text(json.dumps(init))
    report = check_init_bulk(load_params(tmp_path / "init.json", InitBulkParams), None, render=True)
    words = "LREAL = Auto: real-space projection is inaccurate in a cell of {} atoms; below 30 take .FALSE."
    assert [(problem.key, problem.message) for problem in report.problems if "LREAL" in problem.message] == [
        ("label.incar", f"{tmp_path / 'INCAR.user'}: {words.format(2)}"),
        ("label.incar_of.own", f"{tmp_path / 'INCAR.own'}: {words.format(16)}"),
    ]


@pytest.mark.parametrize("names", [["plain", "spins"], ["spins", "plain"]])
def test_the_label_of_each_entry_is_tried_before_anything_runs(tmp_path: Path, names: list[str]) -> None:
    ase.io.write(tmp_path / "plain.extxyz", bulk("Si"))
    moments = bulk("Si")
    moments.set_initial_magnetic_moments([1.0, -1.0])
    ase.io.write(tmp_path / "spins.extxyz", moments)
    label = make_keys(tmp_path, ["Si"], INCAR)
    job = {"structures": "all", "ensemble": "nvt", "temperatures": [300], "n_steps": 10, "dump_every": 1}
    entries = [{"path": f"{name}.extxyz", "name": name} for name in names]
    explore = {"explorer": "lammps", "structures": entries, "iterations": [[job]]}
    (tmp_path / "param.json").write_text(json.dumps(PARAM | {"label": label, "explore": explore}))
    problems = check_run(load_params(tmp_path / "param.json", RunParams), None).problems
    assert [problem.key for problem in problems if "ISPIN" in problem.message] == ["label.incar"]


@pytest.mark.long
def test_two_structures_that_change_names_change_incars(tmp_path: Path) -> None:
    roles = {role: {"command": COMMAND} for role in STAGES}
    (tmp_path / "resource.json").write_text(json.dumps(merge(RESOURCE, roles)))

    def init(names: list[str], *options: str) -> Any:
        (tmp_path / "init.json").write_text(json.dumps(make_init(tmp_path, names)))
        return call_al(tmp_path, "init_bulk", "init.json", "resource.json", *options)

    done = init(["plain", "own"])
    assert done.returncode == 0, done.stderr
    assert read_smearing(tmp_path) == {stage: [PLAIN, OWN] for stage in STAGES}
    done = init(["own", "plain"])
    assert done.returncode != 0 and "structures[0].name: plain → own" in done.stderr
    done = init(["own", "plain"], "--redo", "relax")
    assert done.returncode == 0, done.stderr
    assert read_smearing(tmp_path) == {stage: [OWN, PLAIN] for stage in STAGES}
