"""Outputs that tell of two references are not converted without a word, and not trained on together."""

import gzip
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from fake_run import make_folder, patch, read_param

import al_driver
from al_driver.data.formats.load import Source, load_source
from al_driver.data.frames import Label, labelled_frame, write_frames
from al_driver.data.reference import parse_reference, references_in
from al_driver.engines.cp2k import Cp2k
from al_driver.errors import ConfigError
from al_driver.schema.run import RunParams
from al_driver.workflow import verbs
from al_driver.workflow.check_data import check_data
from al_driver.workflow.references import check_told

sys.path.append(str(Path(__file__).parents[1] / "standins"))
from vasp_case import make_keys, write_potcar

FILES = Path(__file__).parents[1] / "data/files"
OTHER_CUTOFF = ("ENCUT  =  800.0", "ENCUT  =  520.0")
WATER = {"type_map": ["H", "O"], "label": {"engine": "ase", "calculator": "ase.calculators.emt.EMT"}}


def write_output(folder: Path, *changes: tuple[str, str], name: str = "OUTCAR") -> Path:
    """Write an output of water, with other words in it."""
    source = {"OUTCAR": "OUTCAR.h2o.md", "vasprun.xml": "vasprun.h2o.md.xml"}[name]
    text = gzip.decompress((FILES / f"{source}.gz").read_bytes()).decode()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def make_run(folder: Path, *data: Path | str, **changes: Any) -> RunParams:
    return read_param(make_folder(folder, init_data=[str(path) for path in data], **WATER | changes))


def errors_of(params: RunParams) -> list[str]:
    return [str(each) for each in check_data(params, None, read=True) if each.severity == "error"]


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("OUTCAR", *OTHER_CUTOFF, "ENCUT is 800 in {one}, 520 in {other}"),
        ("OUTCAR", "PAW_PBE O 08Apr2002", "PAW_PBE O_s 07Sep2000", "TITEL O is PAW_PBE O 08Apr2002 in {one}, PAW_PBE"),
        ("OUTCAR", "GGA     =    --", "GGA     =    RP", "GGA is PE in {one}, RP in {other}"),
        ("OUTCAR", "SIGMA  =   0.05", "SIGMA  =   0.20", "SIGMA is 0.05 in {one}, 0.2 in {other}"),
        ("OUTCAR", "LHFCALC =     F", "LHFCALC =     T", "LHFCALC is F in {one}, T in {other}"),
        ("vasprun.xml", 'name="ENMAX">    800.0', 'name="ENMAX">    520.0', "ENCUT is 800 in {one}, 520 in {other}"),
        ("vasprun.xml", "PAW_PBE O 08Apr2002  ", "PAW_PBE O_h 21Feb1", "TITEL O is PAW_PBE O 08Apr2002 in {one}"),
    ],
)
def test_two_outputs(tmp_path: Path, name: str, old: str, new: str, words: str) -> None:
    one, other = write_output(tmp_path / "one"), write_output(tmp_path / "other", (old, new), name=name)
    expected = words.format(one=one, other=other)
    result = al_driver.convert([one, other], tmp_path / "out")
    (hint,) = result.hints
    assert hint.startswith("of different references") and expected in hint
    for case, data in {"both": [one, other], "set": [tmp_path / "out"]}.items():
        (error,) = errors_of(make_run(tmp_path / case, *data))
        assert error.startswith("init_data: labels of different references: ") and expected in error
        assert not errors_of(make_run(tmp_path / f"{case}.mixed", *data, allow_mixed=True))
    assert not errors_of(make_run(tmp_path / "alone", other))


def test_two_programs_have_no_common_zero(tmp_path: Path) -> None:
    """Neither together, nor one of them with the run's own; and nothing more is compared."""
    water, log = write_output(tmp_path / "one"), FILES / "cp2k_md/out.log.gz"
    (hint,) = al_driver.convert([water, log], tmp_path / "out").hints
    words = f"program is vasp in {water}, cp2k in {log}"
    assert hint.endswith(words)
    elements = {"type_map": ["H", "O", "Si"]}
    (error,) = errors_of(make_run(tmp_path / "both", water, log, **elements))
    assert words in error and "calculate its structures anew" in error
    lammps = {"engine": "lammps", "pair_style": "lj/cut 5.0", "pair_coeff": ["* * 0.4 2.3"], "elements": ["H", "O"]}
    (error,) = errors_of(make_run(tmp_path / "label", water, label=lammps))
    assert f"program is lammps in `label`, vasp in {water}" in error


def test_a_missing_file_of_the_reference_hides_nothing(tmp_path: Path) -> None:
    keys = {"engine": "cp2k", "input": str(tmp_path / "none.inp")}
    params = make_run(tmp_path / "run", write_output(tmp_path / "one"), label=keys, valid_data=[str(tmp_path / "none")])
    (error,) = errors_of(params)
    assert "valid_data[0]" in error and "does not exist" in error


def test_what_the_outcar_shows_unconverged_does_not_come_in_by_the_vasprun(tmp_path: Path) -> None:
    text = gzip.decompress((FILES / "OUTCAR.h2o.md.gz").read_bytes()).decode()
    lines = text.splitlines(keepends=True)
    step = [n for n, line in enumerate(lines) if line.startswith(" total energy-change (2. order)")]
    ends = [n for n, line in enumerate(lines) if "aborting loop because EDIFF is reached" in line]
    last = max(n for n in step if n < ends[1])
    lines[last] = re.sub(r"\([^)]*\)\s*$", "(-0.1000000E-01)\n", lines[last])
    (tmp_path / "run").mkdir()
    (tmp_path / "run/OUTCAR").write_text("".join(lines))
    write_output(tmp_path / "run", name="vasprun.xml")
    result = al_driver.convert(tmp_path / "run", tmp_path / "out")
    assert [loaded.source.path.name for loaded in result.files] == ["OUTCAR"]
    assert [reason for reason, _ in result.files[0].left_out] == ["scf_unconverged"]


def test_both_files_of_one_run_and_other_elements_agree(tmp_path: Path) -> None:
    one, other = write_output(tmp_path / "one"), write_output(tmp_path / "other", name="vasprun.xml")
    assert not al_driver.convert([one, other], tmp_path / "out").hints


def test_a_run_stops_before_it_trains_on_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run converts its data itself; `al check` of it was not asked."""
    tasks = patch(monkeypatch)
    one, other = write_output(tmp_path / "one"), write_output(tmp_path / "other", OTHER_CUTOFF)
    make_run(tmp_path / "run", one, other)
    with pytest.raises(ConfigError, match=r"ENCUT is 800 in .*one/OUTCAR, 520 in .*other/OUTCAR"):
        verbs.run(tmp_path / "run/param.json", tmp_path / "run/resource.json")
    assert not tasks.run


def test_frames_of_one_file_with_settings_of_two(tmp_path: Path) -> None:
    atoms = bulk("Si")
    label = Label(atoms, -1.0, np.zeros((2, 3)), np.eye(3))
    hashes = ["a" * 16, "b" * 16]
    write_frames(tmp_path / "all.extxyz", [labelled_frame(label, {"settings": each}) for each in hashes])
    words = f"the hash of the settings is {'a' * 16} in frame 1 of {tmp_path}/all.extxyz, {'b' * 16} in frame 2 of"
    (hint,) = al_driver.convert(tmp_path / "all.extxyz", tmp_path / "out").hints
    assert words in hint
    params = read_param(make_folder(tmp_path / "run", init_data=[str(tmp_path / "all.extxyz")]))
    (warning,) = check_data(params, None, read=True)
    assert warning.severity == "warning" and f", {hashes[0]} in frame 1 of {tmp_path}/all.extxyz" in warning.message
    write_frames(tmp_path / "one.extxyz", [labelled_frame(label, {"settings": hashes[0]})])
    params = read_param(make_folder(tmp_path / "other", init_data=[str(tmp_path / "one.extxyz")]))
    (warning,) = check_data(params, None, read=True)
    assert warning.severity == "warning" and f"in `label`, {hashes[0]} in {tmp_path}/one.extxyz" in warning.message


def test_an_output_and_the_runs_own_label(tmp_path: Path) -> None:
    output = write_output(tmp_path / "one")
    incar = "ENCUT = 800\nEDIFF = 1E-6\nISMEAR = 0\nSIGMA = 0.05\n"

    def label(name: str, text: str, **titles: str) -> dict[str, Any]:
        (tmp_path / name).mkdir()
        keys = make_keys(tmp_path / name, ["H", "O"], text)
        for symbol, title in ({"H": "PAW_PBE H 15Jun2001", "O": "PAW_PBE O 08Apr2002"} | titles).items():
            write_potcar(tmp_path / name / f"POTCAR.{symbol}", symbol, title=title)
        return keys

    assert not errors_of(make_run(tmp_path / "same", output, label=label("1", incar)))
    (error,) = errors_of(make_run(tmp_path / "cutoff", output, label=label("2", incar.replace("800", "900"))))
    assert f"ENCUT is 900 in `label`, 800 in {output}" in error
    (error,) = errors_of(make_run(tmp_path / "titel", output, label=label("3", incar, O="PAW_PBE O_s 07Sep2000")))
    assert "TITEL O is PAW_PBE O_s 07Sep2000 in `label`" in error
    write_frames(tmp_path / "bare.extxyz", [labelled_frame(Label(bulk("O", "sc", a=2.0), -1.0, np.zeros((1, 3))))])
    keys = label("4", incar.replace("800", "900"))
    params = make_run(tmp_path / "valid", tmp_path / "bare.extxyz", label=keys, valid_data=[str(output)])
    found = [each for each in check_data(params, None, read=True) if "ENCUT" in each.message]
    assert [(each.key, each.severity) for each in found] == [("valid_data", "warning")]


def test_a_line_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = al_driver.convert(write_output(tmp_path), tmp_path / "all.extxyz")
    told = parse_reference(result.files[0].blocks[0].infos[0]["reference"])
    assert told["TITEL O"] == "PAW_PBE O 08Apr2002" and told["ENCUT"] == "800" and told["ISPIN"] == "1"
    again = al_driver.convert(tmp_path / "all.extxyz", tmp_path / "again")
    assert parse_reference(again.files[0].blocks[0].infos[0]["reference"]) == told


def test_logs_of_cp2k_and_its_own_input(tmp_path: Path) -> None:
    logs = [FILES / name / "out.log.gz" for name in ("cp2k_md", "cp2k_strain_0")]
    (hint,) = al_driver.convert(logs, tmp_path / "out").hints
    assert f"CUTOFF is 60 in {logs[0]}, 150 in {logs[1]}" in hint
    text = (logs[1].parent / "in.inp").read_text()
    (tmp_path / "cp2k.inp").write_text(
        text.replace("CUTOFF 300\n", "CUTOFF 3.0E+2\n").replace("GTH-PADE-q4", "gth-pade")
    )
    engine = Cp2k.model_validate({"engine": "cp2k", "input": str(tmp_path / "cp2k.inp")})
    kinds = {"basis Si": "SZV-MOLOPT-SR-GTH", "potential Si": "GTH-PADE", "U Si": "0"}
    kinds |= {"exact exchange": "0", "dispersion": "none", "UKS": "F"}
    assert engine.told_reference() == {"CUTOFF": "150", "functional": "PADE", **kinds}
    told = references_in(info for block in load_source(Source(logs[1], "cp2k/output")).blocks for info in block.infos)
    assert not list(check_told(told, engine))
    other = references_in(info for block in load_source(Source(logs[0], "cp2k/output")).blocks for info in block.infos)
    (error,) = check_told(other, engine)
    assert "CUTOFF is 150 in `label`, 60 in" in error.message
    keys = {"engine": "cp2k", "input": str(tmp_path / "cp2k.inp"), "basis": {"Si": "DZVP-GTH"}}
    (error,) = check_told(told, Cp2k.model_validate(keys))
    assert "basis Si is DZVP-GTH in `label`, SZV-MOLOPT-SR-GTH in" in error.message
    (tmp_path / "cp2k.inp").write_text(text.replace("&XC_FUNCTIONAL PADE", "&XC_FUNCTIONAL PBE"))
    (error,) = check_told(told, engine)
    assert "functional is PBE in `label`, PADE in" in error.message
