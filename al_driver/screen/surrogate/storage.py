"""A fitted surrogate on disk: ``model.json`` says what it is, safetensors hold numbers and nothing else.

model.json                 property, unit, sizes, scales of the uncertainties, how it was trained
member.000.safetensors …   weights, element features, and the vectors of the crystals it was trained on
learning.csv               the learning curve of each member
split.csv                  which crystal trained, said when to stop, or gave the uncertainties their scale
evaluation.json            errors on the latter
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from al_driver.errors import ConfigError, Problem
from al_driver.files import write_atomic, write_json
from al_driver.schema.base import Float, Params, PositiveFloat
from al_driver.screen.surrogate.cgcnn import CrystalGraphNet, Shape
from al_driver.screen.surrogate.member import Member
from al_driver.screen.uncertainty import Kind, Scale

MODEL_FILE = "model.json"
_ELEMENTS, _SEEN = "elements", "seen"


class Card(Params):
    """What ``model.json`` holds."""

    format: Literal["al surrogate 1"] = "al surrogate 1"
    property: str
    unit: str
    shape: dict[str, int | float | bool]
    normalizers: Annotated[tuple[tuple[Float, PositiveFloat], ...], Field(min_length=1)]
    """Mean and standard deviation of each member: the property is mean + std × output."""
    uncertainty: Kind = "constant"
    """What `al screen predict` tells."""
    scales: tuple[Scale, ...] = ()
    trained: dict[str, Any]
    """Settings, counts and what it started from."""


def write_members(folder: Path, members: list[Member], card: Card) -> None:
    """Write a surrogate into a folder; ``model.json`` comes last."""
    from safetensors.torch import save

    for index, member in enumerate(members):
        content = {name: value.cpu().contiguous() for name, value in member.net.state_dict().items()}
        content[_ELEMENTS] = member.net.elements.cpu()
        if member.seen is not None:
            content[_SEEN] = _as_tensor(member.seen)
        write_atomic(folder / _member_name(index), save(content))
    write_json(folder / MODEL_FILE, card.model_dump(mode="json"))


def read_members(folder: Path) -> tuple[list[Member], Card]:
    """Read a surrogate from its folder.

    Raises
    ------
    ConfigError
        If something is missing or damaged.
    """
    file = folder / MODEL_FILE
    if not file.is_file():
        raise ConfigError(
            Problem(f"holds no {MODEL_FILE}; a folder that `al screen fit` left was expected", file=folder)
        )
    try:
        card = Card.model_validate_json(file.read_text(encoding="utf-8"))
        shape = Shape(**card.shape)  # type: ignore[arg-type]
    except (ValidationError, UnicodeDecodeError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(Problem(f"is damaged, or of another version ({reason})", file=file)) from None
    members = [
        _read_member(folder / _member_name(index), shape, card, mean, std)
        for index, (mean, std) in enumerate(card.normalizers)
    ]
    return members, card


def _read_member(file: Path, shape: Shape, card: Card, mean: float, std: float) -> Member:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        content = load_file(file)
        elements, seen = content.pop(_ELEMENTS), content.pop(_SEEN, None)
        net = CrystalGraphNet(shape, elements)
        net.load_state_dict(content)
        finite = all(bool(value.isfinite().all()) for value in content.values())
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(
            Problem(f"is missing or damaged, or does not fit to {MODEL_FILE} ({reason})", file=file)
        ) from None
    if not finite:
        raise ConfigError(Problem("holds weights that are not finite numbers", file=file))
    net.eval()
    return Member(net, card.property, card.unit, mean, std, None if seen is None else seen.double().numpy())


def _member_name(index: int) -> str:
    return f"member.{index:03d}.safetensors"


def _as_tensor(array: Any) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
