"""Screenings that stand whole in an entry of ``structures``, in place of their param file.

They are checked as a file of their own would be; what they leave out of seed, type map and engines is the outer file's.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, ValidationError, ValidationInfo, model_validator
from pydantic.json_schema import models_json_schema

from al_driver.schema.base import CrossError, Int, Params, UserPath
from al_driver.schema.explain import explain
from al_driver.schema.places import Loc, split_key
from al_driver.schema.screen import ScreenParams
from al_driver.structures.screened import ANY_OBJECT, StructureSource

SHARED = ("seed", "type_map", "engines")
"""Keys that a screening takes from the outer file where it has none of its own."""
_INLINE = "InlineScreen"


class WithScreens(Params):
    """A param file whose ``structures`` may name screenings."""

    entries_at: ClassVar[Loc]
    """Where its ``structures`` are."""

    schema_: Annotated[str | None, Field(alias="$schema")] = None
    """Where editors find the JSON Schema of this file."""
    seed: Int
    """Every random draw follows from it."""
    work_dir: UserPath
    """Where the result lies."""
    _screens: dict[int, ScreenParams] = PrivateAttr(default_factory=dict)

    @property
    @abstractmethod
    def entries(self) -> Sequence[StructureSource]:
        """Its ``structures``."""

    @property
    def screens(self) -> Mapping[int, ScreenParams]:
        """The screenings that stand whole in entries, by the entry's index."""
        return self._screens

    @model_validator(mode="wrap")
    @classmethod
    def _read_screens(cls, data: Any, validate: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        params = validate(data)
        found = [*_find_clashes(params)]
        for index, entry in enumerate(params.entries):
            if isinstance(entry.screen, dict):
                content = {key: data[key] for key in SHARED if key in data} | entry.screen
                try:
                    params._screens[index] = ScreenParams.model_validate(content, context=info.context)
                except ValidationError as error:
                    found += [
                        ((index, "screen", *split_key(problem.key)), problem.message)
                        for problem in explain(error, content, ScreenParams)
                    ]
        if found:
            raise CrossError([((*cls.entries_at, *loc), message) for loc, message in found])
        return params

    @classmethod
    def model_json_schema(cls, *_arguments: Any, **_keys: Any) -> dict[str, Any]:
        """Return the JSON Schema, in which a screening's keys are told where it stands whole in an entry."""
        _, both = models_json_schema([(cls, "validation"), (ScreenParams, "validation")])
        definitions: dict[str, Any] = both["$defs"]
        own, screen = definitions.pop(cls.__name__), definitions.pop(ScreenParams.__name__)
        for node in definitions.values():
            forms = node.get("properties", {}).get("screen", {}).get("anyOf", [])
            if ANY_OBJECT in forms:
                forms[forms.index(ANY_OBJECT)] = {"$ref": f"#/$defs/{_INLINE}"}
        properties = {key: value for key, value in screen["properties"].items() if key != "$schema"}
        required = [key for key in screen["required"] if key not in SHARED]
        definitions[_INLINE] = screen | {"properties": properties, "required": required, "title": _INLINE}
        return {"$defs": dict(sorted(definitions.items())), **own}


def _find_clashes(params: WithScreens) -> Iterator[tuple[Loc, str]]:
    """Yield screenings that would work in the folder of another, or in that of all."""
    folders: dict[Path, object] = {params.work_dir: None}
    for index, entry in enumerate(params.entries):
        if entry.screen is not None and folders.setdefault(entry.path.parents[2], entry.screen) != entry.screen:
            folder = entry.path.parents[2]
            other = "this file" if folder == params.work_dir else "another screening"
            yield (index, "screen"), f"has the `work_dir` of {other}, {folder}; give it one of its own"
