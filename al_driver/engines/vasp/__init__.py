"""Reference calculations with VASP: the engine is `engine.Vasp`."""

from al_driver.engines.vasp.engine import Vasp

__all__ = ["Vasp"]
