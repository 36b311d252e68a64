"""What candidates are compared by, as the description program left it: arrays by frame, found by task and step."""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from al_driver.errors import StateMismatch
from al_driver.query.lines import Entries


class Features:
    """The arrays of a ``features.npz``."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises
        ------
        StateMismatch
            If it is missing or damaged.
        """
        self._path = path
        try:
            with np.load(path, allow_pickle=False) as arrays:
                self._arrays = dict(arrays)
        except (OSError, ValueError, BadZipFile) as error:
            raise self._damaged(str(error)) from error
        keys = zip(self.array("task").tolist(), self.array("step").tolist(), strict=True)
        self._places = {key: place for place, key in enumerate(keys)}

    def array(self, name: str) -> NDArray[Any]:
        """Return an array; raises `StateMismatch` if there is none of this name."""
        if name not in self._arrays:
            raise self._damaged(f"no array {name!r}")
        array: NDArray[Any] = self._arrays[name]
        return array

    def find(self, line: Entries) -> tuple[Entries, NDArray[np.int64]]:
        """Return the frames of a line that are described, and their places in the arrays."""
        keys = zip(line["task"].tolist(), line["step"].tolist(), strict=True)
        places = np.array([self._places.get(key, -1) for key in keys], dtype=np.int64)
        return line[places >= 0], places[places >= 0]

    def _damaged(self, why: str) -> StateMismatch:
        return StateMismatch(f"{self._path} is missing or damaged ({why}).\n  Redo the query of its iteration.")
