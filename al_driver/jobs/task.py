"""A task: a folder, a command, and a test of completeness."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """One child process and the folder it fills.

    An attempt works in ``<folder>.try-N``; when ``verify`` finds its output whole it is published by one rename to
    ``folder``. A task whose ``folder`` exists is complete and is never run again.
    """

    folder: Path
    """Where the finished task lies."""
    argv: tuple[str, ...]
    """The program, its launcher and its arguments; no shell reads it."""
    write_inputs: Callable[[Path], None]
    """Fills an attempt's folder."""
    verify: Callable[[Path], None]
    """Raises `EngineError` unless the folder holds a whole result. It is handed the attempt's folder."""
    output: str = "output"
    """The file, in the attempt's folder, that takes stdout and stderr."""
    salvage: Callable[[Path], None] | None = None
    """Asked when ``verify`` refuses and the program crashed by a signal of its own: raises `EngineError` unless what
    was written before is a result of its own."""

    go_on: Callable[[Path, Path], bool] | None = None
    """Takes from an earlier attempt's folder what the new one's, its inputs written, can go on from; says whether there
    was anything. Asked where a time limit or a preemption ended the earlier one."""

    @property
    def name(self) -> str:
        return self.folder.name
