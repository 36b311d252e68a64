"""The ledger of a labelled set: what a line holds, and which lines belong to a set or to one of its systems."""

from pathlib import Path

import numpy as np
import pytest

from al_driver.data.ledger import SHORT, comment_of, find_ledger, read_ledger, told_of, write_ledger
from al_driver.errors import StateMismatch

ROWS = [
    {"system": "dataset/Si8", "index": 0},
    {"system": "dataset/Si64", "index": 0},
    {"system": "valid/Si8", "index": 0},
    {"system": "dataset/Si8", "index": 1},
]


def test_a_line_is_json_whatever_the_frame_tells() -> None:
    info = {
        "energy": -1.0, "virial": np.eye(3), "score": np.float64("nan"), "step": np.int64(3),
        "magmoms": np.array([1.5]), "models": "ab cd", "checks": "cell finite", "structure": "si",
    }  # fmt: skip
    assert told_of(info) == {
        "score": None, "step": 3, "magmoms": [1.5], "models": ["ab", "cd"], "checks": ["cell", "finite"],
        "structure": "si",
    }  # fmt: skip


def test_a_comment_holds_words_and_short_hashes_and_no_host() -> None:
    row = {
        "engine": "qe",
        "settings": "a" * 64,
        "input": None,
        "checks": ["cell", "finite"],
        "host": "x",
        "seconds": 1.0,
    }
    assert comment_of(row) == {"engine": "qe", "settings": "a" * SHORT, "checks": "cell finite"}


@pytest.mark.parametrize(
    ("part", "lines"),
    [("", [0, 1, 2, 3]), ("dataset", [0, 1, 3]), ("dataset/Si8", [0, 3]), ("valid/Si8", [2]), ("x", [])],
)
def test_a_set_has_the_lines_of_its_systems(tmp_path: Path, part: str, lines: list[int]) -> None:
    write_ledger(tmp_path, ROWS, {"ab": {"engine": "qe"}})
    ledger = find_ledger(tmp_path / part)
    assert ledger is not None
    assert ledger.rows == [ROWS[line] for line in lines]
    assert ledger.settings == {"ab": {"engine": "qe"}}
    assert ledger.folder == tmp_path


def test_there_may_be_no_ledger_and_no_settings(tmp_path: Path) -> None:
    assert find_ledger(tmp_path) is None
    write_ledger(tmp_path, ROWS, {})
    assert not (tmp_path / "settings.json").exists()
    ledger = read_ledger(tmp_path)
    assert ledger is not None and ledger.settings == {}


@pytest.mark.parametrize("line", ["{", "[1]"])
def test_a_damaged_ledger_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "frames.jsonl").write_text('{"system": "Si8"}\n' + line + "\n")
    with pytest.raises(StateMismatch, match=r"frames.jsonl is damaged.*\n.*Bring the file back"):
        read_ledger(tmp_path)
