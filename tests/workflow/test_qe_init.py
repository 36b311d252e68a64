"""``al init_bulk`` with the real pw.x: relax → supercell → scale → perturb → aimd → label → split."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from small_run import RESOURCE, call_al, merge

from al_driver.data.dataset import find_systems, read_system
from al_driver.data.frames import read_frames
from al_driver.files import read_json

PSEUDO = Path("/usr/share/espresso/pseudo")
POTENTIAL = "Si.pz-vbc.UPF"
pytestmark = pytest.mark.needs("pw.x", str(PSEUDO / POTENTIAL))
SYSTEM = "ecutwfc = 16, occupations = 'smearing', smearing = 'gaussian', degauss = 0.01"
ELECTRONS = "conv_thr = 1d-9"
LDA = {
    "engine": "qe",
    "input": "scf.in",
    "pseudopotentials": {"Si": str(PSEUDO / POTENTIAL)},
    "kpoints": [2, 2, 2],
}
COARSE = LDA | {"kpoints": [1, 1, 1]}
ENTRY = {
    "path": "POSCAR",
    "name": "si",
    "relax": {"engine": "fine", "max_force": 0.002},
    "supercell": [2, 1, 1],
    "scale": [0.99, 1.01],
    "perturb": {"copies": 2, "cell_fraction": 0.01, "atom_distance": 0.05},
    "aimd": {"engine": "coarse", "temperature": 500, "n_steps": 4, "every": 2, "starts": 2},
}
PARAM: dict[str, Any] = {
    "seed": 7,
    "type_map": ["Si"],
    "engines": {"fine": LDA, "coarse": COARSE},
    "label": "coarse",
    "structures": [ENTRY],
    "valid_fraction": 0.2,
}
DIRECT = f"""\
&control
  calculation = 'vc-relax', prefix = 'si', outdir = './', pseudo_dir = '{PSEUDO}', forc_conv_thr = 1d-5, nstep = 60
  etot_conv_thr = 1d-7
/
&system
  ibrav = 2, celldm(1) = 10.4, nat = 2, ntyp = 1, {SYSTEM}
/
&electrons
  {ELECTRONS}
/
&ions
/
&cell
  press_conv_thr = 0.01
/
ATOMIC_SPECIES
Si 28.085 {POTENTIAL}
ATOMIC_POSITIONS crystal
Si 0 0 0
Si 0.25 0.25 0.25
K_POINTS automatic
2 2 2 0 0 0
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qe_init")
    (folder / "scf.in").write_text(f"&system\n  {SYSTEM}\n/\n&electrons\n  {ELECTRONS}\n/\n")
    (folder / "param.json").write_text(json.dumps(PARAM))
    (folder / "resource.json").write_text(json.dumps(merge(RESOURCE, {"default": {"command": "pw.x"}})))
    bulk("Si", a=10.4 * 0.529177210903).write(folder / "POSCAR", format="vasp")
    foretold = call_al(folder, "check", "param.json", "resource.json")
    assert foretold.returncode == 0, foretold.stdout + foretold.stderr
    assert "read 1 → relax 1 → supercell 1 → scale 2 → perturb 4 → aimd 8" in foretold.stdout
    ended = call_al(folder, "init_bulk", "param.json", "resource.json")
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return folder


def test_the_counts_are_those_foretold(finished: Path) -> None:
    counts = {
        s: read_json(finished / f"init/{s}/step.json")["result"]["structures"] for s in ("relax", "perturb", "aimd")
    }
    assert counts == {"relax": 1, "perturb": 4, "aimd": 8}
    label = read_json(finished / "init/label/step.json")["result"]
    assert (label["labelled"], label["rejected"]) == (8, 0)
    sets = {
        name: [atoms for system in find_systems(finished / f"init/{name}") for atoms in read_system(system)]
        for name in ("dataset", "valid")
    }
    split = read_json(finished / "init/split/step.json")["result"]
    assert {name: len(frames) for name, frames in sets.items()} == {name: split[name] for name in sets}
    assert sum(split.values()) == 8


def test_the_lattice_constant_is_that_of_a_direct_vc_relax(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "pw.in").write_text(DIRECT)
    direct = subprocess.run(
        ["pw.x", "-in", "pw.in"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    rows = direct.stdout.rpartition("CELL_PARAMETERS (alat= 10.40000000)")[2].splitlines()[1:4]
    cell = np.array([[float(word) for word in row.split()] for row in rows]) * 10.4 * 0.529177210903
    (relaxed,) = read_frames(finished / "init/relax/structures.extxyz")
    lattice_constants = [(4 * abs(np.linalg.det(matrix))) ** (1 / 3) for matrix in (cell, relaxed.cell.array)]
    assert 5.2 < lattice_constants[0] < 5.6
    assert abs(lattice_constants[1] - lattice_constants[0]) < 1e-4


def test_frames_of_the_dynamics_keep_labels_that_a_calculation_of_their_own_confirms(
    finished: Path, tmp_path: Path
) -> None:
    from al_driver.engines.testing import run_engine
    from al_driver.schema.init_bulk import InitBulkParams
    from al_driver.schema.load import load_params

    frames = read_frames(finished / "init/label/labelled.extxyz")
    assert len(list((finished / "init/label").glob("task.*"))) == 4
    frame = next(atoms for atoms in frames if atoms.info.get("aimd_step") == 4)
    engine = load_params(finished / "param.json", InitBulkParams).engines["coarse"]
    engine.write_inputs(frame, tmp_path)
    run_engine(engine, tmp_path)
    label = engine.read_label(tmp_path)
    assert label.energy == pytest.approx(frame.info["energy"], abs=2e-5)
    assert np.abs(label.forces - frame.arrays["forces"]).max() < 2e-3
    assert label.virial is not None
    assert np.abs(label.virial - frame.info["virial"]).max() < 2e-2
