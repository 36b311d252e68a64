"""Input files of Quantum ESPRESSO's ``pw.x``: Fortran namelists, then cards.

Values stay the text the user wrote, so that nothing is lost on the way to the program. Source: INPUT_PW of the
Quantum ESPRESSO documentation.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from al_driver.errors import ConfigError, Problem
from al_driver.schema.suggest import nearest_file

NAMELISTS = ("control", "system", "electrons", "ions", "cell", "fcp", "rism")
"""In the order in which pw.x reads them."""
Namelists = dict[str, dict[str, str]]
"""By name and key in lower case."""
CARDS = (
    "ATOMIC_SPECIES", "ATOMIC_POSITIONS", "K_POINTS", "ADDITIONAL_K_POINTS", "CELL_PARAMETERS", "CONSTRAINTS",
    "OCCUPATIONS", "ATOMIC_VELOCITIES", "ATOMIC_FORCES", "SOLVENTS", "HUBBARD",
)  # fmt: skip
_QUOTED_OR_COMMENT = re.compile(r"""'[^'\n]*'|"[^"\n]*"|![^\n]*""")
_NAMELIST = re.compile(r"&(\w+)([^/]*)/")
_ASSIGNMENT = re.compile(r"([A-Za-z]\w*)\s*(\([^)=]*\))?\s*=")
INDEXED = re.compile(r"(\w+)\((.*)\)")
"""A key with indices; the last one counts types, but in:"""
NOT_BY_TYPE = frozenset({"celldm", "fixed_magnetization", "b_field"})
_CARD = re.compile(rf"^[ \t]*({'|'.join(CARDS)})\b[ \t]*(.*)$", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Card:
    """``K_POINTS automatic``: the word after the name, in lower case, and the lines that follow."""

    option: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class PwInput:
    """What a user's input says."""

    namelists: Namelists
    """By name and key in lower case; an index stays with its key: ``hubbard_u(1)``."""
    cards: dict[str, Card]
    """By name in capitals."""

    def value(self, namelist: str, key: str) -> str | None:
        """Return a value as written, without its quotes and in lower case."""
        text = self.namelists.get(namelist, {}).get(key)
        return None if text is None else text.strip("'\" ").lower()

    @property
    def types(self) -> tuple[str, ...]:
        """The names that the indices of ``starting_magnetization(i)`` and its like count."""
        return tuple(line.split()[0] for line in self.cards.get("ATOMIC_SPECIES", Card("", ())).lines)

    def is_true(self, namelist: str, key: str) -> bool:
        return (self.value(namelist, key) or "").lstrip(".").startswith("t")


def read_pw_input(path: Path) -> PwInput:
    """Read a user's input of ``pw.x``.

    Raises
    ------
    ConfigError
        If the file is missing, or has text that is neither a namelist nor a card; the text is shown.
    """
    if not path.is_file():
        raise _problem(f"{path} does not exist{nearest_file(path)}")
    return parse_pw_input(path.read_text(encoding="utf-8", errors="replace"), path)


def parse_pw_input(text: str, path: Path) -> PwInput:
    """Read the text of an input; ``path`` is for errors."""
    text = _QUOTED_OR_COMMENT.sub(lambda found: "" if found[0].startswith("!") else found[0], text)
    masked = _QUOTED_OR_COMMENT.sub(lambda found: "_" * len(found[0]), text)  # so that no quote looks like syntax
    namelists: Namelists = {}
    end = 0
    for found in _NAMELIST.finditer(masked):
        _check_blank(text[end : found.start()], path)
        namelists[found[1].lower()] = _assignments(text, masked, found.start(2), found.end(2), path)
        end = found.end()
    cards, rest = _cards(text[end:])
    _check_blank(rest, path)
    return PwInput(namelists, cards)


def format_namelists(namelists: Namelists) -> str:
    """Return namelists as ``pw.x`` reads them."""
    blocks = (
        f"&{name.upper()}\n{''.join(f'  {key} = {value}{chr(10)}' for key, value in keys.items())}/\n"
        for name, keys in namelists.items()
    )
    return "".join(blocks)


def format_pw_input(content: PwInput) -> str:
    """Return a whole input as ``pw.x`` reads it."""
    names = sorted(content.namelists, key=lambda name: NAMELISTS.index(name) if name in NAMELISTS else len(NAMELISTS))
    text = format_namelists({name: content.namelists[name] for name in names})
    for name, card in content.cards.items():
        text += f"{name} {card.option}".rstrip() + "\n" + "".join(f"{line}\n" for line in card.lines)
    return text


def quote(text: str) -> str:
    """Return a Fortran string."""
    return "'" + text.replace("'", "''") + "'"


def _assignments(text: str, masked: str, start: int, end: int, path: Path) -> dict[str, str]:
    found = list(_ASSIGNMENT.finditer(masked, start, end))
    _check_blank(text[start : found[0].start() if found else end], path)
    swallowed = masked.find("&", start, end)
    if swallowed >= 0:
        shown = text[swallowed:end].split()[0]
        raise _problem(f"{path} has {shown!r} inside another namelist; is a closing / missing before it?")
    stops = [match.start() for match in found[1:]] + [end] * bool(found)
    return {
        match[1].lower() + re.sub(r"\s", "", match[2] or ""): text[match.end() : stop].strip(" \t\r\n,")
        for match, stop in zip(found, stops, strict=True)
    }


def _cards(text: str) -> tuple[dict[str, Card], str]:
    """Return the cards, and the text before the first one."""
    text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found = list(_CARD.finditer(text))
    stops = [match.start() for match in found[1:]] + [len(text)] * bool(found)
    cards = {
        match[1].upper(): Card(
            match[2].strip(" \t(){}").lower(),
            tuple(line.strip() for line in text[match.end() : stop].splitlines() if line.strip()),
        )
        for match, stop in zip(found, stops, strict=True)
    }
    return cards, text[: found[0].start()] if found else text


def _check_blank(text: str, path: Path) -> None:
    words = " ".join(line for line in text.splitlines() if not line.lstrip().startswith("#")).split()
    if words and words[0].lower() != "&end":
        shown = " ".join(words)[:60]
        raise _problem(f"{path} has {shown!r}, which belongs to no namelist and no card; is a closing / missing?")


def _problem(message: str) -> ConfigError:
    return ConfigError(Problem(message, key="input"))
