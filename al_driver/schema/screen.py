"""param.json of ``al screen``: candidate crystals, what surrogates say of them, and which go on."""

from pathlib import Path
from typing import Annotated, Any

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
from al_driver.screen.baselines.clusters import ClusterModel
from al_driver.screen.baselines.ewald import EwaldModel
from al_driver.screen.baselines.unrelaxed import UnrelaxedModel
from al_driver.screen.candidates import CandidateEntry
from al_driver.screen.filters import Filters
from al_driver.screen.intercalation import Intercalation
from al_driver.screen.properties import UNITS


def _find_model(name: str, info: ValidationInfo) -> str:
    """Make the path of a model absolute, from the folder of the JSON file; a published model keeps its name."""
    return name if name in UNITS else str(resolve_path(Path(name), info))


Surrogate = Annotated[str, Field(min_length=1), AfterValidator(_find_model)]
"""The name of a published model, a checkpoint, or a folder that a fit left."""
Baseline = Annotated[EwaldModel | ClusterModel | UnrelaxedModel, Field(discriminator="model")]
"""What predicts without a network."""
Model = Surrogate | Baseline


def column_of(model: Model) -> str:
    """Return a word that no two models may share: the column of a published model or a baseline, the path of others."""
    return model if isinstance(model, str) else model.name


def _as_models(value: Any) -> Any:
    """Let one model stand for a list of one, an object too."""
    return [value] if isinstance(value, dict) else as_list(value)


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
        tuple[Model, ...],
        BeforeValidator(_as_models, json_schema_input_type=Model | list[Model]),
        Field(min_length=1),
    ]
    """What predicts their properties, a model each: networks, and objects that rank without one."""
    filters: Filters = Filters()
    """What a candidate must keep to."""
    rank: Acquisition
    """What is looked for, and which of the rest comes first."""
    select: PositiveInt = 20
    """How many go on."""
    per_composition: Bool = False
    """That many of each composition, in place of that many in all."""
    intercalation: Intercalation | None = None
    """Draw the convex hull and the voltage over the content of an ion."""

    @cross_check
    def _check_names(self) -> "ScreenParams":
        names = [entry.called for entry in self.candidates]
        for index, name in enumerate(names):
            if name in names[:index]:
                message = f"two entries are called {name!r}; give one of them a `name`"
                raise CrossError([(("candidates", index, "name"), message)])
        columns = [column_of(model) for model in self.models]
        for index, column in enumerate(columns):
            if column in columns[:index]:
                raise CrossError([(("models", index), f"two models have a column {column!r}; name one otherwise")])
        return self

    @property
    def surrogates(self) -> tuple[str, ...]:
        """The networks."""
        return tuple(model for model in self.models if isinstance(model, str))

    @property
    def baselines(self) -> tuple[EwaldModel | ClusterModel, ...]:
        """What predicts from the structures alone."""
        return tuple(model for model in self.models if isinstance(model, EwaldModel | ClusterModel))

    @property
    def unrelaxed(self) -> tuple[UnrelaxedModel, ...]:
        """What calculates candidates."""
        return tuple(model for model in self.models if isinstance(model, UnrelaxedModel))
