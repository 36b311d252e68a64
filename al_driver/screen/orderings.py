"""Which sites of a crystal hold which species: one ordering of every class of symmetry-equivalent ones.

An ordering is a row of species codes, one a site. Orderings that an operation of the crystal's symmetry turns into
each other are one and the same crystal; its representative is the row that comes first in the order of the codes.
Orderings are built choice by choice ("2 of the Ni become Mn"), and after each choice one representative of each class
is kept. No class is lost by that: equivalent orderings have equivalent continuations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from al_driver.screen.symmetry import Sites

Codes = NDArray[np.uint8]
"""Shape (n_orderings, n_sites): what stands on each site, codes from 1."""
MOST_COMPARED = 4e9
"""Sites looked at, of all orderings under all operations, in one exhaustive choice: some ten seconds."""
MOST_ROWS = 500_000
"""Orderings in one exhaustive choice, before equivalent ones are left out."""
CHUNK = 4096
DRAWS_PER_ORDERING = 50  # a class that so many draws each did not find is left


@dataclass(frozen=True)
class Choice:
    """``n`` of the sites with code ``source`` get the code ``target``."""

    source: int
    target: int
    n: int


def make_canonical(orderings: Codes, permutations: Sites) -> Codes:
    """Return the representative of each ordering's class.

    Parameters
    ----------
    permutations
        Shape (n_operations, n_sites), a group.
    """
    result = np.empty_like(orderings)
    for start in range(0, len(orderings), CHUNK):
        rows = orderings[start : start + CHUNK]
        best = as_words(rows)
        for permutation in permutations:
            turned = as_words(rows[:, permutation])
            best = np.where(turned < best, turned, best)
        result[start : start + CHUNK] = best.view(np.uint8).reshape(rows.shape)
    return result


def as_words(orderings: Codes) -> NDArray[np.bytes_]:
    """Return each row as one word that compares as its codes do, from the left; codes are larger than 0."""
    return np.ascontiguousarray(orderings).view(f"S{orderings.shape[1]}")[:, 0]


def find_stabiliser(ordering: Codes, permutations: Sites) -> NDArray[np.bool_]:
    """Return which operations leave an ordering, shape (n_sites,), as it is: shape (n_operations,)."""
    return np.asarray((ordering[permutations] == ordering).all(axis=1))


def enumerate_orderings(start: Codes, choices: Sequence[Choice], permutations: Sites) -> Codes | None:
    """Return one ordering of every class, or None where that is too much work (`MOST_COMPARED`, `MOST_ROWS`).

    Parameters
    ----------
    start
        Shape (n_sites,): the codes before the first choice.
    """
    found = start[None].astype(np.uint8)
    for choice in choices:
        if not choice.n:
            continue
        n_sources = int((found[0] == choice.source).sum())
        n_rows = len(found) * comb(n_sources, choice.n)
        if n_rows > MOST_ROWS or n_rows * permutations.size > MOST_COMPARED:
            return None
        picks = np.array(list(combinations(range(n_sources), choice.n)), dtype=np.intp).reshape(-1, choice.n)
        sources = np.array([np.flatnonzero(row == choice.source) for row in found]).reshape(len(found), n_sources)
        rows = np.repeat(found, len(picks), axis=0)
        np.put_along_axis(rows, sources[:, picks].reshape(n_rows, choice.n), np.uint8(choice.target), axis=1)
        found = np.unique(make_canonical(rows, permutations), axis=0)
    return found


def sample_orderings(
    start: Codes, choices: Sequence[Choice], permutations: Sites, n: int, rng: np.random.Generator
) -> Codes:
    """Draw orderings until ``n`` classes are found, or `DRAWS_PER_ORDERING` draws for each were made.

    Every ordering is as likely as every other, so that a class is as likely as it is large.
    """
    seen: dict[bytes, Codes] = {}
    for _ in range(DRAWS_PER_ORDERING):
        rows = np.repeat(start[None].astype(np.uint8), n, axis=0)
        for row in rows:
            for choice in choices:
                row[rng.permutation(np.flatnonzero(row == choice.source))[: choice.n]] = choice.target
        for row in make_canonical(rows, permutations):
            seen.setdefault(row.tobytes(), row)
        if len(seen) >= n:
            break
    return np.array(list(seen.values())[:n])
