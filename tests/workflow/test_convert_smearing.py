"""Aluminium with 0.2 eV smearing, by real pw.x: the energy of a label is the one that its forces derive from.

With smearing that is the free energy; by any other the forces would be off by 0.01 eV/Å here.
"""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

import al_driver
from al_driver.data.dataset import read_system
from al_driver.data.frames import Label
from al_driver.engines.qe import QuantumEspresso

POTENTIAL = Path("/usr/share/espresso/pseudo/Al.pz-vbc.UPF")
RYDBERG = 13.605693122994
SMEARING = 0.2 / RYDBERG  # pw.x takes it in Ry
SHIFT = 0.01
INPUT = f"""\
&system
  ecutwfc = 15, occupations = 'smearing', smearing = 'fermi-dirac', degauss = {SMEARING:.10f}
/
&electrons
  conv_thr = 1d-11
/
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Label]]:
    """Calculate four atoms as they are, and with one of them shifted either way along x."""
    folder = tmp_path_factory.mktemp("aluminium")
    (folder / "scf.in").write_text(INPUT)
    keys = {"engine": "qe", "input": "scf.in", "pseudopotentials": {"Al": str(POTENTIAL)}, "kspacing": 0.6}
    engine = QuantumEspresso.model_validate(keys, context={"base": folder})
    atoms = bulk("Al", cubic=True, a=4.05)
    atoms.rattle(0.1, seed=3)
    labels = []
    for index, sign in enumerate((0, 1, -1)):
        shifted = atoms.copy()
        shifted.positions[0, 0] += sign * SHIFT
        task = folder / "runs" / f"{index}"
        task.mkdir(parents=True)
        engine.write_inputs(shifted, task)
        with (task / engine.output_name).open("w") as stream:
            subprocess.run(engine.command(["pw.x"]), cwd=task, stdout=stream, check=True)
        labels.append(engine.read_label(task))
    return folder / "runs", labels


def slope(energies: list[float]) -> float:
    """Return −dE/dx from the energies of the atom as it is, ahead and behind."""
    return -(energies[1] - energies[2]) / (2 * SHIFT)


@pytest.mark.needs("pw.x", str(POTENTIAL))
def test_the_energy_of_a_label_gives_its_force(outputs: tuple[Path, list[Label]]) -> None:
    folder, labels = outputs
    force = labels[0].forces[0, 0]
    assert abs(force) > 0.5
    assert abs(slope([label.energy for label in labels]) - force) < 1e-3
    texts = (next(folder.glob(f"{index}/pw.out")).read_text() for index in range(3))
    entropy = [RYDBERG * float(re.findall(r"smearing contrib. \(-TS\) += +(\S+) Ry", text)[-1]) for text in texts]
    internal = [label.energy - part for label, part in zip(labels, entropy, strict=True)]
    assert abs(slope(internal) - force) > 5e-3  # so that the test can tell


@pytest.mark.needs("pw.x", str(POTENTIAL))
def test_converted_energies_give_the_converted_force(outputs: tuple[Path, list[Label]], tmp_path: Path) -> None:
    folder, labels = outputs
    assert al_driver.convert(folder, tmp_path / "out").written == {"Al4": 3}
    frames = list(read_system(tmp_path / "out/Al4"))
    energies = [atoms.info["energy"] for atoms in frames]
    assert abs(slope(energies) - frames[0].arrays["forces"][0, 0]) < 1e-3
    for atoms, label in zip(frames, labels, strict=True):
        assert atoms.info["energy"] == pytest.approx(label.energy, abs=1e-10)
        assert np.abs(atoms.arrays["forces"] - label.forces).max() < 1e-10
        assert np.abs(atoms.info["virial"] - label.virial).max() < 1e-4  # the printed cell has six digits
        assert np.abs(atoms.cell.array - label.atoms.cell.array).max() < 1e-5
