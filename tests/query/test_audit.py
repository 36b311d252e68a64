"""Audit frames: independent ones, all sound frames equally likely, marked in every file, and measured."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from test_query_task import dump_text, make_frame, run, write_job, write_md

from al_driver.data.frames import Label, labelled_frame, read_frames, write_frames
from al_driver.errors import StateMismatch
from al_driver.query.audit import Course, correlation_time
from al_driver.query.calibration import Audit, Calibration
from al_driver.query.deviation import Rows
from al_driver.query.job import QueryJob
from al_driver.query.window import Scored
from al_driver.tasks.query import run_query
from al_driver.workflow.audit import measure, report_audits

NAN = float("nan")
TARGET = {"target_force_error": 0.5, "max_select": 3}
NOTHING_KNOWN = Calibration.fit([], {"Si": 0.5}, 0.9)


def make_series(n: int, phi: float, rng: np.random.Generator) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return an AR(1) series, whose correlation time is (1 + φ) / (2 (1 − φ))."""
    noise, series = rng.normal(size=n), np.zeros(n)
    for i in range(1, n):
        series[i] = phi * series[i - 1] + noise[i]
    return series


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, 0.97])
def test_correlation_time_of_a_known_process(phi: float) -> None:
    rng = np.random.default_rng(1)
    found = [correlation_time(make_series(4000, phi, rng)) for _ in range(20)]
    assert np.mean(found) == pytest.approx((1 + phi) / (2 * (1 - phi)), rel=0.12)


def test_correlation_time_of_short_and_dull_series() -> None:
    assert correlation_time(np.zeros(0)) == 0.5
    assert correlation_time(np.array([0.2])) == 0.5
    assert correlation_time(np.full(30, 0.2)) == 15.0  # tells nothing: one stretch
    assert correlation_time(np.arange(100.0)) > 8  # drifts: few independent frames


def make_course(scores: "np.ndarray[tuple[int], np.dtype[np.float64]]", blocks: int = 1) -> Course:
    course = Course()
    for index in np.array_split(np.arange(len(scores)), blocks):
        rows = Rows(10 * index, {}, {})
        sound = np.isfinite(scores[index])
        course.add(Scored(rows, scores[index], np.zeros(len(index), dtype=np.uint8), sound), index)
    return course


def test_one_frame_of_each_stretch_and_all_equally_likely() -> None:
    scores = make_series(200, 0.6, np.random.default_rng(2))
    length = int(np.ceil(2 * correlation_time(scores)))
    assert length > 1
    drawn = np.zeros(200)
    for seed in range(4000):
        entries = make_course(scores).stretches(3, np.random.default_rng(seed))
        stretches = entries["step"] // 10 // length
        assert len(np.unique(stretches)) == len(entries) == -(-200 // length)
        first = entries[np.argsort(entries["rank"])][:4]
        assert np.array_equal(first["score"], scores[first["mark"]]) and set(first["task"]) == {3}
        drawn[first["mark"]] += 1
    expected = 4000 * 4 / 200
    whole = drawn[: 200 // length * length]  # the last stretch may be shorter
    assert np.abs(whole - expected).max() < 5 * np.sqrt(expected)


def test_blocks_and_unsound_frames_change_nothing() -> None:
    scores = make_series(100, 0.5, np.random.default_rng(3))
    whole = make_course(scores).stretches(0, np.random.default_rng(1))
    assert np.array_equal(whole, make_course(scores, blocks=7).stretches(0, np.random.default_rng(1)))
    spoilt = np.insert(scores, 50, NAN)
    steps = make_course(spoilt).stretches(0, np.random.default_rng(1))["step"]
    assert 500 not in steps
    assert len(Course().stretches(0, np.random.default_rng(1))) == 0


def driven_forces(step: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    return np.random.default_rng(step).normal(size=(8, 3))


def write_driven_md(root: Path, task: int, scores: list[float]) -> None:
    """Write dynamics whose dump holds the forces of the model that drove them."""
    write_md(root, task, scores)
    with (root / f"explore/task.{task:06d}/traj.lammpstrj").open("w") as stream:
        for step in range(0, 10 * len(scores) + 1, 10):
            lines = dump_text(step, make_frame(task, step)).splitlines()
            forces = driven_forces(step)
            lines[8] += " fx fy fz"
            lines[9:] = [
                f"{line} {' '.join(f'{x:.17g}' for x in force)}" for line, force in zip(lines[9:], forces, strict=True)
            ]
            stream.write("\n".join(lines) + "\n")
    (root / "explore/tasks.json").write_text(
        json.dumps([{"path": f"task.{t:06d}", "temperature": [300.0, 300.0]} for t in range(task + 1)])
    )


def write_target_job(root: Path, n_tasks: int = 1, **keys: object) -> Path:
    known = {"calibration": NOTHING_KNOWN.model_dump(mode="json"), "n_audits": 4, "query": TARGET}
    return write_job(root, ["a"] * n_tasks, **(known | keys))


def noisy(n: int) -> list[float]:
    return [float(f"{score:.6e}") for score in np.random.default_rng(4).uniform(0.01, 0.02, n)]


def test_audits_are_drawn_from_every_class_and_marked(tmp_path: Path) -> None:
    write_driven_md(tmp_path, 0, noisy(60))
    bound = Calibration.model_validate(
        NOTHING_KNOWN.model_dump() | {"n_audits": 9, "general": {"a": 1.0, "n": 9, "largest": 1.0}}
    )
    folder = write_target_job(tmp_path, calibration=bound.model_dump(mode="json"))
    summary, rows, selected = run(folder)
    assert (summary["accurate"], summary["candidate"], summary["audits"], summary["selected"]) == (60, 0, 4, 4)
    assert summary["by_structure"][0]["independent"] > 20
    assert summary["lower"] == pytest.approx(0.5) and summary["upper"] is None
    assert all(atoms.info["audit"] is np.True_ or atoms.info["audit"] is True for atoms in selected)
    assert not any("forces" in atoms.arrays for atoms in selected)
    assert sum(found["selected"] == "1" for found in rows) == 4
    driven = read_frames(folder / "audit.extxyz")
    for atoms, sent in zip(driven, selected, strict=True):
        assert np.array_equal(atoms.arrays["forces"], driven_forces(atoms.info["step"]))
        assert np.array_equal(atoms.positions, sent.positions)


def test_without_a_bound_the_highest_scores_are_labelled_beside_the_audits(tmp_path: Path) -> None:
    scores = noisy(60)
    write_driven_md(tmp_path, 0, scores)
    summary, _, selected = run(write_target_job(tmp_path))
    assert (summary["candidate"], summary["lower"], summary["selected"]) == (60, None, 7)
    audits = {atoms.info["step"] for atoms in selected if "audit" in atoms.info}
    others = [atoms.info["step"] for atoms in selected if "audit" not in atoms.info]
    ranked = [10 + 10 * int(i) for i in np.argsort(scores)[::-1]]
    assert sorted(others) == sorted([step for step in ranked if step not in audits][:3])
    assert [atoms.info["step"] for atoms in selected] == sorted(atoms.info["step"] for atoms in selected)


def test_what_an_explosion_left_is_not_audited(tmp_path: Path) -> None:
    """Frames after the cut are not read, and those of the run that ends it are no evidence of anything sound."""
    write_driven_md(tmp_path, 0, [0.01, 0.02, 0.015, 60.0, 70.0, NAN, 0.011, 0.012])
    summary, rows, selected = run(write_target_job(tmp_path, n_audits=100))
    assert (summary["frames"], summary["failed"]) == (6, 3)
    assert {found["step"] for found in rows} == {"10", "20", "30", "40", "50", "60"}
    assert all(atoms.info["step"] <= 50 for atoms in selected)


def test_audits_go_before_a_budget_is_spent(tmp_path: Path) -> None:
    write_driven_md(tmp_path, 0, noisy(60))
    summary, _, _ = run(write_target_job(tmp_path, labels_left=5))
    assert (summary["audits"], summary["selected"]) == (4, 5)
    summary, _, _ = run(write_target_job(tmp_path, labels_left=3))
    assert (summary["audits"], summary["selected"]) == (3, 3)
    summary, _, _ = run(write_target_job(tmp_path, audits_only=True))
    assert (summary["audits"], summary["selected"]) == (4, 4)


def test_a_dump_without_forces_is_an_error_that_says_so(tmp_path: Path) -> None:
    write_md(tmp_path, 0, noisy(30))
    with pytest.raises(StateMismatch, match="hold no forces"):
        run_query(write_target_job(tmp_path))


def test_a_query_with_a_target_needs_its_calibration(tmp_path: Path) -> None:
    job = QueryJob.model_validate_json((write_target_job(tmp_path, calibration=None) / "query.json").read_text())
    with pytest.raises(StateMismatch, match="no calibration"):
        job.window(None)


def label(atoms: Atoms, error: float) -> Atoms:
    """Return a labelled frame in which the force on atom 3 is off by so much."""
    forces = driven_forces(atoms.info["step"])
    forces[3] += [0.0, error, 0.0]
    return labelled_frame(Label(atoms, -1.0, forces), atoms.info)


def test_errors_are_those_of_the_model_that_explored(tmp_path: Path) -> None:
    write_driven_md(tmp_path, 0, noisy(60))
    folder = write_target_job(tmp_path)
    _, _, selected = run(folder)
    labelled = tmp_path / "label"
    labelled.mkdir()
    errors = {atoms.info["step"]: 0.1 * (i + 1) for i, atoms in enumerate(selected)}
    kept = selected[:-1]  # one label was rejected
    write_frames(labelled / "labelled.extxyz", [label(atoms, errors[atoms.info["step"]]) for atoms in kept])
    audits = measure(tmp_path / "explore", folder, labelled, ["Si"], 2)
    wanted = [atoms for atoms in kept if "audit" in atoms.info]
    assert [audit.step for audit in audits] == [atoms.info["step"] for atoms in wanted]
    for audit, atoms in zip(audits, wanted, strict=True):
        assert audit.errors == {"Si": pytest.approx(errors[audit.step], rel=1e-12)}
        assert (audit.score, audit.structure, audit.iteration) == (atoms.info["score"], "a", 2)
    report = report_audits(audits, NOTHING_KNOWN, [], labelled)
    assert report["missed_target"] == sum(errors[audit.step] > 0.5 for audit in audits)
    assert report["word"] == "No bound yet: 0 of 9 audits were known"
    assert json.loads((labelled / "audit.json").read_text()) == report


def test_a_coverage_that_fails_is_said_in_words(tmp_path: Path) -> None:
    bound = Calibration.model_validate(
        NOTHING_KNOWN.model_dump() | {"n_audits": 9, "general": {"a": 1.0, "n": 9, "largest": 1.0}}
    )
    audit = {"iteration": 1, "structure": "a", "task": "t", "step": 1, "temperature": 300.0, "score": 0.1}
    good = [Audit.model_validate(audit | {"errors": {"Si": 0.05}})] * 10
    bad = [Audit.model_validate(audit | {"errors": {"Si": 0.2}})] * 10
    first = report_audits(good, bound, [], tmp_path)
    assert (first["covered"], first["bounded"], first["word"]) == (10, 10, "")
    second = report_audits(bad, bound, [first], tmp_path)
    assert second["so_far"] == {"audits": 20, "missed_target": 0, "outside": 0, "bounded": 20, "covered": 10}
    assert second["word"].startswith("The bound fails: 10 of 20 audits exceed it, so that it holds for 50% where 90%")
    outside = [Audit.model_validate(audit | {"errors": {"Si": 3.0}, "score": 1.5})]
    assert report_audits(outside, bound, [], tmp_path)["outside"] == 1
