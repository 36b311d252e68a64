"""A virtual committee: models drawn from the covariance that one training with a Kalman filter left.

`deepmd_train.py` loads this file by its path, in the Python that has DeePMD-kit: like that program it imports nothing
of `al_driver`. eV/Å.

With P = L Lᵀ, block by block, and K random directions ξ_k, Σ_k |∂F/∂w · L ξ_k|² / K is in expectation u², the Kalman
prediction uncertainty of a force (ALKPU, arXiv 2411.13850). Take M = K + 1 models, the m-th moved by Σ_k B_mk L ξ_k,
with B's columns orthonormal and orthogonal to (1, …, 1): their deviation is σ² = Σ_k |∂F/∂w · L ξ_k|² / M exactly,
since the moves have no mean. Pairs ± would tell nothing more at twice the price. Only differences of models count, so
that all are shifted together until the first is the model that was trained, which drives. The steps' scale makes
LAMMPS's σ equal ε û, where û = u / √(Π 1/λ) undoes the filter's forgetting.
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
MOST_FRAMES = 3
RATTLE = 0.05  # Å
_WRAPPED = "model.Default."


def write_virtual_models(
    seen: Any,
    log_inflation: float,
    spec: Mapping[str, Any],
    data: Any,
    training: Mapping[str, Any],
    refuse: Callable[[str], Exception],
) -> dict[str, Any]:
    """Write ``virtual.000.pth`` and so on beside ``frozen_model.pth``.

    Parameters
    ----------
    seen
        The ``optimizer`` of the training, and the ``names`` of its weights, in its order.
    log_inflation
        ln Π 1/λ.
    spec
        ``seed``, and under ``kalman`` how many ``virtual_models``, and ε, ``virtual_step``; None to find one.
    data
        The module that reads training data, `deepmd_evaluate`.
    training
        The section of DeePMD-kit's input that names the systems; the step is checked on some of their frames.

    Returns
    -------
    What ``evaluation.json`` keeps: ``models``, ``step``, the relative ``change`` that half the step makes, and
    ``score_factor``, which makes û of LAMMPS's σ.
    """
    import torch

    wanted, extra = spec["kalman"], {"data_modifier.pth": ""}
    model = torch.jit.load("frozen_model.pth", _extra_files=extra)
    weights = find_weights(model, seen.names)
    covariance = seen.optimizer.state[seen.optimizer._params[0]]["P"]
    directions = draw_directions(covariance, wanted["virtual_models"], spec["seed"], refuse)
    moves = mix_directions(directions) * math.exp(-log_inflation / 2)
    frames = read_frames(training["training_data"]["systems"], model.get_type_map(), data, weights[0].device)
    step, change = find_step(
        lambda step: measure_deviation(model, weights, step * moves, frames), wanted["virtual_step"], refuse
    )
    for number, move in enumerate(moves):
        with moved(weights, step * move):
            torch.jit.save(model, f"virtual.{number:03d}.pth", extra)
    return {"models": len(moves), "step": step, "change": change, "score_factor": 1 / step}


def find_weights(model: Any, names: Sequence[str]) -> list[Any]:
    """Return the weights of a frozen model in the optimizer's order.

    Each stands twice in a model, as ``networks`` and ``_networks``, in one storage: writing into it changes both.
    """
    named = dict(model.named_parameters())
    return [named[name.removeprefix(_WRAPPED)].detach() for name in names]


def draw_directions(covariance: Sequence[Any], n_models: int, seed: int, refuse: Callable[[str], Exception]) -> Any:
    """Return L ξ_k / √K, shape (n_models, n_weights), float64."""
    import numpy as np
    import torch

    rng = np.random.default_rng(seed)
    parts = []
    for block in covariance:
        block = block.detach().cpu().double()
        size = len(block)
        draws = torch.from_numpy(rng.standard_normal((size, n_models)))
        factor, failed = torch.linalg.cholesky_ex((block + block.T) / 2)
        if failed:
            raise refuse("the covariance of the Kalman filter is not positive definite; train fewer steps")
        parts.append((factor @ draws).T)
    return torch.cat(parts, dim=1) / math.sqrt(n_models)


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
    import torch

    members = [_forces(model, frames)]
    for move in moves:
        with moved(weights, move):
            members.append(_forces(model, frames))
    return float(torch.stack(members).var(dim=0, correction=0).mean().sqrt())


def _forces(model: Any, frames: Sequence[Any]) -> Any:
    import torch

    return torch.cat([model(*frame)["force"].detach().reshape(-1) for frame in frames])


def read_frames(systems: Sequence[str], type_map: Sequence[str], data: Any, device: Any) -> list[tuple[Any, ...]]:
    """Return coordinates, types and cell of the first frame of some systems, rattled: a perfect crystal has no σ."""
    import numpy as np
    import torch

    rng = np.random.default_rng(0)
    frames = []
    for system in map(Path, systems[:: max(1, len(systems) // MOST_FRAMES)][:MOST_FRAMES]):
        coordinates = data.load(system, "coord")[0].reshape(1, -1, 3).astype(float)
        coordinates += rng.normal(scale=RATTLE, size=coordinates.shape)
        cell = None if (system / "nopbc").exists() else data.load(system, "box")[:1].astype(float)
        arrays = (coordinates, data.model_types(system, 1, type_map)[:1], cell)
        frames.append(tuple(None if array is None else torch.from_numpy(array).to(device) for array in arrays))
    return frames
