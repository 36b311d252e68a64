"""Training with the layer-wise extended Kalman filter, which keeps a covariance of the weights.

DeePMD-kit calls the optimizer LKF (RLEKF, arXiv 2212.06989). The covariance is block-diagonal: n_weights × block × 8
bytes. It learns from energies and forces alone; whatever else an input weighs it would ignore, and is refused here.
"""

import copy
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from al_driver.files import read_json
from al_driver.trainers.deepmd_check import Finding

LARGEST_BLOCK = 1024
"""Larger blocks cost more a step, and rank frames no better (silicon, 3,361 weights: 512 to 5120)."""
SMALLEST_BLOCK = 64
PRESET_STEPS = {"small": 200, "standard": 5000}
"""Training steps of a preset: a step of the filter, five updates, does what some ten of Adam do not."""
FILTER_GOES_ON = 5
"""A warm start takes a fifth of the first training's steps: more were no better (benchmarks/kalman_warm_start.py)."""
PRESET_FORCE_FACTOR = 64
"""LKF divides force errors by the number of atoms; without a factor that makes up for it, large cells hardly learn."""

_IGNORED = ("v", "ae", "pf", "gf", "h")
_BUFFERS = {"davg", "dstd", "out_bias", "out_std", "bias_atom_e"}


def set_filter(config: dict[str, Any], preset: str | None) -> dict[str, Any]:
    """Return a copy of an input that trains with LKF; a preset, which was made for Adam, with steps that suit."""
    config = copy.deepcopy(config)
    config["optimizer"] = {**(config.get("optimizer") or {}), "type": "LKF"}
    if preset is not None:
        config["training"]["numb_steps"] = PRESET_STEPS[preset]
        config["optimizer"] |= dict.fromkeys(("kf_start_pref_f", "kf_limit_pref_f"), PRESET_FORCE_FACTOR)
        config["loss"] |= {f"{end}_pref_v": 0 for end in ("start", "limit")}
    return config


def force_factor(path: Path) -> float:
    """Return what LKF multiplied force errors with at the end of a training, from its ``input.json``."""
    return float(read_json(path)["optimizer"].get("kf_limit_pref_f", 1.0))


def find_filter_contradictions(config: dict[str, Any]) -> Iterator[Finding]:
    """Yield what of an input LKF contradicts, refuses or would ignore; sections are objects."""
    optimizer, loss = config.get("optimizer", {}), config.get("loss", {})
    if optimizer.get("type", "LKF") != "LKF":
        yield "optimizer.type", f'is {optimizer["type"]!r}, but query.uncertainty "kpu" needs "LKF"; leave it out'
    if "kf_blocksize" in optimizer:
        yield "optimizer.kf_blocksize", "leave it out; the block follows from train.kalman_memory"
    if loss.get("type", "ener") != "ener":
        yield "loss.type", f"is {loss['type']!r}; LKF trains the loss 'ener' alone"
    for name in _IGNORED:
        if loss.get(f"start_pref_{name}") and loss.get(f"limit_pref_{name}"):
            what = "LKF learns from energies and forces alone, and would ignore it; set it to 0"
            yield f"loss.start_pref_{name}", f"is {loss[f'start_pref_{name}']}, but {what}"
    for name, plain in {"use_huber": False, "loss_func": "mse", "relative_f": None}.items():
        if loss.get(name, plain) != plain:
            yield f"loss.{name}", f"is {json.dumps(loss[name])}, which LKF would ignore; leave it out"
    if config["training"].get("zero_stage"):
        yield "training.zero_stage", "is not possible with LKF; leave it out"


def block_size(n_weights: int, memory: float) -> int:
    """Return the largest block whose covariance fits.

    Parameters
    ----------
    memory
        GB.
    """
    return min(LARGEST_BLOCK, int(memory * 1e9 / (8 * n_weights)), n_weights)


def describe_covariance(n_weights: int | None, memory: float) -> Iterator[str]:
    """Yield, in words, what is set in the input for a covariance."""
    yield "optimizer: LKF; the factors of loss and learning_rate decide nothing then"
    if n_weights is None:
        yield f"optimizer.kf_blocksize: what fits into {memory:g} GB, at most {LARGEST_BLOCK}"
        return
    block = block_size(n_weights, memory)
    used = n_weights * block * 8 / 1e9
    yield f"optimizer.kf_blocksize: {block}; a covariance of {n_weights} weights in at most {used:.2g} GB"


def count_weights(config: dict[str, Any], type_map: Sequence[str]) -> int | None:
    """Return how many weights a model has; None where DeePMD-kit is not beside the driver, or cannot tell.

    DeePMD-kit's own numpy backend builds it: the driver loads no torch.
    """
    try:
        from deepmd.dpmodel.model.model import get_model
        from deepmd.utils.argcheck import normalize
    except ImportError:
        return None
    config = copy.deepcopy(config)
    config["model"]["type_map"] = list(type_map)
    config["training"] = {"training_data": {"systems": ["."]}, "numb_steps": 1}
    _set_sel(config["model"], len(type_map))
    try:
        return sum(_sizes(get_model(normalize(config)["model"]).serialize()))
    except Exception:  # whatever a foreign library makes of a model it does not know; the training counts anew
        return None


def _set_sel(node: Any, n_types: int) -> None:
    """Give `sel` where it is found from data: no weight depends on it."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if key == "sel" and str(value).startswith("auto"):
            node[key] = [1] * n_types
        elif isinstance(value, dict | list):
            _set_sel(value, n_types)


def _sizes(node: Any) -> Iterator[int]:
    """Yield the sizes of the arrays that are trained, of a serialized model."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, dict | list):
            yield from _sizes(value)
        elif isinstance(value, np.ndarray) and key not in _BUFFERS:
            yield value.size
