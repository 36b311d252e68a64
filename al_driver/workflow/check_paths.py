"""What a param file that cannot be used names in vain: missing files are told together with wrong keys.

A file whose keys are right, or can be left out, is opened with all that it names; here it is only looked for what
stands where the schema wants a path.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from al_driver.data.sources import find_paths
from al_driver.errors import ConfigError, Problem
from al_driver.schema.base import Params
from al_driver.schema.jsonc import read_jsonc
from al_driver.schema.places import Loc, Schema, find_place

_MADE_HERE = "work_dir"


def find_missing(file: Path, kind: type[Params]) -> Iterator[Problem]:
    """Yield the paths in a JSON file that are not there.

    Raises
    ------
    ConfigError
        If it is no JSON.
    """
    content, schema = read_jsonc(file), kind.model_json_schema()
    for loc, text in _texts(content):
        place = find_place(loc, content, schema)
        if not text or "\0" in text or loc[-1] == _MADE_HERE or not _wants_path(place.nodes):
            continue
        try:
            find_paths(Path(file.absolute().parent, Path(text).expanduser()))
        except ConfigError as error:
            yield Problem(error.problems[0].message, place.key, error.problems[0].file)
        except (RuntimeError, OSError):
            continue  # a home folder that is not known, a name that is too long: told when the keys are right


def _texts(content: Any, loc: Loc = ()) -> Iterator[tuple[Loc, str]]:
    if isinstance(content, str):
        yield loc, content
    elif isinstance(content, (dict, list)):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _texts(value, (*loc, key))


def _wants_path(nodes: tuple[Schema, ...]) -> bool:
    texts = [node for node in nodes if node.get("type") == "string"]
    return bool(texts) and all(node.get("format") == "path" for node in texts)
