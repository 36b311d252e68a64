"""frames.csv, and the job that asks for it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from deviation_files import HEADER, row
from pydantic import ValidationError

from al_driver.data.frames import write_frames
from al_driver.errors import EngineError
from al_driver.query.job import MdTask, QueryJob, verify_query
from al_driver.query.report import FramesFile
from al_driver.query.selection import Selected
from al_driver.query.window import Window, read_scored

WINDOW = Window("max_virial", lower=0.1, upper=0.3, max_force=50.0, stop_after=100)


def make_task(**keys: object) -> MdTask:
    return MdTask.model_validate(
        {"path": "../explore/task.000007", "structure": "si", "temperature": (300.0, 300.0), "n_steps": 100} | keys
    )


def write(path: Path, text: str, task: MdTask) -> list[dict[str, str]]:
    deviations = path / "model_devi.out"
    deviations.write_text(text)
    with FramesFile(path / "frames.csv") as frames_file:
        for scored in read_scored(deviations, WINDOW):
            marks = frames_file.add(task, scored, WINDOW.column)
            last = Selected("si", 0, int(scored.rows.step[-1]), 0.0, int(marks[-1]), Atoms())
        frames_file.mark([last])
    with (path / "frames.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_rows_read_back(tmp_path: Path) -> None:
    rows = write(tmp_path, HEADER + row(10, 0.25, avg_f=0.125, max_v=0.05) + row(1000, 1e-7, max_v=0.2), make_task())
    assert rows[0] == {
        "task": "task.000007", "structure": "si", "temperature": "300.0", "pressure": "", "step": "10",
        "score": "5.000000e-02", "max_devi_f": "2.500000e-01", "avg_devi_f": "1.250000e-01",
        "max_devi_v": "5.000000e-02", "class": "accurate", "selected": "0",
    }  # fmt: skip
    assert (rows[1]["step"], rows[1]["class"], rows[1]["selected"]) == ("1000", "candidate", "1")


def test_any_numbers_read_back(tmp_path: Path) -> None:
    values = np.random.default_rng(3).lognormal(-3, 2, 300)
    text = (
        HEADER + "".join(row(10 + i, value) for i, value in enumerate(values)) + row(999, float("-nan"), max_v=np.inf)
    )
    rows = write(tmp_path, text, make_task())
    expected = [float(f"{value:.6e}") for value in values]
    assert [float(found["max_devi_f"]) for found in rows[:-1]] == expected
    assert (rows[-1]["max_devi_f"], rows[-1]["score"], rows[-1]["class"]) == ("nan", "inf", "failed")


def test_conditions(tmp_path: Path) -> None:
    task = make_task(structure='slab, "wet"', temperature=(300.0, 900.0), pressure=-1e4)
    rows = write(tmp_path, HEADER + row(10, 0.1) + row(100, 0.1) + row(110, 0.1), task)
    assert [found["temperature"] for found in rows] == ["360.0", "900.0", "900.0"]
    assert {found["pressure"] for found in rows} == {"-10000.0"}
    assert {found["structure"] for found in rows} == {'slab, "wet"'}


def test_nothing_appears_when_it_fails(tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        write(tmp_path, HEADER + row(10, 0.1) + "oops\n", make_task())
    assert not (tmp_path / "frames.csv").exists()


def make_job(**keys: object) -> QueryJob:
    job = {
        "query": {"lower": 0.1, "upper": 0.3, "max_select": 7}, "explorer": "lammps", "stop_after": 5,
        "type_map": ["Si"], "seed": 1, "iteration": 0, "structures": ["a", "b"], "max_select": {"b": 2}, "tasks": [],
    }  # fmt: skip
    return QueryJob.model_validate(job | keys)


def test_a_job_survives_json() -> None:
    job = make_job(tasks=[make_task(structure="a", pressure=0.0).model_dump(mode="json")])
    assert QueryJob.model_validate_json(json.dumps(job.model_dump(mode="json"))) == job


def test_caps_and_budgets() -> None:
    assert [make_job().cap(name) for name in ("a", "b")] == [7, 2]
    assert make_job().budget is None
    assert make_job(labels_left=0).budget == 0
    query = {"lower": 0.1, "upper": 0.3, "max_labels_per_iteration": 5}
    assert make_job(query=query).budget == make_job(query=query, labels_left=9).budget == 5


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"tasks": [make_task(structure="c").model_dump()]}, "'c' is not one of `structures` \\['a', 'b'\\]"),
        ({"max_select": {"c": 1}}, "'c' is not one of `structures`"),
        ({"tasks": [make_task(structure="a").model_dump()] * 2}, "two of `tasks` have the same name"),
    ],
)
def test_names_must_match(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_job(**keys)


def write_query(folder: Path, *, frames: int = 3, selected: int = 1, in_file: int = 1) -> Path:
    part = {"frames": frames, "accurate": 1, "candidate": 1, "failed": 1, "selected": selected}
    (folder / "summary.json").write_text(json.dumps({**part, "by_structure": [part]}))
    (folder / "frames.csv").write_text("")
    write_frames(folder / "selected.extxyz", [Atoms("Si", cell=[3, 3, 3], pbc=True)] * in_file)
    return folder


def test_a_whole_query_is_accepted(tmp_path: Path) -> None:
    verify_query(write_query(tmp_path))
    verify_query(write_query(tmp_path, selected=0, in_file=0))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"frames": 4}, "counts of summary.json do not add up"),
        ({"in_file": 2}, "selected.extxyz has 2 frames, summary.json says 1"),
    ],
)
def test_numbers_that_do_not_agree_are_refused(tmp_path: Path, keys: dict[str, int], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        verify_query(write_query(tmp_path, **keys))


@pytest.mark.parametrize("name", ["summary.json", "frames.csv", "selected.extxyz"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (write_query(tmp_path) / name).unlink()
    with pytest.raises(EngineError, match=f"the query left no {name}"):
        verify_query(tmp_path)


def test_a_damaged_summary_is_refused(tmp_path: Path) -> None:
    for text in ("{", "{}", "[]"):
        (write_query(tmp_path) / "summary.json").write_text(text)
        with pytest.raises(EngineError, match=r"summary\.json is damaged"):
            verify_query(tmp_path)
