"""CP2K's input: sections within sections, and lines of a keyword and its values, which stay the text the user wrote.

Names of sections and keywords do not depend on case, values may (a path, a basis set): so only names are compared, in
capitals. ``@SET`` and the ``${NAME}`` it defines are written out; the other directives, which hide or add lines, are
refused, since what they would leave cannot be seen. Source: the CP2K manual, and its ``cp_parser``.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from al_driver.errors import ConfigError, Problem
from al_driver.schema.suggest import nearest_file

Item: TypeAlias = "Section | str"
_COMMENT = re.compile(r'("[^"\n]*")|[!#].*')
_SET = re.compile(r"@SET\s+(\w+)\s+(.*)", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


@dataclass
class Section:
    """A section: what stands after its name, and its lines and sections in their order."""

    name: str
    """In capitals, without the ``&``."""
    parameter: str = ""
    items: list[Item] = field(default_factory=list)

    @property
    def sections(self) -> Iterator["Section"]:
        return (item for item in self.items if isinstance(item, Section))

    @property
    def lines(self) -> Iterator[str]:
        return (item for item in self.items if isinstance(item, str))

    def find(self, *names: str) -> "Section | None":
        """Return the first section at a path of names."""
        found: Section | None = self
        for name in names:
            found = None if found is None else next((item for item in found.sections if item.name == name), None)
        return found

    def at(self, *names: str) -> "Section":
        """Return the first section at a path of names, made where it is not there."""
        found = self
        for name in names:
            inner = found.find(name)
            if inner is None:
                inner = Section(name)
                found.items.append(inner)
            found = inner
        return found

    def values(self, keyword: str) -> list[str]:
        """Return what stands after a keyword, for each line that has it."""
        return [value for key, value in map(split_line, self.lines) if key == keyword]

    def value(self, keyword: str, default: str = "") -> str:
        """Return what stands after the last line with a keyword."""
        return (self.values(keyword) or [default])[-1]

    def set(self, keyword: str, value: str, *aliases: str) -> None:
        """Put one line with a keyword in place of all."""
        self.remove(keyword, *aliases)
        self.items.append(f"{keyword} {value}".strip())

    def replace(self, section: "Section") -> None:
        """Put a section in place of all with its name."""
        self.drop(section.name)
        self.items.append(section)

    def remove(self, *keywords: str) -> None:
        """Take away every line with one of these keywords."""
        self.items = [item for item in self.items if not isinstance(item, str) or split_line(item)[0] not in keywords]

    def drop(self, *names: str) -> None:
        """Take away every section with one of these names."""
        self.items = [item for item in self.items if not isinstance(item, Section) or item.name not in names]

    def map_lines(self, change: Callable[[str], str]) -> "Section":
        """Return a copy, with all below it, in which every line is what ``change`` makes of it."""
        items = [change(item) if isinstance(item, str) else item.map_lines(change) for item in self.items]
        return Section(self.name, self.parameter, items)

    def as_json(self) -> dict[str, Any]:
        """Return keywords and sections by name, sorted; numbers however they were written, and no layout."""
        found: dict[str, Any] = {}
        for item in self.items:
            if isinstance(item, Section):
                found.setdefault(f"&{item.name} {item.parameter}".strip(), []).append(item.as_json())
            else:
                key, value = split_line(item)
                found.setdefault(key, []).append(" ".join(map(_normal_word, value.split())))
        return {key: values[0] if len(values) == 1 else values for key, values in sorted(found.items())}


def split_line(line: str) -> tuple[str, str]:
    """Return keyword, in capitals, and values.

    >>> split_line("Basis_Set  ORB DZVP")
    ('BASIS_SET', 'ORB DZVP')
    """
    keyword, *rest = line.split(maxsplit=1)
    return keyword.upper(), "".join(rest)


def format_sections(root: Section, indent: str = "") -> str:
    """Return the text of what a section holds."""
    text = ""
    for item in root.items:
        if isinstance(item, str):
            text += f"{indent}{item}\n"
        else:
            text += f"{indent}&{item.name} {item.parameter}".rstrip() + "\n"
            text += f"{format_sections(item, indent + '  ')}{indent}&END {item.name}\n"
    return text


def read_sections(path: Path) -> Section:
    """Read a user's input.

    Raises
    ------
    ConfigError
        If the file is missing, or its sections do not close, or a directive hides what it says.
    """
    if not path.is_file():
        raise ConfigError(Problem(f"{path} does not exist{nearest_file(path)}", key="input"))
    return parse_sections(path.read_text(encoding="utf-8", errors="replace"), path)


def parse_sections(text: str, path: Path) -> Section:
    """Read the text of an input; ``path`` is for errors."""
    stack, variables = [Section("")], dict[str, str]()
    for number, line in _logical_lines(text):
        where = f"{path}, line {number}"
        directive = _SET.fullmatch(line)
        if directive:
            variables[directive[1].upper()] = _written_out(directive[2], variables, where).strip("\"'")
            continue
        line = _written_out(line, variables, where)
        if line.startswith("@"):
            raise _problem(
                f"{where}: {line.split()[0].upper()} is not read; write out what it stands for (@SET may stay)"
            )
        if not line.startswith("&"):
            if len(stack) == 1:
                raise _problem(f"{where}: {line[:60]!r} stands in no section")
            stack[-1].items.append(line)
            continue
        name, _, parameter = line[1:].strip().partition(" ")
        if name.upper() == "END":
            _close(stack, parameter.strip().upper(), where)
        else:
            section = Section(name.upper(), parameter.strip())
            stack[-1].items.append(section)
            stack.append(section)
    if len(stack) > 1:
        raise _problem(f"{path} ends inside &{stack[-1].name}; an &END is missing")
    return stack[0]


def _close(stack: list[Section], name: str, where: str) -> None:
    if len(stack) == 1:
        raise _problem(f"{where}: &END {name} closes no section")
    if name and name != stack[-1].name:
        raise _problem(f"{where}: &END {name} inside &{stack[-1].name}; an &END is missing, or one too many")
    stack.pop()


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines without comments, those that end in a backslash joined; with the number of the last one."""
    before = ""
    for number, raw in enumerate(text.splitlines(), start=1):
        line = before + _COMMENT.sub(lambda found: found[1] or "", raw).strip()
        if line.endswith("\\"):
            before = line[:-1] + " "
            continue
        before = ""
        if line:
            yield number, line


def _written_out(text: str, variables: dict[str, str], where: str) -> str:
    def value_of(found: "re.Match[str]") -> str:
        name = (found[1] or found[2]).upper()
        if name not in variables:
            raise _problem(f"{where}: ${name} is not defined by an @SET before it")
        return variables[name]

    return _VARIABLE.sub(value_of, text)


def _normal_word(word: str) -> str:
    try:
        return repr(float(word.lower().replace("d", "e")))
    except ValueError:
        return word


def _problem(message: str) -> ConfigError:
    return ConfigError(Problem(message, key="input"))
