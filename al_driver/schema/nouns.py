"""The unions of all engines, trainers and explorers: what a param file may name.

They stand here and not in the nouns' own packages, so that an outside plugin can import its base class without
being asked for itself.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from al_driver.data.gate import GateLimits
from al_driver.engines.base import Engine
from al_driver.explorers.base import Explorer
from al_driver.schema.base import Name, Params
from al_driver.schema.plugins import find_plugins, plugin_name, union_of
from al_driver.schema.suggest import hint_at_ase, nearest
from al_driver.trainers.base import Trainer

if TYPE_CHECKING:
    AnyEngine = Engine
    AnyTrainer = Trainer
    AnyExplorer = Explorer
else:
    AnyEngine = union_of(find_plugins(Engine, "al_driver.engines", "engine"), "engine")
    AnyTrainer = union_of(find_plugins(Trainer, "al_driver.trainers", "trainer"), "trainer")
    AnyExplorer = union_of(find_plugins(Explorer, "al_driver.explorers", "explorer"), "explorer")


class NamedLabel(Params):
    """An engine of ``engines`` with limits of its own for labels; `name_in_label` puts the engine in its place."""

    engine: Name
    """A name from ``engines``."""
    gate: GateLimits
    """What a label must keep to; a limit that is left out is the engine's."""


def keep(value: Any) -> Any:
    """Return a value as it is: where only the JSON Schema is to know of another form."""
    return value


def describe_unknown(name: str, engines: Iterable[str]) -> str:
    """Say that no engine has a name; that of a program is a likely slip where an object is meant."""
    known = {plugin_name(kind, "engine") for kind in find_plugins(Engine, "al_driver.engines", "engine")}  # type: ignore[type-abstract]
    text = f"no engine is called {name!r}"
    if name in known:
        return f'{text}; give it whole, {{"engine": "{name}", …}}, or name one under `engines` and say that name'
    return text + (hint_at_ase(name) or nearest(name, engines))


def name_in_label(data: Any) -> Any:
    """Return a param file's content in which ``{"engine": "pbe", "gate": {…}}`` stands for the engine of that name.

    So a named engine labels with limits of its own, and they are keys under ``label.gate`` whoever the engine is.
    """
    label, engines = (data.get(key) if isinstance(data, dict) else None for key in ("label", "engines"))
    if not isinstance(label, dict) or not isinstance(engines, dict) or not label.keys() <= {"engine", "gate"}:
        return data
    named, limits = engines.get(label.get("engine")), label.get("gate", {})
    if not isinstance(named, dict):
        return data
    own = named.get("gate", {})
    both = own | limits if isinstance(own, dict) and isinstance(limits, dict) else limits
    return data | {"label": {**named, "gate": both}}
