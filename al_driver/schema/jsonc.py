"""JSON as people write it: comments are allowed; what is wrong is told with line and column.

Comments become spaces before the standard parser sees the text, so that its positions are those of the file.
"""

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from al_driver.errors import ConfigError, Problem
from al_driver.schema.suggest import nearest_file

TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/|/\*|-?Infinity\b|NaN\b', re.DOTALL)
"""A string, a comment, the opening of one that never closes, or a number that JSON does not know."""
WORDS = {"True": "true", "False": "false", "None": "null", "'": 'double quotes, "like this"'}


def read_jsonc(path: Path) -> dict[str, Any]:
    """Read a JSON file with ``//`` and ``/* */`` comments, an object at top level.

    Raises
    ------
    ConfigError
        If there is no such file, it is not UTF-8 or not JSON, a key stands twice in an object, or a number is not
        finite; with line and column where there is one.
    """
    text = _blank_comments(_read_text(path), path)
    twice: list[str] = []

    def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice.extend(sorted({key for key in keys if keys.count(key) > 1}))
        return dict(pairs)

    try:
        content = json.loads(text, object_pairs_hook=make_object, parse_float=_make_float)
    except json.JSONDecodeError as error:
        raise _problem(path, text, error.pos, _hint(text, error)) from None
    except RecursionError:
        raise ConfigError(Problem("is nested too deeply; no key of this program goes so deep", file=path)) from None
    except ValueError as error:  # 1e999, or thousands of digits
        raise ConfigError(Problem(f"holds a number that is not usable ({error})", file=path)) from None
    if not _is_unicode(content):
        raise ConfigError(Problem("holds half of a \\ud800 pair in a text; write the whole character", file=path))
    if twice:
        raise ConfigError([_twice(path, text, key) for key in twice])
    if not isinstance(content, dict):
        raise ConfigError(Problem(f"needs an object {{…}} at top level; found {_kind(content)}", file=path))
    return content


def _read_text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(Problem(f"does not exist{nearest_file(path)}", file=path)) from None
    except IsADirectoryError:
        raise ConfigError(Problem("is a folder; a JSON file was expected", file=path)) from None
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text (byte {error.object[error.start]:#04x} at {error.start}); save it as UTF-8"
        raise ConfigError(Problem(message, file=path)) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(Problem(f"cannot be read: {reason}", file=path)) from None
    if not text.strip():
        raise ConfigError(Problem("is empty; a JSON object was expected", file=path))
    return text


def _blank_comments(text: str, path: Path) -> str:
    """Replace comments by spaces, so that everything else keeps its place."""

    def blank(match: re.Match[str]) -> str:
        found = match[0]
        if found.startswith('"'):
            return found
        if found == "/*":
            raise _problem(path, text, match.start(), "this comment is never closed by */")
        if not found.startswith("/"):
            raise _problem(path, text, match.start(), f"{found} is not a number in JSON; give a finite one, or null")
        return re.sub(r"[^\n]", " ", found)

    return TOKEN.sub(blank, text)


def _hint(text: str, error: json.JSONDecodeError) -> str:
    """Say in plain words what the parser stumbled over."""
    before, after = text[: error.pos].rstrip(), text[error.pos :].lstrip()
    for word, instead in WORDS.items():
        if after.startswith(word):
            return f"JSON has no {word}; write {instead}"
    if before.endswith(",") and after[:1] in {"}", "]"}:
        return f"the comma before this {after[0]} is one too many"
    if after[:1] in {"}", "]"} and error.msg.startswith("Illegal trailing comma"):
        return f"the comma before this {after[0]} is one too many"
    if not after:
        return "the file ends too early; a closing } or ] is missing"
    hints: Iterable[tuple[str, str]] = (
        ("Expecting ',' delimiter", "a comma, or a closing bracket, is missing before this"),
        ("Expecting ':' delimiter", "a colon is missing between key and value"),
        ("Expecting property name", "a key in double quotes was expected here"),
        ("Expecting value", "a value was expected here"),
        ("Extra data", "the file goes on after its last bracket"),
        ("Unterminated string", "this text has no closing quote"),
        ("Invalid control character", "this text goes over the end of its line; is a closing quote missing?"),
        ("Invalid \\", "a backslash in a text must be doubled: \\\\"),
    )
    return next((hint for start, hint in hints if error.msg.startswith(start)), error.msg)


def _is_unicode(content: Any) -> bool:
    """Say whether every text can be written; an escape like \\ud800 alone is half a character."""
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _make_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large")
    return value


def _twice(path: Path, text: str, key: str) -> Problem:
    word = json.dumps(key, ensure_ascii=False)
    lines = [text.count("\n", 0, match.start()) + 1 for match in re.finditer(re.escape(word) + r"\s*:", text)]
    where = f" (the key stands in lines {', '.join(map(str, lines))})" if len(lines) > 1 else ""
    return Problem(f"{word} stands twice in one object{where}; only one can count", file=path)


def _problem(path: Path, text: str, position: int, message: str) -> ConfigError:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return ConfigError(Problem(message, file=Path(f"{path}:{line}:{column}")))


def _kind(content: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(content), "a number")
