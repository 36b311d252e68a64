"""The ledger of a labelled set: of each frame where it is from, what chose it, what calculated it, what it passed.

``frames.jsonl`` has a line a frame, in the order in which frames were selected; ``settings.json`` beside it holds the
settings of each reference once, by the hash that stands in the lines. Both lie outside of ``dataset/``: equal labels
make equal arrays, whenever and wherever they were calculated. A line holds, as far as it is known:

- ``system``, ``index``: where the frame lies; ``system`` starts at the ledger's folder.
- ``work``, ``label``, ``frame``: the work folder, from the ledger's folder; its label step; the frame's number there.
- ``structure``, ``iteration``, ``task``, ``step``, ``temperature`` (K), ``pressure`` (bar): the dynamics it is from.
- ``models``, ``score``, ``metric``: what chose it; models by the first `SHORT` digits of the sha256 of their files.
- ``source``, ``moment``, ``relax``, ``supercell``, ``scale``, ``copy``, ``aimd``, ``aimd_step``: its way through an
  `al init_bulk`; ``source``, ``format`` and ``step`` (counted from 1) of what `al convert` read.
- ``reference``: what an output that was converted prints of its reference, see `data.reference`.
- ``engine``, ``settings``, ``input``, ``program``, ``version``, ``calculation``: the reference, hashes of its settings
  and of the input files it was given, and the task's folder in the work folder.
- ``checks``, ``gate``: what the label passed, and the limits; ``magmoms``: final magnetic moments of the atoms, μ_B,
  null where there are some and the output that served does not tell them.
- ``host``, ``seconds``, ``finished``, ``reused``: where and when it was calculated, and where it was found again.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from al_driver.errors import StateMismatch
from al_driver.files import read_json, write_json, write_json_lines
from al_driver.layout import LEDGER_FILE, SETTINGS_FILE

SHORT = 16
"""Digits of a hash in the comment line of a frame."""
_LABEL = ("energy", "virial")
_IN_COMMENT = ("engine", "program", "version")
Row = dict[str, Any]


@dataclass(frozen=True)
class Ledger:
    """Lines of a ledger that belong to one set, or to one system of it."""

    folder: Path
    """Where the ledger lies."""
    rows: list[Row]
    settings: dict[str, Any]
    """Of each reference, by its hash."""


def told_of(info: Mapping[str, Any]) -> Row:
    """Return what a frame's ``info`` tells but its label, as JSON; what is not a finite number is None."""
    row = {key: _plain(value) for key, value in info.items() if key not in _LABEL}
    return row | {key: row[key].split() for key in ("models", "checks") if isinstance(row.get(key), str)}


def comment_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Return what of a line about the reference stands in the comment of an extxyz frame: words and short hashes."""
    told = {key: str(row[key]) for key in _IN_COMMENT if row.get(key)}
    told |= {key: str(row[key])[:SHORT] for key in ("settings", "input") if row.get(key)}
    return told | ({"checks": " ".join(row["checks"])} if row.get("checks") else {})


def way_to(source: str, folder: Path) -> str:
    """Return the way from a folder to a file that is there; what was told of one that is not."""
    return os.path.relpath(source, folder) if Path(source).exists() else source


def write_ledger(folder: Path, rows: Iterable[Row], settings: Mapping[str, Any]) -> None:
    """Write both files, each atomically; no file of settings where none is known."""
    if settings:
        write_json(folder / SETTINGS_FILE, dict(settings))
    write_json_lines(folder / LEDGER_FILE, rows)


def read_ledger(folder: Path) -> Ledger | None:
    """Read the ledger of a folder; None where there is none.

    Raises
    ------
    StateMismatch
        If it is damaged.
    """
    path = folder / LEDGER_FILE
    if not path.is_file():
        return None
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        is_sound = all(isinstance(row, dict) for row in rows)
    except ValueError:
        is_sound = False
    if not is_sound:
        raise StateMismatch(f"{path} is damaged: a line of it is no JSON object.\n  Bring the file back.")
    settings = folder / SETTINGS_FILE
    return Ledger(folder, rows, read_json(settings) if settings.is_file() else {})


def find_ledger(dataset: Path) -> Ledger | None:
    """Return what a ledger, at most two folders above, says of a set or of one system; None where there is none.

    Raises
    ------
    StateMismatch
        If the ledger is damaged.
    """
    place = dataset.resolve()
    for folder in (place, *place.parents[:2]):
        ledger = read_ledger(folder)
        if ledger is not None:
            part = place.relative_to(folder).parts
            rows = [row for row in ledger.rows if Path(str(row.get("system", ""))).parts[: len(part)] == part]
            return Ledger(folder, rows, ledger.settings)
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
