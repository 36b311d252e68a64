"""A net of one number as a polynomial: through its values at Chebyshev nodes, to a precision that is measured.

A function that is analytic on an interval is met by its interpolation at n Chebyshev nodes with an error that falls
geometrically in n (Trefethen, Approximation Theory and Approximation Practice, SIAM, chapter 8).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from kpu_chain import Layer, run, slope, vary

N_NODES = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
TOLERANCE = {torch.float64: 1e-10, torch.float32: 5e-4}
"""Of the derivatives of the nets, by their number and by their weights, relative to the largest value."""


class Nodes:
    """Chebyshev nodes on an interval.

    Attributes
    ----------
    points
        Shape (n, 1).
    """

    def __init__(self, low: float, high: float, number: int, like: Any) -> None:
        self._middle, self._half, self.number = (low + high) / 2, max((high - low) / 2, 1e-6), number
        angles = (torch.arange(number, dtype=torch.float64) + 0.5) * math.pi / number
        self.points = (self._middle + self._half * torch.cos(angles))[:, None].to(like)
        matrix = torch.cos(torch.arange(number, dtype=torch.float64)[:, None] * angles) * (2 / number)
        matrix[0] /= 2
        self._coefficients = matrix.to(like.device)  # of Chebyshev polynomials, from values at the nodes

    def cardinals(self, s: Any) -> tuple[Any, Any]:
        """Return at s the polynomials that are 1 at a node and 0 at the others, and their slopes, shape (…, n)."""
        x = ((s.to(torch.float64) - self._middle) / self._half).clamp(-1, 1)
        values, slopes = (torch.zeros(self.number, *s.shape, dtype=torch.float64, device=s.device) for _ in range(2))
        values[0], values[1], slopes[1] = 1.0, x, 1.0
        for n in range(2, self.number):
            values[n] = 2 * x * values[n - 1] - values[n - 2]
            slopes[n] = 2 * values[n - 1] + 2 * x * slopes[n - 1] - slopes[n - 2]
        values, slopes = (array.movedim(0, -1) @ self._coefficients for array in (values, slopes / self._half))
        return values.to(s.dtype), slopes.to(s.dtype)


def find_nodes(nets: Sequence[list[Layer]], low: float, high: float, like: Any, start: int) -> Nodes | None:
    """Return as few nodes as meet all nets on an interval, ``start`` or more of `N_NODES`; None where none do."""
    for number in N_NODES[start:]:
        nodes = Nodes(low, high, number, like)
        between = Nodes(low, high, 2 * number + 1, like).points
        if all(_is_met(net, nodes, between) for net in nets):
            return nodes
    return None


def _is_met(net: list[Layer], nodes: Nodes, between: Any) -> bool:
    """Say whether interpolation gives a net's derivatives: by its number, and by its weights in a random direction."""
    values, slopes = nodes.cardinals(between[:, 0])
    traces, g = run(net, nodes.points)
    expected, _ = run(net, between)
    pairs = (
        (slopes @ g, slope(net, expected)),
        (values @ _vary(net, traces, g), _vary(net, expected, g)),
    )
    return all((one - other).abs().max() <= TOLERANCE[g.dtype] * other.abs().max() for one, other in pairs)


def _vary(net: list[Layer], traces: Any, like: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    return vary(net, traces, lambda shape: torch.randn(shape, generator=generator, dtype=torch.float64).to(like))
