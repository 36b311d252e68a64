"""First data: the split, what a second start leaves alone, and what is refused."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from fake_run import LJ, Tasks, patch, read_result

from al_driver.data.dataset import find_systems, read_system
from al_driver.data.frames import read_frames
from al_driver.errors import ConfigError, StateMismatch, TasksFailed
from al_driver.files import read_json
from al_driver.jobs.attempts import Failure
from al_driver.jobs.progress import BatchResult
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.schema.load import load_params
from al_driver.workflow import verbs
from al_driver.workflow.aside import set_aside
from al_driver.workflow.context import Context
from al_driver.workflow.foretell import expected_split
from al_driver.workflow.init_bulk import _drop
from al_driver.workflow.report import Report
from al_driver.workflow.split import Split, split_frames

PARAM: dict[str, Any] = {
    "seed": 7,
    "type_map": ["Si"],
    "label": LJ,
    "structures": [{"path": "POSCAR", "name": "si", "perturb": {"copies": 10, "atom_distance": 0.05}}],
    "valid_fraction": 0.2,
}


def describe(entry: int, file: int, moment: int) -> dict[str, int]:
    return {"entry": entry, "file": file, "moment": moment}


def copies(n_frames: int) -> list[dict[str, int]]:
    return [describe(0, 0, 0) for _ in range(n_frames)]


def trajectory(n_frames: int, copies: int = 1, file: int = 0) -> list[dict[str, int]]:
    return [describe(1, file, moment) for moment in range(n_frames) for _ in range(copies)]


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Tasks:
    monkeypatch.setattr(verbs, "check_init_bulk", lambda *_: Report())
    return patch(monkeypatch)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    def make_folder(**changes: Any) -> Path:
        tmp_path.joinpath("resource.json").write_text("{}")
        bulk("Si", cubic=True, a=5.43).write(tmp_path / "POSCAR", format="vasp")
        (tmp_path / "param.json").write_text(json.dumps(PARAM | changes))
        return tmp_path

    yield make_folder


def init(folder: Path, **request: Any) -> Path:
    return verbs.init_bulk(folder / "param.json", folder / "resource.json", **request)


def n_frames(folder: Path) -> int:
    return sum(1 for system in find_systems(folder) for _ in read_system(system)) if folder.exists() else 0


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.34, 0.9])
def test_copies_are_drawn_one_by_one_and_by_the_seed(fraction: float) -> None:
    split = split_frames(copies(50), fraction, seed=1)
    assert len(split.valid) == round(50 * fraction)
    assert sorted(split.train + split.valid) == list(range(50))
    assert split.left_out == []
    assert split_frames(copies(50), fraction, seed=1) == split
    if fraction:
        assert split_frames(copies(50), fraction, seed=2) != split


@pytest.mark.parametrize("n_moments", [10, 40])
@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_neighbours_in_time_are_never_on_both_sides(n_moments: int, copies: int, fraction: float) -> None:
    frames = trajectory(n_moments, copies)
    split = split_frames(frames, fraction, seed=1)
    moments = [{frames[i]["moment"] for i in side} for side in (split.train, split.valid, split.left_out)]
    assert moments[1]
    assert moments[1] == set(range(min(moments[1]), n_moments))
    assert max(moments[0]) + 1 < min(moments[1])
    assert len(moments[2]) == 1
    assert sorted(split.train + split.valid + split.left_out) == list(range(len(frames)))
    assert round(fraction * len(frames)) <= len(split.valid) < round(fraction * len(frames)) + copies


def test_many_short_trajectories_give_their_share_together() -> None:
    frames = [info for file in range(30) for info in trajectory(3, file=file)]
    split = split_frames(frames, 0.1, seed=1)
    assert len(split.valid) == 9
    assert len(split.left_out) == 9


def test_copies_and_trajectories_are_split_each_in_its_own_way() -> None:
    frames = trajectory(20) + copies(20)
    split = split_frames(frames, 0.1, seed=1)
    assert sorted(split.valid)[:2] == [18, 19]
    assert split.left_out == [17]
    assert len([index for index in split.valid if index >= 20]) == 2


def dynamics(n_frames: int, entry: int = 0) -> list[dict[str, int]]:
    return [describe(entry, 0, 0) | {"aimd": 3, "aimd_step": 2 * index} for index in range(n_frames)]


def test_an_aimd_is_cut_and_its_start_goes_with_it() -> None:
    infos = dynamics(20) + copies(20) + dynamics(20, entry=1)
    split = split_frames(infos, 0.1, seed=1)
    assert [index for index in split.valid if not 20 <= index < 40] == [18, 19, 58, 59]
    assert split.left_out == [17, 57]
    assert {0, 40} <= set(split.train)


def test_the_aimd_of_neighbouring_moments_of_a_file_are_not_torn_apart() -> None:
    infos = [describe(0, 0, moment) | {"aimd": moment, "aimd_step": step} for moment in range(10) for step in range(5)]
    split = split_frames(infos, 0.1, seed=1)
    assert split.valid == list(range(45, 50))
    assert split.left_out == list(range(40, 45))


def test_what_alone_holds_an_element_is_trained_on() -> None:
    frames = copies(3) + trajectory(3)
    elements = [{"Ge"}, {"C", "H"}, {"C", "H"}, *[{"H", "O"}] * 3]
    for seed in range(8):
        split = split_frames(frames, 0.5, seed, elements)
        assert split.valid in ([1, 5], [2, 5]) and split.left_out == [4] and {0, 3} < set(split.train)
    assert any(0 in split_frames(frames, 0.5, seed).valid for seed in range(8))
    with_enough = [{"Ge", "C", "H", "O"}] * 6
    assert split_frames(frames, 0.5, 1, with_enough) == split_frames(frames, 0.5, 1)
    assert split_frames(trajectory(2), 0.5, 1, [{"Si"}] * 2) == Split(train=[0, 1])


@pytest.mark.parametrize("frames", [copies(5), trajectory(5), trajectory(2)])
def test_nothing_left_to_train_on_is_refused(frames: Sequence[dict[str, int]]) -> None:
    with pytest.raises(ConfigError, match=rf"valid_fraction: 0.95 of {len(frames)} labelled frames leaves none"):
        split_frames(frames, 0.95, seed=1)


def test_another_fraction_stops_and_redo_makes_the_split_anew(make: Callable[..., Path], tasks: Tasks) -> None:
    folder = make()
    assert init(folder) == folder / "init/dataset"
    assert (n_frames(folder / "init/dataset"), n_frames(folder / "init/valid")) == (8, 2)
    make(valid_fraction=0.5)
    with pytest.raises(StateMismatch, match=r"valid_fraction: 0\.2 → 0\.5\n.*--redo split"):
        init(folder)
    tasks.run.clear()
    init(folder, redo="split")
    assert tasks.run == []
    assert (n_frames(folder / "init/dataset"), n_frames(folder / "init/valid")) == (5, 5)
    assert n_frames(folder / "init/dataset.bak.1") == 8
    make(valid_fraction=0)
    init(folder, redo="split")
    assert not (folder / "init/valid").exists()
    assert (folder / "init/structures").is_dir()
    assert not list((folder / "init").glob("structures.bak.*"))


def test_a_fraction_too_large_is_refused_and_can_be_mended(make: Callable[..., Path], tasks: Tasks) -> None:
    folder = make(valid_fraction=0.99)
    with pytest.raises(ConfigError, match="leaves none to train on"):
        init(folder)
    with pytest.raises(ConfigError, match=r"^valid_fraction: 0\.99 of 10 labelled frames"):
        expected_split(load_params(folder / "param.json", InitBulkParams))
    assert not (folder / "init/dataset").exists()
    make(valid_fraction=0.1)
    expected_split(load_params(folder / "param.json", InitBulkParams))
    init(folder)
    assert n_frames(folder / "init/dataset") == 9


def test_a_second_start_writes_nothing(make: Callable[..., Path], tasks: Tasks) -> None:
    folder = make()
    init(folder)
    before = {
        path: path.stat().st_mtime_ns for path in (folder / "init").rglob("*") if path.suffix in {".npy", ".vasp"}
    }
    assert len(before) > 10
    init(folder)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("lost", ["dataset", "valid", "structures", "rejected.jsonl", "label/dataset"])
def test_what_was_lost_is_made_again(make: Callable[..., Path], tasks: Tasks, lost: str) -> None:
    folder = make()
    init(folder)
    expected = read_result(folder / "init")
    path = folder / "init" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    tasks.run.clear()
    init(folder)
    assert read_result(folder / "init") == expected
    assert tasks.run == []


@pytest.mark.parametrize("nth", range(8))
def test_killed_at_any_rename_it_ends_as_a_fresh_one_does(
    make: Callable[..., Path], tasks: Tasks, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    folder = make()
    init(folder)
    expected = read_result(folder / "init")
    calls = 0

    def killed(path: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == nth + 1:
            raise KeyboardInterrupt
        return set_aside(path)

    with monkeypatch.context() as during:
        during.setattr("al_driver.workflow.init_bulk.set_aside", killed)
        with pytest.raises(KeyboardInterrupt):
            init(folder, redo="scale")
    init(folder, redo="scale")
    assert read_result(folder / "init") == expected
    assert len(list((folder / "init").glob("*.bak.*"))) == 8


def test_frames_of_a_file_are_told_apart_through_every_stage(make: Callable[..., Path], tasks: Tasks) -> None:
    folder = make(structures=[{"path": "md.extxyz", "name": "md", "scale": [1.0, 1.01]}, "POSCAR"])
    rng = np.random.default_rng(1)
    frames = [bulk("Si", cubic=True, a=5.43) for _ in range(6)]
    for atoms in frames:
        atoms.rattle(0.02, rng=rng)
    ase.io.write(folder / "md.extxyz", frames)
    init(folder)
    labelled = read_frames(folder / "init/label/labelled.extxyz")
    assert [atoms.info["moment"] for atoms in labelled] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 0]
    assert [atoms.info["entry"] for atoms in labelled] == [0] * 12 + [1]
    counts = read_json(folder / "init/split/step.json")["result"]
    assert counts == {"dataset": 7, "valid": 4, "left_out": 2}


def test_every_label_rejected_is_an_error(
    make: Callable[..., Path], tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(context: Context, step: Any, role: str, tasks: Sequence[Any], **_: Any) -> BatchResult:
        failure = Failure("scf_unconverged", "after 60 steps", step.folder / "task.000000.try-1")
        return BatchResult((), {task.name: failure for task in tasks})

    monkeypatch.setattr(Context, "run_tasks", fail)
    folder = make()
    with pytest.raises(TasksFailed, match=r"every label was rejected; the reasons are in .*rejected\.jsonl"):
        init(folder)
    assert not (folder / "init/dataset").exists()


def test_a_molecule_without_a_cell_is_written_as_extxyz(make: Callable[..., Path], tasks: Tasks) -> None:
    folder = make(type_map=["O", "H"], label=False, structures=["water.xyz"])
    molecule("H2O").write(folder / "water.xyz")
    init(folder)
    (written,) = (folder / "init/structures").iterdir()
    assert written.name == "000.extxyz"
    assert len(read_frames(written)[0]) == 3


@pytest.mark.parametrize("stage", ["spilt", "label/1", ""])
def test_a_stage_that_is_not_there_is_named(make: Callable[..., Path], tasks: Tasks, stage: str) -> None:
    with pytest.raises(
        ConfigError, match=f"--redo {stage}: stages are relax, supercell, scale, perturb, aimd, label, split"
    ):
        init(make(), redo=stage)
    assert not (make() / "init").exists()


def test_two_entries_may_start_from_one_structure(make: Callable[..., Path], tasks: Tasks) -> None:
    entries = [
        {"path": "POSCAR", "name": name, "scale": scale} for name, scale in (("a", [0.9, 1.0]), ("b", [1.0, 1.1]))
    ]
    folder = make(label=False, structures=entries)
    made = init(folder)
    assert len(read_frames(made.parent / "aimd/structures.extxyz")) == 3  # the one at 1.0 is there once
    rejected = [json.loads(line) for line in (made.parent / "aimd/rejected.jsonl").read_text().splitlines()]
    assert [(row["reason"], row["detail"]) for row in rejected] == [("duplicate", "b/0/scale.0 equals a/0/scale.1")]


def test_a_duplicate_of_an_aimds_start_is_split_with_the_trajectory(make: Callable[..., Path], tasks: Tasks) -> None:
    start, other = bulk("Si", cubic=True, a=5.43), bulk("Si", cubic=True, a=5.5)
    for index, atoms in enumerate((start, start, other)):
        atoms.info = {"entry": index, "file": 0, "moment": 0, "lineage": f"s{index}"}
    twin = start.copy()
    twin.info = {"entry": 1, "file": 0, "moment": 0, "lineage": "s1", "aimd": 7, "aimd_step": 0}
    start.info = {"entry": 0, "file": 0, "moment": 0, "lineage": "s0"}
    kept, dropped = _drop([start, twin, other], Path("aimd"))
    assert [atoms.info["lineage"] for atoms in kept] == ["s0", "s2"]
    assert (kept[0].info["entry"], kept[0].info["aimd"], kept[0].info["aimd_step"]) == (1, 7, 0)
    assert [row["reason"] for row in dropped] == ["duplicate"]


def test_structures_of_other_composition_in_one_file_are_no_trajectory(make: Callable[..., Path], tasks: Tasks) -> None:
    folder = make(
        structures=[{"path": "set.extxyz", "perturb": {"copies": 3, "atom_distance": 0.05}}], valid_fraction=0.1
    )
    ase.io.write(folder / "set.extxyz", [bulk("Si"), bulk("Si", cubic=True), bulk("Si", cubic=True) * (2, 1, 1)])
    init(folder)
    counts = read_json(folder / "init/split/step.json")["result"]
    assert counts == {"dataset": 8, "valid": 1, "left_out": 0}
