"""``--set KEY=VALUE`` of `al retry`: a key of the engine, a tag of the user's own input, or a key of resource.json.

What it changes must not be what decides the labels: those that are there would not belong with them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from al_driver.engines.base import Engine
from al_driver.errors import ConfigError, Problem
from al_driver.schema.explain import explain
from al_driver.schema.resource import Profile
from al_driver.schema.suggest import nearest

OPTION = "--set"
Changes = dict[str, str]


def read_changes(settings: Sequence[str]) -> Changes:
    """Split ``KEY=VALUE``.

    Raises
    ------
    ConfigError
        If one has no ``=``, or a key is given twice.
    """
    found: Changes = {}
    for text in settings:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (key and equals and value):
            raise ConfigError(f"{OPTION} {text}: expected KEY=VALUE, e.g. {OPTION} mixing_beta=0.2")
        if key in found:
            raise ConfigError(f"{OPTION} {key}: given twice; keep one.")
        found[key] = value
    return found


def change_engine(engine: Engine, profile: Profile, changes: Changes, directory: Path) -> tuple[Engine, Profile]:
    """Return engine and profile with the changes; a copy of the user's input is written where tags of it change.

    Raises
    ------
    ConfigError
        If a key is neither of the engine nor of its input nor of resource.json, with the nearest; or a value is wrong.
    """
    fields, own = _names(engine), set(Profile.model_fields)
    of_engine = {key: value for key, value in changes.items() if key.split(".")[0] in fields}
    of_profile = {key: value for key, value in changes.items() if key in own and key not in of_engine}
    of_input = {key: value for key, value in changes.items() if key not in of_engine and key not in of_profile}
    if of_engine:
        engine = _change(engine, of_engine, fields)
    if of_profile:
        profile = _change(profile, of_profile, {name: name for name in own})
    if of_input:
        try:
            engine = engine.with_tags(of_input, directory)
        except ConfigError as error:
            raise ConfigError([_suggest(each, engine, [*fields, *own]) for each in error.problems]) from None
    return engine, profile


def check_accuracy(engine: Engine, changed: Engine) -> None:
    """Refuse a threshold that is larger than that of the labels that are there.

    Raises
    ------
    ConfigError
        Naming it.
    """
    old, new = engine.accuracy(), changed.accuracy()
    for name in sorted(old.keys() & new.keys()):
        if new[name] > old[name]:
            raise ConfigError(
                f"{OPTION}: {name} would be {new[name]:g}, and the labels there were made with {old[name]:g}.\n"
                "  Keep the threshold; change how it is reached (mixing, number of steps)."
            )


def _names(engine: Engine) -> dict[str, str]:
    """Return the engine's keys as a user writes them, each with the name of its field."""
    fields = type(engine).model_fields
    return {field.alias or name: name for name, field in fields.items() if name != "engine"}


def _change(params: Any, changes: Changes, names: dict[str, str]) -> Any:
    data = params.model_dump(mode="json", by_alias=True)
    for key, value in changes.items():
        *path, last = key.split(".")
        target = data
        for name in path:
            if not isinstance(target.get(name), dict):
                raise ConfigError(Problem(f"there is no such key{nearest(name, names)}", f"{OPTION} {key}"))
            target = target[name]
        target[last] = _as_json(value)
    try:
        return type(params).model_validate(data, context={"base": Path.cwd()})
    except ValidationError as error:
        problems = explain(error, data, type(params))
        raise ConfigError([Problem(each.message, f"{OPTION} {each.key}") for each in problems]) from None


def _suggest(problem: Problem, engine: Engine, others: list[str]) -> Problem:
    """Name the nearest of all keys there are where the engine's own words named none."""
    if "did you mean" in problem.message:
        return Problem(problem.message, f"{OPTION} {problem.key}")
    hint = nearest(problem.key, [*engine.tags(), *others], otherwise="there are")
    return Problem(problem.message.partition(";")[0] + hint, f"{OPTION} {problem.key}")


def _as_json(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
