"""Candidates from which a diverse choice is made: few enough to be looked at, from everywhere in the trajectories.

Neighbours in a trajectory resemble each other, so that a line of the highest scores alone may be one moment of one
run. Trajectories are cut into stretches of equal length and the best frame of each is kept; the stretches are as short
as the wanted number allows. What is kept depends on the frames alone, not on the order or blocks they come in.
"""

import numpy as np

from al_driver.query.lines import ENTRY, Entries

_LONGEST = 62  # a stretch of 2⁶² steps is a whole trajectory


class Stretches:
    """The best frame of each stretch of each trajectory; after `ranked` no more than ``length`` of them.

    Stretches have 2ᵏ steps, with the smallest k that leaves ``length`` of them or fewer; where the trajectories
    outnumber them, the best frames of trajectories are kept. It takes the place of `Line`.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._parts = [np.empty(0, dtype=ENTRY)]
        self._n_waiting = 0
        self._power = 0

    def add(self, entries: Entries) -> None:
        """Put frames in; the first by rank of each stretch stays."""
        self._parts.append(entries)
        self._n_waiting += len(entries)
        if self._n_waiting > max(10_000, 2 * self._length):
            self._thin()

    def ranked(self) -> Entries:
        """Return the frames that were kept, by rank, then task, then step."""
        kept = self._thin()
        return kept[np.lexsort((kept["step"], kept["task"], kept["rank"]))[: self._length]]

    def _thin(self) -> Entries:
        entries = np.concatenate(self._parts)
        while True:
            stretch = entries["step"] >> self._power
            order = np.lexsort((entries["step"], entries["rank"], stretch, entries["task"]))
            task, stretch = entries["task"][order], stretch[order]
            is_first = np.ones(len(order), dtype=bool)
            is_first[1:] = (np.diff(task) != 0) | (np.diff(stretch) != 0)
            entries = entries[order[is_first]]
            if len(entries) <= self._length or self._power == _LONGEST:
                break
            self._power += 1
        self._parts, self._n_waiting = [entries], 0
        return entries
