"""param.json of ``al run``: the nouns' own parameters, put together."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from al_driver.engines.base import Engine
from al_driver.query.params import QueryParams
from al_driver.schema.base import Int, Params, UserPath
from al_driver.schema.elements import TypeMap
from al_driver.schema.nouns import AnyEngine, AnyExplorer, AnyTrainer


class DataSource(Params):
    """Labelled data: a folder or file, or the ``init_bulk`` whose result it is."""

    path: UserPath | None = None
    """A deepmd/npy folder, or a file that dpdata reads."""
    format: str | None = None
    """dpdata's name of the file's format, e.g. "vasp/outcar"; deepmd/npy when left out."""
    init_bulk: UserPath | None = None
    """The param file of an ``al init_bulk``; its dataset is used."""

    @model_validator(mode="after")
    def _check_one(self) -> "DataSource":
        if (self.path is None) == (self.init_bulk is None):
            raise ValueError("needs either `path` or `init_bulk`")
        if self.format is not None and self.path is None:
            raise ValueError("`format` belongs to `path`")
        return self


def _as_source(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


Source = Annotated[DataSource, BeforeValidator(_as_source, json_schema_input_type=str | DataSource)]


class RunParams(Params):
    """The active-learning loop."""

    schema_: Annotated[str | None, Field(alias="$schema")] = None
    """Where editors find the JSON Schema of this file."""
    seed: Int
    """Every random draw follows from it."""
    work_dir: UserPath = Field(default=Path("work"), validate_default=True)
    """Where the run lives."""
    type_map: TypeMap
    """Elements, in the order in which models number them."""
    init_data: Annotated[tuple[Source, ...], Field(min_length=1)]
    """Labelled frames the first models learn from."""
    valid_data: tuple[Source, ...] = ()
    """Labelled frames that are never trained on."""
    engines: dict[str, AnyEngine] = Field(default={})
    """Engines with a name, for several uses."""
    train: AnyTrainer
    """How models are made."""
    explore: AnyExplorer
    """Where models are tried."""
    query: QueryParams
    """Which frames are calculated."""
    label: str | AnyEngine
    """The reference: a name from ``engines``, or an engine."""

    @property
    def label_engine(self) -> Engine:
        return self.engines[self.label] if isinstance(self.label, str) else self.label
