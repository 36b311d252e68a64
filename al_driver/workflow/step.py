"""Steps: what a folder was made from, and whether it is finished.

``begun.json`` is written first and ``step.json`` last, both atomically, in the step's own folder; there is no
database. The fingerprint of a step covers the input it reads and, chained, every step before it, so that large data
are hashed once. A marker with another fingerprint stops the run: nothing is redone, or reused, without a word.
"""

import datetime as dt
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import al_driver
from al_driver.errors import StateMismatch
from al_driver.files import hash_json, read_json, write_json
from al_driver.layout import BEGUN_FILE, STEP_FILE
from al_driver.workflow.aside import set_aside
from al_driver.workflow.counts import COUNT_KEY, count_files
from al_driver.workflow.pack import packed_folders
from al_driver.workflow.whole import SIZES_KEY, read_sizes

log = logging.getLogger(__name__)
Outputs = Sequence[str] | Callable[[dict[str, Any]], Sequence[str]]
"""Files and folders, relative to the step's, that must be there; where it depends, a function of the step's result."""


@dataclass(frozen=True)
class Step:
    """A folder, and everything its content follows from."""

    name: str
    """As in ``--redo``: ``0/train``."""
    folder: Path
    inputs: dict[str, Any]
    """What of the user's input this step reads, as JSON; files stand as hashes of their content."""
    after: tuple[str, ...]
    """Fingerprints of the steps it follows from."""
    detail: dict[str, Any] = field(default_factory=dict)
    """What tells a person more of a difference, and decides nothing: it is not in the fingerprint."""
    accepts: bool = True
    """Whether the command knows `--accept-from`."""

    @property
    def fingerprint(self) -> str:
        return hash_json([self.name.split("/")[-1], self.inputs, list(self.after)])


@dataclass(frozen=True)
class Record:
    """A finished step: the content of ``step.json``."""

    fingerprint: str
    inputs: dict[str, Any]
    result: dict[str, Any]
    """What came of it, verified before the marker was written."""
    outputs: list[str]
    """What must still be there, relative to the step's folder."""
    finished: str

    @classmethod
    def read(cls, folder: Path) -> "Record | None":
        path = folder / STEP_FILE
        if not path.exists():
            return None
        return cls(*_read_keys(path, "fingerprint", "inputs", "result", "outputs", "finished"))


def run_step(step: Step, work: Callable[[], dict[str, Any]], outputs: Outputs, *, accepted: bool = False) -> Record:
    """Return the record of a step; do the step's work unless it is done.

    Parameters
    ----------
    work
        Fills the folder and returns what came of it. It is called again after an interruption; its tasks skip
        themselves when they are complete.
    outputs
        What it must leave. The marker keeps the names: later starts ask for what was left then.
    accepted
        The user said that this step, once finished, stays as it is, whatever the input says now. Where it is not
        finished, or has lost an output, what there is of another input is set aside.

    Raises
    ------
    StateMismatch
        If the folder was made, or begun, from another input.
    """
    record = Record.read(step.folder)
    if record is not None and not accepted:
        _check_same(step, record.inputs, record.fingerprint)
    if record is not None:
        missing = _find_missing(step, record.outputs)
        if not missing:
            return record
        log.warning("%s: %s is gone from %s; the step runs again", step.name, ", ".join(missing), step.folder)
    _begin(step, accepted=accepted)
    return _do(step, work, outputs)


def _begin(step: Step, *, accepted: bool) -> None:
    begun = step.folder / BEGUN_FILE
    if begun.exists():
        fingerprint, inputs = _read_keys(begun, "fingerprint", "inputs")
        if not accepted:
            _check_same(step, inputs, fingerprint)
        if fingerprint == step.fingerprint:
            return
        log.warning("%s: begun from another input; that is now %s", step.name, set_aside(step.folder).name)
    step.folder.mkdir(parents=True, exist_ok=True)
    write_json(begun, {"step": step.name, "fingerprint": step.fingerprint, "inputs": step.inputs | step.detail})


def _do(step: Step, work: Callable[[], dict[str, Any]], outputs: Outputs) -> Record:
    result = work()
    names = list(outputs(result) if callable(outputs) else outputs)
    missing = _find_missing(step, names)
    if missing:
        raise StateMismatch(f"{step.name} did not leave {', '.join(missing)} in {step.folder}; start again.")
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    record = Record(step.fingerprint, step.inputs | step.detail, result, names, now)
    marker = {"step": step.name, "al_driver": al_driver.__version__, "after": list(step.after), **vars(record)}
    marker |= {COUNT_KEY: 1 + count_files(step.folder), SIZES_KEY: read_sizes(step.folder, names)}
    write_json(step.folder / STEP_FILE, marker)
    return record


def _find_missing(step: Step, names: Sequence[str]) -> list[str]:
    missing = [name for name in names if not (step.folder / name).exists()]
    packed = packed_folders(step.folder) if missing else set()
    return [name for name in missing if name not in packed]


def _read_keys(path: Path, *keys: str) -> list[Any]:
    """Return the values of keys of a marker.

    Raises
    ------
    StateMismatch
        If the file is damaged.
    """
    content = read_json(path)
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise StateMismatch(
            f"{path} is damaged: it has no {missing[0]!r}.\n  Move its folder away, or use --redo, and start again."
        )
    return [content[key] for key in keys]


def _check_same(step: Step, old_inputs: dict[str, Any], old_fingerprint: str) -> None:
    if old_fingerprint == step.fingerprint:
        return
    inputs = json.loads(json.dumps(step.inputs | step.detail))  # as the old ones were read: a tuple is a list there
    changes = list(describe_changes(old_inputs, inputs)) or ["what came before it"]
    shown = "; ".join(changes[:6]) + (f"; and {len(changes) - 6} more" if len(changes) > 6 else "")
    keep = ", `--accept-from K` to keep the iterations below K as they are" if step.accepts and "/" in step.name else ""
    raise StateMismatch(
        f"{step.folder} was made from another input. Changed: {shown}\n"
        f"  Change it back, or use the new input: `--redo {step.name}` for this step and all later ones{keep}.\n"
        "  Nothing is deleted either way, and labels that exist are found again."
    )


def describe_changes(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yield each difference of two JSON values as ``key.path: old → new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        if old.keys() == new.keys() == {"sha256"}:
            if old != new:
                yield f"{path} (another content)"
            return
        for key in sorted(old.keys() | new.keys()):
            yield from describe_changes(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from describe_changes(before, after, f"{path}[{index}]")
    elif old != new:
        yield f"{path}: {_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
