"""Versions of programs and libraries within a run: one that changes is worth a warning, and no reason to stop.

They are read from the records of finished steps, each compared with the steps of the same kind before it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from al_driver.layout import WorkFolder
from al_driver.workflow.step import Record


def find_version_changes(folder: WorkFolder) -> list[str]:
    """Return a line for each version that came up within a run: ``3/label: pw.x is 7.4; 0/label had 7.3``."""
    iterations = folder.iterations()
    found: list[str] = []
    for kind in ("train", "explore", "label"):
        steps = {f"{index}/{kind}": folder.step(index, kind) for index in iterations}
        if kind == "train":
            steps["final"] = folder.final
        if kind == "label":
            steps = {"label": folder.root / "label", **steps}  # of an init_bulk
        found += _compare(steps)
    return found


def _compare(steps: dict[str, Path]) -> Iterator[str]:
    seen: dict[str, dict[str, str]] = {}
    for name, step in steps.items():
        record = Record.read(step)
        for program, version in sorted(_versions(record.result)) if record else ():
            known = seen.setdefault(program, {})
            if known and version not in known:
                before = ", ".join(f"{where} had {old}" for old, where in known.items())
                yield f"{name}: {program} is {version}; {before}. Results of both are in this run"
            known.setdefault(version, name)


def _versions(result: dict[str, Any]) -> set[tuple[str, str]]:
    """Return pairs of program and version, from members of a committee and from what lists ``program version``."""
    found = {
        (program, str(version)) for program, _, version in (text.partition(" ") for text in result.get("versions", ()))
    }
    for member in result.get("members", ()):
        found |= {(program, str(version)) for program, version in member.get("versions", {}).items()}
    return found
