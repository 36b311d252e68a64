"""The element a pseudopotential in UPF is for: a potential under the wrong element gives wrong chemistry silently."""

import re
from collections.abc import Iterator
from pathlib import Path

from al_driver.errors import Problem
from al_driver.schema.suggest import nearest_file

_ELEMENT = re.compile(
    r"""<PP_HEADER[^>]*?\belement\s*=\s*["']\s*([A-Za-z]{1,2})\s*["']  # version 2: an attribute
    |^\s*([A-Za-z]{1,2})\s+Element\b                                   # version 1: a line of the header
    |<(?:\w+:)?element>\s*([A-Za-z]{1,2})\s*<                          # the XML schema: a tag
    """,
    re.VERBOSE | re.MULTILINE,
)
_HEAD = 400_000  # the header may follow the input of the program that made the potential


def read_upf_element(path: Path) -> str | None:
    """Return the element named in the header of a UPF file, or None where the file is not in UPF."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        found = _ELEMENT.search(stream.read(_HEAD))
    return next(name for name in found.groups() if name).capitalize() if found else None


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
