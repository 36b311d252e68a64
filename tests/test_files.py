"""What is read of the end of a file, and links to finished ones."""

from pathlib import Path

from al_driver.files import link, read_tail


def test_the_tail_of_a_file_is_its_last_bytes_and_of_none_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"0123456789")
    assert read_tail(tmp_path / "log", 4) == b"6789"
    assert read_tail(tmp_path / "log", 100) == b"0123456789"
    assert read_tail(tmp_path / "none", 4) == read_tail(tmp_path, 4) == b""


def test_a_link_that_is_made_again_leaves_nothing_beside_it(tmp_path: Path) -> None:
    """As after a kill between two files of a query."""
    (tmp_path / "scores").write_text("1")
    for _ in range(2):
        link(tmp_path / "scores", tmp_path / "frames.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames.csv", "scores"]
