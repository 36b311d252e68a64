"""param.json of ``al run``: the nouns' own parameters, put together."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, ModelWrapValidatorHandler, ValidationInfo, model_validator

from al_driver.engines.base import Engine
from al_driver.errors import ConfigError
from al_driver.explorers.base import Structure
from al_driver.explorers.sweep import entries_of, structure_names
from al_driver.query.params import QueryParams
from al_driver.schema.base import WAIVED, Bool, CrossError, Name, Params, UserPath, as_entry, cross_check
from al_driver.schema.elements import TypeMap
from al_driver.schema.inline import WithScreens
from al_driver.schema.nouns import (
    AnyEngine,
    AnyExplorer,
    AnyTrainer,
    NamedLabel,
    describe_unknown,
    keep,
    name_in_label,
)
from al_driver.schema.places import split_key
from al_driver.schema.suggest import nearest


class DataSource(Params):
    """Labelled data: a folder or file, or the ``init_bulk`` whose result it is."""

    path: UserPath | None = None
    """A deepmd/npy folder, or a file that `al convert` reads."""
    format: str | None = None
    """E.g. "vasp/outcar". When left out, that of a file is recognised, and a folder holds deepmd/npy."""
    init_bulk: UserPath | None = None
    """The param file of an ``al init_bulk``; its dataset is used. As validation data: what it held back, or all of it
    where it holds nothing back and nothing else of it is used."""

    @cross_check
    def _check_one(self) -> "DataSource":
        if (self.path is None) == (self.init_bulk is None):
            raise ValueError("needs either `path` or `init_bulk`")
        if self.format is not None and self.path is None:
            raise ValueError("`format` belongs to `path`")
        return self


Finding = tuple[tuple[str | int, ...], str]
"""Where, and what."""


Source = Annotated[DataSource, BeforeValidator(as_entry, json_schema_input_type=Path | DataSource)]


class RunParams(WithScreens):
    """The active-learning loop."""

    entries_at = ("explore", "structures")

    work_dir: UserPath = Field(default=Path("work"), validate_default=True)
    """Where the run lives."""
    type_map: TypeMap
    """Elements, in the order in which models number them."""
    init_data: Annotated[tuple[Source, ...], Field(min_length=1)]
    """Labelled frames the first models learn from."""
    valid_data: tuple[Source, ...] = ()
    """Labelled frames that are never trained on."""
    engines: dict[Name, AnyEngine] = Field(default={})
    """Engines with a name, for several uses."""
    train: AnyTrainer
    """How models are made."""
    explore: AnyExplorer
    """Where models are tried."""
    query: QueryParams
    """Which frames are calculated."""
    label: Annotated[str | AnyEngine, BeforeValidator(keep, json_schema_input_type=str | NamedLabel | AnyEngine)]
    """The reference: a name from ``engines``, or an engine."""
    allow_mixed: Bool = False
    """Train on labels that were calculated with different settings."""

    @model_validator(mode="before")
    @classmethod
    def _name_in_label(cls, data: Any) -> Any:
        return name_in_label(data)

    @cross_check
    def _check_across(self) -> "RunParams":
        found = [*self._find_label(), *self._find_structures(), *self._find_targets()]
        if self.query.uncertainty == "committee" and self.train.models < 2:
            models = f"needs at least 2 models for a committee; found {self.train.models}"
            found.append((("train", "models"), f"{models} (lmp writes no deviation file for one model)"))
        if self.query.uncertainty == "kpu" and "models" in self.train.model_fields_set and self.train.models != 1:
            models = f'found {self.train.models}, but the uncertainty "kpu" needs one model; leave it out'
            found.append((("train", "models"), models))
        if self.query.compares and not self.train.describes:
            needs = f'"{self.query.choose}" compares atoms, and models of this trainer do not describe them'
            found.append((("query", "choose"), f'{needs}; take "random" or "largest"'))
        if found:
            raise CrossError(found)
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _set_up_training(cls, data: Any, validate: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Let the trainer keep a covariance where the query asks for it."""
        params = validate(data)
        if params.query.uncertainty != "kpu" or (info.context or {}).get(WAIVED):  # its own keys may not fit
            return params
        try:
            return params.model_copy(update={"train": params.train.with_covariance()})
        except ConfigError as error:
            found = [(("train", *split_key(problem.key)), problem.message) for problem in error.problems]
            raise CrossError(found) from error

    def _find_label(self) -> Iterator[Finding]:
        if isinstance(self.label, str) and self.label not in self.engines:
            yield ("label",), describe_unknown(self.label, self.engines)

    def _find_targets(self) -> Iterator[Finding]:
        """Yield elements without a wanted force error, and wanted errors of what is no element here."""
        wanted = self.query.target_force_error
        if isinstance(wanted, dict) and wanted:  # an empty one the query refuses
            for name in [name for name in self.type_map if name not in wanted]:
                yield ("query", "target_force_error"), f"has no number for {name}; give one for each of `type_map`"
            for name in [name for name in wanted if name not in self.type_map]:
                yield ("query", "target_force_error"), f"{name!r} is not in `type_map`{nearest(name, self.type_map)}"

    def _find_structures(self) -> Iterator[Finding]:
        """Yield entries that share a name, and what jobs name in vain."""
        try:
            structure_names(self.explore)
        except ConfigError as error:
            yield from ((("explore", *split_key(problem.key)), problem.message) for problem in error.problems)
            return
        for number, stage in enumerate(self.explore.iterations):
            for index, job in enumerate(stage.jobs):
                try:
                    entries_of(self.explore, job, f"explore.iterations[{number}].jobs[{index}].structures")
                except ConfigError as error:
                    yield from ((split_key(problem.key), problem.message) for problem in error.problems)

    @property
    def entries(self) -> tuple[Structure, ...]:
        return self.explore.structures

    @property
    def label_engine(self) -> Engine:
        return self.engines[self.label] if isinstance(self.label, str) else self.label
