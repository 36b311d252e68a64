"""Chains of layers z = t σ(xW + b) + r(x), and what the weights' gradients are made of.

Kept are a few arrays of each layer, from which the gradients of many directions follow by products of matrices. Rows
are what passes through a chain, the last axis is its width; what changes along each axis of space has these three
first. ``out``, which gradients are added to, has the shape (n, 3, n_weights): of n forces, in the optimizer's order of
the weights.
"""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Layer:
    """z = idt · act(x matrix + bias) + residual(x), and where its weights begin among all of them."""

    matrix: Any
    bias: Any
    idt: Any
    act: Any
    is_residual: bool
    places: tuple[int, int, int]

    def residual(self, x: Any) -> Any:
        """Return what is added to the layer's output; linear in x."""
        n_in, n_out = self.matrix.shape
        if not self.is_residual or n_out not in (n_in, 2 * n_in):
            return 0.0
        return x if n_in == n_out else torch.cat([x, x], dim=-1)

    def pull_residual(self, a: Any) -> Any:
        """Return the transpose of `residual` applied to a."""
        n_in, n_out = self.matrix.shape
        if not self.is_residual or n_out not in (n_in, 2 * n_in):
            return 0.0
        return a if n_in == n_out else a[..., :n_in] + a[..., n_in:]


@dataclass
class Trace:
    """What a layer did with its rows, (n_rows, width): its input, σ, tσ′ and tσ″ at y = xW + b; ∂E/∂z and ∂E/∂y."""

    x: Any
    act: Any
    f: Any
    h: Any
    a: Any = None
    a_y: Any = None


def run(layers: list[Layer], x: Any) -> tuple[list[Trace], Any]:
    """Pass rows through a chain; return the traces, and the output."""
    traces = []
    for layer in layers:
        y = x @ layer.matrix + (0.0 if layer.bias is None else layer.bias)
        act, first, second = _derivatives(layer.act, y)
        t = 1.0 if layer.idt is None else layer.idt
        traces.append(Trace(x, act, first * t, second * t))
        x = act * t + layer.residual(x)
    return traces, x


def slope(layers: list[Layer], traces: list[Trace]) -> Any:
    """Return the derivative of the output by the only number that comes in."""
    x = torch.ones_like(traces[0].x)
    for layer, trace in zip(layers, traces):  # noqa: B905  (may run in a Python without `strict`)
        x = trace.f * (x @ layer.matrix) + layer.residual(x)
    return x


def vary(layers: list[Layer], traces: list[Trace], change: Any) -> Any:
    """Return how the output changes with the weights, for a change of each: what ``change`` makes of its shape."""
    x = torch.zeros_like(traces[0].x)
    for layer, trace in zip(layers, traces):  # noqa: B905
        y = x @ layer.matrix + trace.x @ change(layer.matrix.shape)
        y += 0.0 if layer.bias is None else change(layer.bias.shape)
        moved = 0.0 if layer.idt is None else trace.act * change(layer.idt.shape)
        x = trace.f * y + moved + layer.residual(x)
    return x


def pull(layers: list[Layer], traces: list[Trace], a: Any) -> Any:
    """Pass ∂E/∂z of the output back, noting it in the traces; return ∂E/∂x of the input."""
    for layer, trace in zip(reversed(layers), reversed(traces)):  # noqa: B905
        trace.a, trace.a_y = a, a * trace.f
        a = trace.a_y @ layer.matrix.T + layer.pull_residual(a)
    return a


def add_weights(layers: list[Layer], traces: list[Trace], a: Any, out: Any) -> None:
    """Add the weights' gradients for ∂/∂z of the output, (3, n, n_rows, width), the rows being the same for all n."""
    for layer, trace in zip(reversed(layers), reversed(traces)):  # noqa: B905
        y_bar = a * trace.f
        add_matrix(layer, y_bar, trace.x.expand(*a.shape[:2], -1, -1), out)
        add_vectors(layer, y_bar, None if layer.idt is None else a * trace.act, out)
        if layer is not layers[0]:
            a = y_bar @ layer.matrix.T + layer.pull_residual(a)


def add_changes(layers: list[Layer], traces: list[Trace], index: Any, x: Any, out: Any) -> Any:
    """Add the change of the weights' gradients where the input changes by ``x``.

    Parameters
    ----------
    index
        Which row of the traces, on which `pull` was called, is changed: shape (n, m).
    x
        Shape (3, n, m, width).

    Returns
    -------
    The change of ∂E/∂x, in the shape of x.
    """
    changes = []
    for layer, trace in zip(layers, traces):  # noqa: B905
        y, f = x @ layer.matrix, trace.f[index]
        changes.append((x, y, f))
        x = f * y + layer.residual(x)
    a = torch.zeros_like(x)
    for layer, trace, (x, y, f) in zip(reversed(layers), reversed(traces), reversed(changes)):  # noqa: B905
        y_bar = torch.addcmul(a * f, (trace.a * trace.h)[index], y)
        add_matrix(layer, y_bar, trace.x[index].expand(3, -1, -1, -1), out)
        add_matrix(layer, trace.a_y[index].expand(3, -1, -1, -1), x, out)
        moved = None
        if layer.idt is not None:
            moved = a * trace.act[index] + (trace.a_y / layer.idt)[index] * y
        add_vectors(layer, y_bar, moved, out)
        a = y_bar @ layer.matrix.T + layer.pull_residual(a)
    return a


def add_matrix(layer: Layer, left: Any, right: Any, out: Any) -> None:
    """Add leftᵀ right to a matrix, transposed as the optimizer has it; of (3, n, rows, n_out) and (…, n_in)."""
    n_in, n_out = layer.matrix.shape
    start = layer.places[0]
    for axis in range(3):
        target = out[:, axis, start : start + n_in * n_out].unflatten(1, (n_out, n_in))
        target.baddbmm_(left[axis].transpose(1, 2), right[axis])


def add_vectors(layer: Layer, y_bar: Any, moved: Any, out: Any) -> None:
    """Add to the bias and to idt, given (3, n, rows, n_out) for each."""
    for values, place in ((y_bar if layer.bias is not None else None, layer.places[1]), (moved, layer.places[2])):
        if values is not None:
            out[..., place : place + values.shape[-1]] += values.sum(dim=2).transpose(0, 1)


def _derivatives(act: Any, y: Any) -> tuple[Any, Any, Any]:
    """Return an activation function and its first two derivatives."""
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        z = act(y)
        (first,) = torch.autograd.grad(z.sum(), y, create_graph=True)
        if not first.requires_grad:
            return z.detach(), first, torch.zeros_like(first)
        (second,) = torch.autograd.grad(first.sum(), y, allow_unused=True)
    return z.detach(), first.detach(), torch.zeros_like(first) if second is None else second
