"""The query program, from folders of molecular dynamics to the three files."""

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from deviation_files import HEADER, row

from al_driver.data.dataset import write_dataset
from al_driver.data.frames import read_frames
from al_driver.data.lammps import make_rotation, write_data
from al_driver.layout import QUERY_JOB_FILE
from al_driver.query.job import QueryJob, verify_query
from al_driver.query.reading import read_job, run_program
from al_driver.tasks.query import run_query
from al_driver.tasks.shortlist import write_shortlist

NAN = float("nan")
SILICON = bulk("Si", cubic=True)
UNCERTAINTY, FACTOR = "committee", 1.0


@pytest.fixture(params=["committee", "kpu"], autouse=True)
def uncertainty(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a virtual committee LAMMPS writes what becomes a score by a factor; nothing else differs."""
    monkeypatch.setattr(sys.modules[__name__], "UNCERTAINTY", request.param)
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", {"committee": 1.0, "kpu": 1000.0}[request.param])
    return str(request.param)


def make_frame(task: int, step: int) -> Atoms:
    atoms = SILICON.copy()
    atoms.rattle(0.03, seed=1000 * task + step)
    return atoms


def write_md(
    root: Path, task: int, scores: Sequence[float], *, steps: Sequence[int] | None = None, halted_at: int | None = None
) -> None:
    """Write what LAMMPS leaves: frames at steps 0, 10 …, of which the first has no score worth the name."""
    folder = root / "explore" / f"task.{task:06d}"
    folder.mkdir(parents=True)
    write_data(folder / "structure.data", SILICON, ["Si"])
    rows = [row(0, 4e-16), *(row(10 + 10 * i, score / FACTOR) for i, score in enumerate(scores))]
    (folder / "model_devi.out").write_text(HEADER + "".join(rows))
    with (folder / "traj.lammpstrj").open("w") as stream:
        for step in range(0, 10 * len(scores) + 1, 10) if steps is None else steps:
            stream.write(dump_text(step, make_frame(task, step)))
    halt = f"Fix halt condition for fix-id close met on step {halted_at} with value 1\n" if halted_at else ""
    (folder / "output").write_text(f"LAMMPS (22 Jul 2025)\n{halt}Total wall time: 0:00:01\n")


def dump_text(step: int, atoms: Atoms) -> str:
    length = atoms.cell.array[0, 0]
    lines = ["ITEM: TIMESTEP", str(step), "ITEM: NUMBER OF ATOMS", str(len(atoms)), "ITEM: BOX BOUNDS pp pp pp"]
    lines += [f"0 {length:.17g}"] * 3 + ["ITEM: ATOMS id type x y z"]
    lines += [f"{i} 1 {x:.17g} {y:.17g} {z:.17g}" for i, (x, y, z) in enumerate(atoms.positions, 1)]
    return "\n".join(lines) + "\n"


def write_job(root: Path, explored: Sequence[str], **keys: Any) -> Path:
    """Write a query of tasks 0, 1 …, each of the structure with this name."""
    folder = root / "query"
    folder.mkdir(exist_ok=True)
    tasks = [
        {
            "path": f"../explore/task.{i:06d}",
            "structure": name,
            "temperature": [300.0, 300.0],
            "n_steps": 1000,
            "score_factor": FACTOR,
        }
        for i, name in enumerate(explored)
    ]
    job = {
        "query": {"lower": 0.1, "upper": 0.3, "max_select": 3}, "explorer": "lammps", "stop_after": 3,
        "type_map": ["Si"], "seed": 7, "iteration": 2, "structures": sorted(set(explored)), "tasks": tasks,
    }  # fmt: skip
    job |= keys
    job["query"] = {"uncertainty": UNCERTAINTY} | dict(job["query"])  # type: ignore[call-overload]
    checked = QueryJob.model_validate(job)
    (folder / QUERY_JOB_FILE).write_text(json.dumps(checked.model_dump(mode="json")))
    return folder


def main(arguments: list[str]) -> int:
    return run_program(run_query, arguments)


def run(folder: Path) -> tuple[dict[str, Any], list[dict[str, str]], list[Atoms]]:
    run_query(folder)
    verify_query(folder)
    with (folder / "frames.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    selected = read_frames(folder / "selected.extxyz") if (folder / "selected.extxyz").stat().st_size else []
    return json.loads((folder / "summary.json").read_text()), rows, selected


def test_from_folders_to_files(tmp_path: Path) -> None:
    """Lessons 1, 6 and 7: each frame has one class; the metric is named; the frames that are written are the choice."""
    write_md(tmp_path, 0, [0.05, 0.2, 0.29, 0.3, NAN, 0.15, 0.12])
    write_md(tmp_path, 1, [0.05, 0.05, 0.4])
    folder = write_job(tmp_path, ["b", "a"], max_select={"b": 2})
    summary, rows, selected = run(folder)
    assert summary | {"by_structure": None} == {
        "frames": 10, "accurate": 3, "candidate": 4, "failed": 3, "selected": 2, "by_structure": None,
        "uncertainty": UNCERTAINTY, "metric": "max_force", "lower": 0.1, "upper": 0.3, "choose": "random",
        "budget": None, "all_failed": False, "skipped": {},
    }  # fmt: skip
    assert summary["by_structure"] == [
        {"structure": "a", "frames": 3, "accurate": 2, "candidate": 0, "failed": 1, "selected": 0},
        {"structure": "b", "frames": 7, "accurate": 1, "candidate": 4, "failed": 2, "selected": 2},
    ]
    assert len(rows) == 10
    assert [float(found["score"]) for found in rows[:4]] == [0.05, 0.2, 0.29, 0.3]
    marked = [(found["task"], int(found["step"])) for found in rows if found["selected"] == "1"]
    assert [(atoms.info["task"], atoms.info["step"]) for atoms in selected] == marked
    for atoms in selected:
        assert np.array_equal(atoms.positions, make_frame(0, atoms.info["step"]).positions)
        assert atoms.get_chemical_symbols() == ["Si"] * 8
    (first, _) = selected
    expected = {"structure": "b", "temperature": 300.0, "metric": "max_force", "iteration": 2}
    assert {key: first.info[key] for key in expected} == expected
    assert 0.1 <= first.info["score"] < 0.3
    assert "pressure" not in first.info


def test_the_same_query_makes_the_same_files(tmp_path: Path) -> None:
    """Lesson 5, beside `test_random_follows_the_seed`."""
    write_md(tmp_path, 0, [0.2] * 30)
    folder = write_job(tmp_path, ["a"])
    contents = []
    for _ in range(2):
        run_query(folder)
        contents.append([(folder / name).read_bytes() for name in ("summary.json", "frames.csv", "selected.extxyz")])
    assert contents[0] == contents[1]


def test_only_frames_with_coordinates_before_the_guard_count(tmp_path: Path) -> None:
    write_md(tmp_path, 0, [0.2] * 9, steps=[0, 10, 20, 30, 50])
    write_md(tmp_path, 1, [0.2] * 9, halted_at=35)
    summary, rows, _ = run(write_job(tmp_path, ["a", "b"]))
    assert [(found["task"][-1], found["step"]) for found in rows] == [
        ("0", "10"), ("0", "20"), ("0", "30"), ("0", "50"), ("1", "10"), ("1", "20"), ("1", "30"),
    ]  # fmt: skip
    assert summary["frames"] == 7


def test_a_dump_cut_in_the_middle_of_a_frame(tmp_path: Path) -> None:
    write_md(tmp_path, 0, [0.2] * 4)
    path = tmp_path / "explore/task.000000/traj.lammpstrj"
    path.write_text(path.read_text()[:-30])
    assert run(write_job(tmp_path, ["a"]))[0]["frames"] == 3


def test_frames_after_an_explosion_are_not_labelled(tmp_path: Path) -> None:
    """Lesson 34."""
    write_md(tmp_path, 0, [0.05, 0.5, 9.0, NAN, 0.2, 0.2])
    summary, _, selected = run(write_job(tmp_path, ["a"]))
    assert (summary["frames"], summary["failed"], selected) == (4, 3, [])


@pytest.mark.parametrize("metric", ["mean_force", "max_virial"])
def test_an_absurd_force_is_not_labelled_for_another_score_in_the_window(tmp_path: Path, metric: str) -> None:
    """Lesson 2, in a file whose every row is beyond sense but one; and lesson 3, one row alone."""
    write_md(tmp_path, 0, [0.2] * 3)
    path = tmp_path / "explore/task.000000/model_devi.out"
    inside = {"avg_f": 0.2 / FACTOR, "max_v": 0.2 / FACTOR}
    path.write_text(
        HEADER + "".join(row(10 * n, force / FACTOR, **inside) for n, force in enumerate([60, 49.9, NAN], 1))
    )
    query = {"lower": 0.1, "upper": 0.3, "metric": metric}
    summary, _, selected = run(write_job(tmp_path, ["a"], query=query))
    assert (summary["candidate"], summary["failed"]) == (1, 2)
    assert [(atoms.info["step"], atoms.info["score"]) for atoms in selected] == [(20, pytest.approx(0.2))]
    path.write_text(HEADER + row(20, 0.4 / FACTOR, **inside))
    assert [atoms.info["step"] for atoms in run(write_job(tmp_path, ["a"], query=query))[2]] == [20]


@pytest.mark.parametrize("choose", ["random", "largest"])
def test_a_labelled_frame_is_not_chosen_again(tmp_path: Path, choose: str) -> None:
    write_md(tmp_path, 0, [0.2, 0.25, 0.15])
    labelled = make_frame(0, 20)
    labelled.info["energy"], labelled.arrays["forces"] = 0.0, np.zeros((8, 3))
    write_dataset(tmp_path / "dataset", [labelled], ["Si"])
    query = {"lower": 0.1, "upper": 0.3, "choose": choose}
    summary, _, selected = run(write_job(tmp_path, ["a"], query=query, labelled=["../dataset"]))
    assert [atoms.info["step"] for atoms in selected] == [10, 30]
    assert summary["skipped"] == {"labelled": 1}


def test_atoms_that_are_too_close_are_not_labelled(tmp_path: Path) -> None:
    write_md(tmp_path, 0, [0.2, 0.2])
    path = tmp_path / "explore/task.000000/traj.lammpstrj"
    close = make_frame(0, 10)
    close.positions[1] = close.positions[0] + [0.0, 0.0, 1.0]
    path.write_text(path.read_text().replace(dump_text(10, make_frame(0, 10)), dump_text(10, close)))
    summary, _, selected = run(write_job(tmp_path, ["a"]))
    assert [atoms.info["step"] for atoms in selected] == [20]
    assert summary["skipped"] == {"too_close": 1}
    summary, _, selected = run(write_job(tmp_path, ["a"], guard={"min_distance": 0}))
    assert [atoms.info["step"] for atoms in selected] == [10, 20]


def test_the_soundest_of_a_bad_lot(tmp_path: Path) -> None:
    write_md(tmp_path, 0, [2.0, 0.9, NAN, 0.1])
    summary, _, selected = run(write_job(tmp_path, ["a"]))
    assert (summary["frames"], summary["failed"], summary["all_failed"]) == (3, 3, True)
    assert [atoms.info["step"] for atoms in selected] == [10, 20]


def test_a_structure_without_output_and_no_task_at_all(tmp_path: Path) -> None:
    """Lesson 4."""
    write_md(tmp_path, 0, [0.2] * 5)
    summary, _, selected = run(write_job(tmp_path, ["b"], structures=["a", "b", "c"], max_select={"c": 1}))
    assert [part["selected"] for part in summary["by_structure"]] == [0, 3, 0]
    summary, rows, selected = run(write_job(tmp_path, [], structures=["a"]))
    assert (summary["frames"], rows, selected) == (0, [], [])


def test_frames_come_back_in_the_axes_that_were_sent(tmp_path: Path) -> None:
    write_md(tmp_path, 0, [0.2])
    sent = bulk("Si")
    rotation = write_data(tmp_path / "explore/task.000000/structure.data", sent, ["Si"])
    positions, box = sent.positions @ make_rotation(sent.cell.array, sent.pbc).matrix, rotation.box
    lines = ["ITEM: TIMESTEP", "10", "ITEM: NUMBER OF ATOMS", "2", "ITEM: BOX BOUNDS abc origin pp pp pp"]
    lines += [" ".join(f"{x:.17g}" for x in [*vector, 0.0]) for vector in box] + ["ITEM: ATOMS id type x y z"]
    lines += [f"{i} 1 " + " ".join(f"{x:.17g}" for x in position) for i, position in enumerate(positions, 1)]
    (tmp_path / "explore/task.000000/traj.lammpstrj").write_text("\n".join(lines) + "\n")
    (atoms,) = run(write_job(tmp_path, ["a"]))[2]
    assert np.allclose(atoms.cell.array, sent.cell.array, atol=1e-12)
    assert np.allclose(atoms.positions, sent.positions, atol=1e-12)


def check_error(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    output, error = capsys.readouterr()
    assert output == ""
    assert 1 <= len(error.strip().splitlines()) <= 3
    for word in words:
        assert word in error


def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_md(tmp_path, 0, [0.2])
    path = tmp_path / "explore/task.000000/model_devi.out"
    path.write_text(path.read_text() + "what is this\n")
    folder = write_job(tmp_path, ["a"])
    assert main([str(folder)]) == 3
    check_error(capsys, "model_devi.out", "line 4", "task.000000")
    assert not (folder / "summary.json").exists()
    path.unlink()
    assert main([str(folder)]) == 3
    check_error(capsys, "model_devi.out is missing")


def test_a_bad_job_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 3
    check_error(capsys, "expected one")
    assert main([str(tmp_path)]) == 3
    check_error(capsys, "query.json is missing")
    folder = write_job(tmp_path, [], structures=["a"], explorer="other")
    assert main([str(folder)]) == 3
    check_error(capsys, "no explorer is called 'other'")
    for text in ("{", '{"seed": 1}'):
        (folder / QUERY_JOB_FILE).write_text(text)
        assert main([str(folder)]) == 3
        check_error(capsys, "query.json")
    folder = write_job(tmp_path, [], structures=["a"], labelled=["../nowhere"])
    assert main([str(folder)]) == 3
    check_error(capsys, "no deepmd/npy system", "nowhere")


DIVERSE = {"lower": 0.1, "upper": 0.3, "max_select": 3, "choose": "diverse", "shortlist": 2}


def read_shortlist(folder: Path) -> dict[str, Any]:
    write_shortlist(folder)
    with np.load(folder / "shortlist.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def describe(folder: Path, shortlist: dict[str, Any]) -> None:
    """Describe the candidates by their steps: one environment on a line."""
    n_frames = len(shortlist["step"])
    descriptors = shortlist["step"].reshape(-1, 1, 1).astype(np.float32)
    kinds, known = np.zeros((n_frames, 1), dtype=int), np.full((n_frames, 1), 1e9)
    names = {"task": shortlist["task"], "step": shortlist["step"]}
    np.savez(folder / "features.npz", **names, kinds=kinds, known=known, descriptors=descriptors)


def test_the_shortlist_holds_the_candidates_as_the_models_see_them(tmp_path: Path) -> None:
    write_md(tmp_path, 0, [0.05, *[0.2] * 8, 0.4])
    write_md(tmp_path, 1, [0.15] * 2)
    folder = write_job(tmp_path, ["b", "a"], query=DIVERSE)
    found = read_shortlist(folder)
    places = list(zip(found["task"].tolist(), found["step"].tolist(), strict=True))
    assert places[:2] == [(1, 10), (1, 20)]  # structures in their order
    assert all(task == 0 and 20 <= step <= 90 for task, step in places[2:])
    assert 3 <= len(places[2:]) <= 6
    assert found["n_atoms"].tolist() == [8] * len(places)
    assert found["periodic"].all() and not found["kinds"].any()
    positions = found["positions"].reshape(-1, 8, 3)
    for (task, step), atoms, cell in zip(places, positions, found["cells"], strict=True):
        assert np.array_equal(atoms, make_frame(task, step).positions)
        assert np.array_equal(cell, SILICON.cell.array)
    assert len(read_shortlist(write_job(tmp_path, ["b", "a"], query=DIVERSE | {"lower": 0.29}))["step"]) == 0


def test_a_diverse_choice_from_folders_to_files(tmp_path: Path) -> None:
    write_md(tmp_path, 0, [0.2] * 6)
    folder = write_job(tmp_path, ["a"], query=DIVERSE, features="features.npz")
    describe(folder, read_shortlist(folder))
    summary, rows, selected = run(folder)
    assert [atoms.info["step"] for atoms in selected] == [10, 30, 60]  # the first, the farthest, the middle
    assert (summary["choose"], summary["selected"], summary["candidate"]) == ("diverse", 3, 6)
    assert [row["step"] for row in rows if row["selected"] == "1"] == ["10", "30", "60"]


def test_a_look_ahead_from_folders_to_files(tmp_path: Path) -> None:
    """The most uncertain frame, then not its neighbour, which the first one tells nearly all of, but another."""
    write_md(tmp_path, 0, [0.2] * 6)
    query = DIVERSE | {"choose": "lookahead", "uncertainty": "kpu", "max_select": 2, "shortlist": 3}
    folder = write_job(tmp_path, ["a"], query=query, features="features.npz")
    shortlist = read_shortlist(folder)
    angle = np.array([0.0, 0.1, 0.2, 1.4, 1.5, 1.6])
    rows = np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.array([[3, 2.9, 2.8, 1, 1.1, 1]]).T
    names = {"task": shortlist["task"], "step": shortlist["step"]}
    np.savez(folder / "features.npz", **names, kernel=rows @ rows.T, noise=np.full(6, 0.1))
    summary, _, selected = run(folder)
    assert [atoms.info["step"] for atoms in selected] == [10, 50]
    assert (summary["choose"], summary["selected"]) == ("lookahead", 2)


def test_a_look_ahead_compares_no_more_than_its_kernel_can_hold(tmp_path: Path) -> None:
    query = DIVERSE | {"choose": "lookahead", "uncertainty": "kpu", "max_select": 300, "shortlist": 20}
    job = read_job(write_job(tmp_path, [], structures=["a", "b"], query=query) / QUERY_JOB_FILE)
    assert job.shortlist_length("a") == 2_000
    few = job.model_copy(update={"query": job.query.model_copy(update={"max_select": 3})})
    assert few.shortlist_length("a") == 60
    many = job.model_copy(update={"query": job.query.model_copy(update={"max_select": 9_000})})
    assert many.shortlist_length("a") == 9_000


def test_candidates_that_were_not_described_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_md(tmp_path, 0, [0.2] * 6)
    folder = write_job(tmp_path, ["a"], query=DIVERSE)
    assert main([str(folder)]) == 3
    check_error(capsys, "names no features")
    assert main([str(write_job(tmp_path, ["a"], query=DIVERSE, features="features.npz"))]) == 3
    check_error(capsys, "features.npz is missing")
    assert run(write_job(tmp_path, ["a"], query=DIVERSE, labels_left=0))[0]["selected"] == 0


def test_the_soundest_of_a_bad_lot_need_no_description(tmp_path: Path) -> None:
    write_md(tmp_path, 0, [2.0, 0.9, NAN, 0.1])
    summary, _, selected = run(write_job(tmp_path, ["a"], query=DIVERSE))
    assert [atoms.info["step"] for atoms in selected] == [10, 20]
    assert summary["all_failed"]


def test_the_shortlist_program_tells_what_is_wrong(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "al_driver.tasks.shortlist", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert "query.json is missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_as_a_child_process(tmp_path: Path) -> None:
    write_md(tmp_path, 0, [0.2] * 4)
    folder = write_job(tmp_path, ["a"])
    command = [sys.executable, "-m", "al_driver.tasks.query", "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    verify_query(folder)
