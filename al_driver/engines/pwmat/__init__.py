"""PWmat: plane waves, or tight binding (DFTB) with Slater–Koster files; labels, relaxations and dynamics."""

from al_driver.engines.pwmat.engine import Pwmat

__all__ = ["Pwmat"]
