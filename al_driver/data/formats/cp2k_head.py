"""What the head of a CP2K log tells of its reference: cutoff (hartree), functional, dispersion, spin, potentials, U.

A log calls revPBE and PBEsol by the section that they are written in, ``PBE:``, and says which of them it is in the
title of the paper below, which it cuts into lines of one length; scaled parts stand behind it. Names of potentials
and basis sets have their number of electrons (``-q4``) or not: it is told by itself where one is known.
"""

import re

from al_driver.data.reference import Told, round_number

_CUTOFF = re.compile(r"QS\| Density cutoff \[a\.u\.\]: +(\S+)")
_FUNCTIONAL = re.compile(r"^ FUNCTIONAL\| (.*)$", re.MULTILINE)
_SECTION = re.compile(r"([A-Z0-9_]+): *$")
_VARIANTS = ("revPBE", "PBEsol")
_SCALES = re.compile(r"sx= *([\d.]+) *sc= *([\d.]+)")
_EXCHANGE = re.compile(r"HFX_INFO\| FRACTION: +(\S+)")
_SPIN = re.compile(r"DFT\| .*Kohn-Sham .* (UKS|RKS|ROKS)\s*$", re.MULTILINE)
_DISPERSION = re.compile(r"vdW POTENTIAL\| +(.*?) *$", re.MULTILINE)
_PAIRS = re.compile(r"DFT-(D\d)")
_KIND = re.compile(
    r"^ +\d+\. Atomic kind: (\S+)(.*?)(?=^ +\d+\. Atomic kind|^ TOTAL NUMBERS|\Z)", re.MULTILINE | re.DOTALL
)
_OF_KIND = {
    "basis": re.compile(r"^ +Orbital Basis Set +(\S+)", re.MULTILINE),
    "potential": re.compile(r"^ +\S+ Potential information for +(\S+)", re.MULTILINE | re.IGNORECASE),
}
_ELECTRONS = re.compile(r"-Q(\d+)$")
_HUBBARD = re.compile(r"U\(eff\) = .*: +(\S+)$", re.MULTILINE)


def told_in_log(text: str) -> Told:
    """Return what a head says, of each kind by the kind's name; what is not printed is not told."""
    cutoff, spin = _CUTOFF.search(text), _SPIN.search(text)
    told = {"CUTOFF": round_number(cutoff[1], 1) if cutoff else "", "functional": _functional(text)}
    if told["functional"]:  # a head that prints this prints those too
        exchange, dispersion = _EXCHANGE.search(text), _DISPERSION.findall(text)
        told["exact exchange"] = round_number(exchange[1], 4) if exchange else "0"
        told["dispersion"] = _name_dispersion(dispersion) if dispersion else "none"
    told["UKS"] = ("F" if spin[1] == "RKS" else "T") if spin else ""
    for symbol, block in _KIND.findall(text):
        found = {name: pattern.search(block) for name, pattern in _OF_KIND.items()}
        for name, match in found.items():
            told |= name_told(name, symbol, match[1]) if match else {}
        hubbard = _HUBBARD.search(block)
        told[f"U {symbol}"] = (round_number(hubbard[1], 2) if hubbard else "0") if all(found.values()) else ""
    return {name: value for name, value in told.items() if value}


def name_told(what: str, symbol: str, name: str) -> Told:
    """Return what the name of a basis set or potential tells: itself, and by itself the electrons it is for.

    >>> name_told("potential", "Si", "GTH-PBE-q4")
    {'potential Si': 'GTH-PBE', 'electrons of potential Si': '4'}
    >>> name_told("basis", "Si", "DZVP-MOLOPT-SR-GTH")
    {'basis Si': 'DZVP-MOLOPT-SR-GTH'}
    """
    electrons = _ELECTRONS.search(name.upper())
    told = {f"{what} {symbol}": _ELECTRONS.sub("", name.upper())}
    return told | ({f"electrons of {what} {symbol}": electrons[1]} if electrons else {})


def name_functional(section: str, variant: str, scales: tuple[float, float]) -> str:
    """Return one name for a functional: of its section, the parametrization in it, and shares of both parts.

    >>> name_functional("PBE", "PBEsol", (1.0, 1.0)), name_functional("PBE", "", (0.75, 1.0))
    ('PBEsol', 'PBE 0.75 1')
    """
    return " ".join([variant or section, *(() if scales == (1.0, 1.0) else (f"{share:g}" for share in scales))])


def _functional(text: str) -> str:
    """Return the functionals of a head, joined by ``+``."""
    parts: list[tuple[str, str]] = []
    for line in _FUNCTIONAL.findall(text):
        if section := _SECTION.fullmatch(line):
            parts.append((section[1], ""))
        elif parts:
            parts[-1] = parts[-1][0], parts[-1][1] + line
    return "+".join(dict.fromkeys(_name_part(section, words) for section, words in parts))


def _name_part(section: str, words: str) -> str:
    variant = next((name for name in _VARIANTS if section == "PBE" and words.startswith(name)), "")
    scales = _SCALES.search(words)
    return name_functional(section, variant, (float(scales[1]), float(scales[2])) if scales else (1.0, 1.0))


def _name_dispersion(lines: list[str]) -> str:
    """Return the kind of dispersion; of another than pair potentials its first words."""
    words = "\n".join(lines)
    pairs = _PAIRS.search(words)
    return f"DFT{pairs[1]}{'(BJ)' if 'BJ Damping' in words else ''}" if pairs else lines[0]
