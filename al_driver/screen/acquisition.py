"""Which candidates are worth a calculation: scores of what is predicted, and a choice that spreads.

With a normal distribution of mean μ and deviation σ for each candidate, turned so that small is good (μ for a minimum,
−μ for a maximum, |μ − target| for a value): the mean, −μ; the lower confidence bound, κσ − μ, which favours what
is unknown, and the upper one, −κσ − μ, which avoids it; the improvement expected over the best value known,
(b − μ)Φ(z) + σφ(z) with z = (b − μ)/σ (Jones, Schonlau and Welch, J. Global Optim. 13, 455 (1998)); σ alone. The
largest score is taken first.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.special import ndtr

from al_driver.data.frames import Array
from al_driver.schema.base import CrossError, Float, NonNegativeFloat, Params, PositiveInt, cross_check

Score = Literal["mean", "lower_bound", "upper_bound", "expected_improvement", "uncertainty"]


class Acquisition(Params):
    """What is looked for, and how prediction and uncertainty are weighed."""

    property: str
    """The name of its column."""
    goal: Literal["min", "max"] | Float = "min"
    """The smallest value, the largest, or one to come near to."""
    by: Score = "mean"
    """mean; lower_bound favours the unknown, upper_bound avoids it; expected_improvement over the best value known;
    uncertainty alone."""
    kappa: NonNegativeFloat = 1.0
    """Standard deviations of the bounds."""
    diversity: Annotated[PositiveInt, Field(ge=1)] = 1
    """The best so many times as many as are wanted are looked at, and of those the most different ones are taken."""

    @cross_check
    def _check_improvement(self) -> "Acquisition":
        if self.by == "expected_improvement" and not isinstance(self.goal, str):
            raise CrossError([(("by",), "expected_improvement needs the goal min or max, not a value")])
        return self

    def lower_is_better(self, values: Array) -> Array:
        """Return values turned so that small ones are looked for; shape as given."""
        if isinstance(self.goal, float):
            return np.abs(values - self.goal)
        return values if self.goal == "min" else -values

    def score(self, mean: Array, deviation: Array | None, known: Array) -> Array:
        """Return how much each candidate is worth, shape (n_candidates,).

        Parameters
        ----------
        mean, deviation
            Predictions, and their uncertainty where the model has one, shape (n_candidates,).
        known
            Calculated values of other candidates, any number; without any the best prediction stands for the best.

        Raises
        ------
        ValueError
            If an uncertainty is needed and there is none.
        """
        turned = self.lower_is_better(mean)
        if self.by == "mean":
            return -turned
        if deviation is None:
            raise ValueError(f"{self.by} needs a model that knows its uncertainty")
        if self.by == "uncertainty":
            return deviation
        if self.by == "expected_improvement":
            best = self.lower_is_better(known).min() if len(known) else turned.min()
            return expected_improvement(best - turned, deviation)
        return (self.kappa if self.by == "lower_bound" else -self.kappa) * deviation - turned


def expected_improvement(gain: Array, deviation: Array) -> Array:
    """Return the mean of max(0, gain + deviation · normal), shape as given."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = gain / deviation
        density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
        value = gain * ndtr(z) + deviation * density
    return np.where(deviation > 0, value, np.maximum(gain, 0.0))


def choose(scores: Array, features: Array, n: int, diversity: int) -> list[int]:
    """Return the candidates to take, the best first.

    Of the ``n · diversity`` best the one with the highest score is taken, then again and again the one farthest from
    those taken (Gonzalez, Theor. Comput. Sci. 38, 293 (1985)); equals by score.

    Parameters
    ----------
    features
        Shape (n_candidates, n_features); distances between rows are Euclidean.
    """
    order = [int(index) for index in np.argsort(-scores, kind="stable")]
    pool = order[: n * diversity]
    if diversity == 1 or len(pool) <= n:
        return pool[:n]
    taken = [pool[0]]
    distances = np.linalg.norm(features[pool] - features[pool[0]], axis=1)
    while len(taken) < n:
        distances[[pool.index(index) for index in taken]] = -1.0
        taken.append(pool[int(distances.argmax())])
        distances = np.minimum(distances, np.linalg.norm(features[pool] - features[taken[-1]], axis=1))
    return taken
