"""Reference calculations with CP2K's Quickstep."""

from al_driver.engines.cp2k.engine import Cp2k

__all__ = ["Cp2k"]
