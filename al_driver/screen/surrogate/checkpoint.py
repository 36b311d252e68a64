"""The authors' checkpoints (``*.pth.tar``), read as numbers: nothing in a file is run, whatever it asks for."""

import json
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from al_driver.errors import ConfigError, Problem
from al_driver.screen.properties import ELEMENT_FILE, UNITS, find_elements
from al_driver.screen.surrogate.cgcnn import CrystalGraphNet, Shape
from al_driver.screen.surrogate.member import Member

_SCALAR = np.float64(0).__reduce__()[0]
NUMPY_SCALARS: list[Any] = [
    *((_SCALAR, f"numpy.{module}.multiarray.scalar") for module in ("core", "_core")),
    *(np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32))),
]
"""The epoch's best error is one in some of the files. They hold a number, and call nothing."""


def read_published(path: Path) -> Member:
    """Read a checkpoint of the authors' code; its property is the file's name.

    The features of the elements are those of ``atom_init.json`` beside it, or of the package of the published models.

    Raises
    ------
    ConfigError
        If it is missing, damaged, holds more than numbers, or is no CGCNN.
    """
    content = load_numbers(path)
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), Mapping):
        raise _refused(path, "holds no state_dict; a checkpoint of CGCNN was expected")
    arguments = content.get("args")
    classification = isinstance(arguments, dict) and arguments.get("task") == "classification"
    state = {name: value for name, value in content["state_dict"].items() if isinstance(value, torch.Tensor)}
    beside = path.parent / ELEMENT_FILE
    elements = read_elements(beside if beside.is_file() else find_elements())
    net = _make_net(path, state, elements, classification=classification)
    mean, std = _read_normalizer(path, content.get("normalizer"), classification=classification)
    name = path.name.removesuffix(".tar").removesuffix(".pth").removesuffix(".pt")
    return Member(net, name, UNITS.get(name, ""), mean, std)


def load_numbers(path: Path) -> Any:
    """Load a file of torch that may hold tensors, numbers and texts.

    Raises
    ------
    ConfigError
        If it is missing, damaged, or would have to run something.
    """
    try:
        with torch.serialization.safe_globals(NUMPY_SCALARS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise _refused(path, "does not exist") from None
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error)) or re.search(r"[Ff]unction ([\w.]+)", str(error))
        if asked:
            raise _refused(path, f"asks to run {asked[1]}, which no weights need; nothing of it was run") from None
        raise _refused(path, "is damaged, or no file of torch") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise _refused(path, f"is damaged, or no file of torch ({type(error).__name__}: {reason})") from None


def read_elements(path: Path) -> torch.Tensor:
    """Read ``atom_init.json``: features by atomic number, shape (n_elements + 1, n_features); row 0 is zero.

    Raises
    ------
    ConfigError
        If it is no such file.
    """
    try:
        content = {int(number): row for number, row in json.loads(path.read_text(encoding="utf-8")).items()}
        rows = torch.zeros(max(content) + 1, len(content[1]))
        for number, row in content.items():
            rows[number] = torch.tensor(row, dtype=torch.float32)
        assert bool(torch.isfinite(rows).all())  # noqa: S101  (told below, with the rest)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, IndexError, AssertionError):
        raise _refused(path, 'is no table of element features: {"1": [0, 1, …], …} was expected') from None
    return rows


def _make_net(
    path: Path, state: Mapping[str, torch.Tensor], elements: torch.Tensor, *, classification: bool
) -> CrystalGraphNet:
    """Build the network that the weights are of, and set them."""
    try:
        shape = Shape(
            atom_features=state["embedding.weight"].shape[0],
            head_features=state["conv_to_fc.weight"].shape[0],
            n_convolutions=len({name.split(".")[1] for name in state if name.startswith("convs.")}),
            n_hidden=1 + len({name.split(".")[1] for name in state if name.startswith("fcs.")}),
            classification=classification,
            dropout=0.5 if classification else 0.0,
        )
        net = CrystalGraphNet(shape, elements)
        net.load_state_dict(dict(state))
    except (KeyError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise _refused(path, f"holds other weights than a CGCNN has ({reason})") from None
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise _refused(path, "holds weights that are not finite numbers")
    net.eval()
    return net


def _read_normalizer(path: Path, content: Any, *, classification: bool) -> tuple[float, float]:
    """Return mean and standard deviation of the training's targets; 0 and 1 of a classifier."""
    if classification:
        return 0.0, 1.0
    try:
        mean, std = float(content["mean"]), float(content["std"])
    except (TypeError, KeyError, ValueError, RuntimeError):
        raise _refused(path, "holds no normalizer with mean and std") from None
    if not (np.isfinite(mean) and np.isfinite(std) and std > 0):
        raise _refused(path, f"has a normalizer with the mean {mean:g} and the deviation {std:g}")
    return mean, std


def _refused(path: Path, message: str) -> ConfigError:
    return ConfigError(Problem(message, file=path))
