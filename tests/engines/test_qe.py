"""Quantum ESPRESSO: the input that is written, what is refused before and after, and labels of the real pw.x."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io.espresso import write_espresso_in

from al_driver.data.gate import GateLimits, check_label
from al_driver.engines.kpoints import kpoint_grid
from al_driver.engines.pw_input import PwInput, parse_pw_input, read_pw_input
from al_driver.engines.qe import QuantumEspresso
from al_driver.engines.testing import check_other_start
from al_driver.engines.upf import read_upf_element
from al_driver.errors import ConfigError, EngineError

PSEUDO = Path("/usr/share/espresso/pseudo")
SILICON = {"Si": PSEUDO / "Si.pz-vbc.UPF"}
USER_INPUT = """\
&control
  calculation = 'vc-relax' ! don't = care /
  title = "a = b ! / &system", pseudo_dir='./elsewhere', nstep=3
/
&SYSTEM ibrav=2, celldm(1)=10.2, nat=2, ntyp=1, ecutwfc=1.2d1 occupations='smearing', Degauss = 0.01 /
&electrons
/
&ions
/
# a line of words
ATOMIC_SPECIES
 Si 28.0 Si.other.UPF
ATOMIC_POSITIONS {alat}
 Si 0 0 0 ! the origin
"""


def make_engine(folder: Path, text: str = USER_INPUT, **keys: Any) -> QuantumEspresso:
    (folder / "scf.in").write_text(text)
    keys = {"input": folder / "scf.in", "pseudopotentials": SILICON, "kpoints": (2, 2, 2)} | keys
    return QuantumEspresso(engine="qe", **keys)


def make_silicon() -> Atoms:
    """Return two atoms without symmetry in a triclinic cell."""
    atoms = bulk("Si")
    atoms.set_cell(atoms.cell.array @ [[1.02, 0.01, 0.02], [0, 0.99, 0.03], [0.01, 0, 1.01]], scale_atoms=True)
    atoms.positions[1] += (0.11, -0.07, 0.05)
    return atoms


def run_pw(engine: QuantumEspresso, atoms: Atoms, folder: Path) -> int:
    folder.mkdir()
    engine.write_inputs(atoms, folder)
    return call_pw(folder, *engine.arguments())


def call_pw(folder: Path, *arguments: str) -> int:
    with (folder / "pw.out").open("w") as output:
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(
            ["pw.x", *arguments], cwd=folder, stdout=output, stderr=subprocess.STDOUT, env=env
        ).returncode


def written(engine: QuantumEspresso, atoms: Atoms, folder: Path) -> PwInput:
    engine.write_inputs(atoms, folder)
    return read_pw_input(folder / "pw.in")


# --- the input ---


def test_user_values_are_kept_as_written_and_structure_is_replaced(tmp_path: Path) -> None:
    result = written(make_engine(tmp_path), make_silicon(), tmp_path)
    system = {"ecutwfc": "1.2d1", "occupations": "'smearing'", "degauss": "0.01", "ibrav": "0", "nat": "2", "ntyp": "1"}
    assert result.namelists["system"] == system
    control = result.namelists["control"]
    assert control["title"] == '"a = b ! / &system"'
    assert control["calculation"] == "'scf'"
    assert control["pseudo_dir"] == f"'{PSEUDO}'"
    assert control["tstress"] == ".true."
    assert result.namelists["electrons"] == {"scf_must_converge": ".true."}
    assert set(result.namelists) == {"control", "system", "electrons"}
    assert result.cards["ATOMIC_SPECIES"].lines == ("Si 28.0850 'Si.pz-vbc.UPF'",)
    assert result.cards["K_POINTS"].lines == ("2 2 2 0 0 0",)


def test_positions_and_cell_keep_every_digit_and_order(tmp_path: Path) -> None:
    pseudo = {"Al": PSEUDO / "Al.pz-vbc.UPF", **SILICON}
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.symbols = "SiAlSiSiAlSiSiSi"
    cards = written(make_engine(tmp_path, pseudopotentials=pseudo), atoms, tmp_path).cards
    rows = [line.split() for line in cards["ATOMIC_POSITIONS"].lines]
    assert [row[0] for row in rows] == atoms.get_chemical_symbols()
    assert np.array_equal([[float(word) for word in row[1:]] for row in rows], atoms.positions)
    assert [line.split()[0] for line in cards["ATOMIC_SPECIES"].lines] == ["Al", "Si"]


def test_potentials_of_two_folders_are_found_without_a_copy(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b c").mkdir()
    shutil.copy(PSEUDO / "Si.pz-vbc.UPF", tmp_path / "a" / "x.UPF")
    shutil.copy(PSEUDO / "Al.pz-vbc.UPF", tmp_path / "b c" / "x.UPF")
    engine = make_engine(tmp_path, pseudopotentials={"Si": tmp_path / "a/x.UPF", "Al": tmp_path / "b c/x.UPF"})
    atoms = make_silicon()
    atoms.symbols = "AlSi"
    result = written(engine, atoms, tmp_path)
    assert result.namelists["control"]["pseudo_dir"] == f"'{tmp_path}'"
    assert result.cards["ATOMIC_SPECIES"].lines == ("Si 28.0850 'a/x.UPF'", "Al 26.9815 'b c/x.UPF'")


def test_keys_by_type_follow_their_element(tmp_path: Path) -> None:
    text = (
        "&SYSTEM\n ecutwfc=20, nspin=2, starting_magnetization(1)=0.5, Hubbard_U( 2 )=4.0,"
        " starting_ns_eigenvalue(3,1,2)=1.0, fixed_magnetization(3)=0.1 /\n&ELECTRONS\n/\n"
        "ATOMIC_SPECIES\nFe 55.8 Fe.UPF\nO 16.0 O.UPF\n"
    )
    pseudo = {"O": PSEUDO / "O.pz-rrkjus.UPF", "Fe": PSEUDO / "Fe.pz-nd-rrkjus.UPF", **SILICON}
    engine = make_engine(tmp_path, text, pseudopotentials=pseudo)
    atoms = bulk("FeO", "rocksalt", a=4.3)
    system = written(engine, atoms, tmp_path).namelists["system"]
    assert system["starting_magnetization(2)"] == "0.5"
    assert system["hubbard_u(1)"] == "4.0"
    assert system["starting_ns_eigenvalue(3,1,1)"] == "1.0"
    assert system["fixed_magnetization(3)"] == "0.1"
    iron = written(engine, bulk("Fe"), tmp_path).namelists["system"]
    assert "starting_magnetization(1)" in iron
    assert not any("hubbard" in key for key in iron)


@pytest.mark.parametrize(
    ("pbc", "kspacing", "grid"),
    [
        ((True, True, True), 0.5, (3, 2, 1)),
        ((True, True, False), 0.2, (7, 5, 1)),
        ((False, True, True), 0.2, (1, 5, 3)),
        ((True, True, True), 2 * np.pi / 5.0 / 2, (2, 2, 1)),  # an integer ratio is not rounded up
        ((True, True, True), 100.0, (1, 1, 1)),
    ],
)
def test_kpoint_grid(pbc: tuple[bool, bool, bool], kspacing: float, grid: tuple[int, int, int]) -> None:
    assert kpoint_grid(Atoms("Si", cell=[5.0, 6.5, 12.7], pbc=pbc), kspacing) == grid


def test_kpoint_grid_of_a_skewed_cell_uses_reciprocal_vectors() -> None:
    atoms = Atoms("Si", cell=[[5, 0, 0], [4, 3, 0], [0, 0, 5]], pbc=True)  # |b_1| = 1/3, |b_2| = 1/3, |b_3| = 1/5
    assert kpoint_grid(atoms, 2 * np.pi / 10) == (4, 4, 2)


def test_one_kpoint_is_gamma(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, kpoints=None, kspacing=5.0)
    assert written(engine, make_silicon(), tmp_path).cards["K_POINTS"].option == "gamma"
    spinor = USER_INPUT.replace("ibrav=2", "noncolin=.true.")
    engine = make_engine(tmp_path, spinor, kpoints=(1, 1, 1))
    assert written(engine, make_silicon(), tmp_path).cards["K_POINTS"].option == "automatic"


def test_kpoints_of_the_input_are_kept(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, USER_INPUT + "K_POINTS (automatic)\n3 3 3 1 1 1\n", kpoints=None)
    card = written(engine, make_silicon(), tmp_path).cards["K_POINTS"]
    assert (card.option, card.lines) == ("automatic", ("3 3 3 1 1 1",))


def test_a_molecule_needs_a_box_and_has_no_stress(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    with pytest.raises(ConfigError, match="has no cell; put a molecule into a box"):
        engine.write_inputs(Atoms("Si2", [(0, 0, 0), (0, 0, 2)]), tmp_path)
    boxed = Atoms("Si2", [(0, 0, 0), (0, 0, 2)], cell=[8, 8, 8])
    assert written(engine, boxed, tmp_path).namelists["control"]["tstress"] == ".false."


# --- what is refused before anything runs ---


def problems(engine: QuantumEspresso, *type_map: str) -> list[str]:
    return [str(problem) for problem in engine.check(type_map or ("Si",)) if problem.severity == "error"]


def test_the_users_input_is_accepted_and_its_contradictions_are_told(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    assert problems(engine) == []
    warnings = [str(problem) for problem in engine.check(("Si",))]
    assert len(warnings) == 1
    assert "ATOMIC_SPECIES names Si.other.UPF for Si" in warnings[0]
    said = "\n".join(engine.set_by_driver())
    assert "CONTROL: calculation = 'scf', in place of 'vc-relax'" in said
    assert "SYSTEM: ibrav = 0, in place of 2" in said
    assert "celldm(1) removed" in said
    assert "&IONS removed" in said


@pytest.mark.parametrize(
    ("change", "keys", "words"),
    [
        (("ecutwfc=1.2d1", ""), {}, "ecutwfc (Ry) is missing in &SYSTEM"),
        (("&electrons\n/", ""), {}, "&ELECTRONS is missing"),
        (("&electrons\n/", "&electron\n/"), {}, "pw.x knows no namelist &ELECTRON; did you mean 'electrons'?"),
        (("&electrons\n/", "&electrons\n startingpot='file' /"), {}, "startingpot = 'file' needs the files"),
        (("&SYSTEM", "&SYSTEM oops"), {}, "has 'oops', which belongs to no namelist"),
        (("0.01 /", "0.01"), {}, "has '&electrons' inside another namelist; is a closing / missing"),
        (("", "K_POINTS gamma\n"), {}, "K_POINTS of the input and `kpoints` both choose k-points"),
        (("", ""), {"kpoints": None}, "nothing chooses k-points; give `kspacing`, `kpoints`, or K_POINTS"),
        (("", "K_POINTS crystal\n1\n0 0 0 1\n"), {"kpoints": None}, "K_POINTS crystal is a list for one cell"),
        (("", "K_POINTS automatic\n2 2 2\n"), {"kpoints": None}, "needs a line of six integers"),
        (("", "CONSTRAINTS\n1\n"), {}, "card CONSTRAINTS belongs to one structure"),
        (("'smearing'", "'from_input'"), {}, "occupations = 'from_input' are those of one structure"),
        (("degauss", "Hubbard_U(2)=1, degauss"), {}, "hubbard_u(2): no line of ATOMIC_SPECIES"),
        (("degauss", "hubbard_v(1,1,1)=1, degauss"), {}, "hubbard_v(1,1,1) is numbered by the atoms"),
        (("", ""), {"pseudopotentials": {"Si": PSEUDO / "Si.pz-vbe.UPF"}}, "did you mean 'Si.pz-vbc.UPF'?"),
        (("", ""), {"pseudopotentials": {"Si": PSEUDO / "Al.pz-vbc.UPF"}}, "is for Al, not for Si"),
        (("", ""), {"pseudopotentials": {"Si": PSEUDO / "H_US.van"}}, "is not a pseudopotential in UPF"),
        (("", ""), {"pseudopotentials": {"Al": PSEUDO / "Al.pz-vbc.UPF"}}, "no pseudopotential for Si"),
    ],
)
def test_errors_of_check(change: tuple[str, str], keys: dict[str, Any], words: str, tmp_path: Path) -> None:
    old, new = change
    text = USER_INPUT.replace(old, new.replace("degauss", "Degauss")) if old else USER_INPUT + new
    if old == "degauss":
        text = USER_INPUT.replace("Degauss", new.replace("degauss", "Degauss"))
    found = problems(make_engine(tmp_path, text, **keys))
    assert any(words in problem for problem in found), found


def test_a_missing_input_names_its_neighbour(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, input=tmp_path / "scf.inp")
    assert problems(engine) == [f"input: {tmp_path}/scf.inp does not exist; did you mean 'scf.in'?"]
    assert any("calculation = 'scf'" in line for line in engine.set_by_driver())


def test_a_misspelt_key_is_a_warning_with_the_nearest(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, USER_INPUT.replace("Degauss", "degaus"))
    found = [problem for problem in engine.check(("Si",)) if "degaus" in problem.message]
    assert [problem.severity for problem in found] == ["warning"]
    assert "did you mean 'degauss'?" in found[0].message


@pytest.mark.parametrize(("threshold", "is_loose"), [("1d-5", True), ("1d-6", False), (None, False)])
def test_a_loose_threshold_is_a_warning(threshold: str | None, is_loose: bool, tmp_path: Path) -> None:
    text = USER_INPUT.replace("&electrons\n", f"&electrons\n conv_thr = {threshold}\n" if threshold else "&electrons\n")
    found = [problem for problem in make_engine(tmp_path, text).check(("Si",)) if "conv_thr" in problem.message]
    assert [problem.severity for problem in found] == ["warning"] * is_loose
    assert all("conv_thr = 1e-05 Ry: forces are noisy above 1e-06" in problem.message for problem in found)


def test_two_sources_of_kpoints_are_both_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`kspacing` and `kpoints` both choose k-points"):
        make_engine(tmp_path, kspacing=0.2)


def test_an_element_without_potential_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no pseudopotential for Ge of the type_map; there are Si"):
        make_engine(tmp_path).write_inputs(bulk("Ge"), tmp_path)


@pytest.mark.parametrize(
    ("name", "element"),
    [("Si.pz-vbc.UPF", "Si"), ("C.UPF", "C"), ("O.pbe-kjpaw.UPF", "O"), ("H_US.van", None)],
)
@pytest.mark.needs("pw.x")
def test_the_element_of_a_potential(name: str, element: str | None) -> None:
    assert read_upf_element(PSEUDO / name) == element


# --- labels of the real program ---

FAST = "&SYSTEM\n ecutwfc = 12\n/\n&ELECTRONS\n conv_thr = 1d-11\n/\n"


@pytest.mark.needs("pw.x")
def test_a_label_equals_a_direct_calculation(tmp_path: Path) -> None:
    atoms = make_silicon()
    engine = make_engine(tmp_path, FAST, kpoints=None, kspacing=1.4)
    assert run_pw(engine, atoms, tmp_path / "label") == 0
    label = engine.read_label(tmp_path / "label")
    check_label(atoms, label, tmp_path, GateLimits())
    direct = tmp_path / "direct"
    direct.mkdir()
    data = {
        "control": {"tprnfor": True, "tstress": True, "pseudo_dir": str(PSEUDO), "outdir": "./tmp"},
        "system": {"ecutwfc": 12},
        "electrons": {"conv_thr": 1e-11},
    }
    with (direct / "direct.in").open("w") as stream:
        write_espresso_in(stream, atoms, input_data=data, pseudopotentials={"Si": "Si.pz-vbc.UPF"}, kpts=(2, 2, 2))
    assert call_pw(direct, "-in", "direct.in") == 0
    expected = ase.io.read(direct / "pw.out", format="espresso-out")
    assert label.energy == pytest.approx(expected.get_potential_energy(), rel=1e-6)
    assert np.abs(label.forces - expected.get_forces()).max() < 1e-5
    virial = -expected.get_stress(voigt=False) * atoms.get_volume()
    assert np.abs(np.asarray(label.virial) - virial).max() < 5e-3  # ASE reads the column in kbar, of two decimals
    assert label.info == {"program": "pw.x", "version": label.info["version"]}
    assert label.info["version"][0].isdecimal()
    assert np.array_equal(label.atoms.positions, atoms.positions)


@pytest.mark.needs("pw.x")
@pytest.mark.parametrize("extra", ["", ", scf_must_converge = .false."])
def test_an_unconverged_scf_is_refused(extra: str, tmp_path: Path) -> None:
    engine = make_engine(tmp_path, FAST.replace("1d-11", f"1d-14, electron_maxstep = 2{extra}"))
    run_pw(engine, make_silicon(), tmp_path / "label")
    assert engine.is_complete(tmp_path / "label")  # pw.x says JOB DONE
    with pytest.raises(
        EngineError, match=r"not converged after 2 iterations; the accuracy reached is 0\.0\d+ Ry"
    ) as caught:
        engine.read_label(tmp_path / "label")
    assert caught.value.reason == "scf_unconverged"
    left = {path.name for pattern in engine.scratch for path in (tmp_path / "label").glob(pattern)}
    assert {path.name for path in (tmp_path / "label").iterdir()} - left == {"pw.in", "pw.out"}


@pytest.mark.needs("pw.x")
def test_an_unconverged_scf_that_claims_to_be_converged_is_refused(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, FAST.replace("1d-11", "1d-12, electron_maxstep = 2"))
    folder = tmp_path / "label"
    folder.mkdir()
    engine.write_inputs(make_silicon(), folder)
    text = (folder / "pw.in").read_text()
    (folder / "pw.in").write_text(text.replace("scf_must_converge = .true.", "scf_must_converge = .false."))
    assert call_pw(folder, "-in", "pw.in") == 0
    assert "convergence has been achieved" in (folder / "pw.out").read_text()
    with pytest.raises(EngineError, match="1e-12 was asked for") as caught:
        engine.read_label(folder)
    assert caught.value.reason == "scf_unconverged"


@pytest.mark.needs("pw.x")
def test_exact_exchange_that_did_not_converge_is_refused(tmp_path: Path) -> None:
    """pw.x ends well, and prints energy and forces all the same; each round of the exchange converges by itself."""
    hybrid = FAST.replace("&SYSTEM", "&SYSTEM\n input_dft = 'hf', nqx1 = 1, nqx2 = 1, nqx3 = 1")
    electrons = {"few": "1d-11, electron_maxstep = 5", "enough": "1d-6, electron_maxstep = 50"}
    for name, words in electrons.items():
        engine = make_engine(tmp_path, hybrid.replace("1d-11", f"{words}, adaptive_thr = .true."), kpoints=(1, 1, 1))
        assert run_pw(engine, make_silicon(), tmp_path / name) == 0
        assert engine.is_complete(tmp_path / name)
    assert "EXX convergence NOT achieved" in (tmp_path / "few/pw.out").read_text()
    with pytest.raises(EngineError, match="not converged after 5 iterations") as caught:
        engine.read_label(tmp_path / "few")
    assert caught.value.reason == "scf_unconverged"
    assert "EXX self-consistency reached" in (tmp_path / "enough/pw.out").read_text()
    output = tmp_path / "enough/pw.out"
    assert np.isfinite(engine.read_label(output.parent).energy)
    output.write_text(re.sub(r"^!!.*\n", "", output.read_text(), flags=re.MULTILINE))
    with pytest.raises(EngineError, match="with its energy") as caught:  # the last `!` is of the round before
        engine.read_label(output.parent)
    assert caught.value.reason == "scf_unconverged"


@pytest.mark.needs("pw.x")
def test_broken_runs_say_what_happened(tmp_path: Path) -> None:
    potential = tmp_path / "Si.UPF"
    shutil.copy(SILICON["Si"], potential)
    engine = make_engine(tmp_path, FAST, pseudopotentials={"Si": potential})
    folder = tmp_path / "good"
    run_pw(engine, make_silicon(), folder)
    whole = (folder / "pw.out").read_text()
    label = engine.read_label(folder)

    def reason(output: str, words: str) -> str:
        (folder / "pw.out").write_text(output)
        with pytest.raises(EngineError, match=words) as caught:
            engine.read_label(folder)
        assert caught.value.where == folder
        return caught.value.reason

    half = whole[: whole.index("iteration #  3")]
    assert reason(half, "did not end by itself; its last words: ") == "no_output"
    assert not engine.is_complete(folder)
    assert reason(whole + half, "did not end by itself") == "no_output"  # a second run that appended to the first
    assert not engine.is_complete(folder)
    assert reason("Program PWSCF v.6.7 starts\n JOB DONE.\n", "printed no energy") == "engine_error"
    moved = re.sub(r"tau\(   2\) = \(   0\.\d", "tau(   2) = (   0.7", whole)
    assert reason(moved, r"\(Si\) came back \d") == "positions_changed"
    assert (
        reason(whole.replace("Si  tau(   1)", "Al  tau(   1)"), r"atom 0 \(Al\) came back where atom 0 \(Si\) was sent")
        == "species_mismatch"
    )
    (folder / "pw.out").write_text(half + whole)
    assert engine.read_label(folder).energy == label.energy
    (folder / "pw.out").unlink()
    with pytest.raises(EngineError, match=r"pw\.x left no pw\.out"):
        engine.read_label(folder)
    potential.unlink()
    assert run_pw(engine, make_silicon(), tmp_path / "crashed") != 0
    with pytest.raises(EngineError, match=r"Error in routine readpp .*Si\.UPF") as caught:
        engine.read_label(tmp_path / "crashed")
    assert caught.value.reason == "engine_error"


@pytest.mark.needs("pw.x")
def test_the_energy_with_smearing_is_the_one_the_forces_derive_from(tmp_path: Path) -> None:
    smearing = "occupations = 'smearing', smearing = 'fd', degauss = 0.0147"  # 0.2 eV
    text = FAST.replace("ecutwfc = 12", f"ecutwfc = 12, {smearing}")
    engine = make_engine(tmp_path, text, pseudopotentials={"Al": PSEUDO / "Al.pz-vbc.UPF"})
    atoms = bulk("Al", cubic=True)
    atoms.rattle(0.1, seed=2)
    run_pw(engine, atoms, tmp_path / "label")
    label = engine.read_label(tmp_path / "label")
    direction = label.forces / np.linalg.norm(label.forces)
    energies = []
    for amount in (0.005, -0.005):
        moved = atoms.copy()
        moved.positions += amount * direction
        run_pw(engine, moved, tmp_path / f"moved{amount}")
        energies.append(engine.read_label(tmp_path / f"moved{amount}").energy)
    assert -(energies[0] - energies[1]) / 0.01 == pytest.approx(float((label.forces * direction).sum()), abs=1e-3)


def test_the_text_of_an_old_style_input_is_read(tmp_path: Path) -> None:
    text = "&control\r\n/\r\n&system\r\n ecutwfc = 20.\r\n/\r\n&electrons\r\n/\r\nK_POINTS gamma\r\n"
    result = parse_pw_input(text, tmp_path)
    assert result.namelists["system"] == {"ecutwfc": "20."}
    assert result.cards["K_POINTS"].option == "gamma"


# --- what decides the numbers, and what only the way there ---


def test_settings_leave_out_comments_mixing_and_what_is_of_one_cell(tmp_path: Path) -> None:
    before = make_engine(tmp_path).settings(), make_engine(tmp_path).identity()
    same = USER_INPUT.replace("&electrons\n", "! a word\n&electrons\n  mixing_beta = 0.2, electron_maxstep = 200\n")
    same = (
        same.replace("1.2d1", "12.0").replace("celldm(1)=10.2", "celldm(1)=11").replace("nstep=3", "verbosity='high'")
    )
    engine = make_engine(tmp_path, same)
    assert (engine.settings(), engine.identity()) == before
    assert engine.accuracy() == {"conv_thr": 1e-6}
    tighter = make_engine(tmp_path, same.replace("mixing_beta = 0.2", "conv_thr = 1d-9"))
    assert tighter.settings() == before[0] and tighter.identity() != before[1]
    assert tighter.accuracy() == {"conv_thr": 1e-9}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ecutwfc=1.2d1", "ecutwfc=13"),
        ("Degauss = 0.01", "degauss = 0.02"),
        ("'smearing'", "'fixed'"),
        ("Degauss", "vdw_corr = 'd3', Degauss"),
        ("&electrons\n", "&electrons\n tqr = .true.\n"),
        ("'vc-relax'", "'scf', tefield = .true."),
    ],
)
def test_settings_see_what_decides(old: str, new: str, tmp_path: Path) -> None:
    before = make_engine(tmp_path).settings()
    assert make_engine(tmp_path, USER_INPUT.replace(old, new)).settings() != before


def test_values_by_type_count_with_their_element(tmp_path: Path) -> None:
    text = USER_INPUT.replace("Degauss", "starting_magnetization(2) = 0.5, Degauss")
    cards = "ATOMIC_SPECIES\n Si 28.0 Si.other.UPF\n Al 27 Al.UPF\n"
    swapped = "ATOMIC_SPECIES\n Al 27 Al.UPF\n Si 28.0 Si.other.UPF\n"
    (first, second) = (text.replace("ATOMIC_SPECIES\n Si 28.0 Si.other.UPF\n", each) for each in (cards, swapped))
    before = make_engine(tmp_path, first).settings()
    assert before["input"]["system"]["starting_magnetization(Al)"] == 0.5
    assert make_engine(tmp_path, second).settings() != before
    assert make_engine(tmp_path, second.replace("tion(2)", "tion(1)")).settings() == before


def test_tags_change_in_a_copy(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    (tmp_path / "new").mkdir()
    changed = engine.with_tags({"electron_maxstep": "300", "electrons.mixing_mode": "local-TF"}, tmp_path / "new")
    electrons = {"electron_maxstep": "300", "mixing_mode": "'local-TF'"}
    user = read_pw_input(tmp_path / "scf.in")
    assert read_pw_input(tmp_path / "new/scf.in") == PwInput(user.namelists | {"electrons": electrons}, user.cards)
    assert changed.settings() == engine.settings()
    for tag in ("mixing_bta", "system.mixing_bta"):
        with pytest.raises(ConfigError, match=rf"{tag}: pw.x knows no such key; did you mean 'mixing_beta'"):
            engine.with_tags({tag: "0.3"}, tmp_path / "new")


@pytest.mark.needs("pw.x")
def test_another_start_ends_at_the_same_energy(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, USER_INPUT.replace("&electrons\n", "&electrons\n conv_thr = 1d-9\n"))
    label = engine.read_label(tmp_path / "a") if not run_pw(engine, make_silicon(), tmp_path / "a") else None
    check_other_start(engine, make_silicon(), tmp_path / "other", label, 1e-4)
    electrons = read_pw_input(tmp_path / "other/pw.in").namelists["electrons"]
    assert (electrons["startingwfc"], electrons["mixing_beta"]) == ("'random'", "0.35")
