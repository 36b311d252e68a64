"""``al init_bulk`` and ``al run`` with the real CP2K, from the relaxation to the second iteration's labels.

A minimal basis and a low cutoff keep it short. Frame 1 of each label step of the run is given two SCF iterations by its
launcher: CP2K prints energy and forces of it all the same, and ends well.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from small_run import RESOURCE, RUN, call_al, merge

from al_driver.data.dataset import find_systems, read_system
from al_driver.data.frames import read_frames
from al_driver.engines.testing import run_engine
from al_driver.files import read_json
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.schema.load import load_params

EXAMPLES = Path(__file__).parents[2] / "examples/si"
pytestmark = [pytest.mark.long, pytest.mark.needs("cp2k", "dp", "lmp")]
KEYS = {
    "engine": "cp2k",
    "input": "cp2k.inp",
    "basis": {"Si": "SZV-GTH"},
    "potential": {"Si": "GTH-PADE-q4"},
    "kpoints": [2, 2, 2],
}
ENTRY: dict[str, Any] = {
    "path": "POSCAR",
    "name": "si",
    "relax": {"max_force": 0.05},
    "supercell": [2, 1, 1],
    "scale": [0.99, 1.01],
    "perturb": {"copies": 2, "cell_fraction": 0.01, "atom_distance": 0.05},
    "aimd": {"temperature": 500, "n_steps": 4, "every": 2, "starts": 2},
}
STARVE = """\
case $PWD in
  */iter.*/label/task.000001.try-*) sed -i 's/MAX_SCF.*/MAX_SCF 2/' cp2k.inp ;;
esac
exec "$@"
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `al init_bulk` and `al run` have ended."""
    folder = tmp_path_factory.mktemp("cp2k")
    bulk("Si", a=5.4).write(folder / "POSCAR", format="vasp")
    text = (EXAMPLES / "cp2k.inp").read_text()
    (folder / "cp2k.inp").write_text(text.replace("CUTOFF 120", "CUTOFF 80").replace("1.0E-7", "1.0E-6"))
    (folder / "starve.sh").write_text(STARVE)
    starved = {"label": {"command": f"sh {folder / 'starve.sh'} cp2k", "max_failed": 1, "max_failed_fraction": 0}}
    structures = [{"path": "POSCAR", "name": "si", "supercell": [2, 1, 1]}]
    changes = {"query": {"max_select": 3, "lower": 1e-5}, "explore": {"structures": structures}}
    init = {"seed": 7, "type_map": ["Si"], "label": KEYS, "structures": [ENTRY], "valid_fraction": 0.2}
    files = {
        "init.json": init,
        "param.json": merge(RUN, changes) | {"label": KEYS, "init_data": ["init/dataset"], "valid_data": []},
        "resource.json": RESOURCE,
        "starved.json": merge(RESOURCE, starved),
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    foretold = call_al(folder, "check", "init.json", "resource.json")
    assert foretold.returncode == 0, foretold.stdout + foretold.stderr
    assert "read 1 → relax 1 → supercell 1 → scale 2 → perturb 4 → aimd 8" in foretold.stdout
    for command in (("init_bulk", "init.json", "resource.json"), ("run", "param.json", "starved.json")):
        done = call_al(folder, *command)
        assert done.returncode == 0, done.stderr + done.stdout
    return folder


def test_the_first_data_are_those_foretold(finished: Path) -> None:
    counts = {
        s: read_json(finished / f"init/{s}/step.json")["result"]["structures"] for s in ("relax", "perturb", "aimd")
    }
    assert counts == {"relax": 1, "perturb": 4, "aimd": 8}
    label = read_json(finished / "init/label/step.json")["result"]
    assert (label["labelled"], label["rejected"]) == (8, 0)
    assert len(list((finished / "init/label").glob("task.*"))) == 4  # the other four are labelled by the dynamics
    (relaxed,) = read_frames(finished / "init/relax/structures.extxyz")
    assert np.linalg.norm(relaxed.cell.array, axis=1) == pytest.approx(np.linalg.norm(relaxed.cell.array[0]), rel=1e-3)
    assert 5.2 < (4 * relaxed.get_volume()) ** (1 / 3) < 5.8


def test_a_frame_of_the_dynamics_has_the_label_of_a_calculation_of_its_own(finished: Path, tmp_path: Path) -> None:
    frames = read_frames(finished / "init/label/labelled.extxyz")
    frame = next(atoms for atoms in frames if atoms.info.get("aimd_step") == 4)
    engine = load_params(finished / "init.json", InitBulkParams).label_engine
    engine.write_inputs(frame, tmp_path)
    run_engine(engine, tmp_path)
    label = engine.read_label(tmp_path)
    assert label.energy == pytest.approx(frame.info["energy"], abs=1e-3)
    assert np.abs(label.forces - frame.arrays["forces"]).max() < 0.01
    assert np.abs(label.virial - frame.info["virial"]).max() < 0.1


def test_both_iterations_are_labelled_and_what_did_not_converge_is_rejected(finished: Path) -> None:
    steps = sorted((finished / "work").glob("iter.*/label"))
    assert len(steps) == 2
    for step in steps:
        rejected = [json.loads(line) for line in (step / "rejected.jsonl").read_text().splitlines()]
        assert [(line["frame"], line["reason"]) for line in rejected] == [(1, "scf_unconverged")]
        task = step / rejected[0]["where"]
        assert "PROGRAM ENDED AT" in (task / "cp2k.out").read_text()
        labelled = [atoms for system in find_systems(step / "dataset") for atoms in read_system(system)]
        assert len(labelled) == 2
        for folder in (path for path in step.glob("task.*") if path.name.count(".") == 1):
            assert {path.name for path in folder.iterdir()} == {"cp2k.inp", "cp2k.out"}
        assert read_json(step / "step.json")["result"]["versions"] == ["cp2k 2023.1"]
    assert (finished / "work/final/model.000/frozen_model.pth").is_file()


def test_the_same_command_again_calculates_nothing(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "work").rglob("cp2k.out")}
    assert call_al(finished, "run", "param.json", "starved.json").returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (finished / "work").rglob("cp2k.out")} == before


def test_the_examples_are_sound() -> None:
    done = call_al(EXAMPLES, "check", "param.cp2k.json", "resource.cp2k.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cp2k" in done.stdout
