"""param.json of ``al screen``: candidate crystals, what surrogates say of them, and which go on."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from ase.calculators.calculator import all_properties
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from al_driver.engines.base import Engine
from al_driver.schema.base import (
    Bool,
    CrossError,
    Int,
    Name,
    Params,
    PositiveInt,
    UserPath,
    as_entry,
    as_list,
    cross_check,
    resolve_path,
)
from al_driver.schema.elements import TypeMap
from al_driver.schema.learn import KnownTable, Learn
from al_driver.schema.nouns import AnyEngine, NamedLabel, describe_unknown, keep, name_in_label
from al_driver.schema.relax import Relax, find_wrong_engine
from al_driver.schema.unrelaxed import UnrelaxedModel
from al_driver.screen.acquisition import Acquisition
from al_driver.screen.baselines.clusters import ClusterModel
from al_driver.screen.baselines.ewald import EwaldModel
from al_driver.screen.candidates import CandidateEntry
from al_driver.screen.filters import Filters
from al_driver.screen.intercalation import Intercalation
from al_driver.screen.properties import UNITS
from al_driver.structures.screened import DEFAULT_WORK_DIR

_RESERVED = {*all_properties, "id", "virial", "pbc", "Lattice", "Properties"}
"""What means something else in the comment of a frame."""


def _find_model(name: str, info: ValidationInfo) -> str:
    """Make the path of a model absolute, from the folder of the JSON file; a published model keeps its name."""
    return name if name in UNITS else str(resolve_path(Path(name), info))


Surrogate = Annotated[str, Field(min_length=1), AfterValidator(_find_model)]
"""The name of a published model, a checkpoint, or a folder that a fit left."""
Finding = tuple[tuple[str | int, ...], str]
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
    work_dir: UserPath = Field(default=DEFAULT_WORK_DIR, validate_default=True)
    """Where the result lies."""
    type_map: TypeMap | None = None
    """Elements, in the order in which models number them; an engine that labels needs it."""
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
    """What predicts their properties, a model each: networks, and objects that rank without one. With `label`, the
    network that predicts the property that is ranked by learns from the labels; the first network where none does."""
    filters: Filters = Filters()
    """What a candidate must keep to."""
    rank: Acquisition
    """What is looked for, and which of the rest comes first."""
    select: PositiveInt = 20
    """How many go on."""
    per_composition: Bool = False
    """That many of each composition, in place of that many in all; labels are spread over compositions, too."""
    intercalation: Intercalation | None = None
    """Draw the convex hull and the voltage over the content of an ion."""
    engines: dict[Name, AnyEngine] = Field(default={})
    """Engines with a name, for several uses."""
    label: Annotated[
        str | KnownTable | AnyEngine | None,
        BeforeValidator(keep, json_schema_input_type=str | NamedLabel | KnownTable | AnyEngine | None),
    ] = None
    """The reference that calculates the property that is ranked by: a name from ``engines``, an engine, or a table of
    values that are known. Nothing is calculated when left out."""
    learn: Learn | None = None
    """How labels are collected, and learnt from; needed with `label`."""

    @model_validator(mode="before")
    @classmethod
    def _name_in_label(cls, data: Any) -> Any:
        return name_in_label(data)

    @cross_check
    def _check_across(self) -> "ScreenParams":
        if found := [*self._find_names(), *self._find_label(), *self._find_learn()]:
            raise CrossError(found)
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

    @property
    def label_engine(self) -> Engine | None:
        """The engine that labels; None where nothing, or a table, does."""
        if isinstance(self.label, str):
            return self.engines[self.label]
        return None if isinstance(self.label, KnownTable) else self.label

    @property
    def label_key(self) -> str:
        """The key that holds the engine that labels."""
        return f"engines.{self.label}" if isinstance(self.label, str) else "label"

    def relax_engine(self, relax: Relax) -> Engine:
        """Return the engine that relaxes."""
        engine = self.engines[relax.engine] if isinstance(relax.engine, str) else relax.engine or self.label_engine
        assert engine is not None  # noqa: S101  (_check_across)
        return engine

    def _find_names(self) -> Iterator[Finding]:
        names = [entry.called for entry in self.candidates]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield ("candidates", index, "name"), f"two entries are called {name!r}; give one of them a `name`"
        columns = [column_of(model) for model in self.models]
        for index, column in enumerate(columns):
            if column in columns[:index]:
                yield ("models", index), f"two models have a column {column!r}; name one otherwise"

    def _find_label(self) -> Iterator[Finding]:
        """Yield what is wrong with what labels, and with the name of what it labels."""
        if isinstance(self.label, str) and self.label not in self.engines:
            yield ("label",), describe_unknown(self.label, self.engines)
        if self.label is not None and self.learn is None:
            yield ("learn",), 'needed with `label`: how many labels, e.g. {"max_labels": 100}'
        if self.label is None and self.learn is not None:
            yield ("label",), "needed with `learn`: what calculates the labels"
        name = self.rank.property
        if self.label is not None and (name in _RESERVED or not re.fullmatch(r"[\w.+-]+", name)):
            message = f"{name!r} cannot be learnt by this name; take letters, digits and _ . + -, and no word of ASE's"
            yield ("rank", "property"), message

    def _find_learn(self) -> Iterator[Finding]:
        """Yield keys of `learn` that do not fit to what labels."""
        if self.learn is None or self.label is None or (isinstance(self.label, str) and self.label not in self.engines):
            return
        relax, references = self.learn.relax, self.learn.reference_energies
        if self.label_engine is None:
            for key in ("relax", "reference_energies"):
                if getattr(self.learn, key) is not None:
                    yield ("learn", key), "belongs to an engine; the values of a table are taken as they are"
            return
        if relax is not None and (wrong := find_wrong_engine("relax", relax.engine, self.engines, self.label_engine)):
            yield ("learn", "relax", "engine"), wrong
        if self.type_map is None:
            yield ("type_map",), "needed where an engine labels: the elements in order"
        elif references is not None and (missing := [name for name in self.type_map if name not in references]):
            yield ("learn", "reference_energies"), f"has no energy of {', '.join(missing)}"
