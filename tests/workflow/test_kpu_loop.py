"""The loop with one model and its virtual committee."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_run import PARAM, make_folder, patch, read_result, run, write_param
from killing import end_driver, start_driver, wait_until
from small_run import call_al, read_datasets

from al_driver.errors import StateMismatch
from al_driver.files import read_json

TRAIN = {key: value for key, value in PARAM["train"].items() if key != "models"} | {"virtual_models": 3}
KPU = {"train": TRAIN, "query": PARAM["query"] | {"uncertainty": "kpu"}}


def test_the_model_drives_and_those_drawn_from_its_covariance_observe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(monkeypatch)
    folder = make_folder(tmp_path / "run", **KPU)
    run(folder)
    assert [path.name for path in sorted((folder / "work/iter.0000/train").glob("model.*"))] == ["model.000"]
    script = (folder / "work/iter.0000/explore/task.000000/in.lammps").read_text()
    models = script.split("pair_style")[1].split("out_freq")[0].split()[1:]
    assert [Path(model).name for model in models] == ["frozen_model.pth", *(f"virtual.00{k}.pth" for k in range(3))]
    assert "out_file model_devi.out" in script
    assert {md["score_factor"] for md in read_json(folder / "work/iter.0000/explore/tasks.json")} == {1000.0}
    job = read_json(folder / "work/iter.0000/query/scores/query.json")
    assert {task["score_factor"] for task in job["tasks"]} == {1000.0}


def test_an_interruption_and_a_redo_end_where_an_undisturbed_run_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = patch(monkeypatch)
    undisturbed = make_folder(tmp_path / "undisturbed", **KPU)
    run(undisturbed)
    folder = make_folder(tmp_path / "run", **KPU)
    for name in ("0/explore/task.000001", "1/query/scores", "final/model.000"):
        tasks.stop_before = name
        with pytest.raises(KeyboardInterrupt):
            run(folder)
    tasks.stop_before = None
    run(folder)
    assert read_result(folder / "work") == read_result(undisturbed / "work")
    run(folder, redo="1/train")
    assert read_result(folder / "work") == read_result(undisturbed / "work")


@pytest.mark.parametrize("change", [{"virtual_models": 4}, {"virtual_step": 1e-4}, {"kalman_memory": 0.5}])
def test_keys_of_the_filter_concern_the_training(
    change: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(monkeypatch)
    folder = make_folder(tmp_path / "run", **KPU)
    run(folder)
    write_param(folder, **KPU | {"train": TRAIN | change})
    with pytest.raises(StateMismatch, match=rf"iter\.0000/train was made from another input.*{next(iter(change))}"):
        run(folder)


def test_a_committee_and_a_filter_are_two_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch)
    folder = make_folder(tmp_path / "run")
    run(folder)
    write_param(folder, **KPU)
    with pytest.raises(StateMismatch, match=r"iter\.0000/train was made from another input"):
        run(folder)


@pytest.mark.long
@pytest.mark.needs("dp", "lmp")
def test_a_killed_run_ends_with_the_same_dataset(make_run: Callable[..., Path], tmp_path: Path) -> None:
    window = {"lower": 1e-6, "upper": 1e6, "choose": "lookahead", "shortlist": 2}
    changes = {"train": {"models": 1, "virtual_models": 1, "steps": {"first": 6, "next": 3, "final": 6}},
               "query": {"uncertainty": "kpu", **window}}  # fmt: skip
    undisturbed = make_run("undisturbed", **changes)
    done = call_al(undisturbed, "run", "param.json", "resource.json")
    assert done.returncode == 0, done.stderr
    shown = call_al(undisturbed, "status", "work").stdout
    assert "force RMSE" in shown

    folder = Path(shutil.copytree(undisturbed, tmp_path / "killed"))  # from its first training on
    for done_later in (*(folder / "work/iter.0000").glob("[!t]*"), folder / "work/iter.0001", folder / "work/final"):
        shutil.rmtree(done_later)
    for name in ("iter.0000/explore/step.json", "iter.0001/train"):
        driver = start_driver(folder)
        wait_until((folder / "work" / name).exists, driver)
        end_driver(driver, folder, tasks_too=True)
    assert start_driver(folder).wait() == 0, (folder / "driver.out").read_text()[-2000:]
    assert read_datasets(undisturbed / "work") == read_datasets(folder / "work")
    assert len(read_datasets(folder / "work")) > 0
