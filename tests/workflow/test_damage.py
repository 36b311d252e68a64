"""A disk that is full or read-only, files that are half written: a clear word, and then the same data as without."""

import shutil
from pathlib import Path

import pytest
from small_run import call_al

from al_driver.files import hash_path

FILES = ("POSCAR", "init.json", "resource.json")


def hash_data(folder: Path) -> list[str]:
    return [hash_path(folder / "init" / name, leave_out=("frames.jsonl",)) for name in ("dataset", "valid")]


def check_message(text: str, *parts: str) -> None:
    """Hold a message to what every message is: one to three lines, and no traceback."""
    assert 1 <= len(text.splitlines()) <= 3 and "Traceback" not in text, text
    for part in parts:
        assert part in text, text


@pytest.mark.needs("lmp")
@pytest.mark.parametrize("size", [100, 230], ids=lambda size: f"{size}k")
def test_on_a_full_disk_first_data_end_with_a_word_and_go_on_when_there_is_room(disk, silicon, size):
    for name in FILES:
        shutil.copy(silicon / name, disk.path)
    disk.remount(f"size={size}k")
    full = call_al(disk.path, "init_bulk", "init.json", "resource.json")
    assert full.returncode == 2
    check_message(full.stderr, f"al: nothing can be written in {disk.path}/init", "No space left on device", "again")
    disk.remount("size=50m")
    assert call_al(disk.path, "init_bulk", "init.json", "resource.json").returncode == 0
    assert hash_data(disk.path) == hash_data(silicon)
    assert not list(disk.path.rglob("failed.json")) and not list(disk.path.rglob(".*.tmp"))


def test_a_read_only_folder_is_named(disk, silicon):
    shutil.copytree(silicon, disk.path, dirs_exist_ok=True)
    disk.remount("ro")
    refused = call_al(disk.path, "init_bulk", "init.json", "resource.json")
    disk.remount("rw")
    assert refused.returncode == 2
    check_message(refused.stderr, f"work_dir {disk.path}/init cannot be written: it is read-only", "Mend that")
    assert call_al(disk.path, "init_bulk", "init.json", "resource.json").returncode == 0
