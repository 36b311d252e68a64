"""What a log of CP2K would tell of the user's input, to compare files of others with. Hartree."""

import math
from collections.abc import Collection, Mapping

from al_driver.data.formats.cp2k_head import name_functional, name_told
from al_driver.data.formats.steps import parse_float
from al_driver.data.reference import Told, round_number
from al_driver.engines.cp2k.check import Kind, is_polarised
from al_driver.engines.cp2k.sections import Section

_FUNCTIONALS = {"PBE": "PBE", "PADE": "PADE", "LDA": "PADE"}
"""Shortcuts of &XC_FUNCTIONAL, and how a log names them; ``PBE`` is also a section in it."""
_NO_SHORTCUT = {"", "NO_SHORTCUT"}
_VARIANTS = {"ORIG": "", "REVPBE": "revPBE", "PBESOL": "PBEsol"}
_ON = {"", "T", "TRUE", "Y", "YES", "ON"}
_DISPERSIONS = {"DFTD2", "DFTD3", "DFTD3(BJ)"}


def describe_told(dft: Section, names: Mapping[Kind, Mapping[str, str]], without_u: Collection[str]) -> Told:
    """Return cutoff, functional, basis sets and potentials; a functional that a log may name otherwise is left out.

    Parameters
    ----------
    names
        Basis set and potential of each element; ``&`` is a section of its own.
    without_u
        The elements that have no U.
    """
    cutoff = parse_float((dft.find("MGRID") or Section("MGRID")).value("CUTOFF"))  # Ry; no number in another unit
    told = {"CUTOFF": round_number(cutoff / 2, 1) if math.isfinite(cutoff) else ""}
    xc = dft.find("XC") or Section("XC")
    told["functional"] = _functional(xc.find("XC_FUNCTIONAL") or Section("XC_FUNCTIONAL"))
    exchange = xc.find("HF")
    told["exact exchange"] = "0" if exchange is None else round_number(exchange.value("FRACTION", "1"), 4)
    told["exact exchange"] = told["exact exchange"] if told["functional"] else ""  # a shortcut may bring its own
    told["dispersion"] = _dispersion(xc.find("VDW_POTENTIAL"))
    told["UKS"] = "T" if is_polarised(dft) or dft.values("ROKS") else "F"
    for kind, own in names.items():
        for symbol, name in own.items():
            told |= name_told(kind, symbol, name) if name != "&" else {}
    told |= {f"U {symbol}": "0" for symbol in without_u}
    return {name: value for name, value in told.items() if value}


def _functional(section: Section) -> str:
    shortcut, inner = section.parameter.upper(), [each.name for each in section.sections]
    if shortcut in _NO_SHORTCUT and len(inner) == 1:
        shortcut = inner[0]
    if shortcut not in _FUNCTIONALS or set(inner) - {shortcut}:
        return ""
    own = section.find(shortcut) or Section(shortcut)  # read beside the shortcut too
    variant = _VARIANTS.get(own.value("PARAMETRIZATION", "ORIG").upper())
    x, c = (parse_float(own.value(key, "1")) for key in ("SCALE_X", "SCALE_C"))
    if variant is None or not math.isfinite(x + c) or own.parameter.upper().strip(".") not in _ON:
        return ""
    return name_functional(_FUNCTIONALS[shortcut], variant, (x, c))


def _dispersion(section: Section | None) -> str:
    if section is None:
        return "none"
    pairs = section.find("PAIR_POTENTIAL")
    kind = (pairs or Section("PAIR_POTENTIAL")).value("TYPE").upper()
    return kind if kind in _DISPERSIONS and len(list(section.sections)) == 1 else ""
