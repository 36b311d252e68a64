"""How the labels of an iteration are shared over its structures."""

from collections.abc import Sequence
from fractions import Fraction


def share_out(budget: int | None, weights: Sequence[Fraction], most: Sequence[int]) -> list[int]:
    """Share a budget in proportion to weights, none above its own limit, by the largest remainder.

    What a limit leaves over goes to the others; of equal remainders the first is served. The numbers are exact.

    >>> share_out(10, [Fraction(3, 4), Fraction(1, 4)], [20, 20])
    [8, 2]
    >>> share_out(10, [Fraction(3, 4), Fraction(1, 4)], [4, 20])
    [4, 6]
    """
    if budget is None or budget >= sum(most):
        return list(most)
    shares = [0] * len(most)
    active = [i for i, limit in enumerate(most) if limit > 0 and weights[i] > 0]
    while active:
        total = sum(weights[i] for i in active)
        ideal = {i: budget * weights[i] / total for i in active}
        full = [i for i in active if ideal[i] >= most[i]]
        if not full:
            break
        for i in full:
            shares[i] = most[i]
            budget -= most[i]
            active.remove(i)
    if active:
        for i in active:
            shares[i] = int(ideal[i])
        left = budget - sum(shares[i] for i in active)
        for i in sorted(active, key=lambda i: shares[i] - ideal[i])[:left]:
            shares[i] += 1
    return shares
