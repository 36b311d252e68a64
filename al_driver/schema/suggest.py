"""The nearest legal name to one that does not exist."""

import difflib
from collections.abc import Iterable
from pathlib import Path


def nearest(word: str, legal: Iterable[str], otherwise: str = "legal are") -> str:
    """Return ``; did you mean 'x'?``, or what is legal where nothing is near.

    >>> nearest("Kspacing", ["kspacing", "input"])
    "; did you mean 'kspacing'?"
    >>> nearest("magic", ["kspacing", "input"])
    '; legal are input, kspacing'
    """
    names = sorted(legal)
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    if close:
        return f"; did you mean {by_lower[close[0]]!r}?"
    if not names:
        return "; there is none"
    return f"; {otherwise} {', '.join(names)}" if len(names) <= 24 else ""


def nearest_file(path: Path) -> str:
    """Return ``; did you mean 'POSCAR'?`` from what lies beside a path that does not exist."""
    if not path.parent.is_dir():
        return f"; there is no folder {path.parent}"
    return nearest(path.name, [file.name for file in path.parent.iterdir()], otherwise="the folder holds")
