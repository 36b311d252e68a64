"""LAMMPS input scripts and what LAMMPS prints: commands that a user's script may not hold, and how a run ended.

A script is scanned as LAMMPS reads it: comments and quotes respected, commands inside ``if`` and ``run … every`` too.
Source: docs.lammps.org/Commands_parse.html.
"""

import re
from collections.abc import Iterator
from pathlib import Path

REFUSED = frozenset({"shell", "python", "plugin", "include", "mdi", "kim"})
"""Commands that run other programs or read commands that were not checked."""
_NESTING = frozenset({"if", "run"})  # their quoted arguments are commands
_WORD = re.compile(r'"""(.*?)"""|"([^"]*)"|\'([^\']*)\'|(\S+)', re.DOTALL)
_HALT = re.compile(r"Fix halt condition for fix-id (\S+) met on step (\d+)")
_BANNER = re.compile(r"^LAMMPS \((.+)\)\s*$", re.MULTILINE)
_TROUBLE = re.compile(r"^.*(ERROR\b|terminate called|Segmentation fault|Floating point exception).*$", re.MULTILINE)


def find_refused(script: str) -> list[str]:
    """Return the command lines of a script that it may not hold, in order."""
    return [line for line in _commands(script) if _is_refused(line)]


def read_error(output: Path) -> str | None:
    """Return what LAMMPS says went wrong, with the input line it names; None if it says nothing."""
    text = _read(output)
    found = _TROUBLE.search(text)
    if found is None:
        return None
    last = re.search(r"^Last (?:input|command).*$", text[found.end() :], re.MULTILINE)
    message = re.sub(r"\s*\((?:\.\./)*src/\S+\)$", "", found[0].strip())
    return f"{message} ({last[0].strip()})" if last else message


def read_halt(output: Path) -> tuple[int, str] | None:
    """Return the step at which a ``fix halt`` ended the run, and the name of the fix."""
    found = _HALT.search(_read(output))
    return (int(found[2]), found[1]) if found else None


def has_ended(output: Path) -> bool:
    """Say whether LAMMPS came to the end of its script."""
    return "\nTotal wall time:" in _read(output)


def read_version(output: Path) -> str:
    """Return the release that ran, e.g. ``22 Jul 2025 - Update 2``."""
    found = _BANNER.search(_read(output))
    return found[1] if found else "unknown"


def last_lines(output: Path, count: int = 2) -> str:
    """Return the end of what was printed, on one line."""
    lines = [line.strip() for line in _read(output).splitlines() if line.strip()]
    return " | ".join(lines[-count:]) or "nothing was printed"


def _read(output: Path) -> str:
    return output.read_text(errors="replace") if output.is_file() else ""


def _commands(script: str) -> Iterator[str]:
    """Yield the commands of a script: continued lines joined, comments and blank lines left out."""
    pending = ""
    for line in script.splitlines():
        pending += _strip_comment(pending, line)
        if pending.count('"""') % 2:
            pending += "\n"
        elif pending.rstrip().endswith("&"):
            pending = pending.rstrip()[:-1]
        else:
            if pending.strip():
                yield pending.strip()
            pending = ""
    if pending.strip():
        yield pending.strip()


def _strip_comment(before: str, line: str) -> str:
    """Cut a line at the first ``#`` that stands outside quotes, some of which may have been opened on lines before."""
    opened = ""
    for match in re.finditer(r'"""|"|\'|#', before + line):
        mark = match[0]
        if mark == "#" and not opened and match.start() >= len(before):
            return line[: match.start() - len(before)]
        if mark != "#":
            opened = "" if opened == mark else opened or mark
    return line


def _is_refused(command: str) -> bool:
    words = [("".join(match.groups(default="")), match[0] != match[4]) for match in _WORD.finditer(command)]
    name = words[0][0]
    plain = [word for word, _ in words]
    if name in REFUSED or "$" in name:
        return True
    if name == "jump" and plain[1:2] != ["SELF"]:
        return True
    if name == "partition":
        return len(plain) > 3 and _is_refused(" ".join(match[0] for match in list(_WORD.finditer(command))[3:]))
    if any(word == "python" or word.startswith("python/") or word == "unified" for word in plain[1:]):
        return name in {"variable", "fix", "pair_style", "pair_coeff", "compute"}
    if name in _NESTING:
        conditions = {1, *(index + 1 for index, word in enumerate(plain) if word == "elif")} if name == "if" else set()
        nested = [word for index, word in enumerate(words) if index > 0 and index not in conditions]
        return any(word in REFUSED or (quoted and word.strip() and _is_refused(word)) for word, quoted in nested)
    return False
