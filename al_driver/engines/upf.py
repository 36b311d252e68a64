"""Headers of pseudopotentials in UPF: the element, since one under the wrong element gives wrong chemistry silently."""

import re
from collections.abc import Iterator
from pathlib import Path

from al_driver.errors import ConfigError, Problem
from al_driver.schema.suggest import nearest_file

_ELEMENT = re.compile(
    r"""<PP_HEADER[^>]*?\belement\s*=\s*["']\s*([A-Za-z]{1,2})\s*["']  # version 2: an attribute
    |^\s*([A-Za-z]{1,2})\s+Element\b                                   # version 1: a line of the header
    |<(?:\w+:)?element>\s*([A-Za-z]{1,2})\s*<                          # the XML schema: a tag
    """,
    re.VERBOSE | re.MULTILINE,
)
_VALENCE = re.compile(
    r"""<PP_HEADER[^>]*?\bz_valence\s*=\s*["']\s*([-+.\dEeDd]+)\s*["']|^\s*([-+.\dEeDd]+)\s+Z\s+valence\b
    |<(?:\w+:)?z_valence>\s*([-+.\dEeDd]+)\s*<""",
    re.VERBOSE | re.MULTILINE,
)
_HEAD = 400_000  # the header may follow the input of the program that made the potential


def read_upf_element(path: Path) -> str | None:
    """Return the element named in the header of a UPF file, or None where the file is not in UPF."""
    name = _read(path, _ELEMENT)
    return name.capitalize() if name else None


def read_upf_valence(path: Path) -> float:
    """Return the number of valence electrons of a potential.

    Raises
    ------
    ConfigError
        If the header says none.
    """
    number = _read(path, _VALENCE)
    if number is None:
        raise ConfigError(Problem(f"{path} says no number of valence electrons (z_valence)", "pseudopotentials"))
    return float(number.lower().replace("d", "e"))


def _read(path: Path, pattern: re.Pattern[str]) -> str | None:
    with path.open(encoding="utf-8", errors="replace") as stream:
        found = pattern.search(stream.read(_HEAD))
    return next(text for text in found.groups() if text) if found else None


def check_upf(symbol: str, path: Path) -> Iterator[Problem]:
    """Yield why a file cannot serve as an element's pseudopotential; the key is that of ``pseudopotentials``."""
    key = f"pseudopotentials.{symbol}"
    if not path.is_file():
        yield Problem(f"{path} does not exist{nearest_file(path)}", key=key)
        return
    element = read_upf_element(path)
    if element is None:
        yield Problem(f"{path} is not a pseudopotential in UPF: its header names no element", key=key)
    elif element != symbol:
        yield Problem(f"{path} is for {element}, not for {symbol}", key=key)
