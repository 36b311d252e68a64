"""Structures that an ``al screen`` selects, as an entry of ``structures``.

In place of a path stands the screening's param file, or what would be in one.
"""

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
ANY_OBJECT = {"additionalProperties": True, "type": "object"}
"""What the JSON Schema of an entry says of a screening that stands whole in it."""


def fill_from_screen(data: Any, info: ValidationInfo) -> Any:
    """Give an entry that names a screening the path of what is selected there, and a name.

    Raises
    ------
    ValueError
        If it names a path too, or the screening's param file cannot be read.
    """
    screen = data.get("screen") if isinstance(data, dict) else None
    if not isinstance(screen, str | Path | dict):
        return data
    if "path" in data:
        raise ValueError(f"{NEEDS}; found both")
    if isinstance(screen, dict):
        work = resolve_path(_find_work_dir(screen), info)
        name = work.name
    else:
        file = resolve_path(Path(screen), info)
        try:
            work = Path(file.parent, _find_work_dir(read_jsonc(file)).expanduser())
        except ConfigError as error:
            raise ValueError(str(error)) from error
        name = file.stem
    selected = {"path": str(work / SCREEN_STAGES[-1] / STRUCTURES_DIR / "*")}
    return {"name": re.sub(r"[^\w.+-]", "_", name)} | data | selected


def _find_work_dir(content: dict[str, Any]) -> Path:
    """Return the folder of a screening; the default where what is given cannot be one, which is told elsewhere."""
    given = content.get("work_dir")
    return Path(given) if isinstance(given, str) and given and "\0" not in given else DEFAULT_WORK_DIR


def path_or_screen(schema: dict[str, Any]) -> None:
    """Say in the JSON Schema of an entry that a screening may stand in place of a path."""
    schema["required"] = [key for key in schema["required"] if key != "path"]
    schema["anyOf"] = [{"required": ["path"]}, {"required": ["screen"]}]


class StructureSource(Params):
    """Where an entry of ``structures`` comes from."""

    model_config = ConfigDict(json_schema_extra=path_or_screen)

    path: UserPath
    """A structure file, or a glob, which is one entry; every frame of every file is taken, files sorted."""
    screen: UserPath | dict[str, Any] | None = None
    """In place of a path, the param file of an `al screen`, or its content: the structures that it selects. What is not
    made yet is made first. Content takes `seed`, `type_map` and `engines` from the file it stands in."""

    _fill = model_validator(mode="before")(fill_from_screen)


def is_made(path: Path) -> bool:
    """Say whether what `fill_from_screen` names is there."""
    return path.parent.is_dir()
