"""``history.json``: what happened to a work folder, and which iterations the user keeps whatever the input says."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from al_driver.errors import ConfigError
from al_driver.files import read_json, write_json
from al_driver.layout import STEPS, WorkFolder

MOST_EVENTS = 1000


@dataclass(frozen=True)
class History:
    """The file, read and written whole at each event."""

    path: Path

    def read(self) -> dict[str, Any]:
        empty: dict[str, Any] = {
            "kind": "run",
            "accepted_below": 0,
            "state": "stopped",
            "error": None,
            "verdict": None,
            "events": [],
        }
        return empty | read_json(self.path) if self.path.exists() else empty

    def add(self, event: str, **changes: Any) -> None:
        """Record an event, together with changes of the top-level keys."""
        content = self.read() | changes
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        content["events"] = [*content["events"], {"time": now, "event": event}][-MOST_EVENTS:]
        write_json(self.path, content)

    @property
    def accepted_below(self) -> int:
        """Iterations below this one keep their recorded fingerprints."""
        return int(self.read()["accepted_below"])


def set_aside_from(folder: WorkFolder, iteration: int, step: str = STEPS[0]) -> list[Path]:
    """Rename a step, all later ones and ``final`` to ``.bak.N``; return what they are called now.

    Raises
    ------
    ConfigError
        If the run has not come to this iteration.
    """
    there = folder.iterations()
    if there and iteration > there[-1] + 1:
        raise ConfigError(f"there is no iteration {iteration} in {folder.root}: the last is {there[-1]}.")
    later = [folder.step(iteration, name) for name in STEPS[STEPS.index(step) :]]
    if step == STEPS[0]:
        later = [later[0].parent]
    later += [folder.step(index, STEPS[0]).parent for index in folder.iterations() if index > iteration]
    return [set_aside(path) for path in (*later, folder.final) if path.exists()]


def set_aside(path: Path) -> Path:
    """Rename a folder to the next free ``.bak.N`` beside it; nothing is deleted."""
    number = 1
    while (target := path.with_name(f"{path.name}.bak.{number}")).exists():
        number += 1
    path.rename(target)
    return target


def parse_redo(text: str) -> tuple[int, str]:
    """Read ``K/STEP`` as a user writes it after ``--redo``.

    Raises
    ------
    ConfigError
        If it is not of that form.
    """
    iteration, _, step = text.partition("/")
    if not iteration.isdecimal() or step not in STEPS:
        raise ConfigError(f"--redo {text}: expected K/STEP, e.g. 2/explore; steps are {', '.join(STEPS)}.")
    return int(iteration), step
