"""param.json of ``al init_bulk``: first structures and their labels.

Each stage takes every output of the one before: relax, supercell, scale, perturb, aimd, label.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from al_driver.engines.base import Calculation, Dynamics, Engine
from al_driver.schema.base import (
    CrossError,
    Fraction,
    Name,
    Params,
    PositiveFloat,
    PositiveInt,
    UserPath,
    as_entry,
    as_list,
    cross_check,
)
from al_driver.schema.elements import TypeMap
from al_driver.schema.inline import WithScreens
from al_driver.schema.nouns import AnyEngine, NamedLabel, describe_unknown, keep, name_in_label
from al_driver.schema.relax import EngineChoice, MaybeRelax, Relax, find_wrong_engine
from al_driver.structures.perturb import Perturb
from al_driver.structures.screened import StructureSource
from al_driver.structures.supercell import Supercell
from al_driver.units import Unit

LabelForms = Literal[False] | str | NamedLabel | AnyEngine


class Aimd(Params):
    """Molecular dynamics with a reference engine, at constant volume and temperature."""

    engine: EngineChoice = None
    """A name from ``engines``, or an engine; the label engine when left out. Frames of another engine than the label
    engine are labelled anew."""
    temperature: Annotated[PositiveFloat, Unit("K")]
    """Of the thermostat and of the first velocities."""
    n_steps: PositiveInt
    """Length of each trajectory."""
    timestep: Annotated[PositiveFloat, Unit("ps")] = 0.001
    """Length of a step."""
    every: PositiveInt = 1
    """Steps between the frames that are kept."""
    starts: PositiveInt | None = None
    """How many structures start a trajectory, spread evenly over them; all when left out."""
    tau_t: Annotated[PositiveFloat, Unit("ps")] = 0.1
    """Time constant of the thermostat."""

    @cross_check
    def _check_every(self) -> "Aimd":
        if self.every > self.n_steps:
            message = f"{self.every} is more than n_steps, {self.n_steps}, so that no frame would be kept"
            raise CrossError([(("every",), message)])
        return self

    def dynamics(self, seed: int) -> Dynamics:
        return Dynamics(self.temperature, self.n_steps, self.timestep, self.every, self.tau_t, seed)

    def choose_starts(self, n_structures: int) -> list[int]:
        """Return which of an entry's structures start a trajectory: indices, rising."""
        n_starts = min(self.starts or n_structures, n_structures)
        return [index * n_structures // n_starts for index in range(n_starts)]


class InitStructure(StructureSource):
    """An entry of ``structures``, and what is made of it."""

    name: Name | None = None
    """How messages and tables call this entry; the file's name otherwise."""
    relax: MaybeRelax = None
    """A relaxation before anything else; true is one with the label engine, of atoms and cell."""
    supercell: Supercell = (1, 1, 1)
    """Repeats along the three cell vectors, or a 3×3 matrix."""
    scale: Annotated[
        tuple[PositiveFloat, ...],
        BeforeValidator(as_list, json_schema_input_type=PositiveFloat | list[PositiveFloat]),
        Field(min_length=1),
    ] = (1.0,)
    """Factors of the cell vectors; each makes a structure."""
    perturb: Perturb | None = None
    """Strained and rattled copies; none when left out."""
    aimd: Aimd | None = None
    """Trajectories whose frames join the structures they start from; none when left out."""

    @property
    def called(self) -> str:
        """The name of this entry, which its frames carry."""
        return self.name or self.path.stem

    @property
    def stages(self) -> frozenset[str]:
        """The stages that do something to this entry."""
        does = {
            "relax": self.relax is not None,
            "supercell": self.supercell != (1, 1, 1),
            "scale": self.scale != (1.0,),
            "perturb": self.perturb is not None,
            "aimd": self.aimd is not None,
        }
        return frozenset(stage for stage, is_on in does.items() if is_on)


class InitBulkParams(WithScreens):
    """First structures, and a first labelled dataset."""

    entries_at = ("structures",)

    work_dir: UserPath = Field(default=Path("init"), validate_default=True)
    """Where the result lies."""
    type_map: TypeMap
    """Elements, in the order in which models number them."""
    engines: dict[Name, AnyEngine] = Field(default={})
    """Engines with a name, for several uses."""
    label: Annotated[
        Literal[False] | str | AnyEngine,
        BeforeValidator(keep, json_schema_input_type=LabelForms),
    ]
    """The reference: a name from ``engines``, or an engine; false makes structures only."""
    structures: Annotated[
        tuple[Annotated[InitStructure, BeforeValidator(as_entry, json_schema_input_type=Path | InitStructure)], ...],
        Field(min_length=1),
    ]
    """Where to start from."""
    valid_fraction: Annotated[Fraction, Field(lt=1)] = 0.1
    """Share of the labelled frames that is kept for validation."""

    @model_validator(mode="before")
    @classmethod
    def _name_in_label(cls, data: Any) -> Any:
        return name_in_label(data)

    @cross_check
    def _check_across(self) -> "InitBulkParams":
        found = list(self._find_wrong_choices())
        if found:
            raise CrossError(found)
        return self

    @property
    def entries(self) -> tuple[InitStructure, ...]:
        return self.structures

    @property
    def label_engine(self) -> Engine | None:
        """The reference, or None when structures only are made."""
        if isinstance(self.label, str):
            return self.engines[self.label]
        return self.label or None

    def engine_of(self, stage: Relax | Aimd) -> Engine:
        """Return the engine that relaxes, or runs the dynamics."""
        if isinstance(stage.engine, str):
            return self.engines[stage.engine]
        engine = stage.engine or self.label_engine
        assert engine is not None  # noqa: S101  (_check_across)
        return engine

    def _find_wrong_choices(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield where no engine of that name is, and where one is asked for what it cannot do."""
        if isinstance(self.label, str) and self.label not in self.engines:
            yield ("label",), describe_unknown(self.label, self.engines)
            return
        for index, entry in enumerate(self.structures):
            calculations: dict[Calculation, Relax | Aimd | None] = {"relax": entry.relax, "aimd": entry.aimd}
            for calculation, stage in calculations.items():
                if stage is not None and (
                    wrong := find_wrong_engine(calculation, stage.engine, self.engines, self.label_engine)
                ):
                    yield ("structures", index, calculation, "engine"), wrong
