"""Every frame of anybody's pw.x output: real runs, several runs in a file, and what was cut or did not converge."""

import subprocess
from pathlib import Path

import ase.io
import numpy as np
import pytest

from al_driver.data.frames import Label
from al_driver.data.pw_head import INTERSITE
from al_driver.data.pw_output import read_pw_frames
from al_driver.data.pw_steps import read_pw_steps
from al_driver.data.reference import format_reference, parse_reference
from al_driver.engines.qe import QuantumEspresso
from al_driver.errors import EngineError
from al_driver.units import RYDBERG_TO_EV

PSEUDO = Path("/usr/share/espresso/pseudo")
POSITIONS = {
    "angstrom": "Si1 0 0 0\nSi1 1.4675 1.2875 1.4075",
    "crystal": "Si1 0 0 0 0 0 0\nSi1 0.27 0.26 0.24 1 1 1",
    "bohr": "Si1 0 0 0\nSi1 2.77 2.43 2.66",
    "alat": "Si1 0 0 0\nSi1 0.38 0.33 0.36",
}


def run_pw(folder: Path, calculation: str, option: str = "angstrom", **keys: str) -> Path:
    """Run pw.x on two atoms without symmetry in a triclinic cell."""
    folder.mkdir(parents=True)
    electrons = keys.pop("electrons", "conv_thr=1d-10")
    control = "".join(f", {key}={value}" for key, value in keys.items())
    control = f"calculation='{calculation}', outdir='./', tprnfor=.true., tstress=.true.{control}"
    cell = "&CELL press_conv_thr=0.3 /\n" if calculation == "vc-relax" else ""
    text = f"""&CONTROL {control}, pseudo_dir='{PSEUDO}' /
&SYSTEM ecutwfc=10, ibrav=0, nat=2, ntyp=1, nosym=.true. /
&ELECTRONS {electrons} /
&IONS /
{cell}ATOMIC_SPECIES
Si1 28.085 Si.pz-vbc.UPF
CELL_PARAMETERS angstrom
0.0543 2.743 2.7
2.769 0.0 2.7693
2.7 2.7 0.027
ATOMIC_POSITIONS {option}
{POSITIONS[option]}
K_POINTS automatic
{"2 2 2 0 0 0" if cell else "1 1 1 0 0 0"}
"""
    (folder / "pw.in").write_text(text)
    with (folder / "pw.out").open("w") as output:
        subprocess.run(["pw.x", "-in", "pw.in"], cwd=folder, stdout=output, stderr=subprocess.STDOUT, check=False)
    return folder / "pw.out"


def labels_of(path: Path) -> list[Label]:
    frames = list(read_pw_frames(path))
    assert all(isinstance(frame, Label) for frame in frames), frames
    return [frame for frame in frames if isinstance(frame, Label)]


def errors_of(path: Path) -> list[tuple[str, str]]:
    return [(frame.reason, frame.detail) for frame in read_pw_frames(path) if isinstance(frame, EngineError)]


@pytest.mark.needs("pw.x")
@pytest.mark.parametrize(
    ("calculation", "option"),
    [("scf", "alat"), ("relax", "crystal"), ("relax", "alat"), ("vc-relax", "bohr"), ("md", "angstrom")],
)
def test_frames_equal_an_independent_reading(calculation: str, option: str, tmp_path: Path) -> None:
    """ASE reads positions, energies and forces of all steps, and the stress of a column with two decimals."""
    path = run_pw(tmp_path / "run", calculation, option, nstep="4" if calculation == "md" else "30")
    labels, expected = labels_of(path), ase.io.read(path, index=":", format="espresso-out")
    done = [atoms for atoms in expected if "energy" in atoms.calc.results]
    assert len(labels) == len(done) == path.read_text().count("\n!")
    assert len(labels) > (0 if calculation == "scf" else 2)
    for label, atoms in zip(labels, done, strict=True):
        assert label.atoms.get_chemical_symbols() == ["Si", "Si"]
        assert np.abs(label.atoms.cell.array - atoms.cell.array).max() < 2e-5  # ASE's bohr is of another year
        assert np.abs(label.atoms.get_scaled_positions() - atoms.get_scaled_positions()).max() < 2e-6
        assert label.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-6)
        assert np.abs(label.forces - atoms.get_forces()).max() < 1e-5
        virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
        assert np.abs(np.asarray(label.virial) - virial).max() < 2e-3
        assert label.info["version"].startswith("6.") and label.atoms.pbc.all()


@pytest.fixture(scope="module")
def relaxation(tmp_path_factory: pytest.TempPathFactory) -> str:
    return run_pw(tmp_path_factory.mktemp("pw") / "run", "relax", nstep="30").read_text()


def write(folder: Path, text: str) -> Path:
    path = folder / "pw.out"
    path.write_text(text)
    return path


@pytest.mark.needs("pw.x")
def test_several_runs_in_a_file_follow_one_another(relaxation: str, tmp_path: Path) -> None:
    once = labels_of(write(tmp_path, relaxation))
    assert len({label.energy for label in once}) == len(once) > 2
    twice = labels_of(write(tmp_path, 2 * relaxation))
    assert [label.energy for label in twice] == 2 * [label.energy for label in once]
    assert np.array_equal(twice[len(once)].atoms.positions, once[0].atoms.positions)


@pytest.mark.needs("pw.x")
def test_no_cut_gives_a_wrong_number(relaxation: str, tmp_path: Path) -> None:
    """Cut anywhere, within a number too: what comes before is read, and at most the last step is told to be cut."""
    whole = labels_of(write(tmp_path, relaxation))
    marks = ["Forces acting", "atom    2 type", "total   stress", "ATOMIC_POSITIONS", "Total force", "!    total"]
    places = {
        relaxation.find(mark, start) + shift for mark in marks for start in (0, 20000) for shift in (0, 9, 55, 210)
    }
    places |= set(range(relaxation.rfind("total   stress"), len(relaxation), 97))
    for place in sorted(places):
        frames = list(read_pw_frames(write(tmp_path, relaxation[:place])))
        errors = [frame for frame in frames if isinstance(frame, EngineError)]
        assert len(errors) <= 1 and frames[-1:] == (errors or frames[-1:])
        assert all(error.reason == "no_output" and "did not end by itself" in error.detail for error in errors)
        for found, expected in zip(frames, whole, strict=False):
            if isinstance(found, Label):
                assert np.array_equal(found.forces, expected.forces) and found.energy == expected.energy
                assert np.array_equal(np.asarray(found.virial), np.asarray(expected.virial))
                assert np.array_equal(found.atoms.positions, expected.atoms.positions)


@pytest.mark.needs("pw.x")
def test_a_step_that_did_not_converge_is_told_and_those_before_are_kept(relaxation: str, tmp_path: Path) -> None:
    steps = relaxation.split("!    total energy")
    lost = steps[2].replace("convergence has been achieved in", "convergence NOT achieved after")
    path = write(tmp_path, "!    total energy".join([*steps[:2], lost, *steps[3:]]))
    frames = list(read_pw_frames(path))
    assert [isinstance(frame, Label) for frame in frames].count(False) == 1
    assert errors_of(path) == [("scf_unconverged", errors_of(path)[0][1])]
    assert errors_of(path)[0][1].startswith("not converged after ") and isinstance(frames[1], EngineError)
    assert str(path) in str(frames[1])
    really = run_pw(tmp_path / "really", "md", electrons="conv_thr=1d-10, electron_maxstep=5")
    reasons = [reason for reason, _ in errors_of(really)]
    assert reasons == ["scf_unconverged"]


@pytest.mark.needs("pw.x")
def test_an_scf_that_claims_to_be_converged_is_told(tmp_path: Path) -> None:
    electrons = "conv_thr=1d-12, electron_maxstep=2, scf_must_converge=.false."
    path = run_pw(tmp_path / "run", "relax", electrons=electrons, nstep="2")
    assert "convergence has been achieved" in path.read_text()
    assert {reason for reason, _ in errors_of(path)} == {"scf_unconverged"}
    assert "1e-12 was asked for" in errors_of(path)[0][1]


@pytest.mark.needs("pw.x")
def test_what_shows_convergence_must_be_printed(relaxation: str, tmp_path: Path) -> None:
    """Each SCF of any kind prints its accuracy, each run its threshold, and exact exchange that it is consistent."""
    whole = labels_of(write(tmp_path, relaxation.replace("scf convergence threshold", "convergence threshold    ")))
    steps = relaxation.split("!    total energy")
    silent = steps[0].replace("estimated scf accuracy", "accuracy")
    text = "!    total energy".join([silent, steps[1].replace("estimated scf accuracy", "accuracy", 1), *steps[2:]])
    (error,) = errors_of(write(tmp_path, text))
    assert error == ("scf_unconverged", "no accuracy of the SCF is printed, so nothing shows that it converged")
    errors = errors_of(write(tmp_path, relaxation.replace("convergence threshold", "threshold")))
    assert errors == len(whole) * [
        ("scf_unconverged", "no threshold of the SCF is printed, so nothing shows that it converged")
    ]
    exact = relaxation.replace("     celldm(1)", "     EXX-fraction = 0.25\n     celldm(1)", 1)
    words = "pw.x does not say that the exact exchange is self-consistent, with its energy (!!)"
    refused = len(whole) * [("scf_unconverged", words)]
    assert errors_of(write(tmp_path, exact)) == refused
    reached = exact.replace("     Forces acting", "     EXX self-consistency reached\n     Forces acting")
    assert errors_of(write(tmp_path, reached)) == refused  # its energy is that of a round before
    exact = reached.replace("     EXX self-", "!!   total energy              =  -14.0 Ry\n     EXX self-")
    assert {label.energy for label in labels_of(write(tmp_path, exact))} == {-14.0 * RYDBERG_TO_EV}
    assert len(labels_of(write(tmp_path, exact))) == len(whole)


@pytest.mark.needs("pw.x")
def test_a_run_tells_of_its_reference_as_its_input_does(relaxation: str, tmp_path: Path) -> None:
    labels = labels_of(write(tmp_path, relaxation))
    (told,) = {label.info["reference"] for label in labels}
    found = parse_reference(told)
    assert found.pop("functional") == "1 1"
    (tmp_path / "pw.in").write_text("&CONTROL\n/\n&SYSTEM\n ecutwfc = 10.0\n/\n&ELECTRONS\n/\n")
    keys = {"engine": "qe", "input": tmp_path / "pw.in", "pseudopotentials": {"Si": PSEUDO / "Si.pz-vbc.UPF"}}
    assert found == QuantumEspresso.model_validate(keys).told_reference()
    assert found["ecutwfc"] == "10" and found["ecutrho"] == "40" and len(found["pseudo Si"]) == 16
    smeared = relaxation.replace(
        "number of k points=     1", "number of k points= 1  Gaussian smearing, width (Ry)=  0.02"
    )
    other = write(tmp_path, smeared.replace("cutoff     =      10.0000  Ry", "cutoff     =      12.0000  Ry"))
    told = parse_reference(labels_of(other)[0].info["reference"])
    assert (told["ecutwfc"], told["degauss"], told["occupations"]) == ("12", "0.02", "Gaussian")
    assert found["degauss"] == "none"


@pytest.mark.needs("pw.x")
def test_what_lacks_forces_or_elements_is_told(relaxation: str, tmp_path: Path) -> None:
    first = relaxation[: relaxation.index("BFGS Geometry")] + " JOB DONE.\n"
    assert len(labels_of(write(tmp_path, first))) == 1
    no_stress = labels_of(write(tmp_path, first.replace("(Ry/bohr**3)", "")))
    assert no_stress[0].virial is None
    (error,) = errors_of(write(tmp_path, first.replace("force =", "")))
    assert error == ("engine_error", "pw.x ended, but printed no forces on 2 atoms; it needs tprnfor = .true.,"
                     " or was told to stop")  # fmt: skip
    (error,) = errors_of(write(tmp_path, first.replace("Si1 ", "Xx1 ").replace("Si( 1.00)", "Xx( 1.00)")))
    assert error == ("engine_error", "'Xx' is no element")
    named = labels_of(write(tmp_path, first.replace("Si1 ", "Wow ")))
    assert named[0].atoms.get_chemical_symbols() == ["Si", "Si"]  # the element of the potential
    (error,) = errors_of(write(tmp_path, first.replace("force =    ", "force = ****")))
    assert error[0] == "not_finite"


@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        ("nothing of the kind\n", "no_output", "no SCF of pw.x in it; its last words: nothing of the kind"),
        ("", "no_output", "its last words: nothing"),
        (
            "Program PWSCF v.6.7 starts\n "
            + 30 * "%"
            + "\n  Error in routine readpp (1):\n  no file\n "
            + 30 * "%"
            + "\n",
            "engine_error",
            "Error in routine readpp (1): no file",
        ),
    ],
)
def test_a_file_without_a_step_is_refused(text: str, reason: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        list(read_pw_frames(write(tmp_path, text)))
    assert caught.value.reason == reason and words in caught.value.detail
    with pytest.raises(EngineError, match="there is no such file"):
        list(read_pw_frames(tmp_path / "missing.out"))


def test_functionals_and_potentials_of_several_versions() -> None:
    def told(functional: str, element: str = "Si") -> dict[str, str]:
        head = "     Program PWSCF v.6.7 starts on\n     Exchange-correlation      = X "
        potential = f"     PseudoPot. # 1 for {element:2} read from file:\n     ./Si.UPF\n     MD5 check sum: 0123\n"
        return [step.told for step in read_pw_steps(f"{head}{functional}\n{potential}".splitlines(True))][-1]

    assert told("(1434)") == told("( 1  4  3  4 0 0)") == told("\n    (   1   4   3   4   0   0   0)", "SI")
    assert told("(1434)") == {"functional": "1 4 3 4", "pseudo Si": "0123"}
    apart = ["( 0 0 0 0 0 5 0)", "( 0 0 0 0 0 3 0)", "( 1 4 4 0 1 0 0)", "( 1 4 4 0 2 0 0)"]
    assert len({told(each)["functional"] for each in apart}) == 4


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["atomic species    L          U    alpha       J0     beta", "   Fe1  2  4.0000  0.0000  0.0000  0.0000",
          "   Fe2  2  3.5000  0.0000  0.5000  0.0000"], {"U Fe": "3.5 J0 0.5/4", "U O": "0"}),
        (["Full LDA+U calculation (l_max = 2) with parameters (eV):", "U(  1) =   4.0000   J(  1) =   0.8000",
          "U(  2) =   4.0000   J(  2) =   0.8000   B(  2) =   0.0918"], {"U Fe": "4 J 0.8", "U O": "0"}),
        (["Hubbard projectors: atomic", "Hubbard parameters of DFT+U (Dudarev formulation) in eV:",
          "U(Fe1-3d) =  4.0000", "U(Fe2-3d)  =  4.0000"], {"U Fe": "4", "U O": "0"}),
        (["Hubbard projectors: atomic", "Hubbard parameters of DFT+U+V (Dudarev formulation) in eV:"],
         {"U Fe": INTERSITE, "U O": INTERSITE}),
        (["Hubbard projectors: atomic", "and what nobody knows"], {}),
        ([], {"U Fe": "0", "U O": "0"}),
    ],
)  # fmt: skip
def test_hubbard_u_of_several_versions(lines: list[str], told: dict[str, str]) -> None:
    """As pw.x 6.7 prints a run of the simplified and of the full scheme, and as later ones do; 6.7 tells V first."""
    start = "     Program PWSCF v.6.7 starts on\n"
    species = "     atomic species   valence    mass     pseudopotential\n"
    species += "".join(
        f"        {name}  8.00  55.84500  {name[:2].strip('1')}( 1.00)\n" for name in ("Fe1", "Fe2", "O")
    )
    text = start + species + "\n" + "".join(f"     {line}\n" for line in lines) + "\n"
    assert parse_reference(format_reference([*read_pw_steps(text.splitlines(True))][-1].told)) == told
    intersite = text.replace(species, "     Reading Hubbard V parameters from the input...\n" + species)
    if not lines:
        assert next(read_pw_steps(intersite.splitlines(True))).told == {"U Fe": INTERSITE, "U O": INTERSITE}


@pytest.mark.needs("pw.x")
def test_a_line_that_is_missing_or_twice_gives_no_wrong_label(tmp_path: Path) -> None:
    """Nothing of the step before, of a list in other units, or of a part of the forces stands for it."""
    path = run_pw(tmp_path / "run", "vc-relax", "crystal", nstep="3", verbosity="'high'")
    whole, lines = labels_of(path), path.read_text().splitlines(keepends=True)
    words = (
        "CELL_P",
        "ATOMIC_P",
        "Self-c",
        "!",
        "new unit",
        "total   stress",
        "atom    1 type",
        "crystal ax",
        "site n.",
    )
    places = [index for index, line in enumerate(lines) if line.strip().startswith(words)]
    places += [index + shift for index in places for shift in (1, 2)]
    spans = [(index, index + 1) for index in sorted(set(places))]
    ends = [index for index, line in enumerate(lines) if line.startswith("ATOMIC_P")]
    spans += [(end - shift, end + 4) for end in ends for shift in (0, 5, 60)]  # structure, with what is before it
    text = path.read_text()
    for place in range(text.index("Self-consistent"), len(text) - 4096, 4096):  # a page that was never written
        page = write(tmp_path, text[:place] + 4096 * "\0" + text[place + 4096 :])
        kept = [frame for frame in read_pw_frames(page) if isinstance(frame, Label)]
        assert all(any(is_same(label, other) for other in whole) for label in kept), place
    refused = 0
    for start, end in spans:
        texts = [lines[:start] + lines[end:]]
        texts += [lines[:end] + lines[start:]] if end == start + 1 else []
        for text in texts:
            frames = list(read_pw_frames(write(tmp_path, "".join(text))))
            labels = [frame for frame in frames if isinstance(frame, Label)]
            refused += len(frames) - len(labels)
            assert all(any(is_same(label, other) for other in whole) for label in labels), (start, end)
    assert refused > 20


def is_same(label: Label, other: Label) -> bool:
    """Say whether two labels are equal; one may lack its virial."""
    virial = other.virial if label.virial is None else label.virial
    return (
        label.energy == other.energy
        and np.array_equal(label.forces, other.forces)
        and np.array_equal(virial, np.asarray(other.virial))
        and np.array_equal(label.atoms.cell.array, other.atoms.cell.array)
        and np.array_equal(label.atoms.positions, other.atoms.positions)
    )
