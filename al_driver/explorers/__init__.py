"""Molecular dynamics with the models: one file an explorer."""

from typing import TYPE_CHECKING

from al_driver.explorers.base import Explorer
from al_driver.schema.plugins import find_plugins, union_of

if TYPE_CHECKING:
    AnyExplorer = Explorer
else:
    AnyExplorer = union_of(find_plugins(Explorer, "al_driver.explorers", "explorer"), "explorer")
