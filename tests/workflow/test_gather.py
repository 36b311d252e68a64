"""Gathering: every frame that runs labelled, once, in order, with its provenance; and what is refused."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dpdata
import fake_run
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from small_run import call_al

import al_driver
from al_driver.data.dataset import count_frames, find_systems, read_system, stored_key, write_dataset
from al_driver.data.frames import read_frames, sort_by_type, write_frames
from al_driver.data.sources import read_labelled
from al_driver.errors import ConfigError, StateMismatch
from al_driver.files import hash_path
from al_driver.jobs.processes import find_program
from al_driver.layout import WorkFolder
from al_driver.workflow.history import History
from al_driver.workflow.step import Step, run_step

ENGINE = {"engine": "lammps", "pair_style": "sw"}


def make_frame(seed: int, n_copper: int = 2, **info: Any) -> Atoms:
    """Return four atoms with a label; the same seed gives the same."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Al", cubic=True, a=4.05)
    atoms.symbols[:n_copper] = "Cu"
    atoms.positions += rng.normal(scale=0.1, size=(4, 3))
    atoms.arrays["forces"] = rng.normal(size=(4, 3))
    atoms.info = {"energy": float(rng.normal()), "virial": rng.normal(size=(3, 3)), **info}
    return atoms


def write_label_step(
    folder: Path,
    frames: Sequence[Atoms],
    type_map: Sequence[str] = ("Al", "Cu"),
    engine: dict[str, str] = ENGINE,
) -> None:
    """Finish a label step with these frames."""

    def work() -> dict[str, Any]:
        write_frames(folder / "labelled.extxyz", frames)
        return {"labelled": len(frames)}

    inputs = {"identity": {"sha256": json.dumps(engine)}, "type_map": list(type_map)}
    run_step(Step("label", folder, inputs, (), {"label": engine}), work, ["labelled.extxyz"])


def make_run(root: Path, *iterations: Sequence[Atoms], **keys: Any) -> Path:
    """Make what `al run` leaves of iterations with these labels."""
    root.mkdir(parents=True)
    History(root / "history.json").add("started", kind="run")
    for index, frames in enumerate(iterations):
        write_label_step(WorkFolder(root).step(index, "label"), frames, **keys)
    return root


def make_init(root: Path, train: Sequence[Atoms], valid: Sequence[Atoms], left_out: Sequence[Atoms] = ()) -> Path:
    """Make what `al init_bulk` leaves of these frames."""
    root.mkdir(parents=True)
    History(root / "history.json").add("started", kind="init_bulk")
    write_label_step(root / "label", [*train, *left_out, *valid])
    if train:
        write_dataset(root / "dataset", train, ["Al", "Cu"])
    if valid:
        write_dataset(root / "valid", valid, ["Al", "Cu"])
    run_step(Step("split", root / "split", {}, ()), dict, [])
    return root


def read_energies(out: Path) -> list[float]:
    return [atoms.info["energy"] for system in find_systems(out) for atoms in read_system(system)]


def energies(frames: Sequence[Atoms]) -> list[float]:
    return [atoms.info["energy"] for atoms in frames]


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_frames_stand_in_the_order_of_folders_iterations_and_selection(tmp_path: Path) -> None:
    frames = [make_frame(seed) for seed in range(7)]
    make_run(tmp_path / "runs/b", frames[:2])
    make_run(tmp_path / "runs/deep/a", frames[2:4], [], frames[4:6])
    make_run(tmp_path / "first", frames[6:])
    gathered = al_driver.gather([tmp_path / "first", tmp_path / "runs", tmp_path / "first"], tmp_path / "out")
    assert read_energies(tmp_path / "out") == energies([frames[6], *frames[:6]])
    assert gathered.systems == {"Al2Cu2": 7}
    assert gathered.duplicates == gathered.held_back == 0


def test_the_ledger_says_where_each_frame_is_from(tmp_path: Path) -> None:
    told = {"structure": "001", "task": "task.000003", "step": 350, "temperature": 300.0, "iteration": 1}
    frames = [make_frame(1), make_frame(2, n_copper=1, score=float("inf"), **told), make_frame(3, n_copper=1)]
    make_run(tmp_path / "runs/work", frames[:1], frames[1:])
    al_driver.gather(tmp_path / "runs", tmp_path / "out")
    rows = read_rows(tmp_path / "out/frames.jsonl")
    assert [(row["system"], row["index"], row["label"], row["frame"]) for row in rows] == [
        ("Al2Cu2", 0, "iter.0000/label", 0),
        ("Al3Cu1", 0, "iter.0001/label", 0),
        ("Al3Cu1", 1, "iter.0001/label", 1),
    ]
    assert {row["work"] for row in rows} == {"../runs/work"}
    assert rows[1].items() >= (told | {"score": None}).items()
    for row, frame in zip(rows, frames, strict=True):
        found = list(read_system(tmp_path / "out" / row["system"]))[row["index"]]
        assert found.info["energy"] == frame.info["energy"]


def test_equal_frames_come_once_and_labels_that_differ_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [make_frame(seed) for seed in range(3)]
    noisy, other, moved = frames[0].copy(), frames[1].copy(), frames[2].copy()
    noisy.info["energy"] += 1e-5
    other.info["energy"] += 0.1
    moved.positions += moved.cell[0]  # the same frame, seen through the boundary
    make_run(tmp_path / "a", frames)
    make_run(tmp_path / "b", [noisy, other, moved, make_frame(9)])
    gathered = al_driver.gather([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert read_energies(tmp_path / "out") == energies([*frames, make_frame(9)])
    assert gathered.duplicates == 3
    text = f"frame 1 of {tmp_path}/b/iter.0000/label equals Al2Cu2/1; its label differs by 0.025 eV/atom and 0 eV/Å"
    assert gathered.disagreements == [text]
    assert f"warning: {text}" in caplog.text
    rejected = read_rows(tmp_path / "out/rejected.jsonl")
    assert [row["detail"].partition(";")[0] for row in rejected] == [f"equals Al2Cu2/{index}" for index in range(3)]
    assert rejected[0] == {
        "frame": 0, "reason": "duplicate", "detail": "equals Al2Cu2/0", "where": "../b/iter.0000/label",
    }  # fmt: skip


def test_what_is_held_back_for_validation_gets_in_from_nowhere(tmp_path: Path) -> None:
    frames = [make_frame(seed) for seed in range(6)]
    make_init(tmp_path / "init", train=frames[:2], valid=frames[4:], left_out=frames[2:4])
    make_run(tmp_path / "work", [frames[5], make_frame(7)])
    make_init(tmp_path / "z", train=[frames[4], make_frame(8)], valid=[])
    gathered = al_driver.gather(tmp_path, tmp_path / "out")
    assert read_energies(tmp_path / "out") == energies([*frames[:2], make_frame(7), make_frame(8)])
    assert (gathered.held_back, gathered.between) == (2 + 1 + 1, 2)


def test_what_a_run_validates_on_gets_in_from_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake_run.patch(monkeypatch)
    fake_run.make_folder(tmp_path / "other")
    fake_run.run(tmp_path / "other")
    known = read_labelled(tmp_path / "other/work/iter.0001/label/dataset", None, ["Si"])
    write_frames(tmp_path / "valid.extxyz", known[:1])
    shutil.copytree(tmp_path / "other/work/iter.0002/label/dataset", tmp_path / "ready")
    n_ready = len(read_labelled(tmp_path / "ready", None, ["Si"]))
    first = fake_run.make_folder(tmp_path / "first", valid_data=["../valid.extxyz", "../ready"])
    fake_run.run(first)
    for folder in first.glob("work/iter.*"):
        shutil.rmtree(folder)  # it has begun, and labelled nothing
    everything = al_driver.gather(tmp_path / "other", tmp_path / "everything")
    gathered = al_driver.gather([tmp_path / "other", first], tmp_path / "out")
    assert gathered.held_back == 1 + n_ready
    held_back = {*read_energies(tmp_path / "ready"), known[0].info["energy"]}
    assert set(read_energies(tmp_path / "out")) == set(read_energies(everything.folder)) - held_back
    shutil.rmtree(tmp_path / "ready")
    al_driver.gather([tmp_path / "other", first], tmp_path / "without")
    assert f"{first}/work validates on {tmp_path}/ready, which is gone" in caplog.text


def test_only_finished_steps_are_read_and_nothing_that_was_set_aside(tmp_path: Path) -> None:
    work = make_run(tmp_path / "work", [make_frame(1)], [make_frame(2)], [make_frame(3)])
    (work / "iter.0001/label/step.json").unlink()
    (work / "iter.0002").rename(work / "iter.0002.bak.1")
    make_run(tmp_path / "old.bak.1", [make_frame(4)])
    init = make_init(tmp_path / "init", train=[make_frame(5)], valid=[])
    (init / "split/step.json").unlink()  # what is for validation is not known yet
    al_driver.gather(tmp_path, tmp_path / "out")
    assert read_energies(tmp_path / "out") == energies([make_frame(1)])


def test_two_references_are_refused_by_name(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [make_frame(1)])
    make_run(tmp_path / "b", [make_frame(2)], engine=ENGINE | {"pair_style": "tersoff"})
    with pytest.raises(ConfigError) as caught:
        al_driver.gather(tmp_path, tmp_path / "out")
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/a/iter.0000/label and {tmp_path}/b/iter.0000/label were labelled by different references: "
        "pair_style: sw → tersoff",
        "  Their energies do not make one dataset. Gather them apart, or say --allow-mixed.",
    ]
    assert not (tmp_path / "out").exists()
    al_driver.gather(tmp_path, tmp_path / "out", allow_mixed=True)
    assert read_energies(tmp_path / "out") == energies([make_frame(1), make_frame(2)])
    settings = json.loads((tmp_path / "out/settings.json").read_text())
    assert list(settings.values()) == [ENGINE, ENGINE | {"pair_style": "tersoff"}]


def test_validation_data_of_other_elements_hold_nothing_back(tmp_path: Path) -> None:
    make_init(tmp_path / "init", train=[make_frame(1)], valid=[make_frame(2)])
    other = make_frame(3)
    other.numbers[:] = 14
    make_run(tmp_path / "work", [])
    make_run(tmp_path / "other", [other], type_map=["Si"])
    for name in ("label/labelled.extxyz", "label/step.json"):
        (tmp_path / "init" / name).unlink()
    gathered = al_driver.gather(tmp_path, tmp_path / "out")
    assert read_energies(tmp_path / "out") == energies([other])
    assert gathered.held_back == 0


def test_different_type_maps_make_their_union(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [make_frame(1)], type_map=["Cu", "Al"])
    make_run(tmp_path / "b", [make_frame(2)], type_map=["Al", "Ni", "Cu"])
    al_driver.gather(tmp_path, tmp_path / "out")
    assert (tmp_path / "out/Cu2Al2/type_map.raw").read_text().split() == ["Cu", "Al", "Ni"]
    for seed, atoms in zip((1, 2), read_system(tmp_path / "out/Cu2Al2"), strict=True):
        assert stored_key(atoms, ["Cu", "Al"]) == stored_key(make_frame(seed), ["Cu", "Al"])
        assert np.array_equal(
            np.sort(atoms.arrays["forces"], axis=0), np.sort(make_frame(seed).arrays["forces"], axis=0)
        )


def test_the_same_again_changes_nothing_and_anything_else_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "work", [make_frame(1)])
    (tmp_path / "out").mkdir()
    al_driver.gather(tmp_path / "work", tmp_path / "out")
    before, born = hash_path(tmp_path / "out"), (tmp_path / "out").stat().st_ino
    al_driver.gather(tmp_path / "work", tmp_path / "out")
    assert (hash_path(tmp_path / "out"), (tmp_path / "out").stat().st_ino) == (before, born)
    write_label_step(tmp_path / "work/iter.0001/label", [make_frame(2)])
    with pytest.raises(ConfigError, match=r"out is there already and holds something else.\n  Name another folder"):
        al_driver.gather(tmp_path / "work", tmp_path / "out")
    assert hash_path(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "work"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere is no work folder of `al run` or `al init_bulk`: it is no folder."),
        ("empty", "empty is no work folder of `al run` or `al init_bulk`: neither it nor a folder in it has"),
        ("begun", "no label step has finished in .*begun; there is nothing to gather."),
        ("barren", "barren: no frame to train on; nothing was written."),
    ],
)
def test_where_there_is_nothing_to_gather_it_says_why(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    make_run(tmp_path / "begun")
    make_init(tmp_path / "barren", train=[], valid=[make_frame(1)])
    with pytest.raises(ConfigError, match=message):
        al_driver.gather(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_frames_that_are_gone_are_missed(tmp_path: Path) -> None:
    work = make_run(tmp_path / "work", [make_frame(1), make_frame(2)])
    write_frames(work / "iter.0000/label/labelled.extxyz", [make_frame(1)])
    with pytest.raises(StateMismatch, match=r"labelled.extxyz holds 1 frame; its step labelled 2.\n  Bring the file"):
        al_driver.gather(work, tmp_path / "out")


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="--to deepmd/mixed: there is no such format; did you mean 'deepmd/npy/mixed'"
    ):
        al_driver.gather(tmp_path, tmp_path / "out", to="deepmd/mixed")


def test_one_extxyz_file_holds_every_frame_to_the_bit_with_its_provenance(tmp_path: Path) -> None:
    frames = [make_frame(1), make_frame(2, n_copper=1, step=350, temperature=300.0), make_frame(3)]
    make_run(tmp_path / "runs/work", frames[:2], [*frames[1:], frames[0]])
    gathered = al_driver.gather(tmp_path / "runs", tmp_path / "all.extxyz")
    assert (gathered.systems, gathered.duplicates) == ({"all.extxyz": 3}, 2)
    found = read_frames(tmp_path / "all.extxyz")
    for old, new in zip(frames, found, strict=True):
        sent = sort_by_type(old, ["Al", "Cu"])
        assert np.array_equal(new.positions, sent.positions)
        assert np.array_equal(new.arrays["forces"], sent.arrays["forces"])
        assert new.info["energy"] == sent.info["energy"]
        assert np.array_equal(new.info["virial"], sent.info["virial"])
    places = [(atoms.info["work"], atoms.info["label"], atoms.info["frame"]) for atoms in found]
    assert places == [
        ("runs/work", "iter.0000/label", 0), ("runs/work", "iter.0000/label", 1), ("runs/work", "iter.0001/label", 1),
    ]  # fmt: skip
    assert (found[1].info["step"], found[1].info["temperature"]) == (350, 300.0)
    al_driver.gather(tmp_path / "runs", tmp_path / "all.extxyz")  # the same again
    make_run(tmp_path / "runs/more", [make_frame(4)])
    with pytest.raises(ConfigError, match=r"all.extxyz is there already and holds something else"):
        al_driver.gather(tmp_path / "runs", tmp_path / "all.extxyz", to="extxyz")
    assert len(read_frames(tmp_path / "all.extxyz")) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.extxyz", "runs"]


@pytest.mark.parametrize(
    ("out", "to", "message"),
    [
        ("all", "extxyz", "-o .*all: extxyz is one file; call it all.extxyz"),
        ("all.extxyz", "deepmd/npy", "-o .*all.extxyz is one extxyz file; deepmd/npy needs a folder"),
    ],
)
def test_a_place_that_does_not_fit_the_format_is_refused(tmp_path: Path, out: str, to: str, message: str) -> None:
    make_run(tmp_path / "work", [make_frame(1)])
    with pytest.raises(ConfigError, match=message):
        al_driver.gather(tmp_path / "work", tmp_path / out, to=to)
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def make_solution(root: Path) -> list[Atoms]:
    """Make a run whose frames nearly all have a composition of their own."""
    frames = [make_frame(seed, n_copper=n) for seed, n in enumerate((0, 1, 2, 3, 4, 1))]
    molecule = make_frame(7, n_copper=1)
    molecule.pbc = False
    frames.insert(2, molecule)
    make_run(root, frames)
    return frames


def test_frames_of_one_size_share_a_mixed_system(tmp_path: Path) -> None:
    frames = make_solution(tmp_path / "work")
    gathered = al_driver.gather(tmp_path, tmp_path / "out", to="deepmd/npy/mixed")
    assert gathered.systems == {"mixed_4": 6, "mixed_4_nopbc": 1}
    periodic = [frame for frame in frames if frame.pbc.all()]
    for old, new in zip(periodic, read_system(tmp_path / "out/mixed_4"), strict=True):
        assert stored_key(new, ["Al", "Cu"]) == stored_key(old, ["Al", "Cu"])
        assert np.array_equal(new.info["virial"], old.info["virial"])
    (molecule,) = read_system(tmp_path / "out/mixed_4_nopbc")
    assert not molecule.pbc.any()
    read = dpdata.MultiSystems()
    read.load_systems_from_file(str(tmp_path / "out/mixed_4"), fmt="deepmd/npy/mixed")
    found = {energy for system in read for energy in system.data["energies"]}
    assert found == set(energies(periodic))
    assert len(read_labelled(tmp_path / "out", None, ["Al", "Cu"])) == 7


@pytest.mark.needs("dp")
def test_dp_trains_on_mixed_systems(tmp_path: Path) -> None:
    make_solution(tmp_path / "work")
    al_driver.gather(tmp_path / "work", tmp_path / "out", to="deepmd/npy/mixed")
    systems = [str(system) for system in find_systems(tmp_path / "out")]
    descriptor = {"type": "se_atten", "rcut": 4.0, "rcut_smth": 2.0, "sel": 60, "neuron": [2], "attn_layer": 0}
    content = {
        "model": {
            "type_map": ["Al", "Cu"],
            "descriptor": descriptor | {"axis_neuron": 1},
            "fitting_net": {"neuron": [2]},
        },
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-4, "decay_steps": 1},
        "loss": {"type": "ener", "start_pref_v": 1, "limit_pref_v": 1},
        "training": {"training_data": {"systems": systems, "batch_size": 1}, "numb_steps": 2, "disp_freq": 1},
    }
    (tmp_path / "input.json").write_text(json.dumps(content))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [str(find_program("dp")), "--pt", "train", "input.json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert np.isfinite(np.loadtxt(tmp_path / "lcurve.out", usecols=(1, 2, 3))).all()


@pytest.mark.parametrize("to", ["deepmd/npy", "deepmd/npy/mixed"])
def test_a_run_starts_from_what_runs_labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    fake_run.patch(monkeypatch)
    first = fake_run.make_folder(tmp_path / "first")
    fake_run.run(first)
    gathered = al_driver.gather(first, tmp_path / "out", to=to)
    labelled = sorted(first.glob("work/iter.*/label/dataset"))
    assert len(labelled) == 3
    expected = [energy for path in labelled for energy in read_energies(path)]
    assert read_energies(tmp_path / "out") == expected
    assert list(gathered.systems.values()) == [len(expected)]
    second = fake_run.make_folder(tmp_path / "second", init_data=["../out"])
    fake_run.run(second)
    (system,) = find_systems(second / "work/data" if to.endswith("mixed") else tmp_path / "out")
    assert count_frames(system) == len(expected)
    names = json.loads((second / "work/iter.0000/train/model.000/input.json").read_text())
    (trained,) = names["training"]["training_data"]["systems"]
    assert (second / "work/iter.0000/train/model.000" / trained).resolve() == system.resolve()


def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    make_init(tmp_path / "init", train=[make_frame(1)], valid=[make_frame(2)], left_out=[make_frame(4)])
    make_run(tmp_path / "work", [make_frame(1), make_frame(3)])
    done = call_al(tmp_path, "gather", "init", "work", "-o", "out")
    lines = [line.split(" ", 1)[1] for line in done.stdout.splitlines()]
    assert lines == [
        "init/label: 1 frame",
        "work/iter.0000/label: 1 frame",
        "out: 2 frames: Al2Cu2 2",
        "left out: 1 held back for validation, 1 between training and validation",
        "left out: 1 duplicate; see out/rejected.jsonl",
    ]
    again = call_al(tmp_path, "gather", "init", "work", "-o", "out")
    assert "out: 2 frames: Al2Cu2 2; the same was there already, and is left alone" in again.stdout
    shutil.rmtree(tmp_path / "work")
    done = call_al(tmp_path, "gather", "init/valid", "-o", "new")
    assert done.stderr.endswith("nor a folder in it has a history.json.\n  It lies in one: give init.\n")
    done = call_al(tmp_path, "gather", "work", "-o", "new")
    assert done.returncode == 2
    assert done.stderr == "al: work is no work folder of `al run` or `al init_bulk`: it is no folder.\n"


def test_a_folder_that_a_run_beside_it_validates_on_is_remarked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_init(tmp_path / "measure", train=[make_frame(1)], valid=[])
    run = WorkFolder(make_run(tmp_path / "work", [make_frame(2)]))
    run_step(Step("0/train", run.data, {}, ()), lambda: {"valid": ["../../measure/dataset"]}, [])
    al_driver.gather(tmp_path / "measure", tmp_path / "out")
    text = f"warning: {tmp_path}/work validates on {tmp_path}/measure: trained on, those frames show nothing there"
    assert caplog.messages.count(text) == 1
    al_driver.gather(run.root, tmp_path / "own")
    assert caplog.messages.count(text) == 1
