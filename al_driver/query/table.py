"""Reading ``frames.csv`` back, block by block: it may have millions of rows.

Scores in the units of the metric, K, bar.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from al_driver.errors import StateMismatch
from al_driver.query.report import HEADER
from al_driver.query.window import CLASS_NAMES

BLOCK_ROWS = 100_000
_COLUMNS = {
    "task": "S24", "structure": "U60", "temperature": "f8", "pressure": "S24", "step": "i8", "score": "f8",
    "class": "S1", "selected": "S1",
}  # fmt: skip


@dataclass(frozen=True)
class TableRows:
    """Rows of ``frames.csv``; every array has the shape (n,)."""

    task: NDArray[np.bytes_]
    structure: NDArray[np.str_]
    """Names, cut off behind 60 characters."""
    temperature: NDArray[np.float64]
    pressure: NDArray[np.float64]
    """NaN where none was set."""
    step: NDArray[np.int64]
    score: NDArray[np.float64]
    classes: NDArray[np.int64]
    """Places in `CLASS_NAMES`."""
    selected: NDArray[np.bool_]

    def take(self, index: slice | NDArray[np.bool_]) -> "TableRows":
        """Return some of the rows."""
        return TableRows(*(getattr(self, column.name)[index] for column in fields(self)))


def join_rows(parts: Sequence[TableRows]) -> TableRows:
    """Put rows one behind another; at least one part is needed."""
    columns = [[getattr(part, column.name) for part in parts] for column in fields(TableRows)]
    return TableRows(*(np.concatenate(column) for column in columns))


def read_table(path: Path) -> Iterator[TableRows]:
    """Yield the rows of a ``frames.csv``, at most `BLOCK_ROWS` at a time.

    Raises
    ------
    StateMismatch
        If it is missing or damaged.
    """
    names = HEADER.strip().split(",")
    try:
        with path.open(encoding="utf-8") as stream:
            found = stream.readline()
            if found != HEADER:
                raise StateMismatch(f"{path} begins with {found.strip()[:80]!r}; expected {HEADER.strip()!r}.")
            while lines := list(islice(stream, BLOCK_ROWS)):
                yield _parse(lines, [names.index(name) for name in _COLUMNS])
    except FileNotFoundError as error:
        raise StateMismatch(f"{path} is missing: redo the query of its iteration.") from error
    except ValueError as error:
        raise StateMismatch(f"{path} is damaged ({error}).\n  Redo the query of its iteration.") from error


def _parse(lines: list[str], columns: list[int]) -> TableRows:
    kinds = np.dtype(list(_COLUMNS.items()))
    rows = np.loadtxt(lines, kinds, comments=None, delimiter=",", usecols=columns, quotechar='"', ndmin=1)
    initials = np.array([name[0] for name in CLASS_NAMES], dtype="S1")
    classes = np.argmax(rows["class"][:, None] == initials, axis=1)
    if not (rows["class"] == initials[classes]).all():
        raise ValueError(f"a class is none of {', '.join(CLASS_NAMES)}")
    pressure = np.where(rows["pressure"] == b"", b"nan", rows["pressure"]).astype(np.float64)
    return TableRows(
        rows["task"],
        rows["structure"],
        rows["temperature"],
        pressure,
        rows["step"],
        rows["score"],
        classes,
        rows["selected"] == b"1",
    )
