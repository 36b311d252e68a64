"""Classes and the cut."""

from pathlib import Path

import numpy as np
import pytest
from deviation_files import HEADER, row, write_deviations
from hypothesis import given, settings
from hypothesis import strategies as st

from al_driver.query import deviation
from al_driver.query.deviation import Rows
from al_driver.query.params import Metric
from al_driver.query.window import ACCURATE, CANDIDATE, CLASS_NAMES, FAILED, Window, read_scored

NAN, INF = float("nan"), float("inf")


def make_window(metric: Metric = "max_force", *, stop_after: int = 1000) -> Window:
    return Window(metric, lower=0.1, upper=0.3, max_force=50.0, stop_after=stop_after)


def make_rows(max_f: list[float], avg_f: list[float] | None = None, max_v: list[float] | None = None) -> Rows:
    fill = [0.0] * len(max_f)
    values = {"max_devi_f": max_f, "avg_devi_f": avg_f or fill, "max_devi_v": max_v or fill}
    return Rows(np.arange(len(max_f)), {name: np.array(column) for name, column in values.items()}, {})


def read(path: Path, window: Window, **keys: object) -> tuple[list[int], list[str]]:
    """Return steps and classes of all frames that are read."""
    blocks = list(read_scored(path, window, **keys))  # type: ignore[arg-type]
    return (
        [int(step) for block in blocks for step in block.rows.step],
        [CLASS_NAMES[code] for block in blocks for code in block.classes],
    )


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (0.0, ACCURATE), (np.nextafter(0.1, 0), ACCURATE), (0.1, CANDIDATE), (np.nextafter(0.3, 0), CANDIDATE),
        (0.3, FAILED), (1e300, FAILED), (INF, FAILED), (-INF, FAILED), (NAN, FAILED),
    ],
)  # fmt: skip
def test_each_bound(score: float, expected: int) -> None:
    """Lesson 1."""
    assert make_window().classify(make_rows([score])).tolist() == [expected]


@given(st.lists(st.tuples(*[st.floats(allow_nan=True, allow_infinity=True)] * 3)), st.sampled_from(
    ["max_force", "mean_force", "max_virial", "relative_force"]
))  # fmt: skip
def test_every_frame_has_one_class(values: list[tuple[float, float, float]], metric: Metric) -> None:
    columns = [[value[i] for value in values] for i in range(3)]
    classes = make_window(metric).classify(make_rows(*columns))
    counts = np.bincount(classes, minlength=3)
    assert counts.sum() == len(values)
    assert len(counts) == 3


@pytest.mark.parametrize(
    ("metric", "column"),
    [
        ("max_force", "max_devi_f"),
        ("mean_force", "avg_devi_f"),
        ("max_virial", "max_devi_v"),
        ("relative_force", "max_devi_f"),
    ],
)
def test_each_metric_reads_its_column(tmp_path: Path, metric: Metric, column: str) -> None:
    path = tmp_path / "model_devi.out"
    values = {"max_devi_f": 0.05, "avg_devi_f": 0.05, "max_devi_v": 0.05} | {column: 0.2}
    path.write_text(HEADER + row(10, values["max_devi_f"], avg_f=values["avg_devi_f"], max_v=values["max_devi_v"]))
    (scored,) = read_scored(path, make_window(metric))
    assert scored.score.tolist() == [0.2]
    assert scored.classes.tolist() == [CANDIDATE]


@pytest.mark.parametrize("max_f", [50.0, 1e9, NAN, INF])
@pytest.mark.parametrize("metric", ["max_virial", "mean_force"])
def test_an_absurd_force_is_not_saved_by_a_small_virial(metric: Metric, max_f: float) -> None:
    rows = make_rows([max_f, np.nextafter(50.0, 0)], [0.2, 0.2], [0.2, 0.2])
    window = make_window(metric)
    assert window.classify(rows).tolist() == [FAILED, CANDIDATE]
    assert window.is_absurd(rows).tolist() == [True, False]


def test_step_0_is_not_a_frame(tmp_path: Path) -> None:
    path = write_deviations(tmp_path / "model_devi.out", [4e-16, 0.05, 0.2], first=0)
    assert read(path, make_window()) == ([10, 20], ["accurate", "candidate"])


def test_a_frame_needs_coordinates(tmp_path: Path) -> None:
    path = write_deviations(tmp_path / "model_devi.out", [0.2] * 4)
    assert read(path, make_window(), steps=np.array([0, 10, 30, 35]))[0] == [10, 30]
    assert read(path, make_window(), steps=np.array([], dtype=int))[0] == []


FINE, BAD = 0.05, 0.3


@pytest.mark.parametrize(
    ("scores", "n_read"),
    [
        ([BAD, BAD, FINE, 0.2], 4),
        ([FINE, BAD, BAD, BAD, FINE, 0.2], 4),  # the run itself is read; it falls back, and that is not read
        ([BAD, BAD, BAD], 3),
        ([BAD, BAD, BAD, BAD, BAD], 3),
        ([BAD, NAN, INF, 0.2], 3),
        ([BAD, BAD, 0.2999999, BAD, BAD, 0.2], 6),  # just below the bound ends the run
        ([BAD, BAD, 0.2, BAD, BAD, BAD, 0.2], 6),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 127, 300, 1 << 20])
def test_the_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: list[float], n_read: int, block_bytes: int
) -> None:
    monkeypatch.setattr(deviation, "BLOCK_BYTES", block_bytes)
    path = write_deviations(tmp_path / "model_devi.out", scores)
    steps, classes = read(path, make_window(stop_after=3))
    assert steps == [10 + 10 * i for i in range(n_read)]
    assert classes == [CLASS_NAMES[code] for code in make_window().classify(make_rows(scores[:n_read]))]


def test_stop_after_one_reads_the_first_failed_frame(tmp_path: Path) -> None:
    path = write_deviations(tmp_path / "model_devi.out", [0.05, 0.4, 0.05])
    assert read(path, make_window(stop_after=1)) == ([10, 20], ["accurate", "failed"])


def test_nothing_is_read_from_the_guard_on(tmp_path: Path) -> None:
    path = write_deviations(tmp_path / "model_devi.out", [0.05, 0.2, 0.05, 0.2])
    assert read(path, make_window(), halted_at=30)[0] == [10, 20]
    assert read(path, make_window(), halted_at=31)[0] == [10, 20, 30]
    assert read(path, make_window(), halted_at=10)[0] == []


@settings(deadline=None)  # it writes files
@given(st.lists(st.sampled_from([FINE, 0.2, BAD, NAN])), st.integers(1, 4), st.integers(60, 400))
def test_the_cut_is_that_of_a_plain_loop(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float], stop_after: int, block_bytes: int
) -> None:
    path = write_deviations(tmp_path_factory.mktemp("cut") / "model_devi.out", scores)
    expected, in_a_row = 0, 0
    for score in scores:
        expected += 1
        in_a_row = 0 if score < BAD else in_a_row + 1
        if in_a_row == stop_after:
            break
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deviation, "BLOCK_BYTES", block_bytes)
        assert len(read(path, make_window(stop_after=stop_after))[0]) == expected
