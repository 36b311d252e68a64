"""What a wanted force error costs is foretold, and what cannot be had is refused, before anything runs."""

from pathlib import Path
from typing import Any

import pytest
from fake_run import JOB, PARAM, make_folder, read_param

from al_driver.errors import Problem
from al_driver.workflow.check_target import check_target, describe_target, most_labels


def find(tmp_path: Path, stages: list[Any], **query: Any) -> tuple[list[str], list[str]]:
    """Return the keys of what is refused, and what is foretold."""
    changes = {"query": {"target_force_error": 0.1} | query, "explore": PARAM["explore"] | {"iterations": stages}}
    params = read_param(make_folder(tmp_path / "run", **changes))
    problems: list[Problem] = list(check_target(params))
    assert all(problem.severity == "error" for problem in problems)
    return [str(problem.key) for problem in problems], list(describe_target(params))


def stage(repeats: int, **job: Any) -> dict[str, Any]:
    return {"jobs": [JOB | job], "max_repeats": repeats}


def test_what_it_costs(tmp_path: Path) -> None:
    problems, (running, closing) = find(tmp_path, [stage(4), stage(2, structures="all")])
    assert problems == []
    assert running.startswith("audit: 5 frames of each structure in each iteration, 40 labels in 6 iterations at most")
    assert running.endswith("a bound of 0.9 needs 9")
    assert closing.startswith("closing audit: 72 frames of each of 2 structures, 144 labels")
    assert "fewer than 0.05 of frames are, at 95% confidence" in closing
    assert closing.endswith("a second look, after one that fails, takes 107 of each, a third 121")
    one = find(tmp_path / "one", [stage(4)], max_bad_fraction=0.1)[1][1]
    assert one.startswith("closing audit: 29 frames of each of 1 structure, 29 labels")


@pytest.mark.parametrize(
    ("stages", "query", "keys"),
    [
        ([stage(1)], {}, ["query.coverage"]),  # five audits, and nine are needed
        ([stage(2)], {}, ["query.audit"]),  # known only when the last iteration has been queried
        ([stage(3)], {}, []),
        ([stage(1, structures="all")] * 2, {}, []),
        ([stage(1)], {"audit": 100}, ["explore.iterations[0].max_repeats"]),  # none come before a single iteration
        ([stage(3)], {"coverage": 0.95}, ["query.coverage"]),
        ([stage(3)], {"max_labels": 67}, ["query.max_labels"]),  # 59 and 9
        ([stage(3)], {"max_labels": 68}, []),
        ([stage(3)], {"max_labels_per_iteration": 5}, ["query.max_labels_per_iteration"]),
        ([stage(3)], {"max_labels_per_iteration": 6}, []),
    ],
)
def test_the_impossible_is_refused(tmp_path: Path, stages: list[Any], query: dict[str, Any], keys: list[str]) -> None:
    assert find(tmp_path, stages, **query)[0] == keys


def test_a_template_must_dump_forces(tmp_path: Path) -> None:
    template = tmp_path / "md.in"
    template.write_text("dump t all custom 10 traj id type x y z\n")
    explore = PARAM["explore"] | {"template": str(template), "iterations": [stage(3)]}
    folder = make_folder(tmp_path / "run", explore=explore, query={"target_force_error": 0.1})
    (problem,) = check_target(read_param(folder))
    assert problem.file == template and "dumps no forces (fx fy fz)" in problem.message
    dump = "dump t all custom 10 traj id type x y z fx fy fz\n"
    template.write_text(dump)
    assert list(check_target(read_param(folder))) == []
    for fix in ("langevin {{ temperature }} 300 0.1 {{ seed }}", "setforce 0 0 0", "wall/lj93 zlo 0 1 1 2.5"):
        template.write_text(f"# no fix\nfix h all {fix}\n{dump}")
        (problem,) = check_target(read_param(folder))
        assert problem.message.startswith(f"fix {fix.split()[0]} changes forces before they are dumped")
    template.write_text(f"fix f all store/force\nfix h all langevin 300 300 0.1 1\n{dump}")
    assert list(check_target(read_param(folder))) == []


def test_a_window_costs_nothing_of_this(tmp_path: Path) -> None:
    params = read_param(make_folder(tmp_path / "run"))
    assert (list(check_target(params)), list(describe_target(params)), most_labels(params, [])) == ([], [], 0)
