"""Programs a test needs, and what becomes of it where one is missing.

By default such a test is skipped and counted; with ``AL_REQUIRE=all`` (in CI) it fails instead.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

VENV_BIN = Path(sys.executable).parent
os.environ["PATH"] += ":/usr/sbin:/sbin"  # where Debian keeps daemons, which are not on every PATH


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files with long tests begin, so that the workers end together, on short ones."""
    with_long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in with_long)


def find_program(name: str) -> str | None:
    """Find a program on the PATH or beside the interpreter, as the driver does.

    An absolute path is any file, and ``module:NAME`` a Python package, which is not imported.
    """
    if name.startswith("module:"):
        try:
            spec = importlib.util.find_spec(name.removeprefix("module:"))
        except ModuleNotFoundError:  # the package that it would be in
            return None
        return None if spec is None else spec.origin or name
    if Path(name).is_absolute():
        return name if Path(name).is_file() else None
    return shutil.which(name) or shutil.which(name, path=str(VENV_BIN))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        missing = [name for name in mark.args if find_program(name) is None]
        if missing and os.environ.get("AL_REQUIRE") == "all":
            pytest.fail(f"needs {', '.join(missing)}, and AL_REQUIRE=all", pytrace=False)
        if missing:
            pytest.skip(f"needs {', '.join(missing)}")


class Disk:
    """A small file system of its own, in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def remount(self, option: str) -> None:
        """Change it: ``size=300k``, ``ro``, ``rw``."""
        subprocess.run(["mount", "-o", f"remount,{option}", self.path], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 1 MB that a test may fill; skipped where nothing can be mounted."""
    path = tmp_path / "disk"
    path.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path]
    if subprocess.run(argv, capture_output=True, check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
