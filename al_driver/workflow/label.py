"""The label step: calculate the chosen frames, check each result, keep what is good and say what is not."""

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from al_driver.data.dataset import write_dataset
from al_driver.data.frames import Label, frame_key, labelled_frame, read_frames, sort_by_type, write_frames
from al_driver.data.gate import GateLimits, check_label
from al_driver.engines.base import Engine
from al_driver.errors import EngineError
from al_driver.files import hash_json, read_json, write_json, write_json_lines
from al_driver.jobs.batch import BatchResult
from al_driver.jobs.task import Task
from al_driver.layout import DATASET_DIR, LABEL_KEYS_FILE, LABELLED_FILE, REJECTED_FILE, REUSED_FILE, task_name
from al_driver.schema.base import identity
from al_driver.workflow.aside import set_aside
from al_driver.workflow.context import Context
from al_driver.workflow.step import Record, Step

log = logging.getLogger(__name__)


def run_label(
    context: Context,
    engine: Engine,
    *,
    step: Step,
    selected: Path,
    type_map: Sequence[str],
    accepted: bool = False,
) -> Record:
    """Calculate every frame of an extxyz file.

    Leaves ``dataset/<formula>/`` and ``labelled.extxyz`` with the frames that passed the gate, in the order in which
    they were selected, and ``rejected.jsonl`` with the others.

    Raises
    ------
    TasksFailed
        If more calculations failed than allowed.
    """

    def work() -> dict[str, Any]:
        frames = [sort_by_type(frame, type_map) for frame in read_frames(selected)]
        labels = Labelling(engine, frames, step.folder)
        labels.mend()
        labels.reuse(context.folder.root)
        launcher = context.resources.role("label").argv(engine.default_command)
        result = context.run_tasks(step, "label", labels.tasks(launcher))
        return labels.collect(result, type_map)

    def outputs(result: dict[str, Any]) -> list[str]:
        return [LABELLED_FILE, REJECTED_FILE, *([DATASET_DIR] if result["labelled"] else [])]

    record = context.run_step(step, work, outputs, accepted=accepted)
    log.info(
        "%s: labelled %d (%d found again), rejected %d",
        step.name, *(record.result[key] for key in ("labelled", "reused", "rejected")),
    )  # fmt: skip
    return record


def label_inputs(engine: Engine, type_map: Sequence[str]) -> dict[str, Any]:
    """Return what of the input a label step reads: whatever decides the engine's numbers, and nothing else."""
    return {"identity": {"sha256": engine.identity()}, "type_map": list(type_map)}


def label_detail(engine: Engine) -> dict[str, Any]:
    """Return the engine's keys, to say which of them changed."""
    return {"label": identity(engine)}


class Labelling:
    """The frames of one label step, and what is known of each."""

    def __init__(self, engine: Engine, frames: Sequence[Atoms], folder: Path) -> None:
        self.engine = engine
        self.frames = frames
        self.folder = folder
        self._labels: dict[int, Label] = {}
        identity = engine.identity()
        self.keys = {
            task_name(index): hash_json([frame_key(frame, decimals=12), identity]) for index, frame in enumerate(frames)
        }

    def tasks(self, launcher: Sequence[str]) -> list[Task]:
        return [self._make_task(index, launcher) for index in range(len(self.frames))]

    def mend(self) -> None:
        """Set aside published results that cannot be read, or are not of these frames, so that they are run again."""
        for index in range(len(self.frames)):
            folder = self.folder / task_name(index)
            if folder.exists() and (error := self._try(index, folder)) is not None:
                log.warning("%s: %s; it is now %s, and runs again", folder, error, set_aside(folder).name)

    def reuse(self, root: Path) -> None:
        """Copy the labels of the same frames with the same engine that lie in steps set aside; each is read first."""
        write_json(self.folder / LABEL_KEYS_FILE, self.keys)
        found: dict[str, list[Path]] = {}
        for key, source in _labels_set_aside(root):
            found.setdefault(key, []).append(source)
        for index, (name, key) in enumerate(self.keys.items()):
            if not (self.folder / name).exists():
                any(self._copy(index, source) for source in found.get(key, ()))

    def _copy(self, index: int, source: Path) -> bool:
        """Publish a copy of a label; False where it cannot be read."""
        target = self.folder / task_name(index)
        temporary = target.with_name(f".{target.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(source, temporary, symlinks=True)
        error = self._try(index, temporary)
        if error is not None:
            log.warning("%s: %s; it is not used again", source, error)
            shutil.rmtree(temporary)
            return False
        write_json(temporary / REUSED_FILE, {"from": os.path.relpath(source, target)})
        temporary.rename(target)
        return True

    def _try(self, index: int, directory: Path) -> str | None:
        """Read a label and keep it; say why it cannot be read."""
        try:
            self._labels[index] = self._read(index, directory)
        except EngineError as error:
            return f"{error.reason}: {error.detail}"
        except Exception as error:  # a damaged output must not end the run, whatever a parser makes of it
            return f"cannot be read ({type(error).__name__}: {error})"
        return None

    def collect(self, result: BatchResult, type_map: Sequence[str]) -> dict[str, Any]:
        """Write what came out; return the counts and the versions of the programs."""
        labelled, rejected, versions = [], [], set()
        for index, frame in enumerate(self.frames):
            failure = result.failed.get(task_name(index))
            if failure is not None:
                where = os.path.relpath(failure.where, self.folder)
                rejected.append({"frame": index, "reason": failure.reason, "detail": failure.detail, "where": where})
                continue
            label = self._labels.get(index) or self._read(index, self.folder / task_name(index))
            versions.add(" ".join(str(label.info[key]) for key in ("program", "version") if key in label.info))
            labelled.append(labelled_frame(label, frame.info))
        if labelled:
            write_dataset(self.folder / DATASET_DIR, labelled, type_map)
        write_frames(self.folder / LABELLED_FILE, labelled)
        write_json_lines(self.folder / REJECTED_FILE, rejected)
        reused = sum((self.folder / name / REUSED_FILE).exists() for name in self.keys)
        counts = {"labelled": len(labelled), "rejected": len(rejected), "reused": reused}
        return counts | {"versions": sorted(versions)}

    def _make_task(self, index: int, launcher: Sequence[str]) -> Task:
        def verify(directory: Path) -> None:
            self._labels[index] = self._read(index, directory)

        return Task(
            folder=self.folder / task_name(index),
            argv=self.engine.command(launcher),
            write_inputs=lambda directory: self.engine.write_inputs(self.frames[index], directory),
            verify=verify,
            output=self.engine.output_name,
        )

    def _read(self, index: int, directory: Path) -> Label:
        """Read one label through the gate; what the program needs no longer goes, whatever became of it."""
        try:
            label = self.engine.read_label(directory)  # says best what went wrong, so it is asked first
        finally:
            for path in (path for pattern in self.engine.scratch for path in directory.glob(pattern)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not self.engine.is_complete(directory):
            raise EngineError("no_output", directory, "the program did not reach its end")
        check_label(self.frames[index], label, directory, GateLimits())
        return label


def _labels_set_aside(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield key and folder of every finished label below a ``.bak.N``."""
    patterns = (f"*.bak.*/*/{LABEL_KEYS_FILE}", f"*/*.bak.*/{LABEL_KEYS_FILE}", f"*.bak.*/{LABEL_KEYS_FILE}")
    for keys in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        for name, key in read_json(keys).items():
            if (keys.parent / name).is_dir():
                yield key, keys.parent / name
