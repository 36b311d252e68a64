"""Lineage: what every labelled frame tells of where it is from, in its files and by `al explain`."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from small_run import INIT, RESOURCE, SW, call_al

import al_driver
from al_driver.data.dataset import find_systems, read_system
from al_driver.data.frames import read_frames, write_frames
from al_driver.data.gate import CHECKS
from al_driver.errors import AlError, ConfigError, StateMismatch
from al_driver.files import hash_path, read_json
from al_driver.layout import WorkFolder
from al_driver.live_explain import lineage_table
from al_driver.schema.load import load_params
from al_driver.schema.resource import Resources
from al_driver.schema.run import RunParams
from al_driver.workflow.context import Context
from al_driver.workflow.initial import Place, prepare_data

STAGES: dict[str, Any] = {
    "path": "POSCAR",
    "name": "si",
    "relax": {"what": "positions"},
    "supercell": [1, 1, 2],
    "scale": [0.99, 1.0],
    "perturb": {"copies": 2, "temperature": 300},
    "aimd": {"temperature": 300, "n_steps": 4, "every": 2, "starts": 1},
}


def read_rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished `init_bulk` with every stage."""
    folder = tmp_path_factory.mktemp("staged")
    bulk("Si", cubic=True, a=5.431).write(folder / "POSCAR", format="vasp")
    (folder / "init.json").write_text(json.dumps({**INIT, "structures": [STAGES], "valid_fraction": 0.3}))
    (folder / "resource.json").write_text(json.dumps(RESOURCE))
    done = call_al(folder, "init_bulk", "init.json", "resource.json")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.needs("lmp")
def test_frames_of_init_bulk_know_every_stage_they_went_through(staged: Path) -> None:
    init = staged / "init"
    rows = read_rows(init)
    labelled = {row["frame"]: row for row in read_rows(init / "label")}
    assert len(labelled) == 6
    for row in rows:
        atoms = list(read_system(init / row["system"]))[row["index"]]
        told = labelled[row["frame"]]
        assert {**row, "system": "", "index": 0, "work": ""} == {**told, "system": "", "index": 0, "work": ""}
        assert told["structure"] == "si" and told["source"] == "../POSCAR" and told["moment"] == 0
        assert told["relax"] == "task.000000" and told["supercell"] == "[1, 1, 2]"
        assert atoms.cell[0, 0] == pytest.approx(5.431 * told["scale"], rel=0.05)
        assert (init / told["calculation"]).is_dir()
        assert told["checks"] == list(CHECKS) and told["gate"]["max_label_force"] == 100.0
        assert (told["engine"], told["program"]) == ("lammps", "LAMMPS") and told["version"]
    assert {(row["scale"], row["copy"]) for row in labelled.values()} == {(0.99, 0), (0.99, 1), (1.0, 0), (1.0, 1)}
    dynamics = sorted((row["aimd"], row["aimd_step"]) for row in labelled.values() if "aimd" in row)
    assert dynamics == [(0, 0), (0, 2), (0, 4)]
    kept = [row for row in labelled.values() if row.get("aimd_step")]
    assert {row["calculation"] for row in kept} == {"aimd/task.000000"}
    assert len({row["input"] for row in kept}) == 1 and kept[0]["program"] == "LAMMPS"


@pytest.mark.needs("lmp")
def test_a_label_knows_the_files_its_program_was_given(staged: Path, tmp_path: Path) -> None:
    label = staged / "init/label"
    for row in read_rows(label):
        if row["calculation"].startswith("label/"):
            inputs = tmp_path / str(row["frame"])
            inputs.mkdir()
            for name in ("in.lammps", "structure.data"):
                shutil.copy(staged / "init" / row["calculation"] / name, inputs)
            assert row["input"] == hash_path(inputs)
            assert row["host"] and row["seconds"] > 0 and row["finished"].startswith("20")
            assert row["settings"] in read_json(label / "settings.json")


@pytest.mark.needs("lmp")
def test_when_and_where_stands_in_the_ledger_alone(staged: Path) -> None:
    label = staged / "init/label"
    for row, atoms in zip(read_rows(label), read_frames(label / "labelled.extxyz"), strict=True):
        assert not {"host", "seconds", "finished", "reused"} & atoms.info.keys()
        assert atoms.info["settings"] == row["settings"][:16] and atoms.info["input"] == row["input"][:16]
        assert atoms.info["checks"].split() == list(CHECKS)
    assert "finished" not in (staged / "init/aimd/structures.extxyz").read_text()


@pytest.mark.needs("lmp")
def test_explain_prints_the_lineage_of_a_frame_and_of_a_set(staged: Path) -> None:
    done = call_al(staged, "explain", "init/dataset")
    assert done.returncode == 0, done.stderr
    for words in ("frames", "relax, then supercell, then scale, then perturb", "lammps (", "pair_style sw", "LAMMPS "):
        assert words in " ".join(done.stdout.split())  # where lines break depends on how long the paths are
    frame = next(row for row in read_rows(staged / "init") if row.get("aimd_step"))
    done = call_al(staged, "explain", f"init/{frame['system']}:{frame['index']}")
    assert "relax (task.000000) → supercell [1, 1, 2] → scale 0.99 → perturb, copy 0 → aimd from" in done.stdout
    assert "passed" in done.stdout and "converged, species, cell" in done.stdout
    for path in ("init/label", "init/label/dataset", "init/label/dataset/Si16", "init/valid", "init/valid/Si16"):
        told = json.loads(call_al(staged, "explain", path, "--json").stdout)
        assert told["frames"] == sum(1 for system in find_systems(staged / path) for _ in read_system(system))
        assert sum(origin["frames"] for origin in told["origins"]) == told["frames"]
        assert told["references"][0]["keys"]["pair_style"] == "sw"


@pytest.mark.needs("dp", "lmp")
def test_a_run_and_what_is_gathered_tell_models_and_scores(packed_run: Path, tmp_path: Path) -> None:
    step = packed_run / "work/iter.0000"
    models = [hash_path(step / f"train/model.00{member}/frozen_model.pth")[:16] for member in (0, 1)]
    selected = read_frames(step / "query/selected.extxyz")
    rows = read_rows(step / "label")
    assert len(rows) == len(selected) > 0
    for row, atoms in zip(rows, selected, strict=True):
        stored = list(read_system(step / "label" / row["system"]))[row["index"]]
        np.testing.assert_allclose(stored.positions, atoms.positions, atol=1e-12)
        assert row["models"] == models
        assert (row["structure"], row["iteration"], row["metric"]) == ("si", 0, "max_force")
        assert (row["task"], row["step"], row["score"]) == tuple(atoms.info[key] for key in ("task", "step", "score"))
    al_driver.gather([packed_run / "work", packed_run / "init"], tmp_path / "all")
    told = al_driver.explain(f"{tmp_path / 'all'}:0")
    work = os.path.relpath(packed_run / "work", tmp_path / "all")
    assert told["frame"].items() >= {"work": work, "label": "iter.0000/label", "models": models}.items()
    assert told["settings"]["pair_coeff"] == SW["pair_coeff"]
    summary = al_driver.explain(tmp_path / "all")
    assert summary["frames"] == len(rows) + 4 and len(summary["references"]) == 1
    assert [origin.get("iteration") for origin in summary["origins"]] == [0, None]
    shown = call_al(tmp_path, "explain", "all:0").stdout
    assert f"molecular dynamics of si: iteration 0, {rows[0]['task']}, step {rows[0]['step']}, 100 K" in shown
    assert f"of 2 models ({models[0][:12]}, {models[1][:12]})" in shown
    assert "iter.0000/label/task.000000 in tasks.zip, on " in shown


def make_extxyz(path: Path, n_frames: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n_frames):
        atoms = bulk("Si", cubic=True)
        atoms.positions += rng.normal(scale=0.1, size=(8, 3))
        atoms.arrays["forces"] = rng.normal(size=(8, 3))
        atoms.info = {"energy": float(rng.normal())}
        frames.append(atoms)
    write_frames(path, frames)


@pytest.mark.parametrize("format", ["deepmd/npy", "extxyz"])
def test_converted_frames_know_their_file_and_step(tmp_path: Path, format: str) -> None:
    (tmp_path / "files").mkdir()
    make_extxyz(tmp_path / "files/a.extxyz", 6)
    make_extxyz(tmp_path / "files/b.extxyz", 5, seed=1)
    al_driver.convert(tmp_path / "files", tmp_path / "out", valid=0.3, to=format, every=2)
    rows = read_rows(tmp_path / "out")
    told = {(row["source"], row["step"]) for row in rows}
    assert told < {(f"../files/{name}.extxyz", step) for name in "ab" for step in (1, 3, 5)} and len(told) == len(rows)
    assert {row["format"] for row in rows} == {"extxyz"}
    assert {row["system"] for row in rows} == {"train/Si8_novirial", "valid/Si8_novirial"} or format == "extxyz"
    assert al_driver.explain(tmp_path / "out/train")["frames"] + al_driver.explain(tmp_path / "out/valid")[
        "frames"
    ] == len(rows)
    if format == "deepmd/npy":
        row = rows[-1]
        source = read_frames(tmp_path / "out" / row["source"])[row["step"] - 1]
        stored = list(read_system(tmp_path / "out" / row["system"]))[row["index"]]
        assert stored.info["energy"] == source.info["energy"]


def test_data_that_a_run_converts_know_their_file(make_run: Callable[..., Path], tmp_path: Path) -> None:
    make_extxyz(tmp_path / "old.extxyz", 3)
    folder = make_run(init_data=["../old.extxyz"])
    params = load_params(folder / "param.json", RunParams)
    params.work_dir.mkdir()
    prepare_data(Context(WorkFolder(params.work_dir), Resources()), params)
    told = al_driver.explain(f"{params.work_dir}/data/init_data.000:2")
    assert told["frame"]["source"] == "../../../old.extxyz" and told["frame"]["step"] == 3


def test_an_extxyz_file_tells_what_its_frames_tell(tmp_path: Path) -> None:
    make_extxyz(tmp_path / "a.extxyz", 3)
    al_driver.convert(tmp_path / "a.extxyz", tmp_path / "b.extxyz")
    told = al_driver.explain(tmp_path / "b.extxyz", 1)
    assert told["frame"] == {"source": str(tmp_path / "a.extxyz"), "format": "extxyz", "step": 2}


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    make_extxyz(tmp_path / "a.extxyz", 3)
    al_driver.convert(tmp_path / "a.extxyz", tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ("out:3", ConfigError, "out has no frame 3: it has 3, 0 to 2"),
        ("out:-1", ConfigError, "out has no frame -1"),
        ("out:x", ConfigError, "'x' is no number of a frame; expected DATASET or DATASET:INDEX"),
        ("outt", ConfigError, "outt does not exist; did you mean 'out'"),
        ("empty", ConfigError, r"empty has no lineage: no frames.jsonl lies in it"),
        ("out/other", ConfigError, r"frames.jsonl tells of no frame in"),
        ("notes.txt", ConfigError, "notes.txt is no extxyz file"),
    ],
)
def test_what_cannot_be_explained_is_said(
    converted: Path, tmp_path_factory: pytest.TempPathFactory, given: str, kind: type[AlError], words: str
) -> None:
    (converted.parent / "notes.txt").write_text("hello")
    (converted / "other").mkdir()
    bare = tmp_path_factory.mktemp("bare") / "empty"
    bare.mkdir()
    with pytest.raises(kind, match=words) as caught:
        al_driver.explain(str(bare if given == "empty" else converted.parent / given))
    assert len(str(caught.value).splitlines()) <= 3


def test_a_set_that_was_changed_since_is_refused(converted: Path) -> None:
    lines = (converted / "frames.jsonl").read_text().splitlines(keepends=True)
    (converted / "frames.jsonl").write_text("".join(lines[:2]))
    with pytest.raises(StateMismatch, match=r"holds 3 frames, and .*frames.jsonl tells of 2"):
        al_driver.explain(converted)


def test_an_older_label_step_without_a_ledger_is_gathered_all_the_same(staged: Path, tmp_path: Path) -> None:
    shutil.copytree(staged / "init", tmp_path / "init")
    (tmp_path / "init/label/frames.jsonl").unlink()
    al_driver.gather(tmp_path / "init", tmp_path / "all")
    told = al_driver.explain(tmp_path / "all", 0)
    assert told["frame"]["structure"] == "si" and told["settings"]["pair_style"] == "sw"


def test_a_ledger_does_not_change_what_a_dataset_is(converted: Path) -> None:
    place = Place(converted, None, converted)
    before = place.identity()
    (converted / "frames.jsonl").write_text((converted / "frames.jsonl").read_text().replace("extxyz", "other"))
    assert place.identity() == before
    np.save(converted / "Si8_novirial/set.000/energy.npy", np.zeros(3))
    assert place.identity() != before


def test_no_host_is_missed_where_labels_came_with_their_structures() -> None:
    told: dict[str, Any] = {"dataset": "init/dataset", "frames": 3, "systems": {"Si2": 3}, "origins": [], "ledger": "."}
    told |= {"references": [], "programs": {"lmp 1": 2}, "checks": {}, "hosts": {"node7": 2}, "reused": 0}
    rows = list(zip(*(column.cells for column in lineage_table(told).columns), strict=True))
    words = [(str(name), str(text)) for name, text in rows]
    assert words[1:] == [("programs", "lmp 1  2 frames"), ("", "not told  1 frame"), ("hosts", "node7  2 frames")]
