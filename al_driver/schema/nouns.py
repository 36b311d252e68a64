"""The unions of all engines, trainers and explorers: what a param file may name.

They stand here and not in the nouns' own packages, so that an outside plugin can import its base class without
being asked for itself.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from al_driver.engines.base import Engine
from al_driver.explorers.base import Explorer
from al_driver.schema.plugins import find_plugins, plugin_name, union_of
from al_driver.schema.suggest import nearest
from al_driver.trainers.base import Trainer

if TYPE_CHECKING:
    AnyEngine = Engine
    AnyTrainer = Trainer
    AnyExplorer = Explorer
else:
    AnyEngine = union_of(find_plugins(Engine, "al_driver.engines", "engine"), "engine")
    AnyTrainer = union_of(find_plugins(Trainer, "al_driver.trainers", "trainer"), "trainer")
    AnyExplorer = union_of(find_plugins(Explorer, "al_driver.explorers", "explorer"), "explorer")


def describe_unknown(name: str, engines: Iterable[str]) -> str:
    """Say that no engine has a name; that of a program is a likely slip where an object is meant."""
    known = {plugin_name(kind, "engine") for kind in find_plugins(Engine, "al_driver.engines", "engine")}  # type: ignore[type-abstract]
    text = f"no engine is called {name!r}"
    if name in known:
        return f'{text}; give it whole, {{"engine": "{name}", …}}, or name one under `engines` and say that name'
    return text + nearest(name, engines)
