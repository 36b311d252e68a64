"""The frames of an iteration, counted block by block, against a plain reading of the same file."""

import csv
from pathlib import Path

import numpy as np
import pytest

from al_driver.errors import StateMismatch
from al_driver.plots import frames
from al_driver.plots.frames import take_census
from al_driver.query import table
from al_driver.query.report import HEADER
from al_driver.query.window import CLASS_NAMES

LOWER, UPPER = 0.1, 0.5


def write_frames_csv(path: Path, *, ramp: bool = False, n_steps: int = 40, spread: float = 1.2) -> list[dict[str, str]]:
    """Write a ``frames.csv`` of four trajectories; return its rows as the csv module reads them."""
    rng = np.random.default_rng(3)
    lines = [HEADER]
    for task, (temperature, pressure) in enumerate([(300, ""), (300, "1e4"), (600, ""), (600, "0.0")]):
        for step in range(10, 10 * n_steps + 1, 10):
            score = float(np.exp(rng.normal(np.log(0.15), spread)))
            name = "accurate" if score < LOWER else "candidate" if score < UPPER else "failed"
            text = f"{score:.6e}"
            if step == 100:
                name, text = "failed", "nan" if task % 2 else "inf"
            kelvin = float(temperature + step) if ramp else float(temperature)
            selected = int(name == "candidate" and step % 30 == 0)
            structure = '"bulk, slab"' if task == 3 else "si"
            lines.append(
                f"task.{task:06d},{structure},{kelvin!r},{pressure},{step},{text},{text},{text},{text},{name},{selected}\n"
            )
    path.write_text("".join(lines))
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("block", [7, 100_000])
@pytest.mark.parametrize("ramp", [False, True])
def test_every_frame_is_counted_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, ramp: bool
) -> None:
    monkeypatch.setattr(table, "BLOCK_ROWS", block)
    rows = write_frames_csv(tmp_path / "frames.csv", ramp=ramp)
    census = take_census(tmp_path / "frames.csv", [LOWER, UPPER])
    assert census is not None
    assert census.counts.tolist() == [sum(row["class"] == name for row in rows) for name in CLASS_NAMES]
    scores = np.array([float(row["score"]) for row in rows])
    finite = np.isfinite(scores)
    assert census.not_finite == np.count_nonzero(~finite) == 4
    assert census.scores.sum(axis=(0, 1)).tolist() == np.histogram(scores[finite], census.bins)[0].tolist()
    temperatures = np.array([float(row["temperature"]) for row in rows])
    steps = np.array([int(row["step"]) for row in rows])
    assert census.temperature.has_rows is not ramp
    if ramp:
        expected = np.histogram2d(temperatures, steps, (census.temperature.edges, census.step.edges))[0]
    else:
        assert census.temperature.values.tolist() == [300.0, 600.0]
        expected = np.histogram2d(temperatures, steps, ([0, 450, 900], census.step.edges))[0]
    assert census.by_step.tolist() == expected.tolist()
    assert census.pressure is not None and census.by_pressure is not None
    assert census.pressure.values.tolist() == [0.0, 1e4]
    assert census.by_pressure.sum(axis=0).tolist() == [40, 40]
    chosen = [row for row in rows if row["selected"] == "1"]
    assert census.n_selected == len(chosen) > 0
    assert census.selected.step.tolist() == [int(row["step"]) for row in chosen]
    assert census.selected.structure.tolist() == [row["structure"] for row in chosen]
    assert census.selected.score.tolist() == [float(row["score"]) for row in chosen]


def test_no_bin_lies_across_a_bound_of_the_window(tmp_path: Path) -> None:
    for spread, log_scores in ((1.2, True), (0.1, False)):
        write_frames_csv(tmp_path / "frames.csv", spread=spread)
        census = take_census(tmp_path / "frames.csv", [LOWER, UPPER])
        assert census is not None
        assert {LOWER, UPPER} <= set(census.bins.tolist())
        assert census.log_scores is log_scores
        assert (np.count_nonzero(census.scores.sum(axis=0), axis=0) <= 1).all(), "a bin has one class"


def test_bins_of_steps_hold_equally_many_steps(tmp_path: Path) -> None:
    write_frames_csv(tmp_path / "frames.csv", n_steps=137)
    census = take_census(tmp_path / "frames.csv", [LOWER, UPPER])
    assert census is not None
    assert set(census.by_step[0, :-1].tolist()) == {2 * 3}
    assert len(census.step.values) <= frames.MOST_BINS


def test_of_very_many_selected_frames_the_first_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MOST_SELECTED", 3)
    rows = write_frames_csv(tmp_path / "frames.csv")
    census = take_census(tmp_path / "frames.csv", [LOWER, UPPER])
    assert census is not None
    assert len(census.selected.step) == 3
    assert census.n_selected == sum(row["selected"] == "1" for row in rows)


def test_a_file_without_frames_has_no_census(tmp_path: Path) -> None:
    (tmp_path / "frames.csv").write_text(HEADER)
    assert take_census(tmp_path / "frames.csv", [LOWER, UPPER]) is None


def test_only_frames_without_a_finite_score_are_counted_too(tmp_path: Path) -> None:
    (tmp_path / "frames.csv").write_text(HEADER + "task.000000,si,300.0,,10,-nan,-nan,-nan,-nan,failed,0\n")
    census = take_census(tmp_path / "frames.csv", [LOWER, UPPER])
    assert census is not None
    assert (census.counts.tolist(), census.not_finite) == ([0, 0, 1], 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"frames\.csv is missing: redo the query"),
        ("task,score\n", r"frames\.csv begins with 'task,score'; expected 'task,structure,temperature"),
        (HEADER + "task.000000,si,300.0,,10,0.1\n", r"(?s)frames\.csv is damaged \(.*\)\.\n  Redo the query"),
        (HEADER + "t,si,300.0,,10,0.1,0.1,0.1,0.1,unknown,0\n", r"a class is none of accurate, candidate, failed"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "frames.csv").write_text(content)
    with pytest.raises(StateMismatch, match=message):
        take_census(tmp_path / "frames.csv", [LOWER, UPPER])
