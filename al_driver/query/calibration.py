"""From a score to a bound on the force error: split conformal prediction on audit frames.

An audit frame was drawn at random, whatever its score, and labelled; its error e is the largest of its atoms' force
errors under the model that explored, before any training on it. With scores s, ``r = e / (s + β)``, and ``a`` the
⌈(n + 1) q⌉-th smallest of n ratios, ``a (s + β) ≥ e`` holds with probability q or more for a frame that is exchangeable
with them (Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018), arXiv 1604.04173). β ≥ 0 stands for the error that remains
on well-known frames; it comes from older audits, so that the ratios stay exchangeable. Errors in eV/Å.

With a target for each element, an atom's error counts in proportion to it, in terms of the strictest element: e is then
max_i e_i t_min / t_Z(i), and the bound is compared with t_min. So a frame's score need not tell its atoms apart.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Self

import numpy as np
from numpy.typing import NDArray

from al_driver.schema.base import Float, NonNegativeFloat, NonNegativeInt, Params, PositiveFloat, PositiveInt

Floats = NDArray[np.float64]
BAND = 300.0
"""Width of a temperature band, K: the first around 0, the next around 300, 600 …"""
GROUP_SIZE = 40
"""Audits of one structure and band that are needed for a factor of their own."""
HOPELESS = 1e30
"""A factor where too many audits have an error and no score: no bound follows from a score then, not even of 0."""
ENOUGH = 100
"""So many of the newest audits set a factor; more, and older models would speak for the one that is asked."""
SMALLEST_FIT, MOST_FITTED = 5, 300
"""Older audits that are needed to fit β (with fewer it is 0), and the newest of them, which are enough."""


class Audit(Params):
    """A labelled audit frame."""

    iteration: NonNegativeInt
    structure: str
    task: str
    step: NonNegativeInt
    temperature: Float
    """Set temperature, K."""
    ramped: bool = False
    """Its trajectory changed its temperature."""
    score: Float
    errors: dict[str, NonNegativeFloat]
    """The largest force error among the atoms of each element, eV/Å."""

    def error(self, targets: dict[str, float]) -> float:
        """Return the largest force error, in terms of the strictest element of the targets, eV/Å."""
        strictest = min(targets.values())
        return max(error * strictest / targets[element] for element, error in self.errors.items())


class Factor(Params):
    """What bounds the errors of some frames."""

    a: NonNegativeFloat
    n: PositiveInt
    """Audits that set it."""
    largest: Float
    """Their largest score: a frame above it is outside."""


class Group(Factor):
    """Frames of one structure in one temperature band."""

    structure: str
    band: NonNegativeInt


class Calibration(Params):
    """Bounds on the errors of frames, for one query."""

    targets: dict[str, PositiveFloat]
    """The wanted force error of each element, eV/Å."""
    coverage: PositiveFloat
    n_audits: NonNegativeInt
    """Audits that were known."""
    n_needed: PositiveInt
    """Audits without which there is no bound."""
    beta: NonNegativeFloat = 0.0
    general: Factor | None = None
    """For frames of no group; None where there are too few audits for a bound."""
    groups: tuple[Group, ...] = ()

    @property
    def target(self) -> float:
        """The wanted error of the strictest element, which bounds are compared with, eV/Å."""
        return min(self.targets.values())

    def factor(self, structure: str, temperature: tuple[float, float]) -> Factor | None:
        """Return what bounds the errors of a trajectory's frames; one that ramps is of no group."""
        first, last = temperature
        for group in self.groups:
            if first == last and (group.structure, group.band) == (structure, band_of(first)):
                return group
        return self.general

    def bound(self, audit: Audit) -> float | None:
        """Return the bound on an audit's error, eV/Å; None where there is none."""
        end = math.nan if audit.ramped else audit.temperature
        factor = self.factor(audit.structure, (audit.temperature, end))
        if factor is None or audit.score > factor.largest:
            return None
        return factor.a if factor.a >= HOPELESS else factor.a * (audit.score + self.beta)

    def threshold(self, factor: Factor) -> float:
        """Return the score above which a bound exceeds the target; below 0 where every bound does."""
        if factor.a >= HOPELESS:
            return -1.0
        return self.target / factor.a - self.beta if factor.a > 0 else math.inf

    def lower(self, factor: Factor | None) -> float:
        """Return the score from which on a frame is to be labelled; 0, every frame, where there is no bound."""
        if factor is None:
            return 0.0
        return max(min(self.threshold(factor), float(np.nextafter(factor.largest, math.inf))), 0.0)

    @classmethod
    def fit(cls, audits: Sequence[Audit], targets: dict[str, float], coverage: float) -> Self:
        """Calibrate on the audits that are known, oldest first."""
        needed = audits_needed(coverage)
        older, recent = split_audits(audits, needed)
        empty = cls(targets=targets, coverage=coverage, n_audits=len(audits), n_needed=needed)
        if len(recent) < needed:
            return empty
        scores, errors = _arrays(older[-MOST_FITTED:], targets)
        beta = fit_beta(scores, errors, coverage) if len(older) >= SMALLEST_FIT else 0.0
        own: dict[tuple[str, int], list[Audit]] = {}
        for audit in recent:
            if not audit.ramped:
                own.setdefault((audit.structure, band_of(audit.temperature)), []).append(audit)
        groups = [
            Group(structure=structure, band=band, **_make_factor(members, targets, coverage, beta).model_dump())
            for (structure, band), members in sorted(own.items())
            if len(members) >= max(GROUP_SIZE, needed)
        ]
        general = _make_factor(recent, targets, coverage, beta)
        return empty.model_copy(update={"beta": beta, "general": general, "groups": tuple(groups)})


def band_of(temperature: float) -> int:
    """Return the number of a temperature's band.

    >>> [band_of(t) for t in (100, 300, 449, 450, 600, 2500)]
    [0, 1, 1, 2, 2, 8]
    """
    return math.floor(temperature / BAND + 0.5)


def audits_needed(coverage: float) -> int:
    """Return the number of audits below which no bound has this coverage: ⌈q / (1 − q)⌉.

    >>> audits_needed(0.9), audits_needed(0.95)
    (9, 19)
    """
    q = Fraction(repr(coverage))  # 0.9 itself, and not the binary number next to it
    return math.ceil(q / (1 - q))


def conformal_factor(ratios: Floats, coverage: float) -> float | None:
    """Return the ⌈(n + 1) q⌉-th smallest of n ratios; None where n is too small for one."""
    rank = math.ceil((len(ratios) + 1) * Fraction(repr(coverage)))
    return float(np.sort(ratios)[rank - 1]) if rank <= len(ratios) else None


def fit_beta(scores: Floats, errors: Floats, coverage: float) -> float:
    """Return the β ≥ 0 of the bound a (s + β) that minimises the pinball loss at a quantile.

    With b = a β this is a linear quantile regression, solved as a linear program (Koenker & Bassett, Econometrica 46,
    33 (1978)). Where scores say nothing of the errors, a vanishes: β is then 100 times the largest score, so that all
    frames have nearly the same bound.
    """
    from scipy.optimize import linprog

    n, ones = len(scores), np.ones(len(scores))
    most = 100.0 * max(float(scores.max(initial=0.0)), 1e-12)
    cost = np.concatenate([[0.0, 0.0], coverage * ones, (1 - coverage) * ones])
    equations = np.hstack([scores[:, None], ones[:, None], np.eye(n), -np.eye(n)])
    solved = linprog(cost, A_eq=equations, b_eq=errors, method="highs")
    a, b = solved.x[:2]
    return float(min(b / a, most)) if a > 0 else (most if b > 0 else 0.0)


def split_audits(audits: Sequence[Audit], needed: int) -> tuple[list[Audit], list[Audit]]:
    """Split audits, oldest first, into those that β is fitted to and the newest, which set the factors.

    Whole iterations go to the newest until they are two thirds of all, or `ENOUGH`, and as many as are needed.
    """
    wanted = max(needed, min(math.ceil(2 * len(audits) / 3), max(ENOUGH, needed)))
    recent: list[Audit] = []
    iterations = sorted({audit.iteration for audit in audits})
    while iterations and len(recent) < wanted:
        newest = iterations.pop()
        recent = [audit for audit in audits if audit.iteration == newest] + recent
    return [audit for audit in audits if audit.iteration in iterations], recent


def _make_factor(audits: Sequence[Audit], targets: dict[str, float], coverage: float, beta: float) -> Factor:
    scores, errors = _arrays(audits, targets)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(errors > 0, errors / (scores + beta), 0.0)
    a = conformal_factor(ratios, coverage)
    return Factor(a=HOPELESS if a is None or not math.isfinite(a) else a, n=len(audits), largest=float(scores.max()))


def _arrays(audits: Sequence[Audit], targets: dict[str, float]) -> tuple[Floats, Floats]:
    """Return scores and errors, each of shape (n,)."""
    return (
        np.array([audit.score for audit in audits], dtype=float),
        np.array([audit.error(targets) for audit in audits], dtype=float),
    )
