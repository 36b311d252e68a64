"""A checkpoint of DeePMD-kit's PyTorch backend: the model in its weights, and the covariance that LKF left of these.

It is read as data alone, and checked before anything is computed. `kpu_model.py` imports it, by its bare name; like
that file it imports nothing of `al_driver`.
"""

import copy
from pathlib import Path
from typing import Any

import torch


class Refused(Exception):
    """The checkpoint, or a frame, does not serve: what was found, and what to do."""


def read_checkpoint(path: Path) -> Any:
    """Return the content of a checkpoint of LKF, read as data alone: nothing in it runs.

    Raises
    ------
    Refused
        If it is no checkpoint of DeePMD-kit's PyTorch backend, or holds no state of LKF.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # bytes that are no checkpoint raise whatever the instructions they look like raise
        raise Refused(f"{path} is no checkpoint, or holds more than data; give model.ckpt.pt of a training") from error
    if not isinstance(content, dict) or "_extra_state" not in content.get("model", {}):
        raise Refused(f"{path} is no checkpoint of DeePMD-kit's PyTorch backend; give model.ckpt.pt")
    state = content.get("optimizer", {}).get("state", {}).get(0, {})
    if "P" not in state or "kalman_lambda" not in state:
        raise Refused(f'{path} holds no covariance: it was not trained with the optimizer "LKF"')
    if "model_dict" in content["model"]["_extra_state"]["model_params"]:
        raise Refused(f"{path} is of a training of several models at once, which no covariance of one follows from")
    return content


def check_covariance(state: Any, n_weights: int) -> list[Any]:
    """Return the blocks of P, or raise `Refused` for what is no covariance of these weights."""
    blocks = state["P"]
    sizes = [len(block) for block in blocks]
    if any(block.ndim != 2 or block.shape[0] != block.shape[1] for block in blocks) or sum(sizes) != n_weights:
        raise Refused(f"the covariance is damaged: blocks for {sum(sizes)} weights, where the model has {n_weights}")
    for number, block in enumerate(blocks):
        if not torch.isfinite(block).all() or (block.diagonal() <= 0).any():
            raise Refused(f"the covariance is damaged: block {number} has a variance that is not positive and finite")
        if (block - block.T).abs().max() > 1e-6 * block.abs().max():
            raise Refused(f"the covariance is damaged: block {number} is not symmetric")
    return list(blocks)


def make_model(saved: Any, dtype: Any) -> tuple[Any, list[Any]]:
    """Build the model of a checkpoint, differentiable in its weights; return it with these in the optimizer's order.

    Raises
    ------
    Refused
        If its forces do not follow from positions, cell and elements alone, or a weight is not finite.
    """
    from deepmd.pt.model.model import get_model
    from deepmd.pt.train.wrapper import ModelWrapper
    from deepmd.pt.utils.env import DEVICE

    model = get_model(copy.deepcopy(saved["_extra_state"]["model_params"])).to(DEVICE)
    wrapper = ModelWrapper(model)
    wrapper.load_state_dict(saved)
    needs = _find_needs(model)
    if needs:
        raise Refused(f"the model needs {needs}, which frames do not carry; a model without serves")
    if not all(torch.isfinite(weight).all() for weight in wrapper.parameters()):
        raise Refused("the model has a weight that is not finite")
    model.to(dtype)  # also where its own precision, which each net sets for itself, is another
    for module in model.modules():
        if hasattr(module, "prec"):
            module.prec = dtype
    return model.train(), list(wrapper.parameters())


def _find_needs(model: Any) -> str:
    """Return what forces depend on beside positions, cell and elements; empty for nothing."""
    if hasattr(model, "has_spin") and model.has_spin():
        return "spins"
    if model.get_dim_fparam() and not model.has_default_fparam():
        return "frame parameters (fparam)"
    return "atomic parameters (aparam)" if model.get_dim_aparam() else ""
