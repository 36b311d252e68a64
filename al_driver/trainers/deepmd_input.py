"""The input of ``dp train``: the user's own or a preset, and what the driver sets in it.

Two stages. `set_schedule` gives what decides a training of one phase, whatever its data; it is what a step is known
by. `fill_in` adds what belongs to one member: seeds, data, names. Everything is in the layout of DeePMD-kit 2 and 3.
"""

import copy
import shutil
from os.path import relpath  # pathlib has no `walk_up` before Python 3.12
from pathlib import Path
from typing import Any

from al_driver.errors import ConfigError, Problem
from al_driver.files import write_json
from al_driver.layout import CONTINUED_FILE
from al_driver.schema.jsonc import read_jsonc
from al_driver.seeds import make_seed
from al_driver.trainers.base import Training

CHECKPOINT = "model.ckpt"
LEARNING_CURVE = "lcurve.out"
SHORT = (500, 50)
"""Steps of a training, of one by a Kalman filter, below which a net has hardly begun to learn, whatever its data."""
STEPS_KEYS = ("numb_steps", "stop_batch", "num_step", "num_steps", "numb_step")
EPOCH_KEYS = ("numb_epoch", "num_epochs", "num_epoch", "numb_epochs")
_SEEDED = ("descriptor", "fitting_net", "type_embedding")
_DEFAULT_DECAY_STEPS = 5000  # DeePMD-kit's own, for learning_rate.type "exp"

SET_BY_DRIVER = (
    "model.type_map: the run's type_map",
    "training.training_data.systems: init_data and every labelled set",
    "training.validation_data.systems: valid_data; without any, validation_data is taken out",
    "training.seed and the seed of each descriptor, fitting net and type embedding: from the run's seed, per member",
    f"training.disp_file: {LEARNING_CURVE}; training.save_ckpt: {CHECKPOINT}; training.max_ckpt_keep: 1",
    "training.disp_training: true; training.disp_freq: at most a tenth of the steps",
)


def read_input(source: Path | dict[str, Any]) -> dict[str, Any]:
    """Return a DeePMD input, from a JSON file or as it is.

    Raises
    ------
    ConfigError
        If the file is missing or no JSON object, holds a number that is not finite, or lacks ``model`` or ``training``.
    """
    content: dict[str, Any] = source if isinstance(source, dict) else read_jsonc(source)
    file, key = (source, "") if isinstance(source, Path) else (None, "input")
    missing = [name for name in ("model", "training") if not isinstance(content.get(name), dict)]
    if missing:
        raise ConfigError(Problem(f"lacks the object `{missing[0]}` of a `dp train` input", key=key, file=file))
    return copy.deepcopy(content)


def read_preset(name: str) -> dict[str, Any]:
    """Return a built-in input."""
    return read_input(Path(__file__).parent / "presets" / f"{name}.json")


def own_steps(config: dict[str, Any]) -> int | None:
    """Return the number of steps the input itself asks for; None where it counts epochs, or says nothing."""
    given = [config["training"][key] for key in STEPS_KEYS if key in config["training"]]
    return int(given[0]) if given and isinstance(given[0], (int, float)) else None


def set_schedule(config: dict[str, Any], steps: int | None, start_lr: float | None) -> dict[str, Any]:
    """Return a copy with another number of steps, or another learning rate to start from.

    ``decay_steps`` and ``warmup_steps`` shrink or grow with the number of steps, so that the schedule keeps its shape:
    a staircase made for 400,000 steps would hardly come down within 8,000.
    """
    config = copy.deepcopy(config)
    rates = config.setdefault("learning_rate", {})
    if start_lr is not None:
        rates["start_lr"] = start_lr
    if steps is None:
        return config
    before = own_steps(config)
    for key in (*STEPS_KEYS, *EPOCH_KEYS):
        config["training"].pop(key, None)
    config["training"]["numb_steps"] = steps
    if before and before != steps:
        if rates.get("type", "exp") == "exp":
            rates.setdefault("decay_steps", _DEFAULT_DECAY_STEPS)
        for key in {"decay_steps", "warmup_steps"} & set(rates):
            rates[key] = max(1, round(rates[key] * steps / before)) if rates[key] else rates[key]
    return config


def fill_in(config: dict[str, Any], training: Training, directory: Path) -> dict[str, Any]:
    """Return a copy with everything that belongs to one member's training; data are named relative to ``directory``."""
    config = copy.deepcopy(config)
    model, section = config["model"], config["training"]
    model["type_map"] = list(training.type_map)
    _set_seeds(model, training.seed, "model")
    section["seed"] = make_seed(training.seed, "training")
    _set_systems(section, "training_data", training.systems, directory)
    _set_systems(section, "validation_data", training.valid_systems, directory)
    section |= {"disp_file": LEARNING_CURVE, "save_ckpt": CHECKPOINT, "max_ckpt_keep": 1, "disp_training": True}
    steps = own_steps(config)
    if steps is not None:
        section["disp_freq"] = max(1, min(int(section.get("disp_freq", 1000)), steps // 10))
    return config


def take_checkpoints(before: Path, directory: Path) -> bool:
    """Copy the checkpoints of a training that did not end; `tasks.deepmd_restart` goes on from the last that loads."""
    files = [*before.glob(f"{CHECKPOINT}-*.pt"), *before.glob("restart-*.pt")]
    found = {path: step for path in files if (step := path.stem.rpartition("-")[2]).isdecimal()}
    if not found:
        return False
    for path, step in found.items():
        shutil.copyfile(path, directory / f"restart-{step}.pt")
    if (before / LEARNING_CURVE).exists():
        shutil.copyfile(before / LEARNING_CURVE, directory / LEARNING_CURVE)
    write_json(directory / CONTINUED_FILE, {"from": before.name, "step": max(map(int, found.values()))})
    return True


def relative_path(path: Path, directory: Path) -> str:
    """Return a path as seen from a folder, so that both can move together; links are followed first."""
    return relpath(path.resolve(), directory.resolve())


def _set_seeds(node: dict[str, Any], seed: int, path: str) -> None:
    """Seed every part that draws initial weights, whether the input names a seed or not."""
    for name, part in node.items():
        where = f"{path}.{name}"
        if name in _SEEDED and isinstance(part, dict):
            members = part.get("list")  # of a hybrid descriptor, which takes no seed of its own
            for index, member in enumerate(members if isinstance(members, list) else []):
                if isinstance(member, dict):
                    member["seed"] = make_seed(seed, where, index)
            if not isinstance(members, list):
                part["seed"] = make_seed(seed, where)
        elif name == "models" and isinstance(part, list):
            for index, member in enumerate(member for member in part if isinstance(member, dict)):
                _set_seeds(member, seed, f"{where}.{index}")


def _set_systems(section: dict[str, Any], name: str, systems: tuple[Path, ...], directory: Path) -> None:
    if not systems:
        section.pop(name, None)
        return
    section[name] = {"batch_size": "auto"} | (section.get(name) or {})
    section[name]["systems"] = [relative_path(system, directory) for system in systems]
