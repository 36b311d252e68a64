"""The nearest legal name to one that does not exist."""

import difflib
from collections.abc import Iterable


def nearest(word: str, legal: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?``, or what is legal where nothing is near.

    >>> nearest("Kspacing", ["kspacing", "input"])
    "; did you mean 'kspacing'?"
    """
    names = sorted(legal)
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    if close:
        return f"; did you mean {by_lower[close[0]]!r}?"
    if not names:
        return "; there is none"
    return f"; legal are {', '.join(names)}" if len(names) <= 24 else ""
