"""EngineTasks with a reference engine: labels, relaxations, dynamics, each a task; what is there is used again.

A finished calculation is found again, by a hash of the structure and of everything that decides the numbers, in
whatever was set aside in the work folder, so that no change of mind repeats one.
"""

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

from al_driver.engines.base import Engine
from al_driver.errors import EngineError
from al_driver.files import hash_path, read_json, write_json
from al_driver.jobs.batch import BatchResult
from al_driver.jobs.journal import read_last_runs
from al_driver.jobs.task import Task
from al_driver.layout import CALCULATION_KEYS_FILE, JOBS_DIR, REUSED_FILE
from al_driver.schema.resource import Role
from al_driver.workflow.aside import set_aside
from al_driver.workflow.context import Context
from al_driver.workflow.step import Step

log = logging.getLogger(__name__)
Result = TypeVar("Result")
INPUTS_FILE = "inputs.jsonl"  # of a step: a line for each input that was written, with the hash of its files


@dataclass(frozen=True)
class EngineTask(Generic[Result]):
    """One structure, and what an engine is to make of it."""

    key: str
    """Hash of the structure and of everything that decides the result."""
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

    def run(self, context: Context, step: Step, role: Role) -> BatchResult:
        """Run what is not there yet.

        Raises
        ------
        TasksFailed
            If more failed than allowed.
        """
        self._mend()
        self._reuse(context.folder.root)
        profile = context.resources.role(role)
        return context.run_tasks(step, role, [self._make_task(name, profile.argv) for name in self._tasks])

    def result(self, name: str) -> Result:
        """Return what a finished calculation gave."""
        if name not in self._results:
            self._read(name, self._folder / name)
        return self._results[name]

    @property
    def n_reused(self) -> int:
        """How many were found again."""
        return sum((self._folder / name / REUSED_FILE).exists() for name in self._tasks)

    def provenance(self, name: str, root: Path) -> dict[str, Any]:
        """Return what a ledger keeps of a finished calculation beside its result; folders start at ``root``."""
        folder = self._folder / name
        told: dict[str, Any] = {
            "calculation": os.path.relpath(folder, root),
            "input": self._inputs.get(name),
            **self._runs.get(name, {}),
        }
        output = folder / self._tasks[name].engine.output_name
        if output.exists():
            ended = dt.datetime.fromtimestamp(output.stat().st_mtime, dt.UTC)
            told["finished"] = ended.isoformat(timespec="seconds")
        if (folder / REUSED_FILE).exists():
            told["reused"] = os.path.relpath(folder / read_json(folder / REUSED_FILE)["from"], root)
        return told

    @cached_property
    def _inputs(self) -> dict[str, str]:
        return _read_inputs(self._folder)

    @cached_property
    def _runs(self) -> dict[str, dict[str, Any]]:
        return read_last_runs(self._folder / JOBS_DIR)

    def _mend(self) -> None:
        """Set aside published results that cannot be read, or are not of these structures, so that they run again."""
        for name in self._tasks:
            folder = self._folder / name
            if folder.exists() and (error := self._try(name, folder)) is not None:
                log.warning("%s: %s; it is now %s, and runs again", folder, error, set_aside(folder).name)

    def _reuse(self, root: Path) -> None:
        """Copy the results of the same calculations that lie in steps set aside; each is read first."""
        write_json(self._folder / CALCULATION_KEYS_FILE, {name: each.key for name, each in self._tasks.items()})
        found: dict[str, list[Path]] = {}
        for key, source in _find_set_aside(root):
            found.setdefault(key, []).append(source)
        for name, calculation in self._tasks.items():
            if not (self._folder / name).exists():
                any(self._copy(name, source) for source in found.get(calculation.key, ()))

    def _copy(self, name: str, source: Path) -> bool:
        """Publish a copy of a result; False where it cannot be read."""
        target = self._folder / name
        temporary = target.with_name(f".{target.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(source, temporary, symlinks=True)
        error = self._try(name, temporary)
        if error is not None:
            log.warning("%s: %s; it is not used again", source, error)
            shutil.rmtree(temporary)
            return False
        write_json(temporary / REUSED_FILE, {"from": os.path.relpath(source, target)})
        self._note_input(name, _read_inputs(source.parent).get(source.name))
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
            for path in (path for pattern in calculation.engine.scratch for path in directory.glob(pattern)):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if not calculation.engine.is_complete(directory):
            raise EngineError("no_output", directory, "the program did not reach its end")
        self._results[name] = result

    def _write(self, name: str, directory: Path) -> None:
        """Write a program's input, and keep the hash of its files."""
        self._tasks[name].write(directory)
        self._note_input(name, hash_path(directory))

    def _note_input(self, name: str, digest: str | None) -> None:
        with (self._folder / INPUTS_FILE).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"task": name, "sha256": digest}) + "\n")

    def _make_task(self, name: str, argv: Callable[[str], Sequence[str]]) -> Task:
        calculation = self._tasks[name]
        return Task(
            folder=self._folder / name,
            argv=calculation.engine.command(argv(calculation.engine.default_command)),
            write_inputs=lambda directory: self._write(name, directory),
            verify=lambda directory: self._read(name, directory),
            output=calculation.engine.output_name,
        )


def _read_inputs(folder: Path) -> dict[str, str]:
    """Return the hash of the input that was written last, by task; a line that a killed driver tore is left out."""
    path, found = folder / INPUTS_FILE, {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
            found[row["task"]] = row["sha256"]
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _find_set_aside(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield key and folder of every finished calculation below a ``.bak.N``."""
    places = ("*.bak.*/*", "*/*.bak.*", "*.bak.*")
    for keys in sorted({path for place in places for path in root.glob(f"{place}/{CALCULATION_KEYS_FILE}")}):
        for name, key in read_json(keys).items():
            if (keys.parent / name).is_dir():
                yield key, keys.parent / name
