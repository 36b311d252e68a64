"""Frames in line, to be chosen: those that are kept as frames are read, and the order in which they are picked."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Entries = NDArray[np.void]
"""Frames in line: rank (small is first), task (index), step, score, mark (where frames.csv says if it is selected)."""
ENTRY = np.dtype([("rank", "f8"), ("task", "i8"), ("step", "i8"), ("score", "f8"), ("mark", "i8")])
LINE_LENGTH = 10_000
"""So many frames are kept in a line, or twice the cap if that is more: enough to pass over some."""


class Queue(Protocol):
    """Takes frames as they are read, and keeps those to choose from."""

    def add(self, entries: Entries) -> None: ...
    def ranked(self) -> Entries: ...


class Line:
    """The first of the frames added, by rank, then task, then step; no more than ``length`` are kept."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._parts = [np.empty(0, dtype=ENTRY)]
        self._n_waiting = 0

    def add(self, entries: Entries) -> None:
        """Put frames into the line."""
        self._parts.append(entries)
        self._n_waiting += len(entries)
        if self._n_waiting > self._length:
            self.ranked()

    def ranked(self) -> Entries:
        """Return the line in its order."""
        entries = np.concatenate(self._parts)
        order = np.lexsort((entries["step"], entries["task"], entries["rank"]))[: self._length]
        self._parts, self._n_waiting = [entries[order]], 0
        return self._parts[0]


class Order(Protocol):
    """In which order frames are chosen, where that depends on those that were."""

    def best(self) -> int | None:
        """Return the place of the frame to take next; None when none is left."""

    def take(self, index: int) -> None:
        """It will be labelled."""

    def drop(self, index: int) -> None:
        """It must not be."""


class Orders(Protocol):
    """Makes an `Order` of the frames of a line."""

    def start(self, line: Entries) -> tuple[Entries, Order]: ...
