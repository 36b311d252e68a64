"""``history.json``: what happened to a work folder, and which steps the user keeps whatever the input says."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from al_driver.errors import ConfigError, StateMismatch
from al_driver.files import read_json, write_json
from al_driver.layout import STEPS, WorkFolder

MOST_EVENTS = 1000
Position = tuple[int, str]
"""Iteration and step."""


@dataclass(frozen=True)
class History:
    """The file, read and written whole at each event."""

    path: Path

    def read(self) -> dict[str, Any]:
        """Return the content of the file, with every key.

        Raises
        ------
        StateMismatch
            If the file is damaged.
        """
        empty: dict[str, Any] = {
            "kind": "run",
            "accepted_before": [0, STEPS[0]],
            "pending": None,
            "state": "stopped",
            "error": None,
            "verdict": None,
            "files": {},
            "events": [],
        }
        content = read_json(self.path) if self.path.exists() else {}
        if not isinstance(content, dict):
            raise StateMismatch(f"{self.path} is damaged: it holds no JSON object.\n  Move it away and start again.")
        return empty | content

    def add(self, event: str, **changes: Any) -> None:
        """Record an event, together with changes of the top-level keys."""
        content = self.read() | changes
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        content["events"] = [*content["events"], {"time": now, "event": event}][-MOST_EVENTS:]
        write_json(self.path, content)

    @property
    def accepted_before(self) -> Position:
        """Finished steps before this one keep what they were made from."""
        iteration, step = self.read()["accepted_before"]
        return int(iteration), str(step)

    def carry_out(
        self,
        request: str | None,
        check: Callable[[str], None],
        set_aside: Callable[[str], list[Path]],
        **changes: Any,
    ) -> tuple[str | None, list[Path]]:
        """Set folders aside as the user asks, once: until the run is done, the same request is not repeated.

        A request whose renames were interrupted is finished first, whether it is given again or not.

        Parameters
        ----------
        request
            As on the command line, e.g. ``--redo 1/train``; None when nothing is asked for.
        check
            Raises where the request makes no sense; nothing has changed then.
        set_aside
            Renames what the request names.
        changes
            Top-level keys that change with it.

        Returns
        -------
        The request that holds until the run is done, and what was set aside now.
        """
        pending = self.read()["pending"]
        if request is not None and (pending is None or pending["request"] != request):
            check(request)
            pending = {"request": request, "aside": False}
            self.add(request, pending=pending, **changes)
        if pending is None:
            return None, []
        moved = []
        if not pending["aside"]:
            moved = set_aside(pending["request"])
            self.add(f"{pending['request']}: set aside {len(moved)}", pending=pending | {"aside": True})
        return str(pending["request"]), moved


def is_before(one: Position, other: Position) -> bool:
    """Say whether a step comes before another in a run."""
    return (one[0], STEPS.index(one[1])) < (other[0], STEPS.index(other[1]))


def find_work_folder(directory: Path, command: str) -> WorkFolder:
    """Return the work folder: the one given, or the only one just below it; a run goes before an ``init_bulk``.

    Raises
    ------
    ConfigError
        If there is none, or more than one.
    """
    if WorkFolder(directory).history.exists():
        return WorkFolder(directory)
    below = [WorkFolder(path) for path in sorted(directory.glob("*")) if WorkFolder(path).history.exists()]
    runs = [folder for folder in below if History(folder.history).read()["kind"] == "run"]
    found = runs or below
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(folder.root.name for folder in found)
        raise ConfigError(f"{directory} holds several work folders: {names}.\n  Name one: {command} {found[0].root}")
    raise ConfigError(f"{directory} is no work folder of `al run` or `al init_bulk`: it has no history.json.")
