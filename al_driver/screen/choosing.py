"""Which candidates are calculated next: those that score best among the ones that nobody has calculated.

Before there is a surrogate of the property, they are drawn at random, or lie far from each other in the features of
another model (Gonzalez, Theor. Comput. Sci. 38, 293 (1985)). With compositions apart, those with the fewest labels come
first, and one candidate of each is taken in turn.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import Atoms

from al_driver.data.frames import Array
from al_driver.screen.acquisition import Acquisition, choose
from al_driver.screen.filters import Filters
from al_driver.screen.ranking import Predictions, Ranking, group_by, group_names

By = Literal["random", "diverse", "mean", "acquisition"]
LABELLED, FAILED = "labelled", "failed"


@dataclass(frozen=True)
class Pool:
    """Candidates, and what is known of them.

    Attributes
    ----------
    known
        Values of the property that is ranked by, by the candidate's index.
    failed
        Those that gave no value.
    """

    crystals: Sequence[Atoms]
    predictions: Predictions
    known: Mapping[int, float]
    failed: Mapping[int, str]


def choose_next(
    pool: Pool,
    filters: Filters,
    acquisition: Acquisition,
    n: int,
    *,
    by: By,
    per_composition: bool,
    rng: np.random.Generator,
) -> Ranking:
    """Choose at most ``n`` candidates to calculate.

    Parameters
    ----------
    by
        "acquisition" scores by the surrogate of the property, and needs its uncertainty unless it scores by the mean.
    rng
        Draws, and decides between equals.

    Returns
    -------
    Ranking
        All that could be chosen in order of their scores; ``selected`` in the order in which they were taken. Nothing
        where none is left.
    """
    predictions = pool.predictions
    predicted = {name: window for name, window in filters.windows.items() if name in predictions.values}
    judge = filters.model_copy(update={"windows": predicted})
    reasons = judge.judge(pool.crystals, predictions.values, predictions.deviations.get(acquisition.property))
    reasons = [FAILED if i in pool.failed else LABELLED if i in pool.known else why for i, why in enumerate(reasons)]
    left = rng.permutation([index for index, reason in enumerate(reasons) if not reason]).tolist()
    names = group_names(pool.crystals, per_composition=per_composition)
    scores = np.full(len(pool.crystals), np.nan)
    queues = {}
    for name, group in group_by(names, left).items():
        known = np.array([value for index, value in pool.known.items() if names[index] == name])
        scores[group] = _score(predictions, acquisition, group, known, by)
        diversity = len(group) if by == "diverse" else acquisition.diversity if by == "acquisition" else 1
        taken = choose(scores[group], predictions.features[group], n, diversity)
        queues[name] = [group[place] for place in taken]
    done = Counter(names[index] for index in (*pool.known, *pool.failed))
    order = [left[place] for place in np.argsort(-scores[left], kind="stable")] if left else []
    return Ranking(order, scores, reasons, _take_in_turn(queues, done, scores, n))


def _score(predictions: Predictions, acquisition: Acquisition, group: list[int], known: Array, by: By) -> Array:
    """Return the scores of a group, shape (n_group,); those that are drawn are equals."""
    if by in ("random", "diverse"):
        return np.zeros(len(group))
    mean = predictions.values[acquisition.property][group]
    if by == "mean":
        return -acquisition.lower_is_better(mean)
    deviation = predictions.deviations.get(acquisition.property)
    return acquisition.score(mean, None if deviation is None else deviation[group], known)


def _take_in_turn(queues: Mapping[str, list[int]], done: Mapping[str, int], scores: Array, n: int) -> list[int]:
    """Take one of each queue in turn, beginning where the fewest are done, and with the best score among equals."""
    order = sorted(queues, key=lambda name: (done.get(name, 0), -scores[queues[name][0]]))
    longest = max(map(len, queues.values()), default=0)
    return [queues[name][turn] for turn in range(longest) for name in order if turn < len(queues[name])][:n]
