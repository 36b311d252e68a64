"""The stand-in of VASP: two other readers agree on what it writes, and it refuses what VASP refuses."""

from pathlib import Path

import ase.io
import dpdata
import numpy as np
import pytest
import vasp_path  # noqa: F401
from ase import Atoms
from ase.build import bulk
from vasp_case import INCAR, make_engine, run_standin

from al_driver.data.formats.vasp_outcar import read_outcar
from al_driver.data.formats.vasp_xml import read_vasprun
from al_driver.data.frames import Label
from al_driver.engines.base import Dynamics, Relaxation


@pytest.fixture
def alloy() -> Atoms:
    atoms = bulk("Cu", cubic=True, a=3.8)
    atoms.symbols = "CuAlAlCu"
    atoms.set_cell(atoms.cell.array @ [[1.02, 0.03, 0.0], [0.01, 0.98, 0.02], [0.03, 0.0, 1.0]], scale_atoms=True)
    atoms.rattle(0.08, seed=2)
    return atoms


def write(kind: str, folder: Path, atoms: Atoms) -> None:
    engine = make_engine(folder, ["Al", "Cu"])
    if kind == "label":
        engine.write_inputs(atoms, folder)
    elif kind == "relax":
        engine.write_relaxation(atoms, Relaxation("cell", 0.5, 20), folder)
    else:
        engine.write_dynamics(atoms, Dynamics(400.0, 3, 0.002, 1, 0.1, seed=1), folder)
    assert run_standin(engine, folder) == 0


@pytest.mark.parametrize("kind", ["label", "relax", "aimd"])
def test_ase_dpdata_and_ours_read_the_same(kind: str, alloy: Atoms, tmp_path: Path) -> None:
    write(kind, tmp_path, alloy)
    files = {"vasp/outcar": tmp_path / "OUTCAR", "vasp/xml": tmp_path / "vasprun.xml"}
    ours = {"vasp/outcar": list(read_outcar(files["vasp/outcar"])), "vasp/xml": list(read_vasprun(files["vasp/xml"]))}
    by_ase = {
        "vasp/outcar": ase.io.read(files["vasp/outcar"], index=":", format="vasp-out"),
        "vasp/xml": ase.io.read(files["vasp/xml"], index=":", format="vasp-xml"),
    }
    for fmt, labels in ours.items():
        data = dpdata.LabeledSystem(str(files[fmt]), fmt=fmt).data
        assert len(labels) == len(by_ase[fmt]) == len(data["energies"]) >= (1 if kind == "label" else 3)
        for index, (label, other) in enumerate(zip(labels, by_ase[fmt], strict=True)):
            assert isinstance(label, Label)
            assert label.atoms.get_chemical_symbols() == other.get_chemical_symbols() == ["Al", "Al", "Cu", "Cu"]
            assert label.energy == pytest.approx(other.get_potential_energy(force_consistent=True), abs=1e-8)
            assert label.energy == pytest.approx(data["energies"][index], abs=1e-8)
            assert np.abs(label.forces - other.get_forces()).max() < 1e-9
            turn = np.linalg.solve(label.atoms.cell.array, data["cells"][index])  # dpdata turns a cell
            assert np.abs(label.forces @ turn - data["forces"][index]).max() < 1e-6
            virial = -other.get_stress(voigt=False) * other.get_volume()
            assert label.virial == pytest.approx(virial, rel=1e-6, abs=1e-9)
            assert turn.T @ np.asarray(label.virial) @ turn == pytest.approx(data["virials"][index], rel=1e-6, abs=1e-5)
    for outcar, xml in zip(ours["vasp/outcar"], ours["vasp/xml"], strict=True):
        assert np.abs(outcar.atoms.positions - xml.atoms.positions).max() < 2e-5
        assert np.abs(outcar.forces - xml.forces).max() < 1e-6


def break_potcar(folder: Path, parts: tuple[str, ...]) -> None:
    text = "".join((folder / f"POTCAR.{symbol}").read_text() for symbol in parts)
    (folder / "POTCAR").unlink()
    if text:
        (folder / "POTCAR").write_text(text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: break_potcar(folder, ()), "open of file POTCAR failed"),
        (lambda folder: break_potcar(folder, ("Cu", "Al")), "type information on POSCAR and POTCAR are incompatible"),
        (lambda folder: break_potcar(folder, ("Al",)), "number of potentials on File POTCAR incompatible"),
        (lambda folder: (folder / "KPOINTS").unlink(), "open of file KPOINTS failed"),
        (lambda folder: (folder / "POSCAR").unlink(), "open of file POSCAR failed"),
        (lambda folder: (folder / "INCAR").write_text("ENCUT = high\n"), "Error reading item 'ENCUT' from file INCAR"),
        (lambda folder: (folder / "INCAR").write_text("ENCUTT = 400\n"), "unknown tag in INCAR: ENCUTT"),
        (lambda folder: (folder / "INCAR").write_text("MAGMOM = 3*1\n"), "Error reading item 'MAGMOM'"),
        (lambda folder: (folder / "INCAR").write_text("LDAUU = 1\n"), "Error reading item 'LDAUU'"),
    ],
)
def test_it_refuses_what_vasp_refuses(change, words: str, alloy: Atoms, tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Al", "Cu"])
    engine.write_inputs(alloy, tmp_path)
    change(tmp_path)
    assert run_standin(engine, tmp_path) == 1
    assert words in (tmp_path / "vasp.out").read_text()
    assert not (tmp_path / "OUTCAR").exists()


def test_tetrahedra_with_few_k_points_end_it(alloy: Atoms, tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Al", "Cu"], INCAR, kspacing=5.0)
    engine.write_inputs(alloy, tmp_path)
    incar = (tmp_path / "INCAR").read_text()
    (tmp_path / "INCAR").write_text(incar.replace("ISMEAR = 0", "ISMEAR = -5"))
    assert run_standin(engine, tmp_path) == 1
    assert "Tetrahedron method fails for NKPT<4" in (tmp_path / "vasp.out").read_text()
