"""VASP's files against other readers and numbers read by eye; what did not converge is told, step by step."""

import gzip
import re
from pathlib import Path

import ase.io
import dpdata
import numpy as np
import pytest
from output_files import FILES, unpack

from al_driver.data.formats.load import Source, load_source
from al_driver.data.formats.vasp_outcar import read_outcar
from al_driver.data.formats.vasp_xml import read_vasprun
from al_driver.data.frames import Label
from al_driver.data.reference import parse_reference
from al_driver.errors import EngineError

# file: of each step the energy, or None where it did not converge; read by eye from `free  energy   TOTEN`
OUTCARS = {
    "OUTCAR.Ge.vdw": [-33.36815582],
    "OUTCAR.ch4.1step": [None],
    "OUTCAR.ch4.unconverged": [None, None, -23.94708651],
    "OUTCAR.h2o.md": [-28.38622624, -28.43874406, -28.46658469],
}


def split(steps) -> tuple[list[Label], list[EngineError]]:
    steps = list(steps)
    return [s for s in steps if isinstance(s, Label)], [s for s in steps if isinstance(s, EngineError)]


@pytest.mark.parametrize("name", OUTCARS)
def test_each_step_is_a_label_or_an_error(name: str) -> None:
    steps = list(read_outcar(FILES / f"{name}.gz"))
    assert [step.energy if isinstance(step, Label) else None for step in steps] == OUTCARS[name]
    assert {step.reason for step in steps if isinstance(step, EngineError)} <= {"scf_unconverged"}


@pytest.mark.parametrize("name", sorted(set(OUTCARS) - {"OUTCAR.Ge.vdw"}))  # ASE stumbles over its "w/o vdW"
def test_outcar_equals_what_ase_reads(name: str, tmp_path: Path) -> None:
    steps = list(read_outcar(FILES / f"{name}.gz"))
    for step, other in zip(steps, ase.io.read(unpack(name, tmp_path), index=":", format="vasp-out"), strict=True):
        if isinstance(step, Label):
            assert (step.atoms.numbers == other.numbers).all()
            assert step.atoms.pbc.all()
            assert np.abs(step.atoms.cell.array - other.cell.array).max() < 1e-9
            assert np.abs(step.atoms.positions - other.positions).max() < 1e-9
            assert step.energy == pytest.approx(other.get_potential_energy(force_consistent=True), abs=1e-8)
            assert np.abs(step.forces - other.get_forces(apply_constraint=False)).max() < 1e-9
            virial = -other.get_stress(voigt=False) * other.get_volume()
            assert step.virial == pytest.approx(virial, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", ["OUTCAR.Ge.vdw", "OUTCAR.ch4.unconverged", "OUTCAR.h2o.md", "vasprun.h2o.md.xml"])
@pytest.mark.filterwarnings("ignore:The following structures were unconverged")
def test_vasp_equals_what_dpdata_reads(name: str, tmp_path: Path) -> None:
    format, reader = ("vasp/xml", read_vasprun) if name.endswith("xml") else ("vasp/outcar", read_outcar)
    labels, _ = split(reader(FILES / f"{name}.gz"))
    data = dpdata.LabeledSystem(str(unpack(name, tmp_path)), fmt=format).data
    assert len(labels) == len(data["energies"])
    for index, label in enumerate(labels):
        assert label.energy == data["energies"][index]
        assert np.abs(label.forces - data["forces"][index]).max() < 1e-12
        assert np.abs(label.atoms.cell.array - data["cells"][index]).max() < 1e-12
        assert label.atoms.positions == pytest.approx(data["coords"][index], abs=1e-10)
        assert label.virial == pytest.approx(data["virials"][index], rel=1e-7)


def test_the_virial_is_the_line_in_kb_without_the_kinetic_part(tmp_path: Path) -> None:
    labels, _ = split(read_outcar(FILES / "OUTCAR.ch4.unconverged.gz"))
    volume = labels[0].atoms.get_volume()
    kbar = np.array([-1.88733, -0.47624, -1.40245, 0.85517, 1.94860, -0.51681])  # xx yy zz xy yz zx, by eye
    found = labels[0].virial[[0, 1, 2, 0, 1, 2], [0, 1, 2, 1, 2, 0]]
    assert found == pytest.approx(kbar * volume / 1602.176634, rel=1e-12)


def test_both_files_of_a_run_tell_the_same() -> None:
    outcar, _ = split(read_outcar(FILES / "OUTCAR.h2o.md.gz"))
    xml, _ = split(read_vasprun(FILES / "vasprun.h2o.md.xml.gz"))
    for one, other in zip(outcar, xml, strict=True):
        assert one.energy == other.energy
        assert np.abs(one.forces - other.forces).max() < 1e-6
        assert np.abs(one.virial - other.virial).max() < 1e-5
        shift = (one.atoms.positions - other.atoms.positions) @ np.linalg.inv(one.atoms.cell.array)
        assert np.abs(shift - np.round(shift)).max() < 1e-6


def _outcar(folder: Path, *changes: tuple[str, str]) -> Path:
    text = unpack("OUTCAR.h2o.md", folder).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "OUTCAR"
    path.write_text(text)
    return path


def test_ediff_must_be_reached_in_truth(tmp_path: Path) -> None:
    _, errors = split(read_outcar(_outcar(tmp_path, ("EDIFF  = 0.1E-05", "EDIFF  = 0.3E-06"))))
    assert [error.detail for error in errors] == [
        "step 2: the energy still changed by 4.7e-07 eV; EDIFF is 3e-07",
        "step 3: the energy still changed by 7.0e-07 eV; EDIFF is 3e-07",
    ]
    _, errors = split(read_outcar(_outcar(tmp_path, ("EDIFF  = 0.1E-05", "EDIFF  = 0.1D-05"))))
    assert not errors
    _, errors = split(read_outcar(_outcar(tmp_path, ("aborting loop because EDIFF is reached", "aborting loop: stop"))))
    assert [error.detail for error in errors] == [
        f"step {n}: VASP does not say that EDIFF is reached" for n in (1, 2, 3)
    ]
    _, errors = split(read_outcar(_outcar(tmp_path, ("NELM   =     60", "NELM   =     12"))))
    assert [error.detail for error in errors] == [
        "step 1: 21 electronic steps, and NELM is 12",
        "step 2: 12 electronic steps, and NELM is 12",
    ]


def test_ediff_must_be_reached_in_a_vasprun_too(tmp_path: Path) -> None:
    text = gzip.decompress((FILES / "vasprun.h2o.md.xml.gz").read_bytes()).decode()
    assert text.count("0.00000100") >= 1
    path = tmp_path / "vasprun.xml"
    path.write_text(text.replace("0.00000100", "0.00000050"))  # the third step last changed by 7e-7
    first, second, third = read_vasprun(path)
    assert isinstance(first, Label) and isinstance(second, Label)
    assert isinstance(third, EngineError) and third.reason == "scf_unconverged"
    assert third.detail == "step 3: the energy still changed by 7.0e-07 eV; EDIFF is 5e-07"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("EDIFF  = 0.1E-05", "EDIFX  = 0.1E-05", "it names no EDIFF, so nothing shows that it was reached"),
        ("energy-change (2. order) :-0.3901877E-06", "energy", "no change of the energy is printed"),
        ("(-0.1066007E-07)", "(**************)", "the energy still changed by nan eV"),
    ],
)
def test_what_an_outcar_does_not_show_was_not_reached(old: str, new: str, words: str, tmp_path: Path) -> None:
    first, *_ = read_outcar(_outcar(tmp_path, (old, new)))
    assert isinstance(first, EngineError) and first.reason == "scf_unconverged"
    assert first.detail.startswith(f"step 1: {words}")


def test_a_vasprun_without_ediff_shows_no_convergence(tmp_path: Path) -> None:
    text = gzip.decompress((FILES / "vasprun.h2o.md.xml.gz").read_bytes()).decode()
    (tmp_path / "vasprun.xml").write_text(text.replace('name="EDIFF"', 'name="OTHER"'))
    labels, errors = split(read_vasprun(tmp_path / "vasprun.xml"))
    assert not labels and [error.reason for error in errors] == ["scf_unconverged"] * 3
    assert errors[0].detail == "step 1: it names no EDIFF, so nothing shows that it was reached"


def test_one_electronic_step_of_a_vasprun_shows_no_convergence(tmp_path: Path) -> None:
    """So a run looks that was told to stop (LABORT) after its first."""
    text = gzip.decompress((FILES / "vasprun.h2o.md.xml.gz").read_bytes()).decode()
    head, *steps = text.split("<scstep>")
    last_of_first = next(index for index, step in enumerate(steps) if "</calculation>" in step)
    assert last_of_first > 0
    path = tmp_path / "vasprun.xml"
    path.write_text("<scstep>".join([head, *steps[last_of_first:]]))
    first, *others = read_vasprun(path)
    assert isinstance(first, EngineError) and first.reason == "scf_unconverged"
    assert first.detail == "step 1: one electronic step, which shows no change of the energy"
    assert all(isinstance(step, Label) for step in others)


def test_a_table_of_forces_that_lost_a_row_is_told(tmp_path: Path) -> None:
    text = gzip.decompress((FILES / "vasprun.h2o.md.xml.gz").read_bytes()).decode()
    path = tmp_path / "vasprun.xml"
    path.write_text(re.sub(r'(<varray name="forces" >\s*)<v>[^<]+</v>', r"\1", text, count=1))
    loaded = load_source(Source(path, "vasp/xml"))
    assert loaded.left_out == [("no_output", "step 1: 5 forces for 6 atoms")] and loaded.moments == [1, 2]


def test_no_line_too_many_or_too_few_gives_another_label(tmp_path: Path) -> None:
    """A row twice pushes the last one out; a cell that moves is never that of the step before."""
    text = unpack("OUTCAR.h2o.md", tmp_path).read_text()
    row = re.search(r"TOTAL-FORCE.*\n.*\n(.*\n)", text)
    assert row is not None
    (tmp_path / "a").write_text(text.replace(row[1], 2 * row[1], 1))
    first, *others = read_outcar(tmp_path / "a")
    assert isinstance(first, EngineError) and first.detail == "step 1: the table of forces is not whole"
    assert [type(step) for step in others] == [Label, Label]
    place = text.rindex("direct lattice vectors")
    lost = text[:place] + text[place:].replace("direct lattice vectors", "", 1)
    for isif, kinds in ((2, [Label, Label, Label]), (3, [Label, Label, EngineError])):
        (tmp_path / "b").write_text(lost.replace("ISIF   =      2", f"ISIF   =      {isif}"))
        assert [type(step) for step in read_outcar(tmp_path / "b")] == kinds
    lines = text.splitlines(keepends=True)
    title = next(index for index in range(len(lines) - 1, 0, -1) if "direct lattice vectors" in lines[index])
    (tmp_path / "c").write_text("".join([*lines[: title + 2], *lines[title + 1 :]]))  # two rows that are one
    assert [type(step) for step in read_outcar(tmp_path / "c")] == [Label, Label, EngineError]
    xml = gzip.decompress((FILES / "vasprun.h2o.md.xml.gz").read_bytes()).decode()
    path = tmp_path / "vasprun.xml"
    for name in ("stress", "basis"):
        path.write_text(
            re.sub(rf'(<calculation>.*?<varray name="{name}" >\s*)(<v>[^<]+</v>)', r"\1\2\2", xml, count=1, flags=re.S)
        )
        first, *others = read_vasprun(path)
        assert isinstance(first, EngineError) and first.detail == "step 1: its cell or stress is not whole"
        assert [type(step) for step in others] == [Label, Label]


def test_a_dispersion_that_vasp_5_names_with_the_first_energy_is_told(tmp_path: Path) -> None:
    text = unpack("OUTCAR.h2o.md", tmp_path).read_text()
    place = text.index("free  energy   TOTEN")
    path = tmp_path / "OUTCAR"
    path.write_text(text[: text.rindex("\n", 0, place)] + "\n  IVDW = 12\n" + text[text.rindex("\n", 0, place) :])
    labels = [step for step in read_outcar(path) if isinstance(step, Label)]
    assert {parse_reference(label.info["reference"]).get("IVDW") for label in labels} == {"12"}


def test_steps_of_a_learned_force_field_are_named(tmp_path: Path) -> None:
    text = gzip.decompress((FILES / "vasprun.h2o.md.xml.gz").read_bytes()).decode()
    head, *steps = text.split("<calculation>")
    without = re.sub(r"<scstep>.*?</scstep>", "", steps[1], flags=re.DOTALL)
    path = tmp_path / "vasprun.xml"
    path.write_text("<calculation>".join([head, steps[0], without, *steps[2:]]))
    _, second, _ = read_vasprun(path)
    assert isinstance(second, EngineError) and second.reason == "scf_unconverged"
    assert second.detail == "step 2: no electronic step is told, so nothing shows that it converged"
    learns = head.replace("<incar>", '<incar>\n  <i type="logical" name="ML_LMLFF"> T  </i>')
    assert learns != head
    path.write_text("<calculation>".join([learns, steps[0], without, *steps[2:]]))
    first, second, third = read_vasprun(path)
    assert isinstance(first, Label) and isinstance(third, Label)
    assert isinstance(second, EngineError) and second.reason == "no_output"
    assert second.detail == "step 2: of the machine-learned force field (ML_LMLFF), without DFT"


def test_a_run_that_broke_off_keeps_what_is_whole(tmp_path: Path) -> None:
    path = _outcar(tmp_path)
    text = path.read_text()
    path.write_text(text[: text.index("Iteration    3(   4)")])
    labels, errors = split(read_outcar(path))
    assert len(labels) == 2
    assert [(error.reason, error.detail) for error in errors] == [("no_output", "step 3 broke off before its energy")]
    path.write_text(text[: text.index("Iteration    1(   2)")])
    assert [(e.reason, e.detail) for e in read_outcar(path)] == [("no_output", "the run ended before its first energy")]
    xml = unpack("vasprun.h2o.md.xml", tmp_path)
    xml.write_text(xml.read_text()[:-20000])
    labels, errors = split(read_vasprun(xml))
    assert len(labels) == 2
    assert errors[0].reason == "no_output" and errors[0].detail.startswith("breaks off in step 3")


def test_every_cut_is_either_whole_or_told(tmp_path: Path) -> None:
    whole = unpack("OUTCAR.h2o.md", tmp_path).read_bytes()
    energies = OUTCARS["OUTCAR.h2o.md"]
    path = tmp_path / "OUTCAR"
    for length in range(20_000, len(whole), 997):
        path.write_bytes(whole[:length])
        labels, _ = split(read_outcar(path))
        assert [label.energy for label in labels] == energies[: len(labels)] or length < whole.index(
            b" eV", length - 60
        )


def test_two_runs_in_one_file_are_two_runs(tmp_path: Path) -> None:
    both = unpack("OUTCAR.h2o.md", tmp_path).read_text() + unpack("OUTCAR.ch4.unconverged", tmp_path).read_text()
    (tmp_path / "OUTCAR").write_text(both)
    labels, errors = split(read_outcar(tmp_path / "OUTCAR"))
    assert [str(label.atoms.symbols) for label in labels] == ["O2H4"] * 3 + ["H4C"]
    assert len(errors) == 2


def test_steps_of_the_learned_force_field_are_no_labels(tmp_path: Path) -> None:
    path = _outcar(tmp_path)
    text = path.read_text()
    last = text.index("----------------------------------------- Iteration    3(   1)")
    learned = text[text.rindex(" POSITION", 0, last) : text.rindex("free  energy   TOTEN", 0, last) + 60]
    learned = learned.replace("(eV/Angst)", "(eV/Angst) (ML)").replace("free  energy   TOTEN", "free  energy ML TOTEN")
    learned = learned.replace("28.43874406", "99.00000000")
    path.write_text(text[:last] + learned + text[last:])
    labels, _ = split(read_outcar(path))
    assert [label.energy for label in labels] == OUTCARS["OUTCAR.h2o.md"]
    assert labels[2].forces == pytest.approx(split(read_outcar(FILES / "OUTCAR.h2o.md.gz"))[0][2].forces)


def test_what_is_no_outcar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("hello")
    with pytest.raises(ValueError, match="no OUTCAR: it names no species"):
        list(read_outcar(tmp_path / "junk"))
    with pytest.raises(ValueError, match="no XML"):
        list(read_vasprun(tmp_path / "junk"))
    path = _outcar(tmp_path, ("   TITEL  = PAW_PBE H 15Jun2001", ""))
    with pytest.raises(ValueError, match=r"1 potentials \(O\), but `ions per type` has 2"):
        list(read_outcar(path))
