"""EngineTasks with a reference engine: labels, relaxations, dynamics, each a task; what is there is used again.

A finished calculation is found again, by a hash of the structure and of everything that decides the numbers, in
whatever was set aside in the work folder, so that no change of mind repeats one.
"""

import contextlib
import datetime as dt
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from ase import Atoms

from al_driver.data.frames import frame_key
from al_driver.engines.base import Engine
from al_driver.errors import EngineError, StateMismatch
from al_driver.files import hash_json, hash_path, read_json, read_tail, write_json
from al_driver.jobs.journal import read_last_runs
from al_driver.jobs.progress import BatchResult
from al_driver.jobs.task import Task
from al_driver.layout import ARCHIVE_FILE, CALCULATION_KEYS_FILE, JOBS_DIR
from al_driver.schema.resource import Role
from al_driver.workflow.aside import set_aside
from al_driver.workflow.context import Context
from al_driver.workflow.pack import Archive
from al_driver.workflow.step import Step

log = logging.getLogger(__name__)
Result = TypeVar("Result")
INPUTS_FILE = "inputs.jsonl"  # of a step: a line for each input written, with its hash, and each result found again


def calculation_key(engine: Engine, atoms: Atoms, settings: str, *what: Any) -> str:
    """Return the hash of a structure and of everything that decides what an engine makes of it.

    Parameters
    ----------
    settings
        `Engine.identity`, which all calculations of a step share.
    what
        Whatever else is asked for, as JSON.
    """
    return hash_json([frame_key(atoms, decimals=12), settings, engine.variant(atoms), *what])


@dataclass(frozen=True)
class EngineTask(Generic[Result]):
    """One structure, and what an engine is to make of it."""

    key: str
    """Its `calculation_key`."""
    engine: Engine
    write: Callable[[Path], None]
    """Writes the program's input into a folder."""
    read: Callable[[Path], Result]
    """Reads the result from it; raises `EngineError` unless it is whole and sound."""


class EngineTasks(Generic[Result]):
    """The calculations of one step, and what is known of each."""

    def __init__(self, calculations: Mapping[str, EngineTask[Result]], folder: Path) -> None:
        self._tasks = calculations
        """By the name of the task's folder."""
        self._folder = folder
        self._results: dict[str, Result] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tasks

    def run(self, context: Context, step: Step, role: Role, *, batch: str = "", tolerant: bool = False) -> BatchResult:
        """Run what is not there yet; ``batch`` and ``tolerant`` as `Context.run_tasks` takes them.

        Raises
        ------
        TasksFailed
            If more failed than allowed.
        """
        self._mend()
        self._reuse(context.folder.root)
        profile = context.resources.role(role)
        tasks = [self._make_task(name, profile.argv) for name in self._tasks]
        return context.run_tasks(step, role, tasks, batch=batch, tolerant=tolerant)

    def result(self, name: str) -> Result:
        """Return what a finished calculation gave."""
        if name not in self._results:
            self._read(name, self._folder / name)
        return self._results[name]

    @property
    def n_reused(self) -> int:
        """How many were found again."""
        return sum("reused" in self._inputs.get(name, {}) for name in self._tasks)

    def provenance(self, name: str, root: Path) -> dict[str, Any]:
        """Return what a ledger keeps of a finished calculation beside its result; folders start at ``root``."""
        folder = self._folder / name
        told: dict[str, Any] = {
            "calculation": os.path.relpath(folder, root),
            "input": self._inputs.get(name, {}).get("sha256"),
            **self._runs.get(name, {}),
        }
        changed = [path.stat().st_mtime for path in folder.glob("*")]
        if changed:
            ended = dt.datetime.fromtimestamp(max(changed), dt.UTC)
            told["finished"] = ended.isoformat(timespec="seconds")
        return told | {key: note for key, note in self._inputs.get(name, {}).items() if key == "reused"}

    @cached_property
    def _inputs(self) -> dict[str, dict[str, Any]]:
        return _read_inputs(self._folder)

    @cached_property
    def _runs(self) -> dict[str, dict[str, Any]]:
        batches = sorted(self._folder.glob(f"{JOBS_DIR}*"))
        return {name: run for jobs in batches for name, run in read_last_runs(jobs).items()}

    def _mend(self) -> None:
        """Set aside published results that cannot be read, or are not of these structures, so that they run again."""
        for name in self._tasks:
            folder = self._folder / name
            if folder.exists() and (error := self._try(name, folder)) is not None:
                log.warning("%s: %s; it is now %s, and runs again", folder, error, set_aside(folder).name)

    def _reuse(self, root: Path) -> None:
        """Copy the results of the same calculations that lie in steps set aside; each is read first."""
        path = self._folder / CALCULATION_KEYS_FILE
        others = read_json(path) if path.exists() else {}  # of another batch of this step
        write_json(path, others | {name: each.key for name, each in self._tasks.items()})
        found: dict[str, list[tuple[Path, Archive | None]]] = {}
        with contextlib.ExitStack() as archives:
            for key, source, archive in _find_set_aside(root, archives):
                found.setdefault(key, []).append((source, archive))
            for name, calculation in self._tasks.items():
                if not (self._folder / name).exists():
                    any(self._copy(name, *place, root) for place in found.get(calculation.key, ()))

    def _copy(self, name: str, source: Path, archive: Archive | None, root: Path) -> bool:
        """Publish a copy of a result, of its folder or from an archive; False where it cannot be read."""
        target = self._folder / name
        temporary = target.with_name(f".{target.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            if archive is None:
                shutil.copytree(source, temporary, symlinks=True)
            else:
                archive.extract(source.name, temporary)
            error = self._try(name, temporary)
        except StateMismatch as damage:
            error = str(damage)
        if error is not None:
            log.warning("%s: %s; it is not used again", source, error)
            shutil.rmtree(temporary)
            return False
        digest = _read_inputs(source.parent).get(source.name, {}).get("sha256")
        self._note_input(name, sha256=digest, reused=os.path.relpath(source, root))
        temporary.rename(target)
        return True

    def _try(self, name: str, directory: Path) -> str | None:
        """Read a result and keep it; say why it cannot be read."""
        try:
            self._read(name, directory)
        except EngineError as error:
            return f"{error.reason}: {error.detail}"
        except Exception as error:  # a damaged output must not end the run, whatever a parser makes of it
            return f"cannot be read ({type(error).__name__}: {error})"
        return None

    def _read(self, name: str, directory: Path) -> None:
        """Read a result and keep it; what the program needs no longer goes, whatever became of it."""
        calculation = self._tasks[name]
        try:
            result = calculation.read(directory)  # says best what went wrong, so it is asked first
        finally:
            _remove_scratch(calculation.engine, directory)
        if not calculation.engine.is_complete(directory):
            raise EngineError("no_output", directory, "the program did not reach its end")
        self._results[name] = result

    def _write(self, name: str, directory: Path) -> None:
        """Write a program's input, and keep the hash of its files."""
        self._tasks[name].write(directory)
        self._note_input(name, sha256=hash_path(directory))

    def _note_input(self, name: str, **told: str | None) -> None:
        path = self._folder / INPUTS_FILE
        torn = read_tail(path, 1) not in (b"", b"\n")  # a full disk, a driver killed while it wrote
        with path.open("a", encoding="utf-8") as stream:
            stream.write("\n" * torn + json.dumps({"task": name, **told}) + "\n")

    def _make_task(self, name: str, argv: Callable[[str], Sequence[str]]) -> Task:
        calculation = self._tasks[name]
        return Task(
            folder=self._folder / name,
            argv=calculation.engine.command(argv(calculation.engine.default_command)),
            write_inputs=lambda directory: self._write(name, directory),
            verify=lambda directory: self._read(name, directory),
            output=calculation.engine.output_name,
        )


def _remove_scratch(engine: Engine, directory: Path) -> None:
    """Remove what nobody reads; where that fails it stays, and what was read comes first."""
    try:
        for path in engine.find_scratch(directory):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except OSError as error:
        log.warning("%s: files that nobody reads stay there (%s)", directory, error)


def _read_inputs(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the last line of each task; one that a killed driver tore is left out."""
    path, found = folder / INPUTS_FILE, {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
            found[row["task"]] = row
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _find_set_aside(root: Path, archives: contextlib.ExitStack) -> Iterator[tuple[str, Path, Archive | None]]:
    """Yield key and folder of every finished calculation below a ``.bak.N``, and the archive that holds it.

    It is of a step, or of a retry of one.
    """
    places = ("*.bak.*/*", "*/*.bak.*", "*.bak.*", "*.bak.*/*/retry.*", "*/*.bak.*/retry.*", "*/*/retry.*.bak.*")
    for keys in sorted({path for place in places for path in root.glob(f"{place}/{CALCULATION_KEYS_FILE}")}):
        archive = None
        if (keys.parent / ARCHIVE_FILE).exists():
            try:
                archive = archives.enter_context(Archive(keys.parent))
            except StateMismatch as error:
                log.warning("%s; what is in it is not used again", error)
        for name, key in read_json(keys).items():
            if archive is not None and name in archive.folders:
                yield key, keys.parent / name, archive
            elif (keys.parent / name).is_dir():
                yield key, keys.parent / name, None
