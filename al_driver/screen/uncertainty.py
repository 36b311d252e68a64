"""From scores of doubt to standard deviations, calibrated on crystals that no member was trained on.

A score s (the members' spread, the spread under dropout, the distance to the training set) has no scale of its own. On
held-out crystals with errors e, σ = sqrt((a s)² + b²) is fitted by the Gaussian likelihood; b is the error of crystals
that are known well. An interval of 90 % is ± factor × σ, with the factor of split conformal prediction: of the n ratios
|e| / σ the ⌈(n + 1) 0.9⌉-th smallest (Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018), arXiv 1604.04173), each with a
σ that was fitted without its own fifth of the crystals.

Whether a score tells large errors from small ones is another question: Spearman's ρ between |e| and σ. Of those that do
(p < 0.05, one-sided, on held-out crystals) the best is what a surrogate tells; where none does, σ is one number.
"""

import math
from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from scipy.stats import spearmanr

from al_driver.schema.base import NonNegativeFloat, Params, PositiveFloat, PositiveInt
from al_driver.screen.crystals import Floats

Kind = Literal["ensemble", "dropout", "distance", "constant"]
COVERAGE = 0.9
SIGNIFICANT = 0.05
N_FOLDS = 5
SHARES = np.linspace(0, 0.99, 100)  # of the score in σ² at a typical score


class Scale(Params):
    """How a score becomes a standard deviation."""

    kind: Kind
    a: NonNegativeFloat
    """Of the score, in the property's unit a unit of the score."""
    b: NonNegativeFloat
    """What remains where the score is 0, in the property's unit."""
    factor: PositiveFloat
    """An interval of 90 % reaches so many standard deviations to each side."""
    n: PositiveInt
    """Crystals it was fitted on."""

    def std(self, scores: Floats) -> Floats:
        """Return the standard deviation, in the property's unit, of the shape of the scores."""
        return _hypotenuse(self.a, self.b, scores)

    @classmethod
    def fit(cls, kind: Kind, scores: Floats, errors: Floats) -> Self:
        """Fit a, b and the factor on held-out crystals.

        Parameters
        ----------
        scores, errors
            Shape (n_crystals,).
        """
        a, b = _fit_line(kind, scores, errors)
        ratios = np.empty(len(errors))
        folds = np.arange(len(errors)) % N_FOLDS
        for fold in range(N_FOLDS):  # σ of a crystal from others: else the factor is too small for few crystals
            rest = folds != fold
            own = (a, b) if kind == "constant" or rest.all() else _fit_line(kind, scores[rest], errors[rest])
            ratios[~rest] = np.abs(errors[~rest]) / _hypotenuse(*own, scores[~rest])
        rank = min(math.ceil((len(errors) + 1) * COVERAGE), len(errors))
        factor = float(np.sort(ratios)[rank - 1])
        return cls(kind=kind, a=a, b=b, factor=max(factor, 1e-9), n=len(errors))


def _fit_line(kind: Kind, scores: Floats, errors: Floats) -> tuple[float, float]:
    """Return a and b of σ² = (a s)² + b² by the Gaussian likelihood."""
    rms = float(np.sqrt(np.mean(errors**2))) or 1e-12
    typical = float(np.sqrt(np.mean(scores**2)))
    if kind == "constant" or typical == 0:
        return 0.0, rms

    shares = SHARES[:, None]
    shapes = (1 - shares) + shares * (scores / typical) ** 2  # of σ², whose height has a closed form
    heights = np.mean(errors**2 / shapes, axis=1)
    best = int(np.argmin(np.log(np.maximum(heights, 1e-24)) + np.mean(np.log(shapes), axis=1)))
    share, height = float(SHARES[best]), float(heights[best])
    return math.sqrt(share * height) / typical, math.sqrt((1 - share) * height)


def _hypotenuse(a: float, b: float, scores: Floats) -> Floats:
    return np.maximum(np.hypot(a * scores, b), 1e-12)


def judge(errors: Floats, std: Floats, factor: float) -> dict[str, float]:
    """Return how good an uncertainty is.

    Parameters
    ----------
    errors, std
        Shape (n_crystals,), in the property's unit.
    factor
        Of an interval of 90 %.

    Returns
    -------
    dict
        ``coverage``, the share of errors within their intervals; ``sharpness``, the mean half-width of those, in the
        property's unit; ``spearman`` between |error| and σ with its one-sided ``p``; ``nll``, the mean Gaussian
        negative log-likelihood; ``sure_half_mae``, the mean error of the half that is deemed surest.
    """
    safe = np.maximum(std, 1e-12)
    rho, p = rank_correlation(np.abs(errors), std)
    surest = np.argsort(std, kind="stable")[: max(len(std) // 2, 1)]
    return {
        "coverage": float(np.mean(np.abs(errors) <= factor * safe)),
        "sharpness": float(factor * std.mean()),
        "spearman": rho,
        "p": p,
        "nll": float(np.mean(np.log(safe) + 0.5 * (errors / safe) ** 2 + 0.5 * math.log(2 * math.pi))),
        "sure_half_mae": float(np.abs(errors)[surest].mean()),
    }


def choose_kind(errors: Floats, scores: Mapping[Kind, Floats]) -> Kind:
    """Return the score that ranks held-out errors best; "constant" where none does so significantly."""
    ranks = {kind: rank_correlation(np.abs(errors), found) for kind, found in scores.items()}
    ranking = {kind: rho for kind, (rho, p) in ranks.items() if p < SIGNIFICANT}
    return max(ranking, key=lambda kind: ranking[kind]) if ranking else "constant"


def rank_correlation(errors: Floats, scores: Floats) -> tuple[float, float]:
    """Return Spearman's ρ and its one-sided p; 0 and 1 where either does not vary."""
    if len(errors) < 3 or np.ptp(scores) == 0 or np.ptp(errors) == 0:
        return 0.0, 1.0
    found = spearmanr(errors, scores, alternative="greater")
    return float(found.statistic), float(found.pvalue)
