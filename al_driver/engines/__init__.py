"""Reference calculations: one file an engine."""

from typing import TYPE_CHECKING

from al_driver.engines.base import Engine
from al_driver.schema.plugins import find_plugins, union_of

if TYPE_CHECKING:
    AnyEngine = Engine
else:
    AnyEngine = union_of(find_plugins(Engine, "al_driver.engines", "engine"), "engine")
