"""Reading deviation files: equal to a slow reader to the bit, whatever the rows look like."""

import struct
from pathlib import Path

import numpy as np
import pytest
from deviation_files import HEADER, row, write_deviations
from hypothesis import given, settings
from hypothesis import strategies as st

from al_driver.errors import EngineError
from al_driver.query import deviation
from al_driver.query.deviation import COLUMNS, read_deviations


def read_all(path: Path) -> dict[str, np.ndarray]:
    blocks = list(read_deviations(path))
    columns = {name: [block.values[name] for block in blocks] for name in COLUMNS}
    columns["step"] = [block.step for block in blocks]
    return {name: np.concatenate(parts) if parts else np.empty(0) for name, parts in columns.items()}


def read_texts(path: Path) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    for block in read_deviations(path):
        for name, text in block.text.items():
            texts.setdefault(name, []).extend(word.decode().strip() for word in text)
    return texts


def test_equals_loadtxt_to_the_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    values = 10.0 ** rng.uniform(-30, 30, (5000, 3))
    path = tmp_path / "model_devi.out"
    path.write_text(HEADER + "".join(row(10 * i, f, avg_f=a, max_v=v) for i, (f, a, v) in enumerate(values.tolist())))
    expected = np.loadtxt(path)
    found = read_all(path)
    assert np.array_equal(found["step"], expected[:, 0])
    for name, column in COLUMNS.items():
        assert np.array_equal(found[name], expected[:, column])


@pytest.mark.parametrize("block_bytes", [1, 100, 127, 128, 1000, 1 << 20])
def test_blocks_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    path = write_deviations(tmp_path / "model_devi.out", [0.1 * i for i in range(30)])
    monkeypatch.setattr(deviation, "BLOCK_BYTES", block_bytes)
    found = read_all(path)
    assert found["step"].tolist() == list(range(10, 310, 10))
    assert found["max_devi_f"].tolist() == [float(f"{0.1 * i:.6e}") for i in range(30)]


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deviation, "BLOCK_BYTES", 127 * 100)
    path = write_deviations(tmp_path / "model_devi.out", [0.1] * 1000)
    assert max(len(block) for block in read_deviations(path)) <= 101


def test_a_single_row_is_a_row(tmp_path: Path) -> None:
    """Lesson 3."""
    found = read_all(write_deviations(tmp_path / "model_devi.out", [0.25]))
    assert found["step"].tolist() == [10]
    assert found["max_devi_f"].tolist() == [0.25]


@pytest.mark.parametrize("text", ["", HEADER, HEADER[:20], "\n", HEADER + "\n"])
def test_no_rows(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model_devi.out"
    path.write_text(text)
    assert list(read_all(path)["step"]) == []


@pytest.mark.parametrize("cut", [1, 5, 60, 126])
def test_a_last_line_that_was_cut_is_left_out(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "model_devi.out"
    path.write_text(HEADER + row(10, 0.1) + row(20, 0.2)[:-cut])
    assert read_all(path)["step"].tolist() == [10]


@pytest.mark.parametrize(
    ("token", "value"), [("nan", "nan"), ("-nan", "nan"), ("inf", "inf"), ("-inf", "-inf"), ("1.000000e+100", "1e100")]
)
def test_unusual_numbers_in_a_row_of_the_usual_width(tmp_path: Path, token: str, value: str) -> None:
    path = tmp_path / "model_devi.out"
    usual = row(20, 0.125)
    path.write_text(HEADER + row(10, 0.5) + usual.replace(f"{0.125:18.6e}", f"{token:>18s}") + row(30, 0.75))
    found = read_all(path)["max_devi_f"]
    assert np.array_equal(found, [0.5, float(value), 0.75], equal_nan=True)
    texts = read_texts(path)["max_devi_f"]
    assert np.array_equal([float(text) for text in texts], found, equal_nan=True)
    assert texts[1].lstrip("-") in {"nan", "inf", "1.000000e+100"}
    assert "-nan" not in texts


def test_rows_of_another_width(tmp_path: Path) -> None:
    path = tmp_path / "model_devi.out"
    path.write_text(
        "# step ...\n10 1 2 3 4 5 6\n# written by a second start\n123456789012345 1 2 3 0.1234567890123 5 6\n"
    )
    found = read_all(path)
    assert found["step"].tolist() == [10, 123456789012345]
    assert found["max_devi_f"].tolist() == [4.0, 0.1234567890123]
    assert read_texts(path)["max_devi_f"] == ["4.000000e+00", "0.1234567890123"]


def test_columns_of_single_atoms_may_follow(tmp_path: Path) -> None:
    """Lesson 8: no mean of ours is taken over a row."""
    path = tmp_path / "model_devi.out"
    path.write_text(HEADER + "".join(row(step, 0.125).rstrip() + f" {0.1:18.6e}" * 8 + "\n" for step in (10, 20)))
    assert read_all(path)["max_devi_f"].tolist() == [0.125, 0.125]


@pytest.mark.parametrize("step", [1, 9, 10, 99_999_999, 100_000_000, 999_999_999_999])
def test_every_length_of_a_step(tmp_path: Path, step: int) -> None:
    found = read_all(write_deviations(tmp_path / "model_devi.out", [0.1], first=step))
    assert found["step"].tolist() == [step]


@pytest.mark.parametrize("bad", ["     1 2 3\n", "1.5\n", "some words that are no numbers\n", "\x00" * 126 + "\n"])
def test_a_damaged_line_is_named(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "model_devi.out"
    path.write_text(HEADER + row(10, 0.1) + bad + row(20, 0.1))
    with pytest.raises(
        EngineError, match=r"model_devi\.out is damaged: line 3 is .*expected a step and six numbers"
    ) as info:
        read_all(path)
    assert str(tmp_path) in str(info.value)
    assert str(info.value).count("\n") < 3


def test_a_damaged_line_of_the_usual_width_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deviation, "BLOCK_BYTES", 127)
    path = tmp_path / "model_devi.out"
    path.write_text(
        HEADER + "".join(row(10 * i, 0.1) for i in range(5)) + row(50, 0.1).replace("1.000000e-01", "1.0000x0e-01")
    )
    with pytest.raises(EngineError, match="line 7 is"):
        read_all(path)


def test_blanks_inside_a_step_are_no_zeros(tmp_path: Path) -> None:
    path = tmp_path / "model_devi.out"
    path.write_text(HEADER + row(10203, 0.1).replace("10203", "1 203"))
    with pytest.raises(EngineError, match="line 2 is"):
        list(read_deviations(tmp_path / "model_devi.out"))


def test_a_repeated_step_is_read_once_and_one_that_goes_back_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model_devi.out"
    path.write_text(HEADER + row(10, 0.1) + row(20, 0.2) + row(20, 0.2) + row(30, 0.3))
    assert read_all(path)["step"].tolist() == [10, 20, 30]
    path.write_text(HEADER + row(10, 0.1) + row(20, 0.2) + row(0, 0.2))
    with pytest.raises(EngineError, match="step 0 comes after step 20"):
        read_all(path)


@settings(deadline=None)  # it writes files
@given(st.integers(0, 2**64 - 1))
def test_any_number_reads_as_python_reads_it(tmp_path_factory: pytest.TempPathFactory, bits: int) -> None:
    (value,) = struct.unpack("d", struct.pack("Q", bits))
    path = tmp_path_factory.mktemp("any") / "model_devi.out"
    path.write_text(HEADER + row(10, value))
    expected = float(f"{value:.6e}")
    assert np.array_equal(read_all(path)["max_devi_f"], [expected], equal_nan=True)
    assert np.array_equal([float(read_texts(path)["max_devi_f"][0])], [expected], equal_nan=True)
