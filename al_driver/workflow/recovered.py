"""What `al retry` made: labels of frames that a finished label step rejected, each retry in a folder of that step.

The step itself stays as it is, and so does all that followed from it. Recovered labels join every training that begins
after their retry; that training keeps which ones among its inputs, so that it is found again as it was.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from al_driver.files import read_json, write_json_lines
from al_driver.layout import BEGUN_FILE, REJECTED_FILE, WorkFolder
from al_driver.workflow.step import Record

INPUT = "recovered"
"""The key of a training's inputs, and of a line of ``rejected.jsonl``."""


@dataclass(frozen=True)
class Retry:
    """A finished retry."""

    folder: Path
    record: Record

    @property
    def n_labelled(self) -> int:
        return int(self.record.result["labelled"])

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of its reference."""
        return dict(self.record.inputs.get("label") or {})


def find_retries(step_folder: Path) -> list[Retry]:
    """Return the finished retries of a label step, in order; one that was set aside is not among them."""
    folders = sorted(path for path in step_folder.glob("retry.*") if ".bak." not in path.name)
    found = ((folder, Record.read(folder)) for folder in folders)
    return [Retry(folder, record) for folder, record in found if record is not None]


def choose_retries(work: WorkFolder, iterations: Iterable[int], train_folder: Path) -> list[Retry]:
    """Return the retries whose labels a training learns from.

    Where it has begun: those that it began with. Otherwise all that have finished, of the iterations before it.
    """
    found = [retry for index in iterations for retry in find_retries(work.step(index, "label")) if retry.n_labelled]
    begun = _read_inputs(train_folder)
    if begun is None:
        return found
    return [retry for retry in found if _name(work, retry) in begun.get(INPUT, {})]


def retry_inputs(work: WorkFolder, retries: Iterable[Retry]) -> dict[str, Any]:
    """Return what a training's inputs say of the recovered labels; nothing where there are none."""
    used = {_name(work, retry): retry.record.fingerprint for retry in retries}
    return {INPUT: used} if used else {}


def read_rejected(step_folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a label step's rejected frames."""
    path = step_folder / REJECTED_FILE
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def open_reasons(step_folder: Path) -> dict[int, str]:
    """Return why each frame of a label step that no retry has recovered has no label, by its number; the last word."""
    rows = read_rejected(step_folder)
    retries = find_retries(step_folder)
    done = {number for retry in retries for number in _labelled_frames(retry)}
    found = {int(row["frame"]): str(row["reason"]) for row in rows if int(row["frame"]) not in done}
    for retry in retries:
        found |= {row["frame"]: row["reason"] for row in read_rejected(retry.folder) if row["frame"] in found}
    return found


def mark_recovered(step_folder: Path) -> None:
    """Say in a label step's ``rejected.jsonl`` which retry recovered which frame; what stands there stays."""
    rows = read_rejected(step_folder)
    by_frame = {n: retry.folder.name for retry in find_retries(step_folder) for n in _labelled_frames(retry)}
    marked = [row | ({INPUT: by_frame[row["frame"]]} if row["frame"] in by_frame else {}) for row in rows]
    if marked != rows:
        write_json_lines(step_folder / REJECTED_FILE, marked)


def _labelled_frames(retry: Retry) -> Iterator[int]:
    rejected = {row["frame"] for row in read_rejected(retry.folder)}
    yield from (n for n in retry.record.inputs["frames"] if n not in rejected)


def _name(work: WorkFolder, retry: Retry) -> str:
    return str(retry.folder.relative_to(work.root))


def _read_inputs(folder: Path) -> dict[str, Any] | None:
    """Return what a step was made or begun from; None where it has not begun."""
    record = Record.read(folder)
    if record is not None:
        return record.inputs
    begun = folder / BEGUN_FILE
    return dict(read_json(begun)["inputs"]) if begun.exists() else None
