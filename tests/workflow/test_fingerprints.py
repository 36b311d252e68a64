"""For each key of the input: the first step that a change of it concerns. Nothing of resource.json concerns any."""

import copy
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_run import LJ, PARAM, make_folder, patch, read_param, run, write_param

from al_driver.engines.lammps import LammpsEngine, potentials_dir
from al_driver.errors import StateMismatch
from al_driver.explorers.base import Guard, Job, Stage, Structure
from al_driver.explorers.lammps import LammpsExplorer
from al_driver.query.params import QueryParams
from al_driver.schema.resource import Profile
from al_driver.schema.run import RunParams
from al_driver.trainers.deepmd import DeepmdTrainer
from al_driver.workflow.initial import Place
from al_driver.workflow.label import label_detail, label_inputs
from al_driver.workflow.step import Step

SI, LARGE = "explore.structures.0.", "explore.structures.1."
JOB0, JOB1 = "explore.iterations.0.0.", "explore.iterations.1.0."
NPT = {"ensemble": "npt", "pressures": [0.0]}
COMPARISON = {"score_power": 2.0, "worst_atoms": 2, "shortlist": 5}
CHANGES: list[tuple[str, Any, str | None]] = [
    ("$schema", "run.schema.json", None),
    ("seed", 8, "0/train"),
    ("type_map", ["Si", "Ge"], "data"),
    ("init_data", ["data", "data"], "data"),
    ("valid_data", ["data"], "data"),
    ("engines", {"unused": LJ}, None),
    ("train.models", 3, "0/train"),
    ("train.input", PARAM["train"]["input"] | {"loss": {}}, "0/train"),
    ("train.input", "train.json", None),
    ("train.preset", "small", "0/train"),
    ("train.steps", {"first": 11}, "0/train"),
    ("train.steps", {"next": 11}, "1/train"),
    ("train.steps", {"final": 11}, "final"),
    ("train.warm_start", {"steps": 5, "start_lr": 1e-4}, "1/train"),
    ("train.compress", True, "0/train"),
    ("explore.template", "template.in", "0/explore"),
    ("explore.allow_commands", True, "0/explore"),
    ("explore.guard", {"min_distance": 0.5}, "0/explore"),
    ("explore.guard", {"max_force": 40}, "0/explore"),
    ("explore.guard", {"max_temperature_ratio": 4}, "0/explore"),
    ("explore.guard", {"volume_ratio": [0.6, 1.7]}, "0/explore"),
    ("explore.stop_after", 4, "0/query"),
    ("explore.iterations.0", {"jobs": PARAM["explore"]["iterations"][0]}, None),
    ("explore.iterations.2", {"jobs": PARAM["explore"]["iterations"][2], "max_repeats": 2}, "final"),
    (SI + "path", "POSCAR_copy", None),
    (SI + "path", "POSCAR_other", "0/explore"),
    (LARGE + "path", "other/*", "2/explore"),
    (SI + "supercell", [2, 1, 1], "0/explore"),
    (LARGE + "supercell", [2, 1, 1], "2/explore"),
    (SI + "pbc", [True, True, False], "0/explore"),
    (SI + "max_select", 1, "0/query"),
    (LARGE + "max_select", 1, "2/query"),
    (JOB0 + "structures", 0, None),
    (JOB0 + "structures", "all", "0/explore"),
    (JOB1 + "structures", "large", "1/explore"),
    (JOB1 + "ensemble", "nve", "1/explore"),
    (JOB1 + "temperatures", [901], "1/explore"),
    (JOB1 + "n_steps", 40, "1/explore"),
    (JOB1 + "timestep", 0.002, "1/explore"),
    (JOB1 + "dump_every", 4, "1/explore"),
    (JOB1 + "tau_t", 0.2, "1/explore"),
    (JOB1 + "tau_p", 2.0, "1/explore"),
    (JOB1[:-1], PARAM["explore"]["iterations"][1][0] | NPT, "1/explore"),
    ("query.lower", 0.11, "0/query"),
    ("query.upper", 0.31, "0/query"),
    ("query.metric", "mean_force", "0/query"),
    ("query", {"metric": "relative_force", "relative_epsilon": 1.0, "lower": 0.1, "upper": 0.3}, "0/explore"),
    ("query.max_select", 3, "0/query"),
    ("query.max_labels_per_iteration", 100, "0/query"),
    ("query.max_labels", 100, None),
    ("query.converged_fraction", 0.03, None),
    ("query.choose", "largest", "0/query"),
    ("query", PARAM["query"] | {"choose": "diverse"} | COMPARISON, "0/query"),
    ("query.uncertainty", "committee", None),
    ("train.kalman_memory", 2.0, None),
    ("train.virtual_models", 8, None),
    ("train.virtual_step", 1e-4, None),
    ("label.pair_style", "lj/cut 6.0", "0/label"),
    ("label.pair_coeff", ["* * 0.4 2.4"], "0/label"),
    ("label.commands", ["pair_modify shift yes"], "0/label"),
]  # fmt: skip
TARGET = {"target_force_error", "coverage", "max_bad_fraction", "confidence", "audit", "stop_when_converged"}
"""Of a query without a window: test_target_run.py says what they concern."""
ELSEWHERE = TARGET | {
    "work_dir",
    "name",
    "pressures",
    "relative_epsilon",
    "jobs",
    "max_repeats",
    "iterations",
    "allow_mixed",
    "screen",  # stands for paths
}
"""Keys without a row: their tests stand below, or they stand inside another row's value."""
CONSTANT = {"trainer", "explorer"}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        patch(monkeypatch)
        folder = make_folder(tmp_path_factory.mktemp("fingerprints") / "run")
        shutil.copy(folder / "POSCAR", folder / "POSCAR_copy")
        (folder / "POSCAR_other").write_text((folder / "POSCAR").read_text().replace(" 5.4", " 5.5"))
        shutil.copytree(folder / "large", folder / "other")
        (folder / "other/POSCAR").write_text((folder / "POSCAR_other").read_text())
        (folder / "train.json").write_text(json.dumps(PARAM["train"]["input"]))
        (folder / "template.in").write_text("# a template\n")
        run(folder)
        yield folder


@pytest.fixture
def finished(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    patch(monkeypatch)
    return shutil.copytree(begun, tmp_path / "run")


def change(key: str, value: Any) -> dict[str, Any]:
    """Return the parameters with one key replaced; numbers in it count items of a list."""
    param = copy.deepcopy(PARAM)
    *path, last = [int(part) if part.isdecimal() else part for part in key.split(".")]
    place: Any = param
    for part in path:
        place = place[part]
    place[last] = value
    if key == "train.preset":
        del param["train"]["input"]
    return param


def first_concerned(folder: Path) -> str | None:
    """Return the first step that the input does not match, or ``final`` where only that is made anew."""
    try:
        run(folder)
    except StateMismatch as stopped:
        found = re.search(r"work/(?:iter\.000(\d)/)?(\w+) was made from another input", str(stopped))
        assert found, stopped
        return f"{found[1]}/{found[2]}" if found[1] else found[2]
    return "final" if (folder / "work/final.bak.1").exists() else None


@pytest.mark.parametrize(("key", "value", "step"), CHANGES, ids=[f"{key}={value}"[:60] for key, value, _ in CHANGES])
def test_a_key_concerns_the_steps_that_read_it(
    finished: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: Any, step: str | None
) -> None:
    monkeypatch.setattr(LammpsExplorer, "write_inputs", _write_marker)
    write_param(finished, **change(key, value))
    if key == "train.preset":
        (finished / "param.json").write_text(json.dumps(change(key, value)))
    assert first_concerned(finished) == step


def _write_marker(
    explorer: LammpsExplorer, trajectory: Any, type_map: Any, models: Any, folder: Path, **_: Any
) -> None:
    (folder / "in.lammps").write_text(f"deepmd {' '.join(models)} out_freq model_devi.out traj.lammpstrj")


def test_every_key_has_a_row() -> None:
    rows = {
        part for key, value, _ in CHANGES for part in (*key.split("."), *(value if isinstance(value, dict) else ()))
    }
    classes = (RunParams, DeepmdTrainer, LammpsExplorer, Guard, Stage, Structure, Job, QueryParams)
    keys = {field.alias or name for kind in classes for name, field in kind.model_fields.items()}
    assert keys - rows - ELSEWHERE - CONSTANT == set()


@pytest.mark.parametrize("key", COMPARISON)
def test_keys_of_a_comparison_decide_only_where_candidates_are_compared(key: str) -> None:
    plain, diverse = QueryParams(lower=0.1, upper=0.3), QueryParams(lower=0.1, upper=0.3, choose="diverse")
    other = diverse.model_copy(update={key: COMPARISON[key]})
    assert not COMPARISON.keys() & plain.selection_identity().keys()
    assert diverse.selection_identity() != other.selection_identity()


def test_a_look_ahead_reads_no_score_power() -> None:
    ahead = QueryParams(lower=0.1, upper=0.3, uncertainty="kpu", choose="lookahead")
    assert COMPARISON.keys() - ahead.selection_identity().keys() == {"score_power"}


def test_nothing_of_resource_json_concerns_any(finished: Path) -> None:
    values: dict[str, Any] = {
        "executor": "inline", "workers": 3, "group_size": 7, "retries": 5, "max_failed": 9, "max_failed_fraction": 0.5,
        "env": {"A": "b"}, "timeout_min": [10], "setup": ["true"], "modules": ["m"], "max_jobs": 3,
    }  # fmt: skip
    known = {name: value for name, value in values.items() if name in Profile.model_fields}
    assert len(known) > 8
    roles = {role: {"command": f"/another/{role}"} for role in ("train", "explore", "label")}
    (finished / "resource.json").write_text(json.dumps({"default": known, **roles}))
    assert first_concerned(finished) is None


def test_a_structure_written_before_the_others_concerns_nobody_who_names_his(finished: Path) -> None:
    explore = PARAM["explore"]
    entries = [{"path": "POSCAR_other", "name": "new"}, *explore["structures"]]
    write_param(finished, explore=explore | {"structures": entries})
    assert first_concerned(finished) is None


@pytest.mark.parametrize(("name", "step"), [("POSCAR", "0/explore"), ("large/POSCAR", "2/explore")])
def test_a_changed_structure_file_is_noticed(finished: Path, name: str, step: str) -> None:
    path = finished / name
    path.write_text(path.read_text().replace(" 5.4", " 5.5"))
    assert first_concerned(finished) == step


def test_a_renamed_file_whose_name_stands_in_the_results_is_noticed(tmp_path: Path, monkeypatch: Any) -> None:
    patch(monkeypatch)
    job = PARAM["explore"]["iterations"][0][0] | {"structures": "all"}
    explore = {"explorer": "lammps", "structures": ["POSCAR"], "iterations": [[job]]}
    folder = make_folder(tmp_path / "run", explore=explore)
    run(folder)
    (folder / "POSCAR").rename(folder / "Si.vasp")
    write_param(folder, explore=explore | {"structures": ["Si.vasp"]})
    with pytest.raises(StateMismatch, match=r"structures\.Si: nothing"):
        run(folder)


def test_a_moved_folder_concerns_nobody(finished: Path) -> None:
    moved = finished.rename(finished.with_name("elsewhere"))
    assert read_param(moved).work_dir == moved / "work"
    assert first_concerned(moved) is None


@pytest.mark.needs("lmp")
def test_naming_the_potential_that_is_taken_anyway_concerns_nobody(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"engine": "lammps", "pair_style": "sw", "pair_coeff": ["* * Si.sw Si"]}
    folder = potentials_dir()
    assert folder is not None
    engines = [LammpsEngine(**keys), LammpsEngine(**keys, files=(folder / "Si.sw",))]
    steps = [Step("0/label", tmp_path, label_inputs(engine, ["Si"]), (), label_detail(engine)) for engine in engines]
    assert steps[0].detail == steps[1].detail
    assert steps[0].fingerprint == steps[1].fingerprint


def test_mixed_data_are_not_ready(tmp_path: Path) -> None:
    assert Place(tmp_path, None, tmp_path / "target").is_ready
    (tmp_path / "8/set.000").mkdir(parents=True)
    (tmp_path / "8/set.000/real_atom_types.npy").touch()
    for format in (None, "deepmd/npy"):
        place = Place(tmp_path, format, tmp_path / "target")
        assert not place.is_ready
        assert place.folder == tmp_path / "target"
