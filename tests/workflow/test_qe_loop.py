"""The loop with the real pw.x: its labels are those of a direct calculation, and an SCF that fails does not end it.

Two settings keep it short: a low cut-off at the gamma point, and a tiny net. Frame 1 of each label step is given two
SCF iterations by its launcher, so that pw.x itself says that it did not converge.
"""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io.espresso import write_espresso_in
from ase.units import Bohr, Ry
from small_run import INIT, RESOURCE, RUN, call_al, merge

from al_driver.files import read_json

PSEUDO = Path("/usr/share/espresso/pseudo")
POTENTIAL = "Si.pz-vbc.UPF"
pytestmark = [pytest.mark.long, pytest.mark.needs("pw.x", "dp", "lmp", str(PSEUDO / POTENTIAL))]

SCF = """\
&system
  ecutwfc = 14, occupations = 'smearing', smearing = 'gaussian', degauss = 0.01
/
&electrons
  conv_thr = 1d-10
/
"""
STARVE = """\
case $PWD in
  */label/task.000001.try-*) sed -i 's/conv_thr/electron_maxstep = 2, conv_thr/' pw.in ;;
esac
exec "$@"
"""
LDA = {
    "engine": "qe",
    "input": "scf.in",
    "pseudopotentials": {"Si": str(PSEUDO / POTENTIAL)},
    "kspacing": 1.4,
}
N_SELECT = 11
EXPLORE = {
    "iterations": [
        [{"structures": 0, "ensemble": "nvt", "temperatures": temperatures, "n_steps": 60, "dump_every": 4}]
        for temperatures in ([100, 200], [150, 250])
    ]
}
N_COMPARED = 6


@dataclass(frozen=True)
class LabelSet:
    """A label step's dataset as training reads it."""

    step: Path

    def load(self, name: str) -> np.ndarray:
        return np.load(self.step / f"dataset/Si8/set.000/{name}.npy")

    def __len__(self) -> int:
        return len(self.load("energy"))

    def frame(self, index: int) -> Atoms:
        positions, cell = (self.load(name)[index].reshape(-1, 3) for name in ("coord", "box"))
        return Atoms("Si8", positions, cell=cell, pbc=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `al init_bulk` and `al run` have ended."""
    folder = tmp_path_factory.mktemp("qe")
    bulk("Si", cubic=True, a=5.431).write(folder / "POSCAR", format="vasp")
    (folder / "scf.in").write_text(SCF)
    (folder / "starve.sh").write_text(STARVE)
    starved = {"label": {"command": f"sh {folder / 'starve.sh'} pw.x", "max_failed": 1, "max_failed_fraction": 0}}
    steps = {"input": {"training": {"numb_steps": 60}}}
    changes = {"explore": EXPLORE, "query": {"max_select": N_SELECT}, "train": steps}
    files = {
        "init.json": INIT | {"label": LDA},
        "param.json": merge(RUN, changes) | {"label": LDA},
        "resource.json": RESOURCE,
        "starved.json": merge(RESOURCE, starved),
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    for command in (("init_bulk", "init.json", "resource.json"), ("run", "param.json", "starved.json")):
        done = call_al(folder, *command)
        assert done.returncode == 0, done.stderr + done.stdout
    return folder


@pytest.fixture(scope="module")
def label_sets(finished: Path) -> list[LabelSet]:
    """The label steps of both iterations."""
    return [LabelSet(step) for step in sorted((finished / "work").glob("iter.*/label"))]


def calculate(atoms: Atoms, folder: Path) -> Path:
    """Run pw.x on a frame with an input of ASE's making; return its output."""
    folder.mkdir()
    data = {
        "control": {"tprnfor": True, "tstress": True, "pseudo_dir": str(PSEUDO), "outdir": "./tmp"},
        "system": {"ecutwfc": 14, "occupations": "smearing", "smearing": "gaussian", "degauss": 0.01},
        "electrons": {"conv_thr": 1e-10},
    }
    with (folder / "direct.in").open("w") as stream:
        write_espresso_in(stream, atoms, input_data=data, pseudopotentials={"Si": POTENTIAL}, kpts=None)
    with (folder / "direct.out").open("w") as stream:
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(["pw.x", "-in", "direct.in"], cwd=folder, stdout=stream, env=env, check=True)
    return folder / "direct.out"


def read_virial(output: Path, volume: float) -> np.ndarray:
    """Return the virial in eV from the stress in Ry/bohr³, of which pw.x prints eight decimals and ASE reads none."""
    rows = re.search(r"total\s+stress\s+\(Ry/bohr\*\*3\).*\n((?:.*\n){3})", output.read_text())
    stress = [[float(word) for word in row.split()[:3]] for row in rows[1].splitlines()]
    return np.array(stress) * Ry / Bohr**3 * volume


def test_both_iterations_have_labels_of_dft(finished: Path, label_sets: list[LabelSet]) -> None:
    assert len(label_sets) == 2
    assert sum(map(len, label_sets)) >= 20
    assert len(np.load(finished / "init/dataset/Si8/set.000/energy.npy")) == 4
    assert (finished / "work/final/model.000/frozen_model.pth").is_file()


def test_labels_equal_a_direct_calculation(label_sets: list[LabelSet], tmp_path: Path) -> None:
    everything = [(labels, index) for labels in label_sets for index in range(len(labels))]
    chosen = np.random.default_rng(20).choice(len(everything), N_COMPARED, replace=False)
    for number in chosen:
        labels, index = everything[number]
        atoms = labels.frame(index)
        output = calculate(atoms, tmp_path / f"direct.{number}")
        direct = ase.io.read(output, format="espresso-out")
        assert labels.load("energy")[index] == pytest.approx(direct.get_potential_energy(), rel=1e-6)
        forces = labels.load("force")[index].reshape(-1, 3)
        assert np.abs(forces).max() > 0.1
        assert np.abs(forces - direct.get_forces()).max() < 1e-5
        volume = atoms.get_volume()
        last_digit = 1e-8 * Ry / Bohr**3 * volume
        virial = labels.load("virial")[index].reshape(3, 3)
        assert np.abs(virial).max() > 100 * last_digit
        assert np.abs(virial - read_virial(output, volume)).max() < 1.5 * last_digit


def test_an_scf_that_does_not_converge_is_rejected_and_the_run_goes_on(label_sets: list[LabelSet]) -> None:
    for labels in label_sets:
        selected = ase.io.read(labels.step.parent / "query/selected.extxyz", index=":")
        rejected = [json.loads(line) for line in (labels.step / "rejected.jsonl").read_text().splitlines()]
        assert [(line["frame"], line["reason"]) for line in rejected] == [(1, "scf_unconverged")]
        assert re.search(r"not converged after 2 iterations; the accuracy reached is \d\.\d+ Ry", rejected[0]["detail"])
        assert "convergence NOT achieved" in (labels.step / rejected[0]["where"] / "pw.out").read_text()
        assert len(labels) == len(selected) - 1
        kept = np.array([atoms.positions.ravel() for index, atoms in enumerate(selected) if index != 1])
        assert np.array_equal(labels.load("coord"), kept)


def test_a_finished_label_leaves_few_files_and_no_scratch(finished: Path, label_sets: list[LabelSet]) -> None:
    for step in (finished / "init/label", *(labels.step for labels in label_sets)):
        tasks = [path for path in step.glob("task.*") if path.name.count(".") == 1]
        assert tasks
        for task in tasks:
            assert {path.name for path in task.iterdir()} == {"pw.in", "pw.out"}
        assert not list(step.rglob("scratch*"))
        assert not list(step.rglob("*.save"))
        assert not list(step.rglob("*.wfc*"))


def test_the_step_names_the_version_that_ran(finished: Path, label_sets: list[LabelSet]) -> None:
    for step in (finished / "init/label", *(labels.step for labels in label_sets)):
        header = (step / "task.000000/pw.out").read_text()
        version = re.search(r"Program PWSCF v\.(\S+)", header)[1]
        assert version[0].isdecimal()
        assert read_json(step / "step.json")["result"]["versions"] == [f"pw.x {version}"]


def test_the_same_command_again_calculates_nothing(finished: Path) -> None:
    def outputs() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in (finished / "work").rglob("pw.out")}

    before = outputs()
    assert call_al(finished, "run", "param.json", "starved.json").returncode == 0
    assert outputs() == before
