"""param.json of ``al init_bulk``: first structures and their labels.

Each stage takes every output of the one before: supercell, scale, perturb, label.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from al_driver.data.sources import read_structures
from al_driver.engines.base import Engine
from al_driver.schema.base import CrossError, Fraction, Int, Name, Params, PositiveFloat, UserPath, as_entry, as_list
from al_driver.schema.elements import TypeMap
from al_driver.schema.nouns import AnyEngine
from al_driver.schema.suggest import nearest
from al_driver.structures.perturb import Perturb, displacement
from al_driver.structures.supercell import Supercell


class InitStructure(Params):
    """An entry of ``structures``, and what is made of it."""

    path: UserPath
    """A structure file, or a glob; every frame of every file is taken."""
    name: Name | None = None
    """How messages and tables call this entry; the file's name otherwise."""
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


class InitBulkParams(Params):
    """First structures, and a first labelled dataset."""

    schema_: Annotated[str | None, Field(alias="$schema")] = None
    """Where editors find the JSON Schema of this file."""
    seed: Int
    """Every random draw follows from it."""
    work_dir: UserPath = Field(default=Path("init"), validate_default=True)
    """Where the result lies."""
    type_map: TypeMap
    """Elements, in the order in which models number them."""
    engines: dict[Name, AnyEngine] = Field(default={})
    """Engines with a name, for several uses."""
    label: Literal[False] | str | AnyEngine
    """The reference: a name from ``engines``, or an engine; false makes structures only."""
    structures: Annotated[
        tuple[Annotated[InitStructure, BeforeValidator(as_entry, json_schema_input_type=str | InitStructure)], ...],
        Field(min_length=1),
    ]
    """Where to start from."""
    valid_fraction: Annotated[Fraction, Field(lt=1)] = 0.1
    """Share of the labelled frames that is kept for validation."""

    @model_validator(mode="after")
    def _check_across(self) -> "InitBulkParams":
        if isinstance(self.label, str) and self.label not in self.engines:
            raise CrossError([(("label",), f"no engine is called {self.label!r}{nearest(self.label, self.engines)}")])
        return self

    @property
    def label_engine(self) -> Engine | None:
        """The reference, or None when structures only are made."""
        if isinstance(self.label, str):
            return self.engines[self.label]
        return self.label or None


def expected_counts(params: InitBulkParams) -> list[str]:
    """Foretell, a line for each entry, how many structures each stage gives, and how far atoms are moved.

    Raises
    ------
    ConfigError
        If a structure cannot be read.
    """
    lines, total = [], 0
    for entry in params.structures:
        frames = read_structures(entry.path, params.type_map)
        counts = {"read": len(frames), "supercell": len(frames), "scale": len(frames) * len(entry.scale)}
        counts["perturb"] = counts["scale"] * (entry.perturb.copies if entry.perturb else 1)
        total += counts["perturb"]
        name = entry.name or entry.path.name
        lines.append(f"{name}: " + " → ".join(f"{stage} {count}" for stage, count in counts.items()))
        if entry.perturb is not None:
            moved = displacement(entry.perturb, frames[0].get_chemical_symbols())
            lines += [
                f"  {symbol}: moved by {sigma:.3f} Å per axis (σ), as in a Debye solid at {temperature:.0f} K"
                for symbol, (sigma, temperature) in moved.items()
            ]
    lines.append(f"{total} structures{'' if params.label is False else ' to label'} at most; duplicates are dropped")
    return lines
