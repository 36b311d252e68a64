"""From a JSON file to parameters. Every problem of the file is reported at once."""

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from al_driver.errors import ConfigError, Problem
from al_driver.schema.base import Params
from al_driver.schema.explain import explain
from al_driver.schema.jsonc import read_jsonc
from al_driver.schema.suggest import nearest

Kind = TypeVar("Kind", bound=Params)


def load_params(path: Path, kind: type[Kind]) -> Kind:
    """Read and check a file; paths in it start at its folder.

    Raises
    ------
    ConfigError
        With one problem for each thing that is wrong: key path, what was found, what is needed.
    """
    content = read_jsonc(path)
    try:
        return kind.model_validate(content, context={"base": path.absolute().parent})
    except ValidationError as error:
        raise ConfigError([*explain(error, content, kind, path)]) from None


def kind_of(path: Path) -> Literal["run", "init_bulk"]:
    """Say which command a param file is for: ``explore`` at top level → run, ``structures`` → init_bulk.

    Raises
    ------
    ConfigError
        If it has neither.
    """
    content = read_jsonc(path)
    if "explore" in content:
        return "run"
    if "structures" in content:
        return "init_bulk"
    hints = (nearest(key, ["explore", "structures"]) for key in content)
    hint = next((hint for hint in hints if "mean" in hint), "")
    message = f"needs `explore` (al run) or `structures` (al init_bulk) at top level; found neither{hint}"
    raise ConfigError(Problem(message, file=path))
