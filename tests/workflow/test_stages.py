"""When a stage has converged, and when a run ends: each case on made-up counts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_run import JOB, PARAM, Tasks, make_folder, patch, run

from al_driver.explorers.base import Stage
from al_driver.query.params import QueryParams
from al_driver.workflow.converge import why_open
from al_driver.workflow.run import Loop, _run_stages

MD = {"trajectories": 20, "failed": 0}
WINDOW = QueryParams(lower=0.1, upper=0.3)
TARGET = QueryParams(target_force_error=0.1)


def counts(frames: int, unsure: int) -> dict[str, Any]:
    return {"frames": frames, "accurate": frames - unsure, "candidate": unsure // 2, "failed": unsure - unsure // 2}


@pytest.mark.parametrize(
    ("explored", "queried", "reason"),
    [
        (MD, counts(1000, 0), None),
        (MD, counts(1000, 19), None),
        (MD, counts(1000, 20), "2% of frames unsure"),  # below the share, not at it
        (MD, counts(1000, 1000), "100% of frames unsure"),
        (MD, counts(0, 0), "no frame could be scored"),
        (MD | {"halted": 1}, counts(1000, 0), None),  # one guard of twenty blocks nothing
        (MD | {"halted": 10}, counts(1000, 0), None),
        (MD | {"halted": 11}, counts(1000, 0), "11 of 20 trajectories ended early"),
        (MD | {"crashed": 6, "halted": 3, "failed": 2}, counts(9, 0), "11 of 20 trajectories ended early"),
        ({"trajectories": 1, "failed": 0, "crashed": 1}, counts(50, 0), "1 of 1 trajectories ended early"),
        (MD | {"halted": 20}, counts(100, 50), "50% of frames unsure"),
    ],
)
def test_why_a_stage_is_open(explored: dict[str, Any], queried: dict[str, Any], reason: str | None) -> None:
    assert why_open(explored, queried, WINDOW) == reason


class FakeLoop:
    """Gives the share of unsure frames that the test wrote for each iteration, and spends labels."""

    def __init__(self, unsure: list[int], max_labels: int | None) -> None:
        self.unsure = unsure
        self.left = max_labels
        self.statement = None
        self.stages: list[int] = []

    def iterate(self, iteration: int, stage: Stage) -> str | None:
        assert iteration == len(self.stages)
        self.stages.append(stage.jobs[0].n_steps)
        if self.left is not None:
            self.left = max(self.left - 10, 0)
        return why_open(MD, counts(100, self.unsure[iteration]), WINDOW)

    def labels_to_learn(self) -> int | None:
        return self.left

    def advice(self) -> str:
        return "Do something"


def run_stages(repeats: list[int], unsure: list[int], max_labels: int | None = None) -> tuple[Any, list[int]]:
    """Run stages told apart by their number of steps: 100 for the first, 101 for the second, …"""
    stages = tuple(
        Stage.model_validate({"jobs": [JOB | {"n_steps": 100 + number}], "max_repeats": most})
        for number, most in enumerate(repeats)
    )
    query = WINDOW.model_copy(update={"max_labels": max_labels})
    params: Any = SimpleNamespace(explore=SimpleNamespace(iterations=stages), query=query)
    loop: Any = FakeLoop(unsure, max_labels)
    return _run_stages(loop, params), loop.stages


@pytest.mark.parametrize(
    ("repeats", "unsure", "max_labels", "stages", "state", "words"),
    [
        ([1], [0], None, [100], "converged", "in every stage fewer than 2% of frames unsure"),
        ([1], [50], None, [100], "not_converged", "stage 0: 50% of frames unsure. Do something"),
        ([5], [50, 20, 1], None, [100] * 3, "converged", "in every stage"),
        ([2, 3], [50, 30, 20, 0], None, [100, 100, 101, 101], "not_converged", "stage 0: 30% of frames unsure."),
        ([3, 3], [50, 0, 60, 0], None, [100, 100, 101, 101], "converged", "in every stage"),
        (
            [2, 2],
            [9, 8, 7, 6],
            None,
            [100, 100, 101, 101],
            "not_converged",
            "stage 0: 8% of frames unsure; stage 1: 6%",
        ),
        ([9, 9], [50, 40, 30], 20, [100, 100], "not_converged", "max_labels (20) are spent; stage 0: 40%"),
        ([9, 9], [50, 0, 30], 20, [100, 100, 101], "not_converged", "max_labels (20) are spent; stage 1: 30%"),
        ([9, 9], [50, 0, 0], 20, [100, 100, 101], "converged", "in every stage"),
    ],
)
def test_stages(
    repeats: list[int], unsure: list[int], max_labels: int | None, stages: list[int], state: str, words: str
) -> None:
    verdict, done = run_stages(repeats, unsure, max_labels)
    assert done == stages
    assert verdict.state == state
    assert words in verdict.reason


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Tasks:
    return patch(monkeypatch)


def test_max_labels_is_never_exceeded(tmp_path: Path, tasks: Tasks) -> None:
    folder = make_folder(tmp_path / "run", query=PARAM["query"] | {"max_labels": 3})
    verdict = run(folder)
    assert verdict.reason.startswith("max_labels (3) are spent")
    assert sum("/label/" in name for name in tasks.run) == 3
    assert not (folder / "work/iter.0002").exists()
    assert (folder / "work/final/step.json").exists()


def test_stop_rules_are_weighed_anew_at_each_start(tmp_path: Path, tasks: Tasks) -> None:
    folder = make_folder(tmp_path / "run")
    assert run(folder).state == "not_converged"
    n_tasks = len(tasks.run)
    make_folder(tmp_path / "other", query=PARAM["query"] | {"converged_fraction": 0.6})
    (folder / "param.json").write_text((tmp_path / "other/param.json").read_text())
    assert run(folder).state == "converged"
    assert len(tasks.run) == n_tasks


def test_an_added_stage_goes_on_and_makes_the_final_model_anew(tmp_path: Path, tasks: Tasks) -> None:
    explore = PARAM["explore"]
    folder = make_folder(tmp_path / "run", explore=explore | {"iterations": explore["iterations"][:2]})
    run(folder)
    tasks.run.clear()
    (folder / "param.json").write_text((make_folder(tmp_path / "whole") / "param.json").read_text())
    run(folder)
    assert tasks.run[0] == "2/train/model.000"
    assert tasks.run[-2:] == ["final/model.000", "final/model.001"]
    assert (folder / "work/final.bak.1/step.json").exists()


def test_labels_left_counts_what_was_labelled() -> None:
    query = SimpleNamespace(max_labels=5)
    loop: Any = SimpleNamespace(params=SimpleNamespace(query=query), n_labelled=7, recovered=[])
    assert Loop.labels_left(loop) == 0
