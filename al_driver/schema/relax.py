"""A relaxation with a reference engine, as ``al init_bulk`` and ``al screen`` take it, and engines asked in vain."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from al_driver.engines.base import Calculation, Engine, Relaxation
from al_driver.schema.base import Params, PositiveFloat, PositiveInt
from al_driver.schema.nouns import AnyEngine, describe_unknown
from al_driver.schema.plugins import plugin_name
from al_driver.units import Unit

EngineChoice = str | AnyEngine | None


class Relax(Params):
    """A relaxation with a reference engine."""

    engine: EngineChoice = None
    """A name from ``engines``, or an engine; the label engine when left out."""
    what: Literal["cell", "positions"] = "cell"
    """cell: atoms and cell, at zero pressure; positions: atoms in the cell as it is."""
    max_force: Annotated[PositiveFloat, Unit("eV/Å")] = 0.02
    """Largest force on an atom in the end; the stress times the volume of an atom, in eV, is held below it too."""
    max_steps: PositiveInt = 200
    """A relaxation that needs more steps has failed, and its structure is left out."""

    @property
    def relaxation(self) -> Relaxation:
        return Relaxation(self.what, self.max_force, self.max_steps)


def _as_relax(value: Any) -> Any:
    """Let ``true`` stand for a relaxation of which nothing else is said, and ``false`` for none."""
    return ({} if value else None) if isinstance(value, bool) else value


MaybeRelax = Annotated[Relax | None, BeforeValidator(_as_relax, json_schema_input_type=bool | Relax | None)]


def find_wrong_engine(
    calculation: Calculation, choice: EngineChoice, engines: Mapping[str, Engine], label: Engine | None
) -> str | None:
    """Say why an engine that is asked for cannot serve; None where it can.

    Parameters
    ----------
    label
        The label engine, which serves where no other is chosen.
    """
    if isinstance(choice, str) and choice not in engines:
        return describe_unknown(choice, engines)
    engine = engines[choice] if isinstance(choice, str) else choice or label
    if engine is None:
        return "nothing is labelled, so there is no label engine to take; name one"
    if calculation not in engine.can:
        word = {"relax": "relax a structure", "aimd": "run molecular dynamics"}[calculation]
        name = choice if isinstance(choice, str) else plugin_name(type(engine), "engine")
        return f"the engine {name!r} cannot {word}; it can {', '.join(sorted(engine.can))}. Name another"
    return None
