"""What can be said of a model after so many frames: limits of shares, of means, and how many frames a demand costs.

The limits of a share are exact (C. J. Clopper & E. S. Pearson, Biometrika 26, 404 (1934)): they hold with at least the
confidence asked for, however few frames there are.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST_BROKEN = 0.5
"""Where a larger share of the trajectories ended early, their few sound frames prove nothing."""


def upper_limit(n_hits: int, n: int, confidence: float) -> float:
    """Return the one-sided upper limit of a share of which ``n_hits`` of n were seen.

    >>> round(upper_limit(0, 59, 0.95), 4)
    0.0495
    """
    from scipy.stats import beta

    return 1.0 if n_hits >= n else float(beta.ppf(confidence, n_hits + 1, n - n_hits))


def lower_limit(n_hits: int, n: int, confidence: float) -> float:
    """Return the one-sided lower limit of a share of which ``n_hits`` of n were seen."""
    return 1.0 - upper_limit(n - n_hits, n, confidence)


def look_confidence(confidence: float, look: int, n_structures: int) -> float:
    """Return the confidence for one structure at the k-th look, k = 1, 2 …

    The risk δ is shared by the structures. The first look spends all of it, later ones δ / (k (k + 1)) each: over any
    number of looks at most 1.5 δ.
    """
    spent = 1 if look == 1 else look * (look + 1)
    return 1.0 - (1.0 - confidence) / (spent * n_structures)


def closing_size(max_bad_fraction: float, confidence: float, n_structures: int, look: int = 1) -> int:
    """Return how many frames of each structure, none of them bad, show that the share of bad ones is small enough.

    n ≥ ln(δ / S) / ln(1 − ε), with the δ of this look (`look_confidence`).

    >>> closing_size(0.05, 0.95, 1), closing_size(0.1, 0.95, 1)
    (59, 29)
    """
    risk = 1.0 - look_confidence(confidence, look, n_structures)
    return math.ceil(math.log(risk) / math.log1p(-max_bad_fraction) - 1e-9)


def clustered_interval(
    sums: Sequence[float], sizes: Sequence[int], confidence: float
) -> tuple[float, tuple[float, float] | None]:
    """Return a mean over members of clusters, and its two-sided interval; frames of one trajectory are alike.

    The ratio estimator R = Σ y_c / Σ n_c with variance k/(k − 1) Σ (y_c − R n_c)² / (Σ n_c)² and Student's t with
    k − 1 degrees of freedom (W. G. Cochran, Sampling Techniques, 3rd ed. (1977), ch. 9).

    Parameters
    ----------
    sums, sizes
        Of each cluster: the sum of the quantity over its members, and their number.

    Returns
    -------
    The mean, and the interval; None with fewer than two clusters.
    """
    from scipy.stats import t

    y, n = np.asarray(sums, dtype=float), np.asarray(sizes, dtype=float)
    mean = float(y.sum() / n.sum())
    k = len(y)
    if k < 2:
        return mean, None
    residual: NDArray[np.float64] = y - mean * n
    half = float(t.ppf((1 + confidence) / 2, k - 1) * math.sqrt(k / (k - 1) * (residual**2).sum()) / n.sum())
    return mean, (mean - half, mean + half)
