"""Whether what a finished step left is as large as it was: a truncated file must not become another dataset.

Sizes stand in ``step.json``. Whoever is about to read the files of an earlier step asks first.
"""

from collections.abc import Iterable
from pathlib import Path

from al_driver.errors import StateMismatch
from al_driver.files import read_json
from al_driver.layout import LEDGER_FILE, REJECTED_FILE, STEP_FILE

SIZES_KEY = "sizes"
LEFT_OUT = frozenset({LEDGER_FILE, REJECTED_FILE})
"""What tells of times and hosts, or to which `al retry` adds; nothing is calculated from it."""


def read_sizes(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Return the size of every file of a step's outputs, by its path in the step's folder."""
    files = (file for name in names for file in _files(folder / name) if file.name not in LEFT_OUT)
    return {str(file.relative_to(folder)): file.stat().st_size for file in files}


def check_whole(folder: Path) -> None:
    """Hold the files of a finished step against their sizes; one that is gone is the step's own matter.

    Raises
    ------
    StateMismatch
        If a file was cut, or changed, since the step ended.
    """
    marker = folder / STEP_FILE
    sizes: dict[str, int] = read_json(marker).get(SIZES_KEY, {}) if marker.exists() else {}
    for name, size in sizes.items():
        try:
            now = (folder / name).stat().st_size
        except FileNotFoundError:
            continue
        if now != size:
            raise StateMismatch(
                f"{folder / name} has {now} bytes, and had {size} when its step ended: it is damaged.\n"
                f"  Bring it back, or move {folder / Path(name).parts[0]} away: the same command makes that anew."
            )


def _files(path: Path) -> Iterable[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
