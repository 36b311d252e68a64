"""The loop as a user sees it: folders, files, exit codes, and a second call that does nothing again."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_run import call_al, read_datasets

import al_driver
from al_driver.data.frames import read_frames
from al_driver.files import read_json

pytestmark = pytest.mark.needs("dp", "lmp")


@pytest.fixture(scope="module")
def finished(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run, on which `al` is called again."""
    return Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("finished") / "run"))


def test_init_bulk_leaves_what_the_contract_names(silicon: Path) -> None:
    init = silicon / "init"
    for stage in ("supercell", "scale", "perturb", "label"):
        assert (init / stage / "step.json").exists()
    assert len(list((init / "structures").glob("[0-9][0-9][0-9].vasp"))) == 6
    assert np.load(init / "dataset/Si8/set.000/coord.npy").shape == (4, 24)
    assert np.load(init / "valid/Si8/set.000/coord.npy").shape == (2, 24)
    assert (init / "rejected.jsonl").read_text() == ""


def test_run_leaves_what_the_contract_names(finished: Path) -> None:
    work = finished / "work"
    for iteration in (0, 1):
        folder = work / f"iter.000{iteration}"
        for step in ("train", "explore", "query", "label"):
            assert (folder / step / "step.json").exists()
        assert (folder / "train/model.001/frozen_model.pth").exists()
        assert len(list((folder / "explore/task.000000").iterdir())) <= 5
        assert len(list((folder / "label/task.000000").iterdir())) <= 4
    assert (work / "final/model.000/frozen_model.pth").exists()
    assert (work / "al.log").exists()
    assert not (work / "al.lock").exists()


def test_counts_of_query_and_label_agree(finished: Path) -> None:
    for folder in (finished / "work").glob("iter.*"):
        summary = read_json(folder / "query/summary.json")
        assert summary["accurate"] + summary["candidate"] + summary["failed"] == summary["frames"]
        rows = list(csv.DictReader((folder / "query/frames.csv").open()))
        assert len(rows) == summary["frames"] == 10
        assert "0" not in {row["step"] for row in rows}
        assert sum(int(row["selected"]) for row in rows) == summary["selected"]
        selected = read_frames(folder / "query/selected.extxyz")
        labelled = read_frames(folder / "label/labelled.extxyz")
        assert len(selected) == len(labelled) == summary["selected"] > 0
        for sent, got in zip(selected, labelled, strict=True):
            assert np.allclose(sent.positions, got.positions, atol=1e-12)
        coordinates = np.load(folder / "label/dataset/Si8/set.000/coord.npy")
        assert np.array_equal(coordinates, [frame.positions.ravel() for frame in labelled])


def test_the_chosen_frames_differ_most_from_what_is_trained_on_and_from_each_other(finished: Path) -> None:
    for folder in (finished / "work").glob("iter.*/query"):
        with np.load(folder / "features/features.npz", allow_pickle=False) as arrays:
            found = dict(arrays)
        n_found = len(found["step"])
        assert 4 < n_found <= 8  # of ten candidates: the best of no more stretches than twice max_select
        assert found["descriptors"].shape[:2] == (n_found, 3)
        assert (found["known"] > 0).all()
        rows = {int(row["step"]): float(row["score"]) for row in csv.DictReader((folder / "frames.csv").open())}
        assert set(found["step"]) <= set(rows)
        best = max(range(n_found), key=lambda i: rows[found["step"][i]] * found["known"][i].mean())
        chosen = {atoms.info["step"] for atoms in read_frames(folder / "selected.extxyz")}
        assert len(chosen) == 4
        assert found["step"][best] in chosen <= set(found["step"])


def test_the_same_command_again_changes_nothing(finished: Path) -> None:
    def stamps() -> dict[str, int]:
        names = ("**/step.json", "**/*.npy", "**/*.pth")
        return {str(p): p.stat().st_mtime_ns for name in names for p in (finished / "work").glob(name)}

    before = stamps()
    assert call_al(finished, "run", "param.json", "resource.json").returncode == 0
    assert stamps() == before


def test_status_says_where_the_run_stands(finished: Path) -> None:
    state = al_driver.status(finished / "work")
    assert state["state"] == "done"
    assert state["verdict"]["state"] == "not_converged"
    assert "frames unsure" in state["verdict"]["reason"]
    assert len(state["iterations"]) == 2
    first = state["iterations"][0]
    assert first["train"]["on"] == "valid"
    assert len(first["train"]["members"]) == 2
    assert first["label"] == first["label"] | {"labelled": first["query"]["selected"], "rejected": 0}
    shown = json.loads(call_al(finished, "status", "--json").stdout)
    assert shown["iterations"] == json.loads(json.dumps(state["iterations"]))
    assert "force RMSE" in call_al(finished, "status", "work").stdout


def test_a_moved_run_goes_on(finished: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(finished, moved)
    shutil.rmtree(moved / "work/final")
    shutil.rmtree(moved / "work/iter.0001/label")
    again = call_al(moved, "run", "param.json", "resource.json")
    assert again.returncode == 0, again.stderr
    assert read_datasets(moved / "work") == read_datasets(finished / "work")


def test_another_queue_redoes_nothing_and_another_input_stops(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(finished, folder)
    resource = json.loads((folder / "resource.json").read_text())
    resource["default"] |= {"executor": "inline", "workers": 1, "group_size": 1}
    (folder / "resource.json").write_text(json.dumps(resource))
    before = len(list((folder / "work").glob("**/jobs/*/group.json")))
    assert call_al(folder, "run", "param.json", "resource.json").returncode == 0
    assert len(list((folder / "work").glob("**/jobs/*/group.json"))) == before

    param = json.loads((folder / "param.json").read_text())
    param["explore"]["iterations"][1][0]["temperatures"] = [175]
    (folder / "param.json").write_text(json.dumps(param))
    stopped = call_al(folder, "run", "param.json", "resource.json")
    assert stopped.returncode == 4
    assert "temperatures[0]: 150" in stopped.stderr
    assert "iter.0001/explore" in stopped.stderr
    assert "Traceback" not in stopped.stderr


@pytest.mark.long
def test_accept_from_and_redo_find_labels_again(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "redo"
    shutil.copytree(finished, folder)
    done = call_al(folder, "run", "param.json", "resource.json", "--redo", "1/train")
    assert done.returncode == 0, done.stderr
    assert read_datasets(folder / "work") == read_datasets(finished / "work")
    assert (folder / "work/iter.0001.bak.1/label/step.json").exists()
    label = read_json(folder / "work/iter.0001/label/step.json")["result"]
    assert label["reused"] == label["labelled"] > 0
    assert not list((folder / "work/iter.0001/label").glob("jobs/*/group.json"))

    param = json.loads((folder / "param.json").read_text())
    param["train"]["steps"] = {"first": 31}
    (folder / "param.json").write_text(json.dumps(param))
    assert call_al(folder, "run", "param.json", "resource.json").returncode == 4
    kept = call_al(folder, "run", "param.json", "resource.json", "--accept-from", "2")
    assert kept.returncode == 0, kept.stderr
    assert call_al(folder, "run", "param.json", "resource.json").returncode == 0


def test_two_drivers_never_share_a_folder(make_run: Callable[..., Path]) -> None:
    from al_driver.workflow.lock import FolderLock

    folder = make_run()
    (folder / "work").mkdir()
    with FolderLock(folder / "work/al.lock"):
        refused = call_al(folder, "run", "param.json", "resource.json")
    assert refused.returncode == 5
    assert "another driver holds" in refused.stderr


def test_a_program_that_is_missing_is_an_error_before_anything_runs(make_run: Callable[..., Path]) -> None:
    folder = make_run(resource={"label": {"command": "no_such_dft"}})
    refused = call_al(folder, "run", "param.json", "resource.json")
    assert refused.returncode == 2
    assert "no_such_dft" in refused.stderr
    assert not (folder / "work").exists()
