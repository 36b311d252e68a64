"""What is wrong with the user's DeePMD input, before anything is submitted.

DeePMD-kit's own schema finds keys that do not exist and values of the wrong kind, where it is installed beside the
driver (it needs no torch for that); the task checks once more wherever it runs.
"""

import copy
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from al_driver.trainers.deepmd_input import EPOCH_KEYS, STEPS_KEYS

Finding = tuple[str, str]
"""Key path inside the input, and what is wrong there."""

_PER_TYPE_SEL = {"se_e2_a", "se_a", "se_e2_r", "se_r", "se_e3", "se_at", "se_a_3be"}
_LOCATION = re.compile(r"\[at (?:location `(?P<path>[^`]*)`|root location)\] (?P<message>.*)", re.DOTALL)
_UNDEFINED = re.compile(r"undefined key `([^`]*)`")


def find_contradictions(config: dict[str, Any], type_map: Sequence[str], needs_steps: bool) -> Iterator[Finding]:
    """Yield what the input says and the driver must say.

    Parameters
    ----------
    needs_steps
        Whether a phase takes its number of steps from the input.
    """
    model, training = config["model"], config["training"]
    strange = list(_check_sections(config))
    if strange:
        yield from strange
        return
    if "model_dict" in model:
        yield "model.model_dict", "trains several tasks at once; one model with one `descriptor` was expected"
        return
    if model.get("type_map", list(type_map)) != list(type_map):
        yield (
            "model.type_map",
            f"is {model['type_map']}, but the run's type_map is {list(type_map)}; leave it out here",
        )
    yield from _check_sel(model, type_map)
    if "systems" in training:
        yield "training.systems", "is the layout of DeePMD-kit 1; use `training_data`, without `systems`"
    for section, list_key in (("training_data", "init_data"), ("validation_data", "valid_data")):
        data = training.get(section) or {}
        if data.get("systems"):
            yield f"training.{section}.systems", f"names data; list them under `{list_key}` of the param file instead"
        for key in ("batch_size", "sys_probs"):
            if isinstance(data.get(key), list):
                yield f"training.{section}.{key}", "is a list with one value a system, but the systems grow in number"
    if training.get("stat_file"):
        yield "training.stat_file", "would carry statistics of old data to new trainings; leave it out"
    for key in {"use_srtab", "tab_file"} & set(model):
        yield f"model.{key}", "names a file; only inputs that stand alone can be trained"
    if needs_steps and not any(key in training for key in (*STEPS_KEYS, *EPOCH_KEYS)):
        yield "training.numb_steps", "is missing, and `steps` does not give every phase its own"


def _check_sections(config: dict[str, Any]) -> Iterator[Finding]:
    """Yield the sections that the driver reads or sets, and that are no objects; a section of data may be null."""
    for name in ("learning_rate", "loss", "optimizer"):
        if not isinstance(config.get(name, {}), dict):
            yield name, f"needs an object; found {json.dumps(config[name])[:40]}"
    for name in ("training_data", "validation_data"):
        if not isinstance(config["training"].get(name) or {}, dict):
            yield f"training.{name}", f"needs an object; found {json.dumps(config['training'][name])[:40]}"


def find_schema_errors(config: dict[str, Any], type_map: Sequence[str]) -> Iterator[Finding]:
    """Yield what DeePMD-kit's own schema refuses; nothing where it is not installed beside the driver."""
    try:
        from deepmd.utils.argcheck import normalize
    except ImportError:
        return
    config = copy.deepcopy(config)
    config["model"]["type_map"] = list(type_map)
    config["training"]["training_data"] = {**(config["training"].get("training_data") or {}), "systems": ["."]}
    if config["training"].get("validation_data"):
        config["training"]["validation_data"]["systems"] = ["."]
    if not any(key in config["training"] for key in (*STEPS_KEYS, *EPOCH_KEYS)):
        config["training"]["numb_steps"] = 1
    while True:
        try:
            normalize(config)
            return
        except Exception as error:
            finding, undefined = _read_error(str(error))
            yield finding
            if undefined is None or not _remove(config, finding[0].split(".")):
                return


def _check_sel(model: dict[str, Any], type_map: Sequence[str]) -> Iterator[Finding]:
    descriptor = model.get("descriptor")
    if not isinstance(descriptor, dict) or descriptor.get("type", "se_e2_a") not in _PER_TYPE_SEL:
        return
    sel = descriptor.get("sel")
    if isinstance(sel, list) and len(sel) != len(type_map):
        yield "model.descriptor.sel", f"has {len(sel)} numbers, but type_map {list(type_map)} has {len(type_map)}"


def _read_error(text: str) -> tuple[Finding, str | None]:
    """Return key path and message of one refusal, and the key where it is one that does not exist."""
    match = _LOCATION.match(text)
    if match is None:
        return ("", text.strip()), None
    path = (match["path"] or "").replace("/", ".")
    undefined = _UNDEFINED.search(match["message"])
    if undefined is None:
        return (path, " ".join(match["message"].split())), None
    hint = match["message"].partition("Did you mean:")[2].strip(" ?\n")
    message = f"`{undefined[1]}` is no key of DeePMD-kit" + (f"; did you mean {hint!r}?" if hint else "")
    return (f"{path}.{undefined[1]}".lstrip("."), message), undefined[1]


def _remove(config: Any, path: Sequence[str]) -> bool:
    """Take a key out, so that the next finding can be looked for; say whether it was there."""
    for name in path[:-1]:
        if isinstance(config, list) and name.isdecimal() and int(name) < len(config):
            config = config[int(name)]
        elif isinstance(config, dict) and name in config:
            config = config[name]
        else:
            return False
    return isinstance(config, dict) and config.pop(path[-1], None) is not None
