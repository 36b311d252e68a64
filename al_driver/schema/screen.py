"""param.json of ``al screen``: candidate crystals, what surrogates say of them, and which go on."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from al_driver.schema.base import (
    Bool,
    CrossError,
    Int,
    Params,
    PositiveInt,
    UserPath,
    as_entry,
    as_list,
    cross_check,
    resolve_path,
)
from al_driver.screen.acquisition import Acquisition
from al_driver.screen.candidates import CandidateEntry
from al_driver.screen.filters import Filters
from al_driver.screen.properties import UNITS


def _find_model(name: str, info: ValidationInfo) -> str:
    """Make the path of a model absolute, from the folder of the JSON file; a published model keeps its name."""
    return name if name in UNITS else str(resolve_path(Path(name), info))


Surrogate = Annotated[str, Field(min_length=1), AfterValidator(_find_model)]
"""The name of a published model, a checkpoint, or a folder that a fit left."""


class ScreenParams(Params):
    """Screening: of many candidates, the few that are worth a calculation."""

    schema_: Annotated[str | None, Field(alias="$schema")] = None
    """Where editors find the JSON Schema of this file."""
    seed: Int
    """Every random draw follows from it."""
    work_dir: UserPath = Field(default=Path("screen"), validate_default=True)
    """Where the result lies."""
    candidates: Annotated[
        tuple[Annotated[CandidateEntry, BeforeValidator(as_entry, json_schema_input_type=Path | CandidateEntry)], ...],
        Field(min_length=1),
    ]
    """Crystals, and what is made of them."""
    models: Annotated[
        tuple[Surrogate, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str]), Field(min_length=1)
    ]
    """What predicts their properties, a model each."""
    filters: Filters = Filters()
    """What a candidate must keep to."""
    rank: Acquisition
    """What is looked for, and which of the rest comes first."""
    select: PositiveInt = 20
    """How many go on."""
    per_composition: Bool = False
    """That many of each composition, in place of that many in all."""

    @cross_check
    def _check_names(self) -> "ScreenParams":
        names = [entry.called for entry in self.candidates]
        for index, name in enumerate(names):
            if name in names[:index]:
                message = f"two entries are called {name!r}; give one of them a `name`"
                raise CrossError([(("candidates", index, "name"), message)])
        return self
