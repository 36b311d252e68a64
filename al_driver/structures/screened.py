"""Structures that an ``al screen`` selects, as an entry of ``structures``: its param file stands in place of a path."""

import re
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationInfo, model_validator

from al_driver.errors import ConfigError
from al_driver.layout import SCREEN_STAGES, STRUCTURES_DIR
from al_driver.schema.base import Params, UserPath, resolve_path
from al_driver.schema.jsonc import read_jsonc

DEFAULT_WORK_DIR = Path("screen")
NEEDS = "needs either `path` or `screen`"


def fill_from_screen(data: Any, info: ValidationInfo) -> Any:
    """Give an entry that names the param file of a screening the path of what is selected there, and a name.

    Raises
    ------
    ValueError
        If it names a path too, or its param file cannot be read.
    """
    if not isinstance(data, dict) or not isinstance(data.get("screen"), str | Path):
        return data
    if "path" in data:
        raise ValueError(f"{NEEDS}; found both")
    file = resolve_path(Path(data["screen"]), info)
    try:
        work_dir = read_jsonc(file).get("work_dir", str(DEFAULT_WORK_DIR))
    except ConfigError as error:
        raise ValueError(str(error)) from error
    work = Path(file.parent, Path(str(work_dir)).expanduser())
    selected = {"path": str(work / SCREEN_STAGES[-1] / STRUCTURES_DIR / "*")}
    return {"name": re.sub(r"[^\w.+-]", "_", file.stem)} | data | selected


def path_or_screen(schema: dict[str, Any]) -> None:
    """Say in the JSON Schema of an entry that a screening may stand in place of a path."""
    schema["required"] = [key for key in schema["required"] if key != "path"]
    schema["anyOf"] = [{"required": ["path"]}, {"required": ["screen"]}]


class StructureSource(Params):
    """Where an entry of ``structures`` comes from."""

    model_config = ConfigDict(json_schema_extra=path_or_screen)

    path: UserPath
    """A structure file, or a glob, which is one entry; every frame of every file is taken, files sorted."""
    screen: UserPath | None = None
    """In place of a path, the param file of an `al screen`: the structures that it selects. What is not made yet is
    made first."""

    _fill = model_validator(mode="before")(fill_from_screen)


def is_made(path: Path) -> bool:
    """Say whether what `fill_from_screen` names is there."""
    return path.parent.is_dir()
