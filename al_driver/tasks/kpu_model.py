"""A DeePMD-kit model with the covariance its Kalman filter left: gradients of forces, and what they are worth.

KPU(y) = Σ_l h_lᵀ P_l h_l with h = ∂y/∂w over the blocks l of the weights w (ALKPU, arXiv 2411.13850). Any model of the
PyTorch backend: a force is the derivative of the energies that its atom touches, and its gradient a vector-Jacobian
product of that, many components at once. Other programs of this folder import it, by its bare name, in the Python that
has DeePMD-kit: like them it imports nothing of `al_driver`. eV, eV/Å.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import deepmd_kalman
import kpu_frame
import kpu_se_a
import numpy as np
import torch
from kpu_checkpoint import Refused, check_covariance, make_model, read_checkpoint

GROUP, CLOSED_GROUP = 4, 64
"""Atoms whose forces are derived from one cluster, in a cell that is larger than a few neighbourhoods: by autograd,
where each costs what the cluster is large, and in closed form, where it does not."""
MOST_VECTORS = 64
"""Components at once: more are no faster."""
PANEL = 256


class KalmanModel:
    """A model in its weights, and the covariance of these.

    Attributes
    ----------
    type_map
        The elements the model knows.
    cutoff, n_max
        What it looks at around an atom: Å, and the most neighbours.
    weights, n_weights
        In the optimizer's order.
    covariance
        The blocks P_l, each symmetric, in the order of the weights.
    scale
        sqrt(Π 1/λ_k) over the updates of the filter: û = u / scale does not grow with their number.

    Parameters
    ----------
    checkpoint
        ``model.ckpt.pt`` of a training with the optimizer LKF.
    memory
        GB that clusters, products and gradients may take, beside the covariance itself.
    single
        Work in float32.
    closed_form
        Let `kpu_se_a` give the gradients of the models it knows, once it gave one as autograd does.

    Raises
    ------
    Refused
        If the checkpoint is none, or holds no whole and sound covariance of its weights.
    """

    def __init__(
        self, checkpoint: Path, *, memory: float = 1.0, single: bool = False, closed_form: bool = True
    ) -> None:
        content = read_checkpoint(checkpoint)
        self._memory = memory
        self.dtype = torch.float32 if single else torch.float64
        self._model, self.weights = make_model(content["model"], self.dtype)
        self.type_map: list[str] = self._model.get_type_map()
        self.cutoff: float = self._model.get_rcut()
        self.n_max = sum(self._model.get_sel())
        self.n_weights = sum(weight.numel() for weight in self.weights)
        self._device = self.weights[0].device
        state = content["optimizer"]["state"][0]
        self.covariance = [block.to(self._device, self.dtype) for block in check_covariance(state, self.n_weights)]
        self.scale = math.exp(deepmd_kalman.log_inflation(float(state["kalman_lambda"])) / 2)
        self._passes_messages = bool(self._model.has_message_passing())
        known = closed_form and kpu_se_a.is_se_a(self._model)
        self._closed = kpu_se_a.SeA(self._model, self.weights, self.dtype) if known else None
        self._is_compared = False

    def make_frame(self, positions: Any, cell: Any, pbc: Any, symbols: Sequence[str]) -> Any:
        """Return a frame with its neighbours; raises `Refused` for an element the model does not know."""
        unknown = sorted({*symbols} - {*self.type_map})
        if unknown:
            raise Refused(
                f"has {', '.join(unknown)}, which the model does not know; it knows {', '.join(self.type_map)}"
            )
        kinds = [self.type_map.index(symbol) for symbol in symbols]
        return kpu_frame.make_frame(positions, cell, pbc, kinds, self.cutoff, self.n_max)

    def force_gradients(self, frame: Any, atoms: Any) -> Iterator[tuple[Any, Any]]:
        """Yield, a few at a time, atoms and the gradients ∂F/∂w of their forces.

        Yields
        ------
        Indices of shape (n,), and gradients of shape (n, 3, n_weights), weights in the optimizer's order. Together
        they are all ``atoms`` once, in an order of their own.
        """
        atoms = np.asarray(atoms)
        if not len(atoms):
            return
        if self._closed and not self._is_compared:
            self._compare(self._closed, frame, atoms[:1])
        if self._closed:
            for group in kpu_frame.group_atoms(frame, atoms, CLOSED_GROUP):
                found = self._closed.gradients(frame, group, self._memory)
                yield from self._group_gradients(frame, group) if found is None else found
            return
        large = len(frame.kinds) > 3 * len(self.find_local(frame, atoms[:1]))
        for group in kpu_frame.group_atoms(frame, atoms, GROUP if large else len(atoms)):
            yield from self._group_gradients(frame, group)

    def energy_gradient(self, frame: Any) -> Any:
        """Return ∂E/∂w of a frame, shape (n_weights,)."""
        n_atoms = len(frame.kinds)
        step = n_atoms if self._passes_messages else max(1, int(self._memory * 1e9 / (self.n_max * 40_000)))
        total = torch.zeros(self.n_weights, dtype=self.dtype, device=self._device)
        for start in range(0, n_atoms, step):
            energy = self.energy_of(frame, np.arange(start, min(start + step, n_atoms)))
            total += self._flatten(torch.autograd.grad(energy, self._free, allow_unused=True), ())
        return total

    def quadratic(self, gradients: Any) -> Any:
        """Return Σ_l h_lᵀ P_l h_l for gradients of shape (…, n_weights), in the shape (…).

        Raises
        ------
        Refused
            If one is not finite, or negative: a covariance cannot give that.
        """
        flat = gradients.reshape(-1, self.n_weights)
        total, start = flat.new_zeros(len(flat)), 0
        for block in self.covariance:
            part = flat[:, start : start + len(block)]
            for first in range(0, len(block), PANEL):  # of a symmetric matrix, one half is enough
                last = min(first + PANEL, len(block))
                product = part[:, first:last] @ block[first:last, first:]
                product[:, last - first :] *= 2
                total += torch.linalg.vecdot(product, part[:, first:])
            start += len(block)
        if not torch.isfinite(total).all() or (total < 0).any():
            raise Refused(f"hᵀPh is {_worst(total):g}: the covariance or the model is damaged")
        return total.reshape(gradients.shape[:-1])

    def force_uncertainty(self, frame: Any, atoms: Any = None) -> Any:
        """Return u_i = sqrt(Σ_α KPU(F_iα)) of atoms, all or some, shape (n,)."""
        atoms = np.arange(len(frame.kinds)) if atoms is None else np.asarray(atoms)
        found = np.full(len(frame.kinds), np.nan)
        for group, gradients in self.force_gradients(frame, atoms):
            found[group] = self.quadratic(gradients).sum(dim=1).sqrt().cpu().numpy()
        return found[atoms]

    def energy_uncertainty(self, frame: Any) -> float:
        """Return sqrt(KPU(E)) / N of a frame."""
        return float(self.quadratic(self.energy_gradient(frame)).sqrt()) / len(frame.kinds)

    def find_local(self, frame: Any, atoms: Any) -> Any:
        """Return the atoms whose energies the forces on some atoms need: all, where the model passes messages."""
        return np.arange(len(frame.kinds)) if self._passes_messages else kpu_frame.find_touched(frame, atoms)

    def _compare(self, closed: Any, frame: Any, atom: Any) -> None:
        """Do without the closed form unless it gives what autograd gives: another DeePMD-kit may mean another net."""
        self._is_compared = True
        found = closed.gradients(frame, atom, 1.0)
        if found is None:
            self._closed = None
            return
        ((_, one),), ((_, other),) = found, self._group_gradients(frame, atom)
        if (one - other).abs().max() > (1e-3 if self.dtype == torch.float32 else 1e-9) * other.abs().max():
            self._closed = None

    def _group_gradients(self, frame: Any, atoms: Any) -> Iterator[tuple[Any, Any]]:
        """Derive the forces on some atoms from one cluster; as many components at once as the memory allows."""
        sizes: dict[int, int] = {}

        def note(tensor: Any) -> Any:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        shift = torch.zeros(len(atoms), 3, dtype=torch.float64, device=self._device, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            (slope,) = torch.autograd.grad(
                self.energy_of(frame, self.find_local(frame, atoms), atoms, shift), shift, create_graph=True
            )
        per_vector = sum(sizes.values()) + 4 * self.n_weights * 8
        n_atoms = max(1, min(MOST_VECTORS, int(self._memory * 1e9 / per_vector)) // 3)
        for start in range(0, len(atoms), n_atoms):
            chosen = slope[start : start + n_atoms].reshape(-1)
            unit = torch.eye(len(chosen), dtype=chosen.dtype, device=self._device)
            parts = torch.autograd.grad(
                chosen, self._free, unit, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
            gradients = -self._flatten(parts, (len(chosen),))
            yield atoms[start : start + n_atoms], gradients.reshape(-1, 3, self.n_weights)

    def energy_of(self, frame: Any, local: Any, atoms: Any = (), shift: Any = None) -> Any:
        """Return the energy of some atoms of a frame, a scalar; ``atoms`` moved by ``shift``, shape (n, 3)."""
        cluster = kpu_frame.cut_out(frame, local, np.asarray(atoms, dtype=int))
        positions = torch.as_tensor(cluster.positions, dtype=torch.float64, device=self._device)
        if shift is not None:
            moved = torch.as_tensor(np.flatnonzero(cluster.owner >= 0), device=self._device)
            owner = torch.as_tensor(cluster.owner[cluster.owner >= 0], device=self._device)
            positions = positions.index_add(0, moved, shift[owner])
        kinds, near, mapping = (
            torch.as_tensor(array, device=self._device)[None]
            for array in (cluster.kinds, cluster.neighbours, cluster.mapping)
        )
        near = self._model.format_nlist(positions[None].detach(), kinds, near)
        found = self._model.atomic_model.forward_common_atomic(
            positions[None].to(self.dtype), kinds, near, mapping=mapping
        )
        return found["energy"].sum()

    @property
    def _free(self) -> list[Any]:
        """The weights that training changes."""
        return [weight for weight in self.weights if weight.requires_grad]

    def _flatten(self, parts: Sequence[Any], shape: tuple[int, ...]) -> Any:
        """Join gradients of the free weights in the optimizer's order: matrices transposed, vectors as they are."""
        found, rows = iter(parts), []
        for weight in self.weights:
            part = next(found) if weight.requires_grad else None
            if part is None:
                part = torch.zeros(*shape, *weight.shape, dtype=weight.dtype, device=self._device)
            first = len(shape)
            rows.append(part.movedim(first, -1).reshape(*shape, -1) if weight.ndim == 2 else part.reshape(*shape, -1))
        return torch.cat(rows, dim=-1).to(self.dtype)


def _worst(values: Any) -> float:
    return float(values[torch.argmin(torch.nan_to_num(values, nan=-math.inf, posinf=-math.inf))])
