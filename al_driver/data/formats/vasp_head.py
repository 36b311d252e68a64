"""What the head of a VASP run tells of its reference, in the digits that OUTCAR and vasprun.xml share.

GGA is the functional that was used: the INCAR's, or that of the potentials. Source: the VASP wiki, "INCAR tag".
"""

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from al_driver.data.reference import Told, round_number

NO_EDIFF = "it names no EDIFF, so nothing shows that it was reached"
ML_STEP = "of the machine-learned force field (ML_LMLFF), without DFT"
"""What steps of both files are refused for."""
_TAG = r"\b{}\s*=\s*(\S+?);?\s"
_TITLES = re.compile(r"TITEL\s*=\s*(.*\S)")
_HUBBARD = re.compile(r"LDAUU\s*=((?:\s+-?[\d.]+)+)")
_POTENTIALS = re.compile(r"LEXCH\s*=\s*([A-Za-z]\w?)\s")
_DECIMALS = {"ENCUT": 1, "SIGMA": 2, "ISMEAR": 0, "ISPIN": 0, "IVDW": 0}


def told_in_outcar(head: str, symbols: Sequence[str]) -> Told:
    """Return what the head of an OUTCAR tells; ``symbols`` are the elements of its potentials."""
    tags = {name: found[1] for name in (*_DECIMALS, "GGA", "LHFCALC") if (found := re.search(_TAG.format(name), head))}
    tags["METAGGA"] = next(iter(re.findall(r"\bMETAGGA\s*=\s*([A-Za-z][\w-]+)", head)), "")
    if tags.get("GGA", "--") == "--":
        tags["GGA"] = "/".join(dict.fromkeys(_POTENTIALS.findall(head)))
    hubbard = _HUBBARD.search(head)
    return tell(tags, symbols, _TITLES.findall(head), hubbard[1].split() if hubbard else ())


def told_in_vasprun(parameters: ET.Element, atominfo: ET.Element) -> Told:
    """Return what two elements of a vasprun.xml tell."""
    names = {"ENCUT": "ENMAX"}
    tags = {
        name: (parameters.findtext(f".//i[@name='{names.get(name, name)}']") or "").strip()
        for name in (*_DECIMALS, "GGA", "LHFCALC", "METAGGA")
    }
    hubbard = (parameters.findtext(".//v[@name='LDAUU']") or "").split() if is_on(parameters, "LDAU") else ()
    rows = [[cell.text or "" for cell in row] for row in atominfo.iterfind("array[@name='atomtypes']/set/rc")]
    return tell(tags, [row[1].strip() for row in rows], [row[-1] for row in rows], hubbard)


def tell(tags: Mapping[str, str], symbols: Sequence[str], titles: Sequence[str], hubbard: Sequence[str]) -> Told:
    """Return what is told of a reference by its tags, its potentials and their U, eV."""
    told = {name: round_number(tags.get(name, ""), decimals) for name, decimals in _DECIMALS.items()}
    functional = tags.get("GGA", "").strip("-").upper()
    told |= {"GGA": functional, "METAGGA": tags.get("METAGGA", "").strip("-").upper()}
    told["LHFCALC"] = tags.get("LHFCALC", "").strip(".").upper()[:1]
    told["METAGGA"] = "" if told["METAGGA"] in {"F", "NONE"} else told["METAGGA"]
    told |= _by_element("TITEL", symbols, titles)
    told |= _by_element("LDAUU", symbols, [round_number(value, 1) for value in hubbard])
    return {name: value for name, value in told.items() if value}


def _by_element(name: str, symbols: Sequence[str], values: Sequence[str]) -> Told:
    """Return a value for each element; of sublattices with values of their own all of them."""
    found: dict[str, list[str]] = {}
    if len(symbols) == len(values):
        for symbol, value in zip(symbols, values, strict=True):
            found.setdefault(symbol, []).append(" ".join(value.split()))
    return {f"{name} {symbol}": "/".join(dict.fromkeys(each)) for symbol, each in found.items()}


def is_on(parameters: ET.Element, name: str) -> bool:
    """Say whether a logical tag is true in an element of a vasprun.xml."""
    return (parameters.findtext(f".//i[@name='{name}']") or "").strip(" .").upper().startswith("T")
