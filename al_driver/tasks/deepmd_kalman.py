"""The Kalman filter (LKF) of DeePMD-kit as we train with it: its blocks, and how it goes on where a parent ended.

`deepmd_train.py` imports this file, in the Python that has DeePMD-kit: like that program it imports nothing
of `al_driver`. RLEKF, arXiv 2212.06989.

DeePMD-kit 3.2 does not continue a filter: even ``--restart`` begins with a covariance of its own, the identity, and
with the first λ. `resume_filter` does.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

FIRST_LAMBDA, NUE = 0.98, 0.9987
"""Forgetting factor λ of the first update, and how it comes up to 1: λ ← ν λ + 1 − ν. DeePMD-kit's own."""


def watch_filter(spec: Mapping[str, Any], parent: Path | None, refuse: Callable[[str], Exception]) -> SimpleNamespace:
    """Give the filter the largest blocks that fit into the memory, and let it go on where a parent's ended.

    Parameters
    ----------
    spec
        ``memory`` of the covariance, GB, and the ``largest_block`` that is of use.
    parent
        Checkpoint of a warm start.
    refuse
        Makes the exception for a training that cannot be.

    Returns
    -------
    SimpleNamespace
        Once training has begun, the ``optimizer``, the ``names`` of its weights in its order, and the ``model``.
    """
    import torch
    from deepmd.pt.train import training

    seen = SimpleNamespace(optimizer=None, names=[], model=None)
    make, run = training.LKFOptimizer, training.Trainer.run

    def make_filter(weights: Any, kalman_lambda: float, nue: float, _: int) -> Any:
        weights = list(weights)
        n_weights = sum(weight.numel() for weight in weights)
        block = min(spec["largest_block"], int(spec["memory"] * 1e9 / (8 * n_weights)), n_weights)
        if block < 1:
            raise refuse(f"kalman_memory, {spec['memory']:g} GB, is too little for {n_weights} weights")
        seen.optimizer = make(weights, kalman_lambda, nue, block)
        if parent is not None:
            state = torch.load(parent, map_location=weights[0].device, weights_only=True)["optimizer"]
            resume_filter(seen.optimizer, state, refuse)
        return seen.optimizer

    def run_with_names(trainer: Any) -> None:
        seen.names = [name for name, _ in trainer.wrapper.named_parameters()]
        seen.model = trainer.wrapper.model["Default"]
        run(trainer)

    training.LKFOptimizer, training.Trainer.run = make_filter, run_with_names
    return seen


def resume_filter(optimizer: Any, parent: Mapping[str, Any], refuse: Callable[[str], Exception]) -> None:
    """Give a filter its parent's covariance and λ, or refuse to train.

    Parameters
    ----------
    parent
        ``optimizer`` of the parent's checkpoint.
    """
    own, theirs = optimizer.state[optimizer._params[0]], parent["state"].get(0, {})
    if "P" not in theirs:
        raise refuse("warm start refused: the parent was not trained with a Kalman filter")
    if own["params_packed_index"] != theirs["params_packed_index"]:
        before, now = (max(state["params_packed_index"]) for state in (theirs, own))
        raise refuse(f"warm start refused: the filter had blocks of up to {before} weights, and would now have {now}")
    own |= {name: theirs[name] for name in ("P", "kalman_lambda")}


def describe_filter(optimizer: Any) -> dict[str, Any]:
    """Return what is to be known of a filter: ``log_inflation`` is ln Π 1/λ over its updates, all of them."""
    state = optimizer.state[optimizer._params[0]]
    sizes = [len(block) for block in state["P"]]
    return {
        "n_weights": sum(sizes),
        "block": optimizer.param_groups[0]["block_size"],
        "memory": sum(size**2 for size in sizes) * state["P"][0].element_size() / 1e9,
        "updates": count_updates(state["kalman_lambda"]),
        "log_inflation": log_inflation(state["kalman_lambda"]),
    }


def count_updates(kalman_lambda: float) -> int:
    """Return how many updates brought λ from its first value to this one."""
    return round(math.log((1 - kalman_lambda) / (1 - FIRST_LAMBDA)) / math.log(NUE))


def log_inflation(kalman_lambda: float) -> float:
    """Return ln Π 1/λ over the updates that brought λ to this value: what no update has seen of P has grown so much."""
    numbers = range(count_updates(kalman_lambda))
    return -sum(math.log1p(-(1 - FIRST_LAMBDA) * NUE**number) for number in numbers)
