"""Models: one file a trainer."""

from typing import TYPE_CHECKING

from al_driver.schema.plugins import find_plugins, union_of
from al_driver.trainers.base import Trainer

if TYPE_CHECKING:
    AnyTrainer = Trainer
else:
    AnyTrainer = union_of(find_plugins(Trainer, "al_driver.trainers", "trainer"), "trainer")
