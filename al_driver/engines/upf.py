"""The element a pseudopotential in UPF is for: a potential under the wrong element gives wrong chemistry silently."""

import re
from pathlib import Path

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
