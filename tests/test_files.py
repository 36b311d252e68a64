"""What is read of the end of a file."""

from pathlib import Path

from al_driver.files import read_tail


def test_the_tail_of_a_file_is_its_last_bytes_and_of_none_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"0123456789")
    assert read_tail(tmp_path / "log", 4) == b"6789"
    assert read_tail(tmp_path / "log", 100) == b"0123456789"
    assert read_tail(tmp_path / "none", 4) == read_tail(tmp_path, 4) == b""
