"""CP2K: the input that is written, what is refused before and after, and labels of the real program."""

import gzip
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from al_driver.data.formats.cp2k import read_cp2k
from al_driver.data.frames import Label
from al_driver.engines.base import Dynamics, Relaxation
from al_driver.engines.cp2k import Cp2k
from al_driver.engines.cp2k.base_input import find_kind
from al_driver.engines.cp2k.motion import turn_upright
from al_driver.engines.cp2k.result import find_abort
from al_driver.engines.cp2k.sections import Section, format_sections, parse_sections, read_sections
from al_driver.engines.testing import check_dynamics, check_engine, check_relaxation, run_engine
from al_driver.errors import ConfigError, EngineError

FILES = Path(__file__).parents[1] / "data/files"
UNKNOWN_KEYWORD = r"""
 Possible matches for unknown keyword

 EPS_SCV

   keyword EPS_SCF in section %__ROOT__%FORCE_EVAL%DFT%SCF score:  109

 *******************************************************************************
 *   ___                                                                       *
 *  /   \                                                                      *
 * [ABORT]                                                                     *
 *  \___/             found an unknown keyword EPS_SCV in section SCF          *
 *    |                                                                        *
 *  O/|                                                                        *
 * /| |                                                                        *
 * / \                                               input/input_parsing.F:246 *
 *******************************************************************************


 ===== Routine Calling Stack =====

            5 section_vals_parse
"""
HARTREE, BOHR, GPA = 27.211386245988, 0.529177210903, 1 / 160.2176634  # CODATA 2018
USER_INPUT = """\
@SET RY 80
&global
  PROJECT mine  ! a comment & more
  RUN_TYPE CELL_OPT
&end
&FORCE_EVAL
  method Quickstep
  &DFT
    BASIS_SET_FILE_NAME GTH_BASIS_SETS
    POTENTIAL_FILE_NAME GTH_POTENTIALS
    &MGRID
      CUTOFF ${RY}
      REL_CUTOFF 20
    &END MGRID
    &QS
      EPS_DEFAULT 1.0E-6
    &END QS
    &XC
      &XC_FUNCTIONAL PADE
      &END XC_FUNCTIONAL
    &END XC
    &SCF
      EPS_SCF 1.0d-6
      SCF_GUESS RESTART
      ADDED_MOS 4
      &MIXING
        METHOD BROYDEN_MIXING
      &END MIXING
      &SMEAR ON
        METHOD FERMI_DIRAC
        ELECTRONIC_TEMPERATURE \\
          1000
      &END SMEAR
    &END SCF
    &PRINT
      &E_DENSITY_CUBE
      &END
    &END
  &END DFT
  &SUBSYS
    &CELL
      ABC 1 2 3
    &END CELL
    &KIND Si
      BASIS_SET SZV-GTH
      POTENTIAL GTH-PADE-q4
      MAGNETIZATION 0.5
    &END KIND
  &END SUBSYS
&END FORCE_EVAL
&MOTION
  &CELL_OPT
    OPTIMIZER LBFGS
    MAX_FORCE 1e-6
    KEEP_ANGLES
  &END
&END MOTION
"""


def make_engine(folder: Path, text: str = USER_INPUT, **keys: Any) -> Cp2k:
    (folder / "user.inp").write_text(text)
    return Cp2k.model_validate({"engine": "cp2k", "input": str(folder / "user.inp"), **keys})


def make_silicon() -> Atoms:
    """Return two atoms without symmetry in a triclinic cell."""
    atoms = bulk("Si")
    atoms.set_cell(atoms.cell.array @ [[1.02, 0.01, 0.02], [0, 0.99, 0.03], [0.01, 0, 1.01]], scale_atoms=True)
    atoms.positions[1] += (0.11, -0.07, 0.05)
    return atoms


def make_phosphide() -> Atoms:
    """Return phosphorus before aluminium in a triclinic cell, away from every symmetry."""
    atoms = bulk("GaAs", "zincblende", a=5.5)
    atoms.symbols = "PAl"
    strain = np.random.default_rng(5).normal(scale=0.03, size=(3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    atoms.positions += np.random.default_rng(6).normal(scale=0.1, size=(2, 3))
    return atoms


def make_phosphide_engine(folder: Path, **changes: str) -> Cp2k:
    text = USER_INPUT.partition("&MOTION")[0]
    for old, new in changes.items():
        text = re.sub(rf"(?m)^( *{old}) .*$", rf"\1 {new}", text)
    basis, potential = {"Al": "SZV-GTH", "P": "SZV-GTH"}, {"Al": "GTH-PADE-q3", "P": "GTH-PADE-q5"}
    return make_engine(folder, text, basis=basis, potential=potential, kpoints=[2, 2, 2])


def written(folder: Path) -> Section:
    return read_sections(folder / "cp2k.inp")


# --- sections ---


def test_sections_keep_values_as_written_and_come_back(tmp_path: Path) -> None:
    root = parse_sections(USER_INPUT, tmp_path)
    assert root.find("GLOBAL").items == ["PROJECT mine", "RUN_TYPE CELL_OPT"]
    dft = root.find("FORCE_EVAL", "DFT")
    assert dft.find("MGRID").value("CUTOFF") == "80"
    assert dft.find("XC", "XC_FUNCTIONAL").parameter == "PADE"
    assert dft.find("SCF", "SMEAR").value("ELECTRONIC_TEMPERATURE").split() == ["1000"]
    again = parse_sections(format_sections(root), tmp_path)
    assert again == root
    assert again.as_json() == root.as_json()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("&A\n&END B\n", "line 2: &END B inside &A; an &END is missing, or one too many"),
        ("&A\n&B\n&END\n", "ends inside &A; an &END is missing"),
        ("&A\n&END\n&END A\n", "line 3: &END A closes no section"),
        ("A 1\n", "line 1: 'A 1' stands in no section"),
        ("@IF ( 1 == 1 )\n", "line 1: @IF is not read; write out what it stands for (@SET may stay)"),
        ("&A\n X ${Y}\n&END\n", "line 2: $Y is not defined by an @SET before it"),
    ],
)
def test_an_input_that_cannot_be_read_says_where(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_sections(text, tmp_path / "user.inp")
    assert str(caught.value).endswith(words)
    assert str(caught.value).startswith("input: ")


# --- the input ---


def test_structure_and_calculation_are_replaced_and_the_rest_is_kept(tmp_path: Path) -> None:
    atoms = make_silicon()
    make_engine(tmp_path).write_inputs(atoms, tmp_path)
    root = written(tmp_path)
    assert root.find("GLOBAL").items == ["PROJECT cp2k", "RUN_TYPE ENERGY_FORCE", "PRINT_LEVEL MEDIUM"]
    assert root.find("MOTION") is None
    force_eval = root.find("FORCE_EVAL")
    assert force_eval.value("METHOD") == "Quickstep"
    assert force_eval.value("STRESS_TENSOR") == "ANALYTICAL"
    assert force_eval.find("DFT", "PRINT") is None
    scf = force_eval.find("DFT", "SCF")
    assert scf.value("SCF_GUESS") == "ATOMIC"
    assert scf.value("EPS_SCF") == "1.0d-6"
    cell = force_eval.find("SUBSYS", "CELL")
    assert [[float(x) for x in cell.value(name).split()] for name in "ABC"] == atoms.cell.array.tolist()
    assert cell.value("PERIODIC") == "XYZ"
    rows = [line.split() for line in force_eval.find("SUBSYS", "COORD").lines]
    assert [[float(x) for x in row[1:]] for row in rows] == atoms.positions.tolist()
    kind = find_kind(root, "Si")
    assert kind.items == ["BASIS_SET SZV-GTH", "POTENTIAL GTH-PADE-q4", "MAGNETIZATION 0.5"]


def test_keys_replace_basis_and_potential_and_keep_the_rest_of_a_kind(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, basis={"Si": "DZVP-GTH"}, potential={"Si": "GTH-PBE-q4"})
    engine.write_inputs(make_silicon(), tmp_path)
    assert find_kind(written(tmp_path), "Si").items == [
        "MAGNETIZATION 0.5", "BASIS_SET DZVP-GTH", "POTENTIAL GTH-PBE-q4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "scheme"), [({"kpoints": [2, 3, 1]}, "2 3 1"), ({"kspacing": 0.9}, "3 3 3"), ({"kspacing": 9.0}, None)]
)
def test_k_points_follow_the_keys(keys: dict[str, Any], scheme: str | None, tmp_path: Path) -> None:
    make_engine(tmp_path, **keys).write_inputs(make_silicon(), tmp_path)
    k_points = written(tmp_path).find("FORCE_EVAL", "DFT", "KPOINTS")
    assert (k_points and k_points.value("SCHEME")) == (scheme and f"MONKHORST-PACK {scheme}")


def test_a_file_beside_the_input_is_found_and_its_content_is_part_of_the_settings(tmp_path: Path) -> None:
    own = tmp_path / "my basis"
    own.write_text("Si SZV-GTH\n")
    text = USER_INPUT.replace("NAME GTH_BASIS_SETS", 'NAME "my basis"')
    engine = make_engine(tmp_path, text)
    engine.write_inputs(make_silicon(), tmp_path)
    dft = written(tmp_path).find("FORCE_EVAL", "DFT")
    assert dft.value("BASIS_SET_FILE_NAME") == f'"{own}"'
    assert dft.value("POTENTIAL_FILE_NAME") == "GTH_POTENTIALS"
    before = engine.settings()
    own.write_text("Si SZV-GTH other\n")
    assert engine.settings() != before
    assert str(tmp_path) not in str(before)


def test_settings_do_not_depend_on_how_they_are_written_and_see_what_decides(tmp_path: Path) -> None:
    settings = make_engine(tmp_path).settings()
    other = USER_INPUT.replace("1.0d-6", "0.000001").replace("PROJECT mine", "PROJECT x").replace("&MGRID", "&mgrid")
    assert make_engine(tmp_path, other.replace("ABC 1 2 3", "ABC 3 3 3")).settings() == settings
    assert make_engine(tmp_path, USER_INPUT.replace("RY 80", "RY 90")).settings() != settings
    assert make_engine(tmp_path, basis={"Si": "DZVP-GTH"}).settings() != settings
    assert make_engine(tmp_path, basis={"Si": "SZV-GTH"}).settings() == settings
    assert make_engine(tmp_path, kspacing=0.3).settings() != settings
    engine = make_engine(tmp_path)
    assert engine.identity("aimd") == engine.identity("label") != engine.identity("relax")


def test_settings_leave_out_how_an_scf_is_reached(tmp_path: Path) -> None:
    before, identity = make_engine(tmp_path).settings(), make_engine(tmp_path).identity()
    way = USER_INPUT.replace("METHOD BROYDEN_MIXING", "METHOD PULAY_MIXING\n ALPHA 0.1").replace(
        "RESTART\n", "ATOMIC\n"
    )
    way = way.replace("ADDED_MOS 4", "ADDED_MOS 4\n MAX_SCF 300\n &OUTER_SCF\n &END")
    assert make_engine(tmp_path, way).settings() == before
    tighter = make_engine(tmp_path, USER_INPUT.replace("1.0d-6\n      SCF", "1.0d-7\n      SCF"))
    assert tighter.settings() == before and tighter.identity() != identity
    assert tighter.accuracy() == {"EPS_SCF": 1e-7}
    for old, new in (("ADDED_MOS 4", "ADDED_MOS 5"), ("FERMI_DIRAC", "ENERGY_WINDOW"), ("1.0E-6", "1.0E-7")):
        assert make_engine(tmp_path, USER_INPUT.replace(old, new)).settings() != before


def test_tags_change_in_a_copy_that_still_finds_its_files(tmp_path: Path) -> None:
    (tmp_path / "my basis").write_text("Si SZV-GTH\n")
    engine = make_engine(tmp_path, USER_INPUT.replace("NAME GTH_BASIS_SETS", 'NAME "my basis"'))
    (tmp_path / "new").mkdir()
    changed = engine.with_tags(
        {"force_eval/dft/scf/max_scf": "300", "FORCE_EVAL.DFT.SCF.MIXING.ALPHA": "0.1"}, tmp_path / "new"
    )
    scf = read_sections(changed.input).find("FORCE_EVAL", "DFT", "SCF")
    assert (scf.value("MAX_SCF"), scf.find("MIXING").value("ALPHA"), scf.value("ADDED_MOS")) == ("300", "0.1", "4")
    assert changed.settings() == engine.settings()
    with pytest.raises(ConfigError, match="no section &SFC there; did you mean 'SCF'"):
        engine.with_tags({"FORCE_EVAL/DFT/SFC/MAX_SCF": "300"}, tmp_path / "new")
    with pytest.raises(ConfigError, match="name it with its sections"):
        engine.with_tags({"MAX_SCF": "300"}, tmp_path / "new")


def test_another_start_is_random_and_mixes_less(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, USER_INPUT.replace("METHOD BROYDEN_MIXING", "ALPHA 0.3"))
    engine.write_other_start(make_silicon(), tmp_path)
    scf = written(tmp_path).find("FORCE_EVAL", "DFT", "SCF")
    assert (scf.value("SCF_GUESS"), scf.find("MIXING").value("ALPHA")) == ("RANDOM", "0.15")


def test_a_relaxation_is_turned_upright_and_keeps_the_own_search(tmp_path: Path) -> None:
    atoms = make_silicon()
    engine = make_engine(tmp_path)
    engine.write_relaxation(atoms, Relaxation("cell", 0.02, 70), tmp_path)
    search = written(tmp_path).find("MOTION", "CELL_OPT")
    assert search.value("OPTIMIZER") == "LBFGS"
    assert search.value("MAX_FORCE") == "1e-6"
    assert 0 < float(search.value("RMS_FORCE")) < 0.02 / np.sqrt(3) * BOHR / HARTREE
    assert search.value("MAX_ITER") == "70"
    assert float(search.value("EXTERNAL_PRESSURE")) == 0
    assert 0 < float(search.value("PRESSURE_TOLERANCE")) <= 100
    assert search.values("KEEP_ANGLES") == []
    assert written(tmp_path).find("GLOBAL").value("RUN_TYPE") == "CELL_OPT"
    turned = turn_upright(atoms)
    assert np.triu(turned.cell.array, 1).tolist() == np.zeros((3, 3)).tolist()
    assert turned.get_all_distances(mic=True) == pytest.approx(atoms.get_all_distances(mic=True))
    assert turned.cell.cellpar() == pytest.approx(atoms.cell.cellpar())


def test_dynamics_have_velocities_and_thermostat_of_the_seed(tmp_path: Path) -> None:
    make_engine(tmp_path).write_dynamics(make_silicon(), Dynamics(300, 6, 0.002, 2, 0.05, 11), tmp_path)
    root = written(tmp_path)
    md = root.find("MOTION", "MD")
    assert [md.value(k) for k in ("ENSEMBLE", "STEPS", "TIMESTEP", "TEMPERATURE")] == ["NVT", "6", "2", "300"]
    assert float(md.find("THERMOSTAT", "CSVR").value("TIMECON")) == 50
    assert root.find("GLOBAL").value("SEED") == "11"
    rows = [[float(x) for x in line.split()] for line in root.find("FORCE_EVAL", "SUBSYS", "VELOCITY").lines]
    assert np.sum(rows, axis=0) == pytest.approx(0, abs=1e-12)
    kinetic = 0.5 * 28.085 * 1822.888486 * np.sum(np.square(rows))
    assert kinetic == pytest.approx(1.5 * 300 * 3.166811563e-6, rel=1e-4)


def test_moments_of_a_structure_are_not_dropped_without_a_word(tmp_path: Path) -> None:
    atoms = make_silicon()
    atoms.set_initial_magnetic_moments([1.0, -1.0])
    with pytest.raises(ConfigError, match="CP2K has them by element here, as MAGNETIZATION in &KIND"):
        make_engine(tmp_path, insert("&DFT", "UKS")).write_inputs(atoms, tmp_path)
    make_engine(tmp_path, insert("&DFT", "UKS .FALSE.")).write_inputs(atoms, tmp_path)
    assert len(list(written(tmp_path).at("FORCE_EVAL", "SUBSYS", "COORD").lines)) == 2


def test_a_molecule_needs_a_box_and_a_solver(tmp_path: Path) -> None:
    keys = {"basis": dict.fromkeys("HO", "SZV-GTH"), "potential": {"H": "GTH-PADE-q1", "O": "GTH-PADE-q6"}}
    water = molecule("H2O")
    with pytest.raises(ConfigError, match="has no cell; put a molecule into a box"):
        make_engine(tmp_path, **keys).write_inputs(water, tmp_path)
    water.center(vacuum=3)
    with pytest.raises(ConfigError, match="must name a POISSON_SOLVER"):
        make_engine(tmp_path, **keys).write_inputs(water, tmp_path)
    text = USER_INPUT.replace("&MGRID", "&POISSON\nPOISSON_SOLVER MT\n&END\n&MGRID", 1)
    make_engine(tmp_path, text, **keys).write_inputs(water, tmp_path)
    force_eval = written(tmp_path).find("FORCE_EVAL")
    assert force_eval.find("DFT", "POISSON").value("PERIODIC") == "NONE"
    assert force_eval.find("SUBSYS", "CELL").value("PERIODIC") == "NONE"
    assert force_eval.value("STRESS_TENSOR") == "NONE"
    with pytest.raises(ConfigError, match="no basis for Si"):
        make_engine(tmp_path, USER_INPUT.replace("&KIND Si", "&KIND Ge")).write_inputs(make_silicon(), tmp_path)


# --- what is found before anything is submitted ---


def findings(folder: Path, text: str = USER_INPUT, type_map: tuple[str, ...] = ("Si",), **keys: Any) -> list[str]:
    return [f"{p.severity} {p.key}: {p.message}" for p in make_engine(folder, text, **keys).check(type_map)]


def test_a_sound_input_has_no_findings(tmp_path: Path) -> None:
    assert findings(tmp_path) == []
    assert findings(tmp_path, kspacing=0.3) == []


def insert(after: str, line: str) -> str:
    return USER_INPUT.replace(after, f"{after}\n{line}\n", 1)


@pytest.mark.parametrize(
    ("text", "keys", "words"),
    [
        (USER_INPUT + "&FORCE_EVAL\n&END\n", {}, "error input: .*there are 2 &FORCE_EVAL; one is needed"),
        (USER_INPUT.replace("Quickstep", "FIST"), {}, "METHOD FIST is not read; labels are those of METHOD Quickstep"),
        (insert("&SCF", "&OT\n&END"), {"kspacing": 0.3}, "&OT works at the gamma point only, and kspacing asks for"),
        (insert("&SCF", "&OT\n&END"), {}, "&OT does not work with &SMEAR; use diagonalization"),
        (insert("&DFT", "&KPOINTS\nSCHEME MONKHORST-PACK 2 2 2\n&END"), {"kspacing": 0.3}, "both choose k-points"),
        (insert("&DFT", "&KPOINTS\nSCHEME GENERAL\n&END"), {}, "SCHEME GENERAL is a list for one cell; use `kspacing`"),
        (insert("&DFT", "&KPOINTS\nSYMMETRY OFF\n&END"), {}, "&KPOINTS has no SCHEME; give it, `kspacing`"),
        (USER_INPUT.replace("ADDED_MOS 4", ""), {}, "&SMEAR needs empty orbitals: ADDED_MOS in &SCF"),
        (
            USER_INPUT.replace("METHOD FERMI_DIRAC", ""),
            {"kspacing": 0.3},
            "with k-points &SMEAR has METHOD FERMI_DIRAC",
        ),
        (USER_INPUT.replace("1.0d-6", "1e-4"), {}, "warning input: .*EPS_SCF 1e-4 is loose for forces"),
        (insert("&DFT", "CHARGE 1"), {}, "warning input: .*CHARGE 1 is kept as it is for structures of every size"),
        (insert("&DFT", "MULTIPLICITY 3"), {}, "error input: .*MULTIPLICITY 3 needs UKS"),
        (insert("&DFT", "WFN_RESTART_FILE_NAME a.wfn"), {}, "WFN_RESTART_FILE_NAME needs the files of another"),
        (USER_INPUT.replace("CUTOFF ${RY}", ""), {}, "warning input: .*CUTOFF .Ry. is missing in &DFT/&MGRID"),
        (insert("&SUBSYS", "&KIND Fe1\n&END"), {}, "&KIND Fe1 is not an element; all atoms of an element have its one"),
        (USER_INPUT.replace("GTH_BASIS_SETS", "./nowhere"), {}, "BASIS_SET_FILE_NAME .*/nowhere does not exist"),
        (USER_INPUT.replace("POTENTIAL GTH", "!"), {}, "error potential: no potential for Si of the type_map, here or"),
        ("&A\n", {}, "error input: .*ends inside &A"),
    ],
)
def test_mistakes_are_found_before_the_queue(text: str, keys: dict[str, Any], words: str, tmp_path: Path) -> None:
    found = findings(tmp_path, text, **keys)
    assert any(re.search(words, line) for line in found), found


def test_two_keys_for_one_grid_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`kspacing` and `kpoints` both choose k-points"):
        make_engine(tmp_path, kspacing=0.3, kpoints=[1, 1, 1])


@pytest.mark.needs("cp2k")
def test_cp2k_itself_is_asked_for_names_and_keywords(tmp_path: Path) -> None:
    def asked(text: str = USER_INPUT, **keys: Any) -> list[str]:
        return [str(problem) for problem in make_engine(tmp_path, text, **keys).check_program(["cp2k"], {})]

    assert asked() == []
    (found,) = asked(basis={"Si": "SZVP-GTH"})
    assert "basis: GTH_BASIS_SETS has no basis SZVP-GTH for Si; did you mean '" in found
    (found,) = asked(USER_INPUT.replace("EPS_SCF", "EPS_SCV"))
    assert found == "input: `cp2k --check` refuses this input: found an unknown keyword EPS_SCV in section SCF"
    (found,) = asked(USER_INPUT.replace("GTH_POTENTIALS", "MY_POTENTIALS"))
    assert "POTENTIAL_FILE_NAME MY_POTENTIALS is neither beside the input nor in CP2K's data folder" in found


def test_a_cp2k_that_says_nothing_of_an_input_is_a_warning(tmp_path: Path) -> None:
    """It may be the program that fails, not the input."""
    program = tmp_path / "cp2k"
    program.write_text("#!/bin/sh\necho 'no MPI here'\n")
    program.chmod(0o755)
    (problem,) = make_engine(tmp_path).check_program([str(program)], {})
    assert (problem.key, problem.severity) == ("input", "warning")
    assert problem.message == f"`{program} --check` does not say whether it can read this input; it ends: no MPI here"


# --- what the program wrote ---


def test_what_is_not_there_or_stopped_is_refused(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)

    def refused() -> tuple[str, str]:
        with pytest.raises(EngineError) as caught:
            engine.read_label(tmp_path)
        assert caught.value.where == tmp_path
        return caught.value.reason, caught.value.detail

    assert refused() == ("no_output", "there is no cp2k.out")
    log = tmp_path / "cp2k.out"
    log.write_text("sh: cp2k: not found\n")
    assert refused() == ("no_output", "cp2k.out is not of CP2K; its last line: sh: cp2k: not found")
    log.write_text(UNKNOWN_KEYWORD)
    assert refused() == ("engine_error", "CP2K stopped: found an unknown keyword EPS_SCV in section SCF")
    start = " **** PROGRAM STARTED AT 2026\n"
    log.write_text(start)
    assert refused() == ("no_output", "cp2k.out ends before the program did")
    words = (
        " *  /   \\                       *\n * [ABORT]                       *\n"
        " *  \\___/    SCF run NOT converged. To continue the calculation  *\n"
        " *    |           regardless, please set the keyword             *\n"
        " *  O/|                                                          *\n"
        " * /| |                                                          *\n"
        " * / \\                                            qs_scf.F:611  *\n"
    )
    log.write_text(start + words)
    reason = "SCF run NOT converged. To continue the calculation regardless, please set the keyword"
    assert refused() == ("scf_unconverged", f"CP2K stopped: {reason}")
    assert find_abort(words) == reason
    log.write_text(start + words.replace("SCF run NOT converged", "Basis set not found"))
    assert refused()[0] == "engine_error"


@pytest.fixture
def dynamics_of_three_steps(tmp_path: Path) -> Path:
    """A folder with an MD of CP2K 2023.1 as the engine would have made it."""
    source = FILES / "cp2k_md"
    shutil.copy(source / "in.inp", tmp_path / "cp2k.inp")
    shutil.copy(source / "si-pos-1.xyz", tmp_path / "cp2k-pos-1.xyz")
    (tmp_path / "cp2k.out").write_bytes(gzip.decompress((source / "out.log.gz").read_bytes()))
    return tmp_path


ALL_STEPS = Dynamics(300, 3, 0.002, 1, 0.1, 0)


def test_each_frame_of_dynamics_has_its_own_label(dynamics_of_three_steps: Path, tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    expected = [step for step in read_cp2k(FILES / "cp2k_md/out.log.gz") if isinstance(step, Label)]
    frames = engine.read_dynamics(dynamics_of_three_steps, ALL_STEPS)
    assert [step for step, _ in frames] == [1, 2, 3]
    for (_, label), other in zip(frames, expected[1:], strict=True):
        assert label.energy == other.energy
        assert label.forces.tolist() == other.forces.tolist()
        assert label.atoms.positions.tolist() == other.atoms.positions.tolist()
        assert label.virial == pytest.approx(other.virial, rel=1e-9)
    (only,) = engine.read_dynamics(dynamics_of_three_steps, Dynamics(300, 3, 0.002, 2, 0.1, 0))
    log = dynamics_of_three_steps / "cp2k.out"
    log.write_text(log.read_text().replace(re.findall(r"ENERGY\|.*?(-\S+)$", log.read_text(), re.M)[1], "NaN"))
    first, *others = engine.read_dynamics(dynamics_of_three_steps, ALL_STEPS)
    assert isinstance(first[1], EngineError) and first[1].reason == "not_finite"
    assert [label.energy for _, label in others] == [label.energy for label in expected[2:]]
    assert only[0] == 2 and only[1].energy == expected[2].energy


def test_a_frame_that_did_not_converge_is_refused_alone(dynamics_of_three_steps: Path, tmp_path: Path) -> None:
    log = dynamics_of_three_steps / "cp2k.out"
    parts = log.read_text().split("*** SCF run converged in")
    assert len(parts) == 5
    log.write_text(
        "*** SCF run converged in".join(parts[:3]) + "*** WARNING SCF run NOT converged ***"
        + "*** SCF run converged in".join(parts[3:])
    )  # fmt: skip
    frames = dict(make_engine(tmp_path).read_dynamics(dynamics_of_three_steps, ALL_STEPS))
    assert isinstance(frames[1], Label) and isinstance(frames[3], Label)
    assert isinstance(frames[2], EngineError)
    assert (frames[2].reason, frames[2].detail) == (
        "scf_unconverged", "step 2: the SCF did not converge within MAX_SCF steps",
    )  # fmt: skip


def test_dynamics_that_are_not_whole_are_refused(dynamics_of_three_steps: Path, tmp_path: Path) -> None:
    engine = make_engine(tmp_path)

    def refused(dynamics: Dynamics = ALL_STEPS) -> str:
        with pytest.raises(EngineError) as caught:
            engine.read_dynamics(dynamics_of_three_steps, dynamics)
        return f"{caught.value.reason}: {caught.value.detail}"

    longer = Dynamics(300, 5, 0.002, 1, 0.1, 0)
    assert refused(longer) == "no_output: CP2K calculated 4 steps, not 6; it may have been told to stop"
    trajectory, log = dynamics_of_three_steps / "cp2k-pos-1.xyz", dynamics_of_three_steps / "cp2k.out"
    text = trajectory.read_text()
    trajectory.write_text(text[: len(text) // 2])
    assert refused() == "no_output: step 2 is not in cp2k-pos-1.xyz"
    trajectory.write_text(text.replace("i =        2", "i =        9").replace("i =        3", "i =        2"))
    assert refused() == "no_output: step 2 has another energy in cp2k-pos-1.xyz than in cp2k.out"
    trajectory.write_text(re.sub(r"(i = +2,.* E = +)\S+", r"\1**************", text))
    assert refused() == "no_output: step 2 has another energy in cp2k-pos-1.xyz than in cp2k.out"
    trajectory.write_text(re.sub(r"(i = +2,.*\n).*\n", r"\1", text))  # without its first atom
    assert refused() == "no_output: step 2 is not in cp2k-pos-1.xyz"
    log.write_text(log.read_text()[:-5000])
    assert refused() == "no_output: cp2k.out ends before the program did"


def test_a_log_is_read_whatever_else_is_installed(tmp_path: Path) -> None:
    """dpdata reads no stress for these versions, and another one where cp2kdata is there: neither may be asked."""
    shutil.copy(FILES / "cp2k_strain_0/in.inp", tmp_path / "cp2k.inp")
    (tmp_path / "cp2k.out").write_bytes(gzip.decompress((FILES / "cp2k_strain_0/out.log.gz").read_bytes()))
    label = make_engine(tmp_path).read_label(tmp_path)
    assert np.abs(label.virial).max() > 1
    for name in ("dpdata", "cp2kdata"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not to be imported')\n")
    program = (
        "import sys, pathlib\n"
        "from al_driver.engines.cp2k.result import read_single\n"
        "label = read_single(pathlib.Path(sys.argv[1]))\n"
        "print(repr((label.energy, label.forces.tolist(), label.virial.tolist())))\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    argv = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert done.stdout.strip() == repr((label.energy, label.forces.tolist(), label.virial.tolist())), done.stderr


def run_label(engine: Cp2k, atoms: Atoms, folder: Path) -> str:
    folder.mkdir()
    engine.write_inputs(atoms, folder)
    run_engine(engine, folder)
    return (folder / "cp2k.out").read_text()


@pytest.mark.needs("cp2k")
def test_a_label_equals_what_cp2k_printed(tmp_path: Path) -> None:
    engine = make_phosphide_engine(tmp_path)
    atoms = make_phosphide()
    text = run_label(engine, atoms, tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"cp2k.inp", "cp2k.out"}
    label = engine.read_label(tmp_path / "run")
    assert engine.is_complete(tmp_path / "run")
    assert label.atoms.positions.tolist() == atoms.positions.tolist()
    assert label.atoms.cell.array.tolist() == atoms.cell.array.tolist()
    energy = float(re.search(r"ENERGY\| Total FORCE_EVAL.*?(\S+)$", text, re.M)[1])
    assert label.energy == pytest.approx(energy * HARTREE, rel=1e-12)
    rows = re.findall(r"^ +\d+ +\d+ +(?:Al|P) +(-?\d\.\d{12}) +(\S+) +(\S+)$", text, re.M)
    assert len(rows) == 2
    assert label.forces == pytest.approx(np.array(rows, dtype=float) * HARTREE / BOHR, rel=1e-9)
    stress = re.findall(r"STRESS\| +[xyz] +(\S+E\S+) +(\S+) +(\S+)$", text, re.M)[:3]
    assert np.abs(label.virial).max() > 1
    assert label.virial == pytest.approx(np.array(stress, dtype=float) * GPA * atoms.get_volume(), rel=1e-8)
    assert label.info == {"program": "cp2k", "version": "2023.1"}
    log = tmp_path / "run/cp2k.out"
    log.write_text(text + text.replace("SCF run converged in", "SCF run NOT converged in"))  # `-o` appends
    with pytest.raises(EngineError, match="scf_unconverged: the SCF did not converge within MAX_SCF steps"):
        engine.read_label(tmp_path / "run")
    other = make_phosphide()
    other.positions[0, 0] += 0.01
    engine.write_inputs(other, tmp_path / "run")
    log.write_text(text)
    with pytest.raises(EngineError, match="positions_changed"):
        engine.read_label(tmp_path / "run")


@pytest.mark.needs("cp2k")
def test_an_scf_that_does_not_converge_is_refused_though_cp2k_ends_well(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, insert("&SCF", "MAX_SCF 2"))
    text = run_label(engine, make_silicon(), tmp_path / "run")
    assert "ENERGY| Total FORCE_EVAL" in text and engine.is_complete(tmp_path / "run")
    with pytest.raises(EngineError, match="scf_unconverged"):
        engine.read_label(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")


@pytest.mark.long
@pytest.mark.needs("cp2k")
def test_with_smearing_the_energy_is_the_one_the_forces_derive_from(tmp_path: Path) -> None:
    """Aluminium with 0.2 eV: between free and internal energy the finite difference differs by far more than 1e-3."""
    changes = {"CUTOFF": "200", "REL_CUTOFF": "50", "EPS_DEFAULT": "1.0E-10", "EPS_SCF": "1.0E-8", "ADDED_MOS": "10"}
    text = USER_INPUT.partition("&MOTION")[0].replace("1000", "2321")
    for old, new in changes.items():
        text = re.sub(rf"(?m)^( *{old}) .*$", rf"\1 {new}", text)
    engine = make_engine(tmp_path, text, basis={"Al": "SZV-GTH"}, potential={"Al": "GTH-PADE-q3"}, kpoints=[2, 2, 2])
    energies, atoms = {}, bulk("Al", cubic=True)
    atoms.positions[0] += (0.2, 0.1, 0.05)
    for step in (0.0, 0.01, -0.01):
        moved = atoms.copy()
        moved.positions[0, 0] += step
        text = run_label(engine, moved, tmp_path / f"run{step}")
        energies[step] = engine.read_label(tmp_path / f"run{step}")
    entropy = HARTREE * float(re.search(r"Electronic entropic energy: +(\S+)", text)[1])
    assert entropy < -0.01
    slope = (energies[0.01].energy - energies[-0.01].energy) / 0.02
    force = energies[0.0].forces[0, 0]
    assert abs(force) > 0.1
    assert force == pytest.approx(-slope, abs=1e-3)


# --- the conformance test ---


@pytest.mark.long
@pytest.mark.needs("cp2k")
def test_labels_conform(tmp_path: Path) -> None:
    """At 300 Ry force and virial are their energy's derivatives; at 200 Ry the grid's own error is too large."""
    engine = make_phosphide_engine(tmp_path, CUTOFF="300", REL_CUTOFF="50", EPS_DEFAULT="1.0E-10", EPS_SCF="1.0E-6")
    check_engine(engine, make_phosphide(), tmp_path / "work", changed={"kpoints": [1, 1, 1]}, calculations=())


@pytest.mark.long
@pytest.mark.needs("cp2k")
def test_relaxations_conform(tmp_path: Path) -> None:
    engine = make_phosphide_engine(tmp_path, EPS_DEFAULT="1.0E-8", EPS_SCF="1.0E-7")
    check_relaxation(engine, make_phosphide(), tmp_path / "work", what="positions")


@pytest.mark.long
@pytest.mark.needs("cp2k")
def test_a_triclinic_cell_is_relaxed_and_turned_back(tmp_path: Path) -> None:
    """From near the minimum of these settings; none of the cell's vectors lies where CP2K wants it."""
    engine = make_phosphide_engine(tmp_path, CUTOFF="120", REL_CUTOFF="30", EPS_DEFAULT="1.0E-8", EPS_SCF="1.0E-6")
    cell = np.array([[0.0, 2.65, 2.68], [2.75, -0.37, 2.54], [2.77, 2.54, -0.33]])
    atoms = Atoms("PAl", scaled_positions=[(0, 0, 0), (0.25, 0.25, 0.25)], cell=cell, pbc=True)
    relaxation = Relaxation("cell", 0.05, 60)
    work = tmp_path / "relax"
    work.mkdir()
    engine.write_relaxation(atoms, relaxation, work)
    run_engine(engine, work)
    label = engine.read_relaxation(work, relaxation)
    assert np.linalg.norm(label.forces, axis=1).max() < 0.05 and np.abs(label.virial).max() / 2 < 0.05
    moved = np.linalg.inv(cell) @ label.atoms.cell.array - np.eye(3)
    assert 1e-3 < np.abs(moved).max() < 0.1
    run_label(engine, label.atoms, tmp_path / "own")
    own = engine.read_label(tmp_path / "own")
    assert label.energy == pytest.approx(own.energy, abs=1e-3)
    assert np.abs(label.forces - own.forces).max() < 2e-3
    assert np.abs(label.virial - own.virial).max() < 5e-3


@pytest.mark.long
@pytest.mark.needs("cp2k")
def test_dynamics_conform(tmp_path: Path) -> None:
    engine = make_phosphide_engine(tmp_path, EPS_DEFAULT="1.0E-8", EPS_SCF="1.0E-7")
    check_dynamics(engine, make_phosphide(), tmp_path / "work")
