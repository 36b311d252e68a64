"""Deviation files: what the members of a committee disagree on, frame by frame.

LAMMPS's ``pair_style deepmd`` writes a step and six numbers a frame (eV/Å for forces, eV/atom for the virial, no unit
for relative forces). A run may write millions, so that files are read in blocks: memory does not grow with their
length. The rows have a fixed width (``%12d`` and six `` %18.6e``), which are read as a table; a row of any other
shape (nan, a three-digit exponent) is read by Python.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from al_driver.errors import EngineError
from al_driver.query.fixed_width import number_fields, read_integers, read_numbers

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bytes = NDArray[np.bytes_]

COLUMNS = {"max_devi_f": 4, "avg_devi_f": 6, "max_devi_v": 1}
"""The columns that are used, and where a row holds them; the step is column 0."""
BLOCK_BYTES = 1 << 21
_N_COLUMNS = 7
_WIDTH = 12 + 6 * 19 + 1


def _row_layout() -> np.dtype[np.void]:
    """Return where a row holds, for each column, its text, the parts of it, and the blanks before it."""
    fields: dict[str, tuple[str, int]] = {
        "step": ("S12", 0), "step_high": ("<u4", 0), "step_low": ("<u8", 4), "newline": ("u1", _WIDTH - 1)
    }  # fmt: skip
    for name, column in COLUMNS.items():
        fields |= number_fields(name, end=12 + 19 * column)
    formats, offsets = zip(*fields.values(), strict=True)
    return np.dtype({"names": list(fields), "formats": formats, "offsets": offsets, "itemsize": _WIDTH})


_ROW = _row_layout()


@dataclass(frozen=True)
class Rows:
    """Some frames of a deviation file, in its order.

    Attributes
    ----------
    step
        Shape (n,).
    values
        A column of shape (n,) for each of `COLUMNS`.
    text
        The same numbers, and ``step``, as they were written, shape (n,); padded with blanks or NUL.
    """

    step: Ints
    values: dict[str, Floats]
    text: dict[str, Bytes]

    def __len__(self) -> int:
        return len(self.step)

    def take(self, which: slice | NDArray[np.bool_]) -> "Rows":
        """Return some of the frames."""
        values = {name: column[which] for name, column in self.values.items()}
        return Rows(self.step[which], values, {name: column[which] for name, column in self.text.items()})

    def scaled(self, factor: float) -> "Rows":
        """Return the same frames with every deviation multiplied."""
        if factor == 1:
            return self
        values = {name: factor * column for name, column in self.values.items()}
        return Rows(self.step, values, self.text | {name: _write(column) for name, column in values.items()})


def read_deviations(path: Path) -> Iterator[Rows]:
    """Yield the rows of a deviation file, a block at a time.

    A last line without its end is left out: its writer was killed. A step written twice in a row (a second ``run`` in
    one input) is read once. An empty file has no rows.

    Raises
    ------
    EngineError
        If a line is not a step and six numbers, or the steps go back; names file and line.
    """
    line, last = 1, np.int64(-1)
    with path.open("rb") as stream:
        rest = b""
        while chunk := stream.read(BLOCK_BYTES):
            data = rest + chunk
            end = data.rfind(b"\n") + 1
            rest = data[end:]
            start = 0
            while data.startswith(b"#", start) and start < end:
                start = data.index(b"\n", start) + 1
                line += 1
            rows, lines = _parse(data[start:end], path, line)
            if len(rows):
                rows, last = _in_order(rows, last, path, line)
                yield rows
            line += lines


def _in_order(rows: Rows, last: np.int64, path: Path, line: int) -> tuple[Rows, np.int64]:
    """Leave out steps that repeat the one before; return the last step too."""
    change = np.diff(rows.step, prepend=last)
    if (change < 0).any():
        where = int(np.argmax(change < 0))
        before = rows.step[where - 1] if where else last
        raise _damaged(path, f"after line {line}, step {rows.step[where]} comes after step {before}")
    return (rows if change.all() else rows.take(change > 0)), rows.step[-1]


def _parse(data: bytes, path: Path, line: int) -> tuple[Rows, int]:
    """Return the rows of whole lines, and the number of lines."""
    if len(data) % _WIDTH == 0:
        table = np.frombuffer(data, dtype=_ROW)
        if (table["newline"] == ord("\n")).all() and data.count(b"\n") == len(table):
            return _parse_table(table, data, path, line), len(table)
    lines = data.splitlines()
    found = [_parse_line(text, path, line + i) for i, text in enumerate(lines) if text.strip() and text[:1] != b"#"]
    step = np.array([row[0] for row in found], dtype=np.int64)
    numbers = np.array([row[1:] for row in found], dtype=float).reshape(-1, _N_COLUMNS - 1)
    values = {name: numbers[:, column - 1] for name, column in COLUMNS.items()}
    written = {name: _write(column) for name, column in values.items()}
    return Rows(step, values, written | {"step": np.array([b"%d" % n for n in step], dtype="S20")}), len(lines)


def _parse_table(table: NDArray[np.void], data: bytes, path: Path, line: int) -> Rows:
    """Read rows of the fixed width; those whose columns do not stand where they should are read one by one."""
    step, usual = read_integers(np.ascontiguousarray(table["step_high"]), np.ascontiguousarray(table["step_low"]))
    values = {}
    for name in COLUMNS:
        values[name], fine = read_numbers(table, name)
        usual &= fine
    text = {name: table[name] for name in ("step", *COLUMNS)}
    if not usual.all():
        unusual = np.flatnonzero(~usual)
        for i in unusual:
            row = _parse_line(data[i * _WIDTH : (i + 1) * _WIDTH], path, line + int(i))
            step[i] = row[0]
            for name, column in COLUMNS.items():
                values[name][i] = row[column]
        for name in COLUMNS:
            text[name] = text[name].astype("S25")
            text[name][unusual] = _write(values[name][unusual])
    return Rows(step, values, text)


def _parse_line(text: bytes, path: Path, line: int) -> list[float]:
    words = text.split()
    try:
        if len(words) < _N_COLUMNS or (len(words) > _N_COLUMNS and len(text) <= _WIDTH):  # longer ones list atoms too
            raise ValueError
        return [int(words[0]), *(float(word) for word in words[1:_N_COLUMNS])]
    except ValueError:
        shown = text.decode(errors="replace").strip()
        raise _damaged(path, f"line {line} is {shown[:60]!r}; expected a step and six numbers") from None


def _write(numbers: Floats) -> Bytes:
    """Write numbers so that they read back to the bit."""
    short = [f"{number:.6e}" for number in numbers]
    return np.array(
        [text if float(text) == number else repr(float(number)) for text, number in zip(short, numbers, strict=True)],
        dtype="S25",
    )


def _damaged(path: Path, what: str) -> EngineError:
    detail = f"{path.name} is damaged: {what}. Redo the molecular dynamics of this folder."
    return EngineError("engine_error", path.parent, detail)
