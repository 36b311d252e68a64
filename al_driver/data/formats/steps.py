"""What a reader of output files gives: one item for each ionic step, in the order of the file.

A step that cannot be learned from is an item too: it is counted and told, never dropped without a word.
"""

import bz2
import contextlib
import gzip
import lzma
import mmap
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TypeAlias, cast

import numpy as np
from ase import Atoms

from al_driver.data.frames import Array, Label
from al_driver.errors import EngineError

Step: TypeAlias = Label | EngineError
"""A labelled frame, or why there is none. Å, eV, eV/Å."""
AnyStep: TypeAlias = Step | Atoms
"""The same of a format that also knows bare structures."""
Buffer: TypeAlias = bytes | mmap.mmap

KBAR_TO_EV_PER_A3 = 1 / 1602.176634
"""From the elementary charge of the SI. dpdata's reader of OUTCAR has 1602.176621: 8e-9 less."""
GPA_TO_EV_PER_A3 = 10 * KBAR_TO_EV_PER_A3
COMPRESSED = {".gz", ".xz", ".bz2"}
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What a file raises that may not be read, is damaged, or not compressed as its name says."""


def open_stream(path: Path) -> IO[bytes]:
    """Open a file, compressed or not."""
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if path.suffix == ".xz":
        return cast(IO[bytes], lzma.open(path, "rb"))
    return bz2.open(path, "rb") if path.suffix == ".bz2" else path.open("rb")


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[Buffer]:
    """Map a file, or unpack a compressed one."""
    with open_stream(path) as stream:
        if path.suffix in COMPRESSED:
            yield stream.read()
            return
        if path.stat().st_size == 0:
            yield b""
            return
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped


def parse_floats(text: bytes) -> Array:
    """Return the numbers of a table; one that did not fit its field (``****``) is not a number."""
    if b"*" not in text and b"N" not in text.upper():
        return np.fromstring(text, sep=" ")
    return np.array([parse_float(word) for word in text.split()])


def parse_float(word: bytes | str) -> float:
    """Return a printed number, whose exponent may be Fortran's (``1D-6``), or NaN for what is none."""
    text = word.decode(errors="replace") if isinstance(word, bytes) else word
    try:
        return float(text.upper().replace("D", "E"))
    except ValueError:
        return float("nan")


def lines_after(text: Buffer, start: int, skip: int, count: int) -> bytes:
    """Return ``count`` lines, after the line that ``start`` is in and ``skip`` more."""
    position = start
    for _ in range(skip + 1):
        position = text.find(b"\n", position) + 1
        if position == 0:
            return b""
    end = position
    for _ in range(count):
        end = text.find(b"\n", end) + 1
        if end == 0:
            return bytes(text[position:])
    return bytes(text[position:end])


def find_all(text: Buffer, word: bytes) -> Iterator[int]:
    """Yield every place where a word stands."""
    found = text.find(word)
    while found >= 0:
        yield found
        found = text.find(word, found + len(word))
