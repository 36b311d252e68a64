"""LAMMPS input scripts and what LAMMPS prints: commands that a user's script may not hold, and how a run ended.

A script is scanned as LAMMPS reads it: comments and quotes respected, commands inside ``if`` and ``run … every`` too.
A variable outside quotes may expand to several words, quotes among them; where words decide what runs, only a variable
that always is a number may stand. Source: docs.lammps.org/Commands_parse.html.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

REFUSED = frozenset({"shell", "python", "plugin", "include", "mdi", "kim", "geturl"})
"""Commands that run other programs, fetch files or read commands that were not checked."""
COMPRESSED = (".gz", ".bz2", ".zst", ".xz", ".lzma", ".lz4")
"""Names for which LAMMPS starts a compressor, through a shell."""
_NESTING = frozenset({"if", "run"})  # their quoted arguments are commands
_STYLES = {"pair_style": slice(1, None), "compute": slice(3, None), "fix": slice(3, 4), "variable": slice(2, 3)}
"""Commands that can start Python by a style, and which of their words may name it."""
_PUSHING = frozenset({
    "addforce", "aveforce", "colvars", "drag", "efield", "freeze", "gravity", "indent", "langevin", "lineforce",
    "planeforce", "plumed", "restrain", "setforce", "smd", "spring", "ttm", "viscous",
})  # fmt: skip
"""Fixes that change forces after the potential."""
_UNSAFE_STYLES = frozenset({"python", "unified", "mliappy", "kim"})
_WORD = re.compile(r'"""(.*?)"""|"([^"]*)"|\'([^\']*)\'|(\S+)', re.DOTALL)
_QUOTED = re.compile(r'""".*?"""|"[^"]*"|\'[^\']*\'', re.DOTALL)
_EXPANDED = re.compile(r"\$(?:\{(\w+)\}|(\()|(\w)|)")
_DEFINITION = re.compile(r"\bvariable\s+(\S+)\s+(\S+)(?=([^\n]*))")
_QUOTED = re.compile(r'""".*?"""|"[^"]*"|\'[^\']*\'', re.DOTALL)
_EXPANDED = re.compile(r"\$(?:\{(\w+)\}|(\()|(\w)|)")
_DEFINITION = re.compile(r"\bvariable\s+(\S+)\s+(\S+)(?=([^\n]*))")
_HALT = re.compile(r"Fix halt condition for fix-id (\S+) met on step (\d+)")
_BANNER = re.compile(r"^LAMMPS \((.+)\)\s*$", re.MULTILINE)
_TROUBLE = re.compile(r"^.*(ERROR\b|terminate called|Segmentation fault|Floating point exception).*$", re.MULTILINE)


def find_refused(script: str) -> list[str]:
    """Return the command lines of a script that it may not hold, in order."""
    commands = list(_commands(script))
    numbers = _find_numbers(commands)
    return [line for line in commands if _is_refused(line, numbers)]


def find_pushed(script: str) -> str | None:
    """Return the style of a fix that adds to, or sets, the forces that a dump then shows; None where none does.

    What ``fix store/force`` has kept before the first of them can be dumped in their place.
    """
    for line in _commands(script):
        words = line.split()
        style = words[3] if len(words) > 3 and words[0] == "fix" else ""
        if style == "store/force":
            return None
        if style in _PUSHING or style.startswith(("wall/", "spring/", "langevin/")):
            return style
    return None


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


def _find_numbers(commands: Iterable[str]) -> frozenset[str]:
    """Return the variables that a script, wherever it defines them, gives nothing but a number."""
    kinds: dict[str, bool] = {}
    for command in commands:
        for name, style, rest in _DEFINITION.findall(re.sub("[\"']", " ", command)):
            is_number = style in {"equal", "loop", "internal"} or (style == "index" and _are_numbers(rest.split()))
            if style != "delete":
                kinds[name] = kinds.get(name, True) and is_number
    is_known = not any("$" in name for name in kinds)
    return frozenset(name for name, is_number in kinds.items() if is_number and is_known)


def _are_numbers(words: Sequence[str]) -> bool:
    return all(re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", word) for word in words)


def _expands(command: str, numbers: frozenset[str]) -> bool:
    """Say whether something outside quotes may expand to other than a number."""
    plain = _QUOTED.sub("", command)
    for match in _EXPANDED.finditer(plain):
        if match[2]:  # $(formula:format); the format may hold any text
            if ":" in plain[match.end() :]:
                return True
        elif (match[1] or match[3]) not in numbers:
            return True
    return False


def _is_refused(command: str, numbers: frozenset[str]) -> bool:
    matches = list(_WORD.finditer(command))
    words = [("".join(match.groups(default="")), match[0] != match[4]) for match in matches]
    plain = [word for word, _ in words]
    name = plain[0]
    if name in REFUSED or "$" in name:
        return True
    if name == "print":
        return False
    if any(word.endswith(COMPRESSED) for word in plain):
        return True
    if name == "jump" and plain[1:2] != ["SELF"]:
        return True
    if name in _STYLES and any(word.split("/")[0] in _UNSAFE_STYLES for word in plain[_STYLES[name]]):
        return True
    if name in _STYLES and name != "variable":  # the style, and with it what stands before, must be there to be read
        return _expands(" ".join(match[0] for match in matches[: _STYLES[name].stop]), numbers)
    if name == "partition":
        nested = " ".join(match[0] for match in matches[3:])
        return _expands(command, numbers) or (bool(nested) and _is_refused(nested, numbers))
    return name in _NESTING and (_expands(command, numbers) or _nests_refused(words, numbers))


def _nests_refused(words: Sequence[tuple[str, bool]], numbers: frozenset[str]) -> bool:
    """Say whether an ``if`` or a ``run`` holds a command that is refused; conditions are not commands."""
    conditions = {1, *(index + 1 for index, (word, _) in enumerate(words) if word == "elif")}
    nested = [
        word for index, word in enumerate(words) if index > 0 and (words[0][0] == "run" or index not in conditions)
    ]
    return any(word in REFUSED or (quoted and word.strip() and _is_refused(word, numbers)) for word, quoted in nested)
