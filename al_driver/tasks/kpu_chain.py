"""Chains of layers z = t σ(xW + b) + r(x), and what the weights' gradients are made of.

Kept are a few arrays of each layer, from which the gradients of many directions follow by products of matrices. Rows
are what passes through a chain, the last axis is its width. ``out``, which gradients are added to, has the shape
(n, 3, n_weights): of n forces, in the optimizer's order of the weights.
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
    """Add the weights' gradients for ∂/∂z of the output, (n, n_rows, 3, width), the rows being the same for all n."""
    for layer, trace in zip(reversed(layers), reversed(traces)):  # noqa: B905
        y_bar = a * trace.f[:, None]
        product = trace.x.T @ y_bar.flatten(2)
        add_matrix(layer, product.unflatten(2, (3, -1)).permute(0, 2, 3, 1), out)
        add_vectors(layer, y_bar, None if layer.idt is None else a * trace.act[:, None], out)
        if layer is not layers[0]:
            a = y_bar @ layer.matrix.T + layer.pull_residual(a)


def add_changes(layers: list[Layer], traces: list[Trace], index: Any, x: Any, out: Any) -> Any:
    """Add the change of the weights' gradients where the input changes by ``x``.

    Parameters
    ----------
    index
        Which row of the traces, on which `pull` was called, is changed: shape (n, m).
    x
        Shape (n, m, 3, width).

    Returns
    -------
    The change of ∂E/∂x, in the shape of x.
    """
    changes = []
    for layer, trace in zip(layers, traces):  # noqa: B905
        y = x @ layer.matrix
        changes.append((x, y))
        x = trace.f[index][:, :, None] * y + layer.residual(x)
    a = torch.zeros_like(x)
    for layer, trace, (x, y) in zip(reversed(layers), reversed(traces), reversed(changes)):  # noqa: B905
        f, a_0 = trace.f[index][:, :, None], trace.a[index][:, :, None]
        y_bar = a * f + a_0 * trace.h[index][:, :, None] * y
        product = y_bar.flatten(2).transpose(1, 2) @ trace.x[index]  # (n, 3 n_out, n_in)
        add_matrix(layer, product.unflatten(1, (3, -1)), out)
        product = trace.a_y[index].transpose(1, 2) @ x.flatten(2)  # (n, n_out, 3 n_in)
        add_matrix(layer, product.unflatten(2, (3, -1)).transpose(1, 2), out)
        moved = None if layer.idt is None else a * trace.act[index][:, :, None] + a_0 * f / layer.idt * y
        add_vectors(layer, y_bar, moved, out)
        a = y_bar @ layer.matrix.T + layer.pull_residual(a)
    return a


def add_matrix(layer: Layer, transposed: Any, out: Any) -> None:
    """Add to a matrix, given (n, 3, n_out, n_in): the optimizer has it transposed."""
    start = layer.places[0]
    out[..., start : start + layer.matrix.numel()] += transposed.reshape(*out.shape[:2], -1)


def add_vectors(layer: Layer, y_bar: Any, moved: Any, out: Any) -> None:
    """Add to the bias and to idt, given (n, rows, 3, n_out) for each."""
    for values, place in ((y_bar if layer.bias is not None else None, layer.places[1]), (moved, layer.places[2])):
        if values is not None:
            out[..., place : place + values.shape[-1]] += values.sum(dim=1)


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
