"""Relaxations with pw.x: what is set over the user's input, silicon's lattice constant, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from al_driver.engines.base import Relaxation
from al_driver.engines.pw_input import PwInput, read_pw_input
from al_driver.engines.qe import QuantumEspresso
from al_driver.engines.testing import run_engine
from al_driver.errors import ConfigError, EngineError

PSEUDO = Path("/usr/share/espresso/pseudo")
FAST = "&SYSTEM\n ecutwfc = 12\n/\n&ELECTRONS\n conv_thr = 1d-11\n/\n"
CELL, POSITIONS = Relaxation("cell", 0.02, 40), Relaxation("positions", 0.02, 40)
DIRECT = f"""
&CONTROL calculation='vc-relax', outdir='./', pseudo_dir='{PSEUDO}', etot_conv_thr=1d-7, forc_conv_thr=1d-5, nstep=80 /
&SYSTEM ibrav=2, celldm(1)=10.39349395, nat=2, ntyp=1, ecutwfc=12 /
&ELECTRONS conv_thr=1d-12 /
&IONS /
&CELL press_conv_thr=0.002 /
ATOMIC_SPECIES
Si 28.085 Si.pz-vbc.UPF
ATOMIC_POSITIONS alat
Si 0 0 0
Si 0.25 0.25 0.25
K_POINTS automatic
2 2 2 0 0 0
"""


def make_engine(folder: Path, text: str = FAST) -> QuantumEspresso:
    (folder / "scf.in").write_text(text)
    pseudo = {"Si": PSEUDO / "Si.pz-vbc.UPF"}
    return QuantumEspresso(engine="qe", input=folder / "scf.in", pseudopotentials=pseudo, kpoints=(2, 2, 2))


def make_silicon() -> Atoms:
    """Return two atoms without symmetry in a triclinic cell."""
    atoms = bulk("Si")
    atoms.set_cell(atoms.cell.array @ [[1.02, 0.01, 0.02], [0, 0.99, 0.03], [0.01, 0, 1.01]], scale_atoms=True)
    atoms.positions[1] += (0.11, -0.07, 0.05)
    return atoms


def relax(engine: QuantumEspresso, atoms: Atoms, relaxation: Relaxation, folder: Path) -> Path:
    folder.mkdir()
    engine.write_relaxation(atoms, relaxation, folder)
    run_engine(engine, folder)
    return folder / "pw.out"


def written(engine: QuantumEspresso, relaxation: Relaxation, folder: Path) -> PwInput:
    engine.write_relaxation(make_silicon(), relaxation, folder)
    return read_pw_input(folder / "pw.in")


USER = (
    "&CONTROL\n calculation='md', nstep=7, forc_conv_thr=1.0D-5, etot_conv_thr=1, dt=3\n/\n"
    + FAST
    + "&IONS\n upscale=20, ion_dynamics='damp', ion_temperature='svr', tempw=900\n/\n"
    + "&CELL\n cell_factor=1.5, cell_dofree='z', press=50, press_conv_thr=0.5\n/\n"
)


def test_what_the_user_wrote_is_kept_where_it_does_not_contradict(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, USER)
    cell = written(engine, CELL, tmp_path).namelists
    assert list(cell) == ["control", "system", "electrons", "ions", "cell"]
    assert cell["control"]["calculation"] == "'vc-relax'" and cell["control"]["nstep"] == "40"
    assert cell["control"]["forc_conv_thr"] == "1.0D-5"  # tighter than what was asked for
    assert cell["control"]["etot_conv_thr"] == "1e-05"
    assert cell["ions"] == {"upscale": "20", "ion_dynamics": "'bfgs'", "refold_pos": ".false."}
    assert cell["cell"] == {
        "cell_factor": "1.5", "cell_dofree": "'all'", "press": "0.0", "press_conv_thr": "0.05",
        "cell_dynamics": "'bfgs'",
    }  # fmt: skip
    positions = written(engine, POSITIONS, tmp_path).namelists
    assert positions["control"]["calculation"] == "'relax'" and "cell" not in positions
    (tmp_path / "pw.in").unlink()
    engine.write_inputs(make_silicon(), tmp_path)
    assert set(read_pw_input(tmp_path / "pw.in").namelists) == {"control", "system", "electrons"}


def test_limits_in_the_units_of_the_program(tmp_path: Path) -> None:
    """0.02 eV/Å is 0.02 × 0.529177 / 13.6057 Ry/bohr of a vector, so 1/√3 of it of each component."""
    control = written(make_engine(tmp_path), CELL, tmp_path).namelists["control"]
    assert float(control["forc_conv_thr"]) == pytest.approx(0.02 * 0.529177 / 13.605693 / np.sqrt(3), rel=1e-5)
    tight = written(make_engine(tmp_path), Relaxation("cell", 1e-4, 9), tmp_path).namelists["cell"]
    pressure = 1e-4 * 2 / make_silicon().get_volume() * 1602.1766  # kbar
    assert float(tight["press_conv_thr"]) == pytest.approx(pressure / 2, rel=1e-5)


def test_a_slab_has_no_cell_to_relax(tmp_path: Path) -> None:
    slab = make_silicon()
    slab.pbc = (True, True, False)
    with pytest.raises(ConfigError, match=r'has no cell to relax\.\n  Relax its atoms alone: "what": "positions"'):
        make_engine(tmp_path).write_relaxation(slab, CELL, tmp_path)
    make_engine(tmp_path).write_relaxation(slab, POSITIONS, tmp_path)


def test_what_is_set_is_told(tmp_path: Path) -> None:
    said = "\n".join(make_engine(tmp_path, USER).set_by_driver("relax"))
    assert "calculation = 'vc-relax' for the cell, 'relax' for positions; nstep from max_steps" in said
    assert "press_conv_thr from max_force, at most 0.05 kbar" in said
    assert "'scf'" not in said and "removed: they are not of an SCF" not in said
    assert "vc-relax" not in "\n".join(make_engine(tmp_path).set_by_driver())


@pytest.mark.needs("pw.x")
def test_the_lattice_constant_of_silicon_is_that_of_a_direct_vc_relax(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    relax(engine, bulk("Si", a=5.5), CELL, tmp_path / "relax")
    label = engine.read_relaxation(tmp_path / "relax", CELL)
    direct = tmp_path / "direct"
    direct.mkdir()
    (direct / "pw.in").write_text(DIRECT)
    run_engine(engine, direct)
    text = (direct / "pw.out").read_text().partition("Begin final coordinates")[2]
    rows = text.partition("CELL_PARAMETERS")[2].splitlines()[1:4]
    cell = 10.39349395 * 0.529177210903 * np.array([row.split() for row in rows], dtype=float)
    expected, found = ((4 * abs(np.linalg.det(matrix))) ** (1 / 3) for matrix in (cell, label.atoms.cell.array))
    assert 5.3 < expected < 5.55
    assert abs(found - expected) < 1e-4


@pytest.mark.needs("pw.x")
def test_positions_are_relaxed_in_the_very_cell_that_was_sent(tmp_path: Path) -> None:
    engine, atoms = make_engine(tmp_path), make_silicon()
    output = relax(engine, atoms, POSITIONS, tmp_path / "relax")
    label = engine.read_relaxation(tmp_path / "relax", POSITIONS)
    assert np.array_equal(label.atoms.cell.array, atoms.cell.array)
    assert 0.01 < np.abs(label.atoms.positions - atoms.positions).max() < 0.3
    assert np.linalg.norm(label.forces, axis=1).max() < 0.02
    whole = output.read_text()

    def refuse(text: str, reason: str, words: str) -> None:
        output.write_text(text)
        with pytest.raises(EngineError, match=words) as caught:
            engine.read_relaxation(tmp_path / "relax", POSITIONS)
        assert caught.value.reason == reason and caught.value.where == tmp_path / "relax"

    refuse(whole[: whole.index("bfgs steps    =   1")], "no_output", "did not end by itself")
    refuse(whole.replace("End of BFGS Geometry Optimization", ""), "engine_error", "did not end its search")
    refuse(whole.replace("Si  tau(   1)", "Al  tau(   1)"), "species_mismatch", "atom 0 .Al. came back")
    with pytest.raises(EngineError, match=r"not relaxed after . steps: the largest force is .*; max_force is 1e-09"):
        output.write_text(whole)
        engine.read_relaxation(tmp_path / "relax", Relaxation("positions", 1e-9, 40))
    with pytest.raises(EngineError, match=r"pw\.x did not end its search"):  # of positions, where a cell was asked for
        engine.read_relaxation(tmp_path / "relax", Relaxation("cell", 10.0, 40))


@pytest.mark.needs("pw.x")
def test_a_search_that_needs_more_steps_has_failed(tmp_path: Path) -> None:
    engine, few = make_engine(tmp_path), Relaxation("cell", 0.02, 3)
    relax(engine, make_silicon(), few, tmp_path / "relax")
    assert engine.is_complete(tmp_path / "relax")
    words = r"not relaxed after 3 steps: the largest force is 0\.\d+ eV/Å; max_force is 0.02, max_steps 3"
    with pytest.raises(EngineError, match=words) as caught:
        engine.read_relaxation(tmp_path / "relax", few)
    assert caught.value.reason == "engine_error"


@pytest.mark.needs("pw.x")
def test_a_relaxation_whose_scf_does_not_converge_is_refused(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, FAST.replace("1d-11", "1d-11, electron_maxstep = 3"))
    relax(engine, make_silicon(), CELL, tmp_path / "relax")
    with pytest.raises(EngineError, match="not converged after 3 iterations") as caught:
        engine.read_relaxation(tmp_path / "relax", CELL)
    assert caught.value.reason == "scf_unconverged"
