"""JSON Schemas of what a user writes, for editors: descriptions, units, defaults, and every short form."""

import json
from pathlib import Path
from typing import Any, Literal

from al_driver.errors import ConfigError
from al_driver.schema.base import Params
from al_driver.schema.suggest import nearest

SchemaName = Literal["run", "init_bulk", "screen", "resource"]
FILES = {"run": "params/run.schema.json", "init_bulk": "params/init_bulk.schema.json",
         "screen": "params/screen.schema.json", "resource": "resources/resource.schema.json"}  # fmt: skip
"""Where the repository keeps them; `$schema` of every example points there."""


def schema_of(name: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a kind of file.

    Raises
    ------
    ConfigError
        If there is no such kind.
    """
    kinds = _kinds()
    name = name.replace("-", "_")
    if name not in kinds:
        raise ConfigError(f"there is no schema {name!r}{nearest(name, kinds)}")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return head | kinds[name].model_json_schema() | {"title": f"al {name}" if name != "resource" else "al: resources"}


def schema_text(name: str) -> str:
    """Return the JSON Schema as the text that stands in the repository."""
    return json.dumps(schema_of(name), indent=1, ensure_ascii=False) + "\n"


def write_schemas(root: Path) -> None:
    """Write the schemas into a checkout of the repository."""
    for name, file in FILES.items():
        (root / file).write_text(schema_text(name), encoding="utf-8")


def _kinds() -> dict[str, type[Params]]:
    from al_driver.schema.init_bulk import InitBulkParams
    from al_driver.schema.resource import Resources
    from al_driver.schema.run import RunParams
    from al_driver.schema.screen import ScreenParams

    return {"run": RunParams, "init_bulk": InitBulkParams, "screen": ScreenParams, "resource": Resources}


if __name__ == "__main__":
    write_schemas(Path.cwd())
