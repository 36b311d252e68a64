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

CHUNK_BYTES = 1.5e6
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
        self._owner, self._atoms, self.size, sea = owner, atoms, len(atoms), owner.sea
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
        self.rows, slopes = _environment(sea, points, places[:, None], kinds[:n_local, None])
        self.slopes = torch.where((near >= 0)[..., None, None], slopes, 0.0)
        low, high = self.rows[..., 0].min(), self.rows[..., 0].max()
        self.nodes = None
        if torch.isfinite(self.rows).all():
            self.nodes = find_nodes(owner.embedding, float(low), float(high), self.rows, owner.first_nodes)
        if self.nodes:
            owner.first_nodes = N_NODES.index(self.nodes.number)

    def iterate(self, memory: float) -> Iterator[tuple[Any, Any]]:
        """Yield atoms, many at a time, and the gradients of their forces, (n, 3, n_weights)."""
        owner = self._owner
        with torch.no_grad():
            parts = [_Kind(self, owner, kind) for kind in np.unique(self.kinds).tolist()]
        widest = max(part.most_touched * 3 * part.width * part.axis for part in parts)
        step = max(1, min(int(CHUNK_BYTES / 8 / widest), int(memory * 1e9 / 8 / 10 / widest)))
        at_once = max(1, int(memory * 1e9 / 8 / 6 / owner.n_weights))
        for start in range(0, len(self._atoms), at_once):
            stop = min(start + at_once, len(self._atoms))
            with torch.no_grad():  # not around the yield: it would hold where this goes to
                out = torch.zeros(stop - start, 3, owner.n_weights, dtype=owner.dtype, device=owner.device)
                for first in range(start, stop, step):
                    last = min(first + step, stop)
                    for part in parts:
                        part.add_gradients(first, last, out[first - start : last - start])
                for frozen in owner.frozen:
                    out[..., frozen] = 0
            yield self._atoms[start:stop], out


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
    """The neighbours of one kind, around all local atoms of one kind.

    T is the sum over the sections of K(s) G, with G what the net gives at the nodes, shape (n_nodes, width), and K of
    shape (4, n_nodes). Only K depends on where the neighbours are.
    """

    def __init__(self, net: list[Layer], rows: Any, slopes: Any, nodes: Any, moved: Any, n_near: int) -> None:
        self.net = net
        self.traces, self.at_nodes = run(net, nodes.points)
        values, steps = (array / n_near for array in nodes.cardinals(rows[..., 0]))
        self.k = rows.transpose(1, 2) @ values  # (n, 4, n_nodes)
        self._factors = ((slopes, values), (rows[..., None] * slopes[:, :, :1], steps))
        j, k = np.nonzero(moved >= 0)
        order = np.argsort(moved[j, k], kind="stable")
        self._j, self._k, self._moved = j[order], k[order], moved[j, k][order]

    def change(self, first: int, place: Any, m: int, own: tuple[Any, Any]) -> Any:
        """Return −∂K/∂r for places r of the group's atoms from ``first`` on, shape (3, n · m, 4, n_nodes).

        Parameters
        ----------
        place
            Where a local atom's change belongs, for each of n atoms, shape (n, n_local).
        m
            Places of one atom.
        own
            Which of the atoms are local atoms, and which local atoms these are: they move against their neighbours.
        """
        here = slice(*np.searchsorted(self._moved, [first, first + len(place)]))
        j, k, rows = self._j[here], self._k[here], place[self._moved[here] - first, self._j[here]]
        found = self.k.new_zeros(3, len(place) * m, *self.k.shape[1:])
        rows, own_rows = (torch.as_tensor(array, device=found.device) for array in (rows, place[own]))
        for slopes, values in self._factors:
            found.index_add_(1, rows, -slopes[j, k].movedim(-1, 0)[..., None] * values[j, k][:, None])
            found.index_add_(1, own_rows, torch.einsum("jkcx,jkn->xjcn", slopes[own[1]], values[own[1]]))
        return found


class _Kind:
    """The local atoms of one kind: their descriptors, and the derivatives of their energies.

    Attributes
    ----------
    most_touched
        Of how many of them the force on one atom takes the energies, at most.
    """

    def __init__(self, group: _Group, owner: SeA, kind: int) -> None:
        sea, rows = owner.sea, np.flatnonzero(group.kinds == kind)
        self.axis, moved, self._own = sea.axis_neuron, group.moved[rows], group.own[rows]
        self._touch = np.zeros((group.size, len(rows)), dtype=bool)
        j, k = np.nonzero(moved >= 0)
        self._touch[moved[j, k], j] = True
        self._touch[self._own[self._own >= 0], self._own >= 0] = True
        self.most_touched = int(self._touch.sum(axis=1).max())
        self._sections = []
        for s, near in enumerate(slice(*ends) for ends in zip(sea.sec[:-1], sea.sec[1:])):  # noqa: B905
            net = owner.embedding[s if sea.type_one_side else s * sea.ntypes + kind]
            parts = (group.rows[rows][:, near], group.slopes[rows][:, near], group.nodes, moved[:, near])
            self._sections.append(_Section(net, *parts, sea.nnei))
        self._t = sum(section.k @ section.at_nodes for section in self._sections)  # (n, 4, width)
        self.width = self._t.shape[-1]
        self._fit = owner.fitting[kind]
        self._traces, energy = run(self._fit, (self._t.transpose(1, 2) @ self._t[..., : self.axis]).flatten(1))
        self._a_d = pull(self._fit, self._traces, torch.ones_like(energy)).unflatten(1, (-1, self.axis))
        self._a_t = self._t[..., : self.axis] @ self._a_d.transpose(1, 2)  # ∂E/∂T
        self._a_t[..., : self.axis] += self._t @ self._a_d

    def add_gradients(self, first: int, last: int, out: Any) -> None:
        """Add −∂²E/∂w∂r for the places r of the group's atoms from ``first`` on to ``out``."""
        touch = self._touch[first:last]
        n, m = len(touch), int(touch.sum(axis=1).max())
        if not m:
            return
        atom, local = np.nonzero(touch)
        place = np.cumsum(touch, axis=1) - 1 + m * np.arange(n)[:, None]
        pairs = np.zeros(n * m, dtype=int)  # local atoms whose energies count, m for each atom
        pairs[place[atom, local]] = local
        index = torch.as_tensor(pairs.reshape(n, m), device=out.device)
        own = np.flatnonzero((self._own >= first) & (self._own < last))
        changes = [s.change(first, place, m, (self._own[own] - first, own)) for s in self._sections]
        t_prime = sum(change @ section.at_nodes for change, section in zip(changes, self._sections))  # noqa: B905
        m_prime = self._change(index, t_prime, out).unflatten(1, (n, m)).flatten(2, 3)
        a_t = self._a_t[index].flatten(1, 2)
        for change, section in zip(changes, self._sections):  # noqa: B905
            k, k_prime = section.k[index].flatten(1, 2), change.unflatten(1, (n, m)).flatten(2, 3)
            at_nodes = k.transpose(1, 2) @ m_prime + k_prime.transpose(2, 3) @ a_t  # ∂/∂G
            add_weights(section.net, section.traces, at_nodes, out)

    def _change(self, index: Any, t_prime: Any, out: Any) -> Any:
        """Add what the fitting net's weights give; return the change of ∂E/∂T, (3, n · m, 4, width), as ``t_prime``."""
        t, a_d = self._t[index].flatten(0, 1), self._a_d[index].flatten(0, 1)
        t_axis, t_prime_axis = t[..., : self.axis], t_prime[..., : self.axis]
        d_prime = t_prime.transpose(2, 3) @ t_axis
        for x in range(3):  # products of many small matrices: to add is faster than to let them add
            d_prime[x] += torch.bmm(t.transpose(1, 2), t_prime_axis[x])
        a_prime = add_changes(self._fit, self._traces, index, d_prime.reshape(3, *index.shape, -1), out)
        a_prime, m_prime = a_prime.reshape(d_prime.shape), torch.empty_like(t_prime)
        for x in range(3):
            torch.bmm(t_prime_axis[x], a_d.transpose(1, 2), out=m_prime[x])
            m_prime[x] += torch.bmm(t_axis, a_prime[x].transpose(1, 2))
            m_prime[x, ..., : self.axis] += torch.bmm(t_prime[x], a_d) + torch.bmm(t, a_prime[x])
        return m_prime
