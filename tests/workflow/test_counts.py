"""How many files a work folder holds: right, and quickly told, whatever lies in it."""

from pathlib import Path
from typing import Any

import pytest

from al_driver.workflow import counts
from al_driver.workflow.counts import count_files, count_work
from al_driver.workflow.pack import pack
from al_driver.workflow.step import Step, run_step


def make_step(folder: Path, n_tasks: int) -> None:
    def work() -> dict[str, Any]:
        for index in range(n_tasks):
            (folder / f"task.{index:06d}").mkdir()
            (folder / f"task.{index:06d}/output").touch()
        return {}

    run_step(Step("label", folder, {}, ()), work, [])


def files_in(root: Path) -> int:
    return sum(1 for path in root.rglob("*") if not path.is_dir())


@pytest.fixture
def work(tmp_path: Path) -> Path:
    make_step(tmp_path / "iter.0000/label", 5)
    make_step(tmp_path / "iter.0000.bak.1/label", 3)
    make_step(tmp_path / "iter.0000/label/retry.000", 2)  # after the step itself was counted
    make_step(tmp_path / "final", 1)
    (tmp_path / "al.log").touch()
    (tmp_path / "iter.0000/plots").mkdir()
    (tmp_path / "iter.0000/plots/a.png").touch()
    (tmp_path / "iter.0000/plots/link").symlink_to("a.png")
    return tmp_path


def test_every_file_is_counted_once(work: Path) -> None:
    told = count_work(work)
    assert told["total"] == files_in(work) and told["is_exact"]
    assert told["by_folder"] == {
        "final": 3, "iter.0000/label": 7 + 4, "iter.0000/plots": 2, "iter.0000.bak.1/label": 5,
    }  # fmt: skip


def test_a_packed_step_is_counted_as_it_is_now(work: Path) -> None:
    pack(work / "iter.0000/label")
    told = count_work(work)
    assert told["total"] == files_in(work)
    assert told["by_folder"]["iter.0000/label"] == 3 + 4


def test_a_finished_step_is_not_looked_through(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr(counts, "count_files", lambda folder, _: looked.append(folder.name) or 0)
    count_work(work)
    assert looked == ["plots"]


def test_a_huge_folder_is_counted_up_to_a_limit(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "iter.0001/label").mkdir(parents=True)
    for index in range(30):
        (work / f"iter.0001/label/{index}").touch()
    assert count_files(work / "iter.0001/label") == 30
    monkeypatch.setattr(counts, "MOST_COUNTED", 20)
    told = count_work(work)
    assert told["by_folder"]["iter.0001/label"] == 20 and not told["is_exact"]
