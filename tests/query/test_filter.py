"""``al filter`` foretells what a query with another window does: compared with that query."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_query_task import run, write_job, write_md

from al_driver.errors import ConfigError
from al_driver.workflow.filter import Rule, filter_run, read_target

NAN = float("nan")
QUERY = {"lower": 0.1, "upper": 0.3, "max_select": 3}
MD = [
    [0.05, 0.12, 0.15, 0.21, 0.25, 0.29, 0.05, 0.2, 0.31, 0.1],
    [0.05, 0.22, 0.26, 0.28, 0.05, 0.05, 0.4, NAN, 0.5, 0.2],  # the run cuts it before its last frame
    [0.02] * 5,
]
NAMES = ("frames", "accurate", "candidate", "failed", "selected")


def make_query(root: Path, query: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """Run a query, and leave it as a step of a run does; return its summary."""
    iteration = root / "work/iter.0000"
    for task, scores in enumerate(MD):
        write_md(iteration, task, scores)
    folder = write_job(iteration, ["a", "b", "b"], query=query, max_select={"b": 2}, **keys)
    summary, _, _ = run(folder)
    (folder / "scores").mkdir()
    shutil.copy(folder / "query.json", folder / "scores/query.json")
    step = {"fingerprint": "", "inputs": {}, "result": summary, "outputs": [], "finished": ""}
    (folder / "step.json").write_text(json.dumps(step))
    (root / "work/history.json").write_text('{"kind": "run"}')
    return summary


@pytest.mark.parametrize(
    ("lower", "upper"), [(0.1, 0.3), (0.2, 0.3), (0.1, 0.27), (0.01, 0.03), (0.3, 0.6), (1e-9, 1e-8), (0.2, 0.24)]
)
def test_another_window_as_if_it_had_been_the_run_s(tmp_path: Path, lower: float, upper: float) -> None:
    make_query(tmp_path / "was", QUERY)
    truth = make_query(tmp_path / "other", QUERY | {"lower": lower, "upper": upper})
    (found,) = filter_run(tmp_path / "was/work", Rule(lower, upper))["iterations"]
    if (lower, upper) == (0.3, 0.6):  # what the run cut away is not known
        assert (truth["frames"], found["frames"]) == (25, 24)
        return
    assert {name: found[name] for name in NAMES} == {name: truth[name] for name in NAMES}
    for part, expected in zip(found["by_structure"], truth["by_structure"], strict=True):
        assert {name: part[name] for name in NAMES} == {name: expected[name] for name in NAMES}
    assert found["was"]["candidate"] == 10


def test_what_was_left_of_max_labels_limits_another_window_too(tmp_path: Path) -> None:
    truth = make_query(tmp_path, QUERY, labels_left=4)
    work = tmp_path / "work"
    assert truth["selected"] == 4
    shutil.copytree(work / "iter.0000", work / "iter.0001")
    path = work / "iter.0001/query/scores/query.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labels_left": 1}))
    assert [found["selected"] for found in filter_run(work, Rule(0.1, 0.3))["iterations"]] == [4, 1]
    assert [found["selected"] for found in filter_run(work, Rule(0.25, 0.3))["iterations"]] == [4, 1]
    assert [found["selected"] for found in filter_run(work, Rule(0.28, 0.3))["iterations"]] == [2, 2]  # saved two


def test_a_target_needs_audits(tmp_path: Path) -> None:
    make_query(tmp_path, QUERY)
    with pytest.raises(ConfigError, match="has no audit frames"):
        filter_run(tmp_path / "work", Rule(target=0.1))


def test_first_data_have_no_scores(tmp_path: Path) -> None:
    (tmp_path / "history.json").write_text('{"kind": "init_bulk"}')
    with pytest.raises(ConfigError, match="is of `al init_bulk`, which scores nothing"):
        filter_run(tmp_path, Rule(target=0.1))


def test_a_target_from_the_audits_that_were_known(tmp_path: Path) -> None:
    """Iteration 1 knows nine audits, all with e = 2 s and scores to 0.25: the bound of 0.3 is a score of 0.15."""
    make_query(tmp_path, QUERY)
    work = tmp_path / "work"
    shutil.copytree(work / "iter.0000", work / "iter.0001")
    place = {"iteration": 0, "structure": "a", "task": "task.000000", "step": 1, "temperature": 300.0}
    scores = [0.05 + 0.025 * i for i in range(9)]
    frames = [place | {"score": s, "errors": {"Si": 2 * s}, "error": 2 * s, "bound": None} for s in scores]
    (work / "iter.0000/label").mkdir()
    (work / "iter.0000/label/audit.json").write_text(json.dumps({"frames": frames}))
    first, second = filter_run(tmp_path, Rule(target=0.3))["iterations"]
    assert (first["has_bound"], first["candidate"], first["failed"]) == (False, 23, 1)
    assert (second["has_bound"], second["accurate"]) == (True, 12)
    assert second["candidate"] == 11  # 0.15 … 0.5; not a number has failed
    query = work / "iter.0001/query"
    for path, keys in ((query / "scores/query.json", {"n_audits": 4}), (query / "summary.json", {})):
        content = json.loads(path.read_text()) | keys
        if not keys:  # as a run with a target tells it
            for part, independent in zip(content["by_structure"], (1, 6), strict=True):
                part["independent"] = independent
        path.write_text(json.dumps(content))
    parts = filter_run(tmp_path, Rule(target=0.3))["iterations"][1]["by_structure"]
    assert [part["selected"] for part in parts] == [1 + 3, 4 + 2]  # audits, no more than were independent, and a cap
    with pytest.raises(ConfigError, match=r"--target names C; give one number, or one for each of Si\."):
        filter_run(tmp_path, Rule(target={"C": 0.3}))
    (_, second) = filter_run(tmp_path, Rule(target={"Si": 3.0}))["iterations"]
    assert second["candidate"] == 6  # above 0.25: outside what was calibrated


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lower", "0.1"], "give --lower and --upper, or --target alone"),
        ([], "give --lower and --upper, or --target alone"),
        (["--lower", "0.1", "--upper", "0.3", "--target", "1"], "or --target alone"),
        (["--lower", "0.3", "--upper", "0.1"], "--lower (0.3) must be positive and below --upper (0.1)"),
        (["--target", "-1"], "--target (-1) must be positive"),
    ],
)
def test_a_wrong_rule_is_an_error(arguments: list[str], words: str) -> None:
    values = dict(zip([name[2:] for name in arguments[::2]], map(float, arguments[1::2]), strict=True))
    with pytest.raises(ConfigError) as error:
        Rule(**values)
    assert words in str(error.value)


@pytest.mark.parametrize("text", ["low", "Si=low", "Si=0.1,Si=0.2", "Si=0.1,0.2", "=", "Si=0.1=2"])
def test_a_target_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ConfigError, match="is no force error in eV/Å; give"):
        read_target(text)


def test_on_the_command_line(tmp_path: Path) -> None:
    make_query(tmp_path, QUERY)
    command = [sys.executable, "-m", "al_driver", "filter", "work", "--lower", "0.2", "--upper", "0.3"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=os.environ)
    assert "10, 5 kept" in shown.stdout and "lower 0.2, upper 0.3" in shown.stdout
    told = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout)["iterations"] == filter_run(tmp_path, Rule(0.2, 0.3))["iterations"]
