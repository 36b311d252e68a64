"""The labelled sets that lie in work folders: what can be read of them while their driver runs, or after."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from al_driver.data.frames import read_frames
from al_driver.data.ledger import Row, read_ledger, told_of
from al_driver.errors import ConfigError, StateMismatch
from al_driver.layout import LABELLED_FILE, LEDGER_FILE, WorkFolder
from al_driver.words import many, shown_path
from al_driver.workflow.history import History
from al_driver.workflow.recovered import find_retries
from al_driver.workflow.step import Record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelStep:
    """A finished label step."""

    work: WorkFolder
    folder: Path
    record: Record
    is_split: bool
    """Whether an ``init_bulk`` has split its frames: those to learn from lie in ``work.dataset`` too."""

    @property
    def engine(self) -> str:
        """The hash of everything that decided the numbers."""
        return str(self.record.inputs["identity"]["sha256"])

    @property
    def name(self) -> str:
        """Its folder in the work folder: ``iter.0003/label``."""
        return str(self.folder.relative_to(self.work.root))

    def rows(self, frames: Sequence[Atoms]) -> list[Row]:
        """Return the lineage of its frames; what they tell themselves where an earlier version kept no ledger.

        Raises
        ------
        StateMismatch
            If the ledger is damaged, or of other frames.
        """
        ledger = read_ledger(self.folder)
        if ledger is None:
            return [{"frame": n, **told_of(atoms.info), "settings": self.engine} for n, atoms in enumerate(frames)]
        if len(ledger.rows) != len(frames):
            raise StateMismatch(
                f"{self.folder / LEDGER_FILE} tells of {many(len(ledger.rows), 'frame')}; "
                f"its step labelled {len(frames)}.\n"
                "  Bring the file back, or make the step anew with --redo."
            )
        return ledger.rows

    def settings(self) -> dict[str, Any]:
        """Return the settings of its references, by their hashes."""
        ledger = read_ledger(self.folder)
        return ledger.settings if ledger else {self.engine: self.record.inputs.get("label", {})}

    def frames(self) -> list[Atoms]:
        """Return its frames in the order in which they were selected.

        Raises
        ------
        StateMismatch
            If they are no longer there.
        """
        expected, path = self.record.result["labelled"], self.folder / LABELLED_FILE
        frames = read_frames(path) if expected and path.exists() else []
        if len(frames) != expected:
            raise StateMismatch(
                f"{path} holds {many(len(frames), 'frame')}; its step labelled {expected}.\n"
                "  Bring the file back, or make the step anew with --redo."
            )
        return frames


def find_work_folders(directories: Sequence[Path]) -> list[WorkFolder]:
    """Return work folders: those given, and those at any depth of a folder given, sorted. Each comes once.

    Raises
    ------
    ConfigError
        If a folder is none and holds none.
    """
    found: dict[Path, WorkFolder] = {}
    for directory in directories:
        below = list(_walk(directory))
        if not below:
            reason = "neither it nor a folder in it has a history.json" if directory.is_dir() else "it is no folder"
            above = (path for path in directory.absolute().parents if WorkFolder(path).history.exists())
            hint = f"\n  It lies in one: give {shown_path(work)}." if (work := next(above, None)) else ""
            raise ConfigError(f"{directory} is no work folder of `al run` or `al init_bulk`: {reason}.{hint}")
        for path in below:
            found.setdefault(path.resolve(), WorkFolder(path))
    return list(found.values())


def find_label_steps(work: WorkFolder) -> Iterator[LabelStep]:
    """Yield the finished label steps of a work folder, in order, each before its retries; none that was set aside."""
    is_init = History(work.history).read()["kind"] == "init_bulk"
    if is_init and Record.read(work.root / "split") is None:
        return  # which of its frames are for validation is not known yet
    folders = [work.root / "label"] if is_init else [work.step(index, "label") for index in work.iterations()]
    for folder in folders:
        record = Record.read(folder)
        if record is not None and "identity" in record.inputs:  # values of a table are no frames
            yield LabelStep(work, folder, record, is_init)
            yield from (LabelStep(work, one.folder, one.record, is_init) for one in find_retries(folder))


def find_valid(work: WorkFolder) -> list[Path]:
    """Return the data that a run validates on, or that an ``init_bulk`` held back: they must never be trained on."""
    named = named_valid(work)
    for path in named:
        if not path.exists():
            log.warning("%s validates on %s, which is gone: those frames are not known here", work.root, path.resolve())
    return [path for path in (work.valid, *named) if path.exists()]


def named_valid(work: WorkFolder) -> list[Path]:
    """Return the data that a run validates on, there or gone."""
    record = Record.read(work.data)
    return [work.data / name for name in record.result.get("valid", [])] if record else []


def _walk(directory: Path) -> Iterator[Path]:
    """Yield the work folders at any depth; none lies in another, and one that was set aside is none."""
    if WorkFolder(directory).history.exists():
        yield directory
    elif directory.is_dir():
        for path in sorted(directory.iterdir()):
            if path.is_dir() and not path.is_symlink() and not path.name.startswith(".") and ".bak." not in path.name:
                yield from _walk(path)


def read_labels(step_folder: Path) -> tuple[list[Atoms], list[Row], dict[str, Any]]:
    """Return the frames of a label step and of its retries in the order in which they were selected.

    With the lines of their ledgers, and the settings of their references by hash.
    """
    found: list[tuple[int, Atoms, Row]] = []
    settings: dict[str, Any] = {}
    for folder in (step_folder, *(retry.folder for retry in find_retries(step_folder))):
        frames, ledger = read_frames(folder / LABELLED_FILE), read_ledger(folder)
        rows = ledger.rows if ledger else [told_of(atoms.info) for atoms in frames]
        settings |= ledger.settings if ledger else {}
        found += [
            (int(row.get("frame", n)), atoms, row) for n, (atoms, row) in enumerate(zip(frames, rows, strict=True))
        ]
    found.sort(key=lambda one: one[0])
    return [atoms for _, atoms, _ in found], [row for _, _, row in found], settings
