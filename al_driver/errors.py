"""What can go wrong, told so that a person can act.

A message is one to three lines: what was found, what was expected, where (file and key, or folder), what to do
next. Each class carries the exit code of the command line.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from al_driver.words import many

Reason = Literal[
    "scf_unconverged", "engine_error", "timeout", "not_finite", "too_close", "force_too_large",
    "positions_changed", "cell_changed", "species_mismatch", "duplicate", "outlier", "no_output",
]  # fmt: skip
"""Why a frame has no label: the fixed words of ``rejected.jsonl``."""


@dataclass(frozen=True)
class Problem:
    """One finding of a check: the file it is in, the key path inside it, and what to do."""

    message: str
    key: str = ""
    file: Path | None = None
    severity: Literal["error", "warning"] = "error"
    once: bool = False
    """What is wrong lies elsewhere, and as many files as there are show it: `tell_once`."""

    def __str__(self) -> str:
        where = ": ".join(str(part) for part in (self.file, self.key) if part)
        return f"{where}: {self.message}" if where else self.message


def tell_once(problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems as they are told: of what many files show for one reason the first, with their number."""
    files: dict[str, set[Path | None]] = {}
    told: dict[str, Problem] = {}
    for problem in problems:
        words = problem.message if problem.once else str(problem)
        told.setdefault(words, problem)
        files.setdefault(words, set()).add(problem.file)
    more = {words: len(found) - 1 for words, found in files.items()}
    return [
        replace(problem, message=f"{problem.message}; so {'do' if n > 1 else 'does'} {many(n, 'more file')}")
        if (n := more[words])
        else problem
        for words, problem in told.items()
    ]


class LeaveJobs(KeyboardInterrupt):
    """The driver is asked to end, and its jobs are to go on: the next one finds them again."""


class AlError(Exception):
    """Any failure this program foresees."""

    exit_code = 1


class Interrupted(AlError):
    """Somebody ended this program; what runs was ended with it, or left alone as asked."""

    exit_code = 130


class ConfigError(AlError):
    """The input, or the site's settings, are wrong. Holds every problem found, not only the first."""

    exit_code = 2

    def __init__(self, problems: str | Problem | Sequence[Problem]) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(map(str, tell_once(self.problems))))


class EngineError(AlError):
    """A calculation did not give what was asked for.

    Parameters
    ----------
    reason
        One of the fixed words of ``rejected.jsonl``.
    where
        The folder that holds the evidence.
    detail
        What was found, in words and numbers.
    """

    exit_code = 3

    def __init__(self, reason: Reason, where: Path, detail: str = "") -> None:
        self.reason: Reason = reason
        self.where = where
        self.detail = detail
        super().__init__(f"{reason}: {detail or 'no further detail'}\n  in {where}")


class TasksFailed(AlError):
    """Too many tasks of a step failed; the folder is resumable."""

    exit_code = 3


class StateMismatch(AlError):
    """What lies in the folder was made from another input."""

    exit_code = 4


class DiskError(AlError):
    """A disk takes nothing more; what is on it is whole, and the folder is resumable."""

    exit_code = 2


class FolderLocked(AlError):
    """Another driver holds the folder."""

    exit_code = 5
