"""Every random draw follows from the user's seed and from what it is for, never from the order of events."""

import numpy as np

from al_driver.files import hash_json


def make_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed for an outside program, in [1, 2³⁰): LAMMPS and DeePMD-kit both take it.

    >>> make_seed(2026, "iter.0000", "train", 0) != make_seed(2026, "iter.0000", "train", 1)
    True
    """
    return 1 + int(hash_json([seed, *purpose])[:16], 16) % (2**30 - 1)


def make_rng(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return the generator that belongs to a purpose."""
    return np.random.default_rng(int(hash_json([seed, *purpose])[:32], 16))
