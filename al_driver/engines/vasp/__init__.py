"""Reference calculations with VASP: the engine is `engine.Vasp`."""

from al_driver.engines.vasp.engine import Vasp
from al_driver.engines.vasp.params import IncarFiles

__all__ = ["IncarFiles", "Vasp"]
