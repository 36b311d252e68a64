"""What ``al check`` found: problems, and what a person should see before anything is submitted."""

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from al_driver.errors import AlError, ConfigError, Problem


@dataclass
class Report:
    """What a check found."""

    problems: list[Problem] = field(default_factory=list)
    set_by_driver: list[str] = field(default_factory=list)
    """What the driver sets in the user's own inputs."""
    plan: list[str] = field(default_factory=list)
    """The first tasks."""
    inputs: dict[str, str] = field(default_factory=dict)
    """One rendered input of each kind: name and content."""

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def warnings(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "warning"]

    def raise_errors(self) -> None:
        """Raise all errors as one `ConfigError`; warnings alone do not stop a run."""
        if self.errors:
            raise ConfigError(self.errors)

    def collect(self, find: Callable[[], Iterable[Problem] | None], prefix: str = "") -> None:
        """Add the problems that a function returns or raises; keys start at the noun that ``prefix`` names."""
        try:
            for problem in find() or ():
                self._add(replace(problem, key=_join(prefix, problem.key)))
        except ConfigError as error:
            for problem in error.problems:
                self._add(replace(problem, key=_join(prefix, problem.key)))
        except AlError as error:
            self._add(Problem(str(error), key=prefix))
        except OSError as error:
            file = Path(error.filename) if isinstance(error.filename, str) else None
            self._add(Problem(f"cannot be read: {error.strerror or error}", prefix, file))

    def nest(self, key: str, problems: Iterable[Problem]) -> None:
        """Add what is wrong in a file that a key names; the messages begin with that key."""
        for problem in problems:
            self._add(under(key, problem))

    def _add(self, problem: Problem) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def render_files(write: Callable[[Path], None], kind: str) -> dict[str, str]:
    """Return the short text files that a writer makes."""
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        files = sorted(path for path in Path(name).iterdir() if path.is_file() and not path.is_symlink())
        return {f"{kind}/{path.name}": path.read_text(errors="replace") for path in files}


def under(key: str, problem: Problem) -> Problem:
    """Return what is wrong in a file that a key names, with that key before the file's own."""
    return replace(problem, key=": ".join(part for part in (key, problem.key) if part))


def _join(prefix: str, key: str) -> str:
    return ".".join(part for part in (prefix, key) if part)
