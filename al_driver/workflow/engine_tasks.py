"""EngineTasks with a reference engine: labels, relaxations, dynamics, each a task; what is there is used again.

A finished calculation is found again, by a hash of the structure and of everything that decides the numbers, in
whatever was set aside in the work folder, so that no change of mind repeats one.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from al_driver.engines.base import Engine
from al_driver.errors import EngineError
from al_driver.files import read_json, write_json
from al_driver.jobs.batch import BatchResult
from al_driver.jobs.task import Task
from al_driver.layout import CALCULATION_KEYS_FILE, REUSED_FILE
from al_driver.schema.resource import Role
from al_driver.workflow.aside import set_aside
from al_driver.workflow.context import Context
from al_driver.workflow.step import Step

log = logging.getLogger(__name__)
Result = TypeVar("Result")


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

    def _make_task(self, name: str, argv: Callable[[str], Sequence[str]]) -> Task:
        calculation = self._tasks[name]
        return Task(
            folder=self._folder / name,
            argv=calculation.engine.command(argv(calculation.engine.default_command)),
            write_inputs=calculation.write,
            verify=lambda directory: self._read(name, directory),
            output=calculation.engine.output_name,
        )


def _find_set_aside(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield key and folder of every finished calculation below a ``.bak.N``."""
    places = ("*.bak.*/*", "*/*.bak.*", "*.bak.*")
    for keys in sorted({path for place in places for path in root.glob(f"{place}/{CALCULATION_KEYS_FILE}")}):
        for name, key in read_json(keys).items():
            if (keys.parent / name).is_dir():
                yield key, keys.parent / name
