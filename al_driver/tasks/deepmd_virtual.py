"""A virtual committee: models drawn from the covariance that one training with a Kalman filter left.

`deepmd_train.py` imports this file, in the Python that has DeePMD-kit: like that program it imports nothing
of `al_driver`. eV/Å.

With P = L Lᵀ, block by block, u² = |∂F/∂w · L|² is the Kalman prediction uncertainty of a force (ALKPU, arXiv
2411.13850). Most of it lies in a few directions of the whitened weights, much the same for all frames: the leading
right singular vectors v_k of gradients ∂(c·F)/∂w · L, for random combinations c of the forces of rattled, strained
training frames. They are scaled to one length: else the few frames with the largest would choose. Three directions rank
frames as all weights do (`benchmarks/virtual_committee.py`), where three random ones did not.

Take M = K + 1 models, the m-th moved by Σ_k B_mk L v_k, with B's columns orthonormal and orthogonal to (1, …, 1): their
deviation is σ² = Σ_k |∂F/∂w · L v_k|² / M exactly, since the moves have no mean. Pairs ± would tell nothing more at
twice the price. Only differences of models count, so that all are shifted together until the first is the model that
was trained, which drives. The steps' scale makes LAMMPS's σ equal ε û, where û = u / √(Π 1/λ) undoes the filter's
forgetting.

û alone does not compare two models: on silicon, errors per û moved by a factor of two from one iteration to the next,
and bounds set on one model failed for the next. So a score is û in the unit of the model's own training: multiplied by
the median force error of training frames (an atom's largest, of each frame), divided by their median û. eV/Å.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FIRST_STEP = 1e-3
LARGEST_CHANGE = 0.02
"""How much, relatively, half the step may change the deviation: beyond, the models do not answer linearly."""
MOST_HALVINGS = 30
MOST_FRAMES, COMBINATIONS, CHECKED_FRAMES = 12, 8, 3
"""Frames whose gradients show the directions, combinations of forces of each, and frames the step is checked on."""
MOST_MEASURED = 24
"""Training frames whose errors and deviations give the scores their unit."""
RATTLE, STRAIN = 0.1, 0.02  # Å, per component; no unit
_WRAPPED = "model.Default."


def write_virtual_models(
    seen: Any,
    log_inflation: float,
    spec: Mapping[str, Any],
    training: Mapping[str, Any],
    refuse: Callable[[str], Exception],
) -> dict[str, Any]:
    """Write ``virtual.000.pth`` and so on beside ``frozen_model.pth``.

    Parameters
    ----------
    seen
        The ``model`` and the ``optimizer`` of the training, and the ``names`` of its weights, in its order.
    log_inflation
        ln Π 1/λ.
    spec
        ``seed``, and under ``kalman`` how many ``virtual_models``, and ε, ``virtual_step``; None to find one.
    training
        The section of DeePMD-kit's input that names the systems; the step is checked on some of their frames.

    Returns
    -------
    What ``evaluation.json`` keeps: ``models``, the share of û² on rattled frames that they ``captured``, ``step``, the
    relative ``change`` that half the step makes, and ``score_factor``, which makes scores of LAMMPS's σ.
    """
    import numpy as np
    import torch

    wanted, extra = spec["kalman"], {"data_modifier.pth": ""}
    model = torch.jit.load("frozen_model.pth", _extra_files=extra)
    weights = find_weights(model, seen.names)
    factors = factorise(seen.optimizer.state[seen.optimizer._params[0]]["P"], refuse)
    rng = np.random.default_rng(spec["seed"])
    systems, type_map = training["training_data"]["systems"], model.get_type_map()
    frames = read_frames(systems, type_map, weights[0].device, rng)
    n_combinations = max(COMBINATIONS, 2 * wanted["virtual_models"] // len(frames) + 1)
    gradients = sample_gradients(seen.model, seen.optimizer._params, frames, n_combinations, rng)
    directions, captured = find_directions(factors, gradients, wanted["virtual_models"])
    moves = mix_directions(directions) * math.exp(-log_inflation / 2)
    frames = frames[:: len(frames) // CHECKED_FRAMES + 1]
    step, change = find_step(
        lambda step: measure_deviation(model, weights, step * moves, frames), wanted["virtual_step"], refuse
    )
    for number, move in enumerate(moves):
        with moved(weights, step * move):
            torch.jit.save(model, f"virtual.{number:03d}.pth", extra)
    found = {"models": len(moves), "captured": captured, "step": step, "change": change}
    known, labels = read_labelled(systems, type_map, weights[0].device)
    unit = measure_unit(model, weights, step * moves, known, labels)
    return found | {"score_factor": 1 / step if unit is None else unit}


def find_weights(model: Any, names: Sequence[str]) -> list[Any]:
    """Return the weights of a frozen model in the optimizer's order.

    Each stands twice in a model, as ``networks`` and ``_networks``, in one storage: writing into it changes both.
    """
    named = dict(model.named_parameters())
    return [named[name.removeprefix(_WRAPPED)].detach() for name in names]


def factorise(covariance: Sequence[Any], refuse: Callable[[str], Exception]) -> list[Any]:
    """Return L of each block P = L Lᵀ, float64."""
    import torch

    factors = []
    for block in covariance:
        block = block.detach().cpu().double()
        factor, failed = torch.linalg.cholesky_ex((block + block.T) / 2)
        if failed:
            raise refuse("the covariance of the Kalman filter is not positive definite; train fewer steps")
        factors.append(factor)
    return factors


def sample_gradients(model: Any, weights: Sequence[Any], frames: Sequence[Any], n_combinations: int, rng: Any) -> Any:
    """Return gradients ∂(c·F)/∂w for random combinations c of each frame's forces, shape (n, n_weights)."""
    import torch

    rows = []
    model.train()
    for coordinates, types, cell in frames:
        found = model(coordinates.detach().clone().requires_grad_(), types, box=cell)
        forces = found["force"].reshape(-1) + 0 * found["energy"].sum()
        for _ in range(n_combinations):
            combination = torch.from_numpy(rng.standard_normal(len(forces))).to(forces)
            parts = torch.autograd.grad(forces @ combination, weights, retain_graph=True, allow_unused=True)
            rows.append(torch.cat([_flat(part, weight) for part, weight in zip(parts, weights)]))  # noqa: B905
    return torch.stack(rows).cpu().double()


def _flat(gradient: Any, weight: Any) -> Any:
    """Return a gradient in the optimizer's order: matrices transposed."""
    import torch

    gradient = torch.zeros_like(weight) if gradient is None else gradient.detach()
    return (gradient.T if gradient.ndim > 1 else gradient).reshape(-1)


def find_directions(factors: Sequence[Any], gradients: Any, n_models: int) -> tuple[Any, float]:
    """Return L v_k for the leading directions, shape (n_models, n_weights), and their share of Σ |∂(c·F)/∂w · L|²."""
    import torch

    sizes = [len(factor) for factor in factors]
    pieces = zip(torch.split(gradients, sizes, dim=1), factors)  # noqa: B905
    whitened = torch.cat([piece @ factor for piece, factor in pieces], dim=1)
    alike = torch.nn.functional.normalize(whitened, dim=1, eps=1e-300)
    vectors = torch.linalg.svd(alike, full_matrices=False).Vh
    leading = vectors[:n_models] * torch.sign(vectors[:n_models].sum(dim=1, keepdim=True))
    pieces = zip(torch.split(leading, sizes, dim=1), factors)  # noqa: B905
    captured = float((whitened @ leading.T).square().sum() / whitened.square().sum())
    return torch.cat([piece @ factor.T for piece, factor in pieces], dim=1), captured


def mix_directions(directions: Any) -> Any:
    """Return how the members after the first are moved against it, shape as ``directions``, for σ² = Σ_k |…|²."""
    import torch

    n_models = len(directions)
    steps = torch.eye(n_models + 1, n_models, dtype=directions.dtype)
    basis = torch.linalg.qr(torch.cat([torch.ones(n_models + 1, 1, dtype=steps.dtype), steps], dim=1)).Q[:, 1:]
    return math.sqrt(n_models + 1) * (basis[1:] - basis[0]) @ directions


@contextmanager
def moved(weights: Sequence[Any], move: Any) -> Iterator[None]:
    """Add to a model's weights while the block lasts; ``move`` holds matrices transposed, shape (n_weights,)."""
    before = [weight.clone() for weight in weights]
    start = 0
    for weight in weights:
        part = move[start : start + weight.numel()].to(weight)
        weight.add_(part.reshape(weight.T.shape).T if weight.ndim > 1 else part.reshape(weight.shape))
        start += weight.numel()
    try:
        yield
    finally:
        for weight, old in zip(weights, before):  # noqa: B905  (may run in a Python without `strict`)
            weight.copy_(old)


def find_step(
    deviation: Callable[[float], float], step: float | None, refuse: Callable[[str], Exception]
) -> tuple[float, float]:
    """Return ε, and how much, relatively, half of it changes a deviation, which should halve too.

    A step that is not given is halved until the models answer linearly; one that is given must be small enough.
    """
    given, step = step, FIRST_STEP if step is None else step
    whole = deviation(step)
    for _ in range(MOST_HALVINGS):
        half = deviation(step / 2)
        change = abs(2 * half / whole - 1)
        if change < LARGEST_CHANGE:
            return step, change
        if given is not None:
            raise refuse(
                f"train.virtual_step, {step:g}, does not suit: half of it changes û by {change:.1%}; leave it out"
            )
        step, whole = step / 2, half
    raise refuse("no step was found at which the virtual models answer linearly")


def measure_deviation(model: Any, weights: Sequence[Any], moves: Any, frames: Sequence[Any]) -> float:
    """Return the root mean square of σ over all atoms of some frames."""
    return float(_forces_of_all(model, weights, moves, frames).var(dim=0, correction=0).mean().sqrt())


def measure_unit(
    model: Any, weights: Sequence[Any], moves: Any, frames: Sequence[Any], labels: Sequence[Any]
) -> float | None:
    """Return the median of frames' force errors over that of their deviations, each an atom's largest.

    None where either is no number above rounding: symmetry may leave a perfect crystal no force at all.
    """
    import torch

    members = _forces_of_all(model, weights, moves, frames)
    error = torch.linalg.norm(members[0] - torch.cat(list(labels)), dim=1)
    deviation = members.var(dim=0, correction=0).sum(dim=1).sqrt()
    sizes = [len(label) for label in labels]
    largest = [torch.stack([part.max() for part in torch.split(values, sizes)]) for values in (error, deviation)]
    over, under = (float(values.median()) for values in largest)
    return over / under if over > 1e-10 and under > 1e-10 else None


def _forces_of_all(model: Any, weights: Sequence[Any], moves: Any, frames: Sequence[Any]) -> Any:
    """Return the forces of the model as it is, and of those with moved weights, shape (n, atoms of all frames, 3)."""
    import torch

    def forces() -> Any:
        return torch.cat([model(*frame)["force"].detach().reshape(-1, 3) for frame in frames])

    members = [forces()]
    for move in moves:
        with moved(weights, move):
            members.append(forces())
    return torch.stack(members)


def read_frames(systems: Sequence[str], type_map: Sequence[str], device: Any, rng: Any) -> list[tuple[Any, ...]]:
    """Return coordinates, types and cell of some training frames, rattled and strained: beyond what was learnt."""
    import deepmd_evaluate as data
    import numpy as np

    frames = []
    for system, index in spread_over(systems, MOST_FRAMES):
        coordinates = data.load(system, "coord")[index].reshape(1, -1, 3).astype(float)
        cell = None if (system / "nopbc").exists() else data.load(system, "box")[index].reshape(3, 3).astype(float)
        strain = STRAIN * rng.standard_normal((3, 3))
        deformation = np.eye(3) + (strain + strain.T) / 2
        coordinates = coordinates @ deformation + RATTLE * rng.standard_normal(coordinates.shape)
        types = data.model_types(system, index + 1, type_map)[index : index + 1]
        frames.append(_tensors(coordinates, types, None if cell is None else cell @ deformation, device))
    return frames


def read_labelled(
    systems: Sequence[str], type_map: Sequence[str], device: Any
) -> tuple[list[tuple[Any, ...]], list[Any]]:
    """Return coordinates, types and cell of some training frames as they are, and the forces of each."""
    import deepmd_evaluate as data
    import torch

    frames, labels = [], []
    for system, index in spread_over(systems, MOST_MEASURED):
        coordinates = data.load(system, "coord")[index].reshape(1, -1, 3).astype(float)
        cell = None if (system / "nopbc").exists() else data.load(system, "box")[index].astype(float)
        frames.append(_tensors(coordinates, data.model_types(system, index + 1, type_map)[index:], cell, device))
        labels.append(torch.from_numpy(data.load(system, "force")[index].reshape(-1, 3).astype(float)).to(device))
    return frames, labels


def spread_over(systems: Sequence[str], n_frames: int) -> Iterator[tuple[Path, int]]:
    """Yield system and index of so many frames, evenly spread over all."""
    import deepmd_evaluate as data
    import numpy as np

    counts = [len(data.load(Path(system), "energy")) for system in systems]
    everything = [(Path(system), index) for system, n in zip(systems, counts) for index in range(n)]  # noqa: B905
    for number in np.unique(np.linspace(0, len(everything) - 1, n_frames).astype(int)):
        yield everything[number]


def _tensors(coordinates: Any, types: Any, cell: Any, device: Any) -> tuple[Any, ...]:
    import torch

    arrays = (coordinates, types, None if cell is None else cell.reshape(1, 9))
    return tuple(None if array is None else torch.from_numpy(array).to(device) for array in arrays)
