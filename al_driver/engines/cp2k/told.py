"""What a log of CP2K would tell of the user's input, to compare files of others with. Hartree."""

import math
from collections.abc import Mapping

from al_driver.data.formats.cp2k import plain_name
from al_driver.data.formats.steps import parse_float
from al_driver.data.reference import Told, round_number
from al_driver.engines.cp2k.check import Kind
from al_driver.engines.cp2k.sections import Section

_FUNCTIONALS = {"PBE": "PBE", "PADE": "PADE", "LDA": "PADE"}
"""Shortcuts of &XC_FUNCTIONAL, and how a log names them."""


def describe_told(dft: Section, names: Mapping[Kind, Mapping[str, str]]) -> Told:
    """Return cutoff, functional, basis sets and potentials; a functional that a log may name otherwise is left out.

    Parameters
    ----------
    names
        Basis set and potential of each element; ``&`` is a section of its own.
    """
    cutoff = parse_float((dft.find("MGRID") or Section("MGRID")).value("CUTOFF"))  # Ry; no number in another unit
    told = {"CUTOFF": round_number(cutoff / 2, 1) if math.isfinite(cutoff) else ""}
    shortcut = (dft.find("XC", "XC_FUNCTIONAL") or Section("XC_FUNCTIONAL")).parameter.upper()
    told["functional"] = _FUNCTIONALS.get(shortcut, "")
    for kind, own in names.items():
        told |= {f"{kind} {symbol}": plain_name(name) for symbol, name in own.items() if name != "&"}
    return {name: value for name, value in told.items() if value}
