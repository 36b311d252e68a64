"""Numbers in words: plurals, and shares that add to 100."""

from pathlib import Path

import pytest

from al_driver.words import many, percents, shown_path


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "frame", "1 frame"),
        (0, "frame", "0 frames"),
        (1000, "step", "1000 steps"),
        (1, "trajectory", "1 trajectory"),
        (10_000, "trajectory", "10,000 trajectories"),
    ],
)
def test_a_count_agrees_with_its_noun(number: int, noun: str, text: str) -> None:
    assert many(number, noun) == text


@pytest.mark.parametrize(
    ("counts", "shares"),
    [
        ((74, 125, 1), (37, 63, 0)),
        ((1, 1, 1), (34, 33, 33)),
        ((33, 167, 0), (16, 84, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((200, 0, 0), (100, 0, 0)),
        ((995, 4, 1), (100, 0, 0)),
    ],
)
def test_shares_add_to_a_hundred(counts: tuple[int, ...], shares: tuple[int, ...]) -> None:
    assert tuple(percents(dict(zip("acf", counts, strict=True))).values()) == shares


def test_a_path_below_the_working_directory_is_shown_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "examples/init.json") == "examples/init.json"
    assert shown_path(Path("/usr/bin")) == "/usr/bin"
