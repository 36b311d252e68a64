"""How many files a work folder holds: clusters limit their number, and a scan of a million of them takes minutes.

A finished step was counted when it ended, and its ``step.json`` tells; what is not finished is counted as it is, up to
a limit.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from al_driver.files import read_json
from al_driver.layout import ARCHIVE_FILE, STEP_FILE

MOST_COUNTED = 20_000
"""Files of one folder without a record after which counting it ends."""
COUNT_KEY = "files"


def count_files(folder: Path, most: int | None = None) -> int:
    """Return the number of files below a folder, hidden ones and links too, but for finished steps that lie in it.

    Parameters
    ----------
    most
        Where counting ends.
    """
    count, waiting = 0, [folder]
    while waiting and (most is None or count < most):
        place = waiting.pop()
        try:
            with os.scandir(place) as entries:
                found = list(entries)
        except FileNotFoundError:  # a task was published, or set aside, meanwhile
            continue
        if place == folder or all(entry.name != STEP_FILE for entry in found):
            below = [Path(entry.path) for entry in found if entry.is_dir(follow_symlinks=False)]
            waiting += below
            count += len(found) - len(below)
    return count if most is None else min(count, most)


def count_work(root: Path) -> dict[str, Any]:
    """Return ``total``, ``is_exact`` and, of the steps and the other folders, ``by_folder``.

    ``is_exact`` is false where a folder holds more files than are counted.
    """
    by_folder: dict[str, int] = {}
    exact = True
    for place in _places(root):
        counts = [_count(step) for step in (place, *(marker.parent for marker in place.glob(f"*/{STEP_FILE}")))]
        by_folder[str(place.relative_to(root))] = sum(counts)
        exact &= max(counts) < MOST_COUNTED
    loose = sum(1 for folder in (root, *_iterations(root)) for path in folder.iterdir() if not path.is_dir())
    return {"total": loose + sum(by_folder.values()), "is_exact": exact, "by_folder": by_folder}


def _places(root: Path) -> Iterator[Path]:
    """Yield the folders of a work folder, and in place of an iteration those in it."""
    iterations = list(_iterations(root))
    for folder in (root, *iterations):
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.is_symlink() and path not in iterations:
                yield path


def _iterations(root: Path) -> Iterator[Path]:
    return (path for path in sorted(root.glob("iter.*")) if path.is_dir())


def _count(step: Path) -> int:
    """Return what the record of a step tells; of one that is packed, or not finished, what is there."""
    path = step / STEP_FILE
    told = read_json(path).get(COUNT_KEY) if path.exists() and not (step / ARCHIVE_FILE).exists() else None
    return told if isinstance(told, int) else count_files(step, MOST_COUNTED)
