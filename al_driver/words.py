"""Numbers in words that a person reads: plurals, and shares that add up."""

import math
from collections.abc import Mapping
from pathlib import Path

MOST_DECIMALS = 16


def many(number: int, noun: str) -> str:
    """Return a count and its noun.

    >>> many(1, "frame"), many(0, "frame"), many(20000, "trajectory")
    ('1 frame', '0 frames', '20,000 trajectories')
    """
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    digits = f"{number:,}" if number >= 10_000 else str(number)
    return f"{digits} {noun if number == 1 else plural}"


def told_apart(value: float, limit: float, digits: int) -> tuple[str, str]:
    """Return a number and the limit it misses, with that many decimals, or as many more as show which is larger.

    >>> told_apart(7.26, 1.5, 1), told_apart(1.50000012, 1.5, 1)
    (('7.3', '1.5'), ('1.5000001', '1.5'))
    """
    while digits < MOST_DECIMALS and math.isfinite(value) and float(f"{value:.{digits}f}") == limit != value:
        digits += 1
    return f"{value:.{digits}f}", f"{limit:g}"


def percents(counts: Mapping[str, int]) -> dict[str, int]:
    """Return each count's share, rounded so that the shares add to 100: the largest remainders are rounded up, of
    equal ones that of the larger share.

    >>> percents({"accurate": 74, "candidate": 125, "failed": 1})
    {'accurate': 37, 'candidate': 63, 'failed': 0}
    """
    total = sum(counts.values())
    if not total:
        return dict.fromkeys(counts, 0)
    shares = {name: 100 * count // total for name, count in counts.items()}
    lost = {name: 100 * count % total for name, count in counts.items()}
    for name in sorted(counts, key=lambda name: (-lost[name], -counts[name]))[: 100 - sum(shares.values())]:
        shares[name] += 1
    return shares


def by_element(numbers: Mapping[str, float]) -> str:
    """Write a number of each element, once where all are equal.

    >>> by_element({"Si": 0.1, "C": 0.1}), by_element({"Si": 0.1, "C": 0.05})
    ('0.1', '0.1 (Si), 0.05 (C)')
    """
    if len(set(numbers.values())) == 1:
        return f"{min(numbers.values()):g}"
    return ", ".join(f"{number:g} ({element})" for element, number in numbers.items())


def shown_path(path: Path) -> str:
    """Return a path as one would type it here: from the working directory where that holds it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):  # the working directory may be gone
        return str(path)
