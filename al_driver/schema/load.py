"""From a JSON file to parameters. Every problem of the file is reported at once."""

import copy
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from al_driver.errors import ConfigError, Problem
from al_driver.schema.base import FAILED, WAIVED, Params
from al_driver.schema.explain import explain
from al_driver.schema.jsonc import read_jsonc
from al_driver.schema.resource import Resources
from al_driver.schema.suggest import nearest

Kind = TypeVar("Kind", bound=Params)
ParamKind = Literal["run", "init_bulk", "screen"]
_TOP_KEY: dict[ParamKind, str] = {"run": "explore", "init_bulk": "structures", "screen": "candidates"}
_PARAM_KEYS = {"seed", "work_dir", "type_map", "init_data", "structures", "candidates"}
"""Keys of param files alone: `train`, `explore` and `label` stand in resource files too."""


def load_params(path: Path, kind: type[Kind]) -> Kind:
    """Read and check a file; paths in it start at its folder.

    Raises
    ------
    ConfigError
        With one problem for each thing that is wrong: key path, what was found, what is needed.
    """
    content = read_jsonc(path)
    try:
        return _validate(content, kind, path)
    except ValidationError:
        raise ConfigError(_find_problems(content, kind, path)) from None


def load_sound(path: Path, kind: type[Kind]) -> tuple[Kind | None, list[Problem]]:
    """Read a file as far as it is right: what is wrong is told, and left out where that is possible.

    So a misspelt key does not hide that a file is missing.

    Returns
    -------
    The parameters without the keys that are wrong, or None where these are needed; and every problem of the file.

    Raises
    ------
    ConfigError
        If it is no JSON.
    """
    content = read_jsonc(path)
    problems: list[Problem] = []
    sound = copy.deepcopy(content)
    while True:
        try:
            return _validate(sound, kind, path), problems
        except ValidationError as error:
            problems = problems or _find_problems(content, kind, path)
            wrong = [_find_owner(sound, found["loc"]) for found in error.errors() if found["type"] != "missing"]
            if len(wrong) < error.error_count() or not all(wrong):
                return None, problems
            for owner, key in filter(None, wrong):
                owner.pop(key, None)


def _find_problems(content: Any, kind: type[Kind], path: Path) -> list[Problem]:
    """Tell every problem: what does not fit together in one part does not hide what does not fit around it."""
    problems: list[Problem] = []
    waived: set[Any] = set()
    while True:
        failed: set[Any] = set()
        try:
            _validate(content, kind, path, {WAIVED: waived, FAILED: failed})
        except ValidationError as error:
            problems += [found for found in explain(error, content, kind, path) if found not in problems]
        if not failed:
            return problems
        waived |= failed


def _validate(content: Any, kind: type[Kind], path: Path, context: Mapping[str, Any] = MappingProxyType({})) -> Kind:
    params = kind.model_validate(content, context={"base": path.absolute().parent, **context})
    if isinstance(params, Resources):
        params.remember(path)
    return params


def _find_owner(content: Any, loc: tuple[int | str, ...]) -> tuple[dict[str, Any], str] | None:
    """Return the object and the key that a location of pydantic's ends in; it names branches of unions too."""
    found = None
    for item in loc:
        if isinstance(content, dict) and isinstance(item, str) and item in content:
            found, content = (content, item), content[item]
        elif isinstance(content, list) and isinstance(item, int) and item < len(content):
            found, content = None, content[item]
    return found


def check_order(param: Path, resource: Path, command: ParamKind | None = None) -> None:
    """Refuse a param and a resource file that stand in each other's place, and a param file of another command.

    Raises
    ------
    ConfigError
        If the first says where things run, and the second what is done; or if it is not for ``command``.
    """
    if param.exists() and resource.exists() and param.samefile(resource):
        raise ConfigError(f"{param} is given twice: the param file comes first, the resource file second.")
    try:
        first, second = read_jsonc(param), read_jsonc(resource)
    except ConfigError:
        return  # told where it is read
    if second.keys() & _PARAM_KEYS and not first.keys() & _PARAM_KEYS:
        raise ConfigError(f"{param} and {resource} are swapped: the param file, {resource}, comes first.")
    if command is None or _TOP_KEY[command] in first:
        return
    for other, key in _TOP_KEY.items():
        if key in first:
            needs = f"`al {command}` needs `{_TOP_KEY[command]}`"
            raise ConfigError(f"{param} is for `al {other}`, since it has `{key}`; {needs}.")


def kind_of(path: Path) -> ParamKind:
    """Say which command a param file is for, by what stands at its top level (`_TOP_KEY`).

    Raises
    ------
    ConfigError
        If nothing does that tells.
    """
    content = read_jsonc(path)
    for kind, key in _TOP_KEY.items():
        if key in content:
            return kind
    hints = (nearest(key, _TOP_KEY.values()) for key in content)
    hint = next((hint for hint in hints if "mean" in hint), "")
    keys = " or ".join(f"`{key}` (al {kind})" for kind, key in _TOP_KEY.items())
    raise ConfigError(Problem(f"needs {keys} at top level; found none of them{hint}", file=path))
