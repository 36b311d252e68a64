"""Gradients of forces in the weights of a `se_e2_a` model, in closed form: many times faster than by autograd.

The force on an atom is the derivative of the energies around it along a displacement, and what is asked for the
derivative of that in the weights: of a matrix W of a chain of layers it is Σ x′ᵀȳ + xᵀȳ′ over the rows that pass, x′
being the derivative of a row along the displacement, ȳ that of the energy by xW + b, ȳ′ the derivative of ȳ.

The embedding net G is a smooth function of one number s, the weighted inverse distance of a pair. On the interval of s
it and its derivatives in the weights are polynomials to the last digits, so that its weights count through the values
at some Chebyshev nodes alone, which all pairs share: in place of thousands of pairs, tens of nodes pass the net. How
many nodes it takes is measured for each group of atoms; where too many would be needed, nothing is given.

With R (n_near, 4) the environment of an atom: T = RᵀG(s)/N, the descriptor D = TᵀT_axis, and E a net of D. Arrays
of what a displacement changes have (…, 3, …) for its direction. Imports nothing of `al_driver`. eV, Å.
"""

from collections.abc import Iterator
from typing import Any

import kpu_frame
import numpy as np
import torch
from kpu_chain import Layer, add_changes, add_weights, pull, run
from kpu_smooth import N_NODES, find_nodes

CHUNK_BYTES = 8e6
"""Of one intermediate array of a chunk of atoms; larger ones leave the caches and are slower."""


def is_se_a(model: Any) -> bool:
    """Say whether a model of DeePMD-kit is one this module knows, in every setting it has."""
    from deepmd.pt.model.atomic_model.dp_atomic_model import DPAtomicModel
    from deepmd.pt.model.descriptor.se_a import DescrptSeA
    from deepmd.pt.model.task.invar_fitting import InvarFitting

    atomic = model.atomic_model
    if not isinstance(atomic, DPAtomicModel) or not isinstance(atomic.descriptor, DescrptSeA):
        return False
    fitting = atomic.fitting_net
    return (
        isinstance(fitting, InvarFitting)
        and not (atomic.descriptor.sea.exclude_types or fitting.exclude_types)
        and not (atomic.pair_exclude_types or atomic.atom_exclude_types or atomic.descriptor.compress)
        and not (fitting.mixed_types or fitting.numb_fparam or fitting.numb_aparam or fitting.dim_case_embd)
        and fitting.remove_vaccum_contribution is None
        and fitting.dim_out == 1
    )


class SeA:
    """Gradients of forces for one model.

    Parameters
    ----------
    model
        For which `is_se_a` holds.
    weights
        All of the model's, in the optimizer's order.
    """

    def __init__(self, model: Any, weights: Any, dtype: Any) -> None:
        self.model, self.dtype, self.device = model, dtype, weights[0].device
        starts = np.cumsum([0, *(weight.numel() for weight in weights)]).tolist()
        self._places = {id(weight): start for weight, start in zip(weights, starts)}  # noqa: B905  (no `strict` there)
        self.frozen = [
            slice(start, start + weight.numel())
            for weight, start in zip(weights, starts)  # noqa: B905
            if not weight.requires_grad
        ]
        self.n_weights, self.first_nodes = starts[-1], 0
        self.sea = model.atomic_model.descriptor.sea
        self.embedding = [self._layers(net) for net in self.sea.filter_layers.networks]
        self.fitting = [self._layers(net) for net in model.atomic_model.fitting_net.filter_layers.networks]

    def gradients(self, frame: Any, atoms: Any, memory: float) -> Iterator[tuple[Any, Any]] | None:
        """Return, in an iterator, atoms of a group and the gradients of their forces; see `KalmanModel`.

        None where the embedding net is no polynomial on the group's interval.
        """
        with torch.no_grad():
            group = _Group(frame, atoms, self)
        return group.iterate(memory) if group.nodes else None

    def _layers(self, net: Any) -> list[Layer]:
        return [
            Layer(
                *(None if part is None else part.detach() for part in (layer.matrix, layer.bias, layer.idt)),
                layer.activate,
                bool(layer.resnet),
                tuple(self._places.get(id(part), -1) for part in (layer.matrix, layer.bias, layer.idt)),
            )
            for layer in net.layers
        ]


class _Group:
    """Some atoms of a frame, with everything around them that does not depend on which of them moves.

    Attributes
    ----------
    near
        Neighbours of each local atom, −1 for none, shape (n_local, n_near): by kind, as the model sorts them.
    moved, own
        Which of the atoms a neighbour is, and a local atom itself; −1 for none.
    rows, slopes
        Environments, (n_local, n_near, 4), and their derivatives by a neighbour's place, (n_local, n_near, 4, 3).
    nodes
        What the embedding nets are interpolated by; None where that fails.
    """

    def __init__(self, frame: Any, atoms: Any, owner: SeA) -> None:
        self._owner, self._atoms, sea = owner, atoms, owner.sea
        cluster = kpu_frame.cut_out(frame, kpu_frame.find_touched(frame, atoms), atoms)
        positions = torch.as_tensor(cluster.positions, dtype=torch.float64, device=owner.device)
        kinds = torch.as_tensor(cluster.kinds, device=owner.device)
        near = torch.as_tensor(cluster.neighbours, device=owner.device)
        near = owner.model.format_nlist(positions[None], kinds[None], near[None])[0]
        n_local, n_near = near.shape
        self.near = near.cpu().numpy()
        self.moved = np.where(self.near >= 0, cluster.owner[self.near], -1)
        self.own, self.kinds = cluster.owner[:n_local], cluster.kinds[:n_local]
        steps = torch.where((near >= 0)[..., None], positions[near] - positions[:n_local, None], 0.0)
        points = torch.cat([torch.zeros_like(steps[:, :1]), steps], dim=1).to(owner.dtype)
        places = torch.where(near >= 0, torch.arange(1, n_near + 1, device=owner.device), -1)
        self.rows, self.slopes = _environment(sea, points, places[:, None], kinds[:n_local, None])
        low, high = self.rows[..., 0].min(), self.rows[..., 0].max()
        self.nodes = None
        if torch.isfinite(self.rows).all():
            self.nodes = find_nodes(owner.embedding, float(low), float(high), self.rows, owner.first_nodes)
        if self.nodes:
            owner.first_nodes = N_NODES.index(self.nodes.number)
        self._parts: list[_Kind] = []

    def iterate(self, memory: float) -> Iterator[tuple[Any, Any]]:
        """Yield atoms, a few at a time, and the gradients of their forces, (n, 3, n_weights)."""
        with torch.no_grad():
            self._parts = [_Kind(self, self._owner, kind) for kind in np.unique(self.kinds).tolist()]
        touched = len(self.near) if len(self._atoms) > 1 else self.near.shape[1]
        widest = touched * 12 * max(part.width * part.axis for part in self._parts)
        per_atom = 8 * (3 * self._owner.n_weights + 10 * widest)
        step = max(1, int(min(CHUNK_BYTES / 8 / widest, memory * 1e9 / per_atom)))
        for start in range(0, len(self._atoms), step):
            chosen = np.arange(start, min(start + step, len(self._atoms)))
            with torch.no_grad():  # not around the yield: it would hold where this goes to
                gradients = self._gradients(chosen)
            yield self._atoms[chosen], gradients

    def _gradients(self, chosen: Any) -> Any:
        owner = self._owner
        out = torch.zeros(len(chosen), 3, owner.n_weights, dtype=owner.dtype, device=owner.device)
        for part in self._parts:
            part.add_gradients(chosen, out)
        for frozen in owner.frozen:
            out[..., frozen] = 0
        return -out


def _environment(sea: Any, points: Any, places: Any, kinds: Any) -> tuple[Any, Any]:
    """Return environments (n, n_near, 4), and their derivatives by a neighbour's place (n, n_near, 4, 3)."""
    from deepmd.pt.model.descriptor.env_mat import prod_env_mat

    with torch.enable_grad():
        points = points.requires_grad_()
        rows = prod_env_mat(points, places, kinds, sea.mean, sea.stddev, sea.rcut, sea.rcut_smth,
                            protection=sea.env_protection)[0][:, 0]  # fmt: skip
        slopes = [torch.autograd.grad(rows[..., c].sum(), points, retain_graph=True)[0][:, 1:] for c in range(4)]
    return rows.detach(), torch.stack(slopes, dim=2)


class _Section:
    """The neighbours of one kind, around all local atoms of one kind: ``g`` and ``slope`` are G(s) and dG/ds."""

    def __init__(self, net: list[Layer], rows: Any, slopes: Any, nodes: Any, n_near: int) -> None:
        self.net, self.r, self.dr, self._nodes = net, rows, slopes, nodes
        self.values, self.derivatives = nodes.polynomials(rows[..., 0])
        self.traces, at_nodes = run(net, nodes.points)
        coefficients = nodes.coefficients @ at_nodes
        self.g, self.slope = self.values @ coefficients, self.derivatives @ coefficients
        self.k = rows.transpose(1, 2) @ self.values / n_near  # (n, 4, n_nodes): T is this times the coefficients
        self.t = self.k @ coefficients

    def add_weights(self, coefficients: Any, out: Any) -> None:
        """Add the net's weights' gradients for ∂/∂ of its polynomial's coefficients, (n, n_nodes, 3 · width)."""
        at_nodes = self._nodes.coefficients.T @ coefficients
        add_weights(self.net, self.traces, at_nodes.unflatten(2, (3, -1)), out)


class _Kind:
    """The local atoms of one kind: their descriptors, and the derivatives of their energies."""

    def __init__(self, group: _Group, owner: SeA, kind: int) -> None:
        sea = owner.sea
        self.axis, self._n_near = sea.axis_neuron, sea.nnei
        self._group, rows = group, np.flatnonzero(group.kinds == kind)
        self._moved, self._own, self._there = group.moved[rows], group.own[rows], group.near[rows] >= 0
        self._bounds = [slice(*ends) for ends in zip(sea.sec[:-1], sea.sec[1:])]  # noqa: B905
        nets = [owner.embedding[s if sea.type_one_side else s * sea.ntypes + kind] for s in range(sea.ntypes)]
        self._sections = [
            _Section(net, group.rows[rows][:, s], group.slopes[rows][:, s], group.nodes, sea.nnei)
            for net, s in zip(nets, self._bounds)  # noqa: B905
        ]
        self._t = sum(section.t for section in self._sections)  # (n, 4, width)
        self.width = self._t.shape[-1]
        self._fit = owner.fitting[kind]
        self._traces, energy = run(self._fit, (self._t.transpose(1, 2) @ self._t[..., : self.axis]).flatten(1))
        self._a_d = pull(self._fit, self._traces, torch.ones_like(energy)).unflatten(1, (-1, self.axis))
        self._a_t = self._t[..., : self.axis] @ self._a_d.transpose(1, 2)  # ∂E/∂T
        self._a_t[..., : self.axis] += self._t @ self._a_d

    def add_gradients(self, chosen: Any, out: Any) -> None:
        """Add ∂²E/∂w∂r for the places r of chosen atoms of the group to ``out``."""
        touch = np.stack([(self._moved == a).any(axis=1) | (self._own == a) for a in chosen])
        n, m = len(chosen), int(touch.sum(axis=1).max())
        if not m:
            return
        pairs = np.argsort(~touch, axis=1, kind="stable")[:, :m]  # (n, m): local atoms whose energies count
        moves = (self._moved[pairs] == chosen[:, None, None]).astype(float)
        moves -= (self._own[pairs] == chosen[:, None])[..., None] & self._there[pairs]
        moves *= np.take_along_axis(touch, pairs, axis=1)[..., None]  # (n, m, n_near): how a neighbour moves from there
        index = torch.as_tensor(pairs, device=out.device)
        entries = [_Entries(moves[..., s], index, section) for s, section in zip(self._bounds, self._sections)]  # noqa: B905
        t_prime = torch.zeros(n * m, 4, 3, self.width, dtype=out.dtype, device=out.device)
        for entry in entries:
            entry.add_to(t_prime, m, self._n_near)
        m_prime = self._change(index, t_prime, out).reshape(n, 4 * m, -1)
        for entry, section in zip(entries, self._sections):  # noqa: B905
            found = section.k[index].reshape(n, 4 * m, -1).transpose(1, 2) @ m_prime
            section.add_weights(found + entry.coefficients(self._a_t / self._n_near), out)

    def _change(self, index: Any, t_prime: Any, out: Any) -> Any:
        """Add what the fitting net's weights give; return the change of ∂E/∂T, (n · m, 4, 3, width), as ``t_prime``."""
        n_pairs, axis, width = len(t_prime), self.axis, self.width
        t, a_d = self._t[index].flatten(0, 1), self._a_d[index].flatten(0, 1)
        d_prime = (t_prime.flatten(2).transpose(1, 2) @ t[..., :axis]).unflatten(1, (3, width))
        d_prime += (t.transpose(1, 2) @ t_prime[..., :axis].flatten(2)).unflatten(2, (3, axis)).transpose(1, 2)
        a_prime = add_changes(self._fit, self._traces, index, d_prime.reshape(*index.shape, 3, width * axis), out)
        a_prime = a_prime.reshape(n_pairs, 3, width, axis)
        m_prime = (t_prime[..., :axis].reshape(n_pairs, 12, axis) @ a_d.transpose(1, 2)).unflatten(1, (4, 3))
        m_prime += (t[..., :axis] @ a_prime.permute(0, 3, 1, 2).flatten(2)).unflatten(2, (3, width))
        m_prime[..., :axis] += (t_prime.reshape(n_pairs, 12, width) @ a_d).unflatten(1, (4, 3))
        m_prime[..., :axis] += (t @ a_prime.transpose(1, 2).flatten(2)).unflatten(2, (3, axis))
        return m_prime


class _Entries:
    """Where a displacement moves a neighbour from its local atom, in one section."""

    def __init__(self, moves: Any, index: Any, section: _Section) -> None:
        c, p, k = np.nonzero(moves)
        place = np.arange(len(c)) - np.searchsorted(c, np.arange(len(moves)))[c]  # among those of its displacement
        self._shape = (len(moves), int(place.max(initial=-1)) + 1)
        device, dtype = index.device, section.r.dtype
        self._c, self._p, self._k, self._place = (torch.as_tensor(a, device=device) for a in (c, p, k, place))
        self._j, self._section = index[self._c, self._p], section
        sign = torch.as_tensor(moves[c, p, k], dtype=dtype, device=device)
        self._change = sign[:, None, None] * section.dr[self._j, self._k]  # of R: (n_entries, 4, 3)

    def add_to(self, t_prime: Any, m: int, n_near: int) -> None:
        """Add the changes of T, (n · m, 4, 3, width)."""
        j, k, section = self._j, self._k, self._section
        change = self._change / n_near
        moved = change[..., None] * section.g[j, k][:, None, None]
        step = change[:, None, 0, :, None] * section.slope[j, k][:, None, None]  # of G: (n_entries, 1, 3, width)
        moved += section.r[j, k][:, :, None, None] * step
        t_prime.index_add_(0, self._c * m + self._p, moved)

    def coefficients(self, a_t: Any) -> Any:
        """Return ∂/∂ of the polynomial's coefficients of ⟨a_t, change of T⟩, (n, n_nodes, 3 · width)."""
        j, k, section = self._j, self._k, self._section
        a = a_t[j]
        one = self._pad(section.values[j, k]).transpose(1, 2) @ self._pad((self._change.transpose(1, 2) @ a).flatten(1))
        along = (section.r[j, k][:, None] @ a) * self._change[:, 0, :, None]  # (n_entries, 3, width)
        return one + self._pad(section.derivatives[j, k]).transpose(1, 2) @ self._pad(along.flatten(1))

    def _pad(self, values: Any) -> Any:
        padded = torch.zeros(*self._shape, values.shape[1], dtype=values.dtype, device=values.device)
        padded[self._c, self._place] = values
        return padded
