"""What the head of a VASP run tells of its reference, in the digits that OUTCAR and vasprun.xml share.

GGA is the functional that was used: the INCAR's, or that of the potentials. What a run does not name is off, where its
file would name it: an OUTCAR prints the U of every run that has one, but METAGGA and IVDW for certain only where it
repeats the INCAR, as from VASP 6 on (an IVDW that is on, before its first energy too); a vasprun.xml always does. Of
U and J, Dudarev's scheme (LDAUTYPE = 2, VASP's own) has the difference alone. Source: the VASP wiki, "INCAR tag".
"""

import math
import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from al_driver.data.formats.steps import parse_float
from al_driver.data.reference import Told, round_number

NO_EDIFF = "it names no EDIFF, so nothing shows that it was reached"
ML_STEP = "of the machine-learned force field (ML_LMLFF), without DFT"
"""What steps of both files are refused for."""
OFF = {"METAGGA": "NONE", "IVDW": "0", "LSORBIT": "F", "LUSE_VDW": "F"}
"""What it means that an INCAR does not name these."""
_ECHO = re.compile(r"^ *INCAR:[^\n]*\n(.*?)^ *POTCAR:", re.MULTILINE | re.DOTALL)
_GIVEN = re.compile(r"(?:^|;) *([A-Za-z]\w*) *= *([^\s;#!]+)", re.MULTILINE)
_TAG = r"^ *{}\s*=\s*(\S+?);?\s"
_SIGMA = r"(?:ISMEAR *= *\S+?; *)?SIGMA"
_NAMED = re.compile(r"^ *METAGGA\s*=\s*([A-Za-z][\w-]+)", re.MULTILINE)  # F is LMETAGGA
_TITLES = re.compile(r"TITEL\s*=\s*(.*\S)")
_HUBBARD = re.compile(r"for each species (LDAU[LUJ])\s*=((?:[ \t]+-?[\d.]+)+)")
_SCHEME = re.compile(r"LDAUTYPE\s*=\s*(\d)")
_DUDAREV = 2
_POTENTIALS = re.compile(r"LEXCH\s*=\s*([A-Za-z]\w?)\s")
_DECIMALS = {"ENCUT": 1, "SIGMA": 2, "ISMEAR": 0, "ISPIN": 0, "IVDW": 0, "AEXX": 4, "HFSCREEN": 4}
_OF_HUBBARD = ("LDAUL", "LDAUU", "LDAUJ")
TRUTHS = ("LHFCALC", "LSORBIT", "LNONCOLLINEAR", "LUSE_VDW")
_WITHOUT_SIGMA = {"-2", "-4", "-5", "-14", "-15"}
"""Given occupations, and tetrahedra."""
_SAME_IVDW = {"10": "1", "20": "2"}
_OF_TITLE = {"PAW_PBE": "PE", "PAW": "CA"}


def told_in_outcar(head: str, symbols: Sequence[str]) -> Told:
    """Return what the head of an OUTCAR tells; ``symbols`` are the elements of its potentials."""
    echo = _ECHO.search(head)
    printed = head[: echo.start(1)] + head[echo.end(1) :] if echo else head
    tags = {name.upper(): value for name, value in _GIVEN.findall(echo[1])} if echo else {}
    tags = OFF | tags if tags else tags
    for name in (*_DECIMALS, *TRUTHS, "GGA"):
        if found := re.search(_TAG.format(_SIGMA if name == "SIGMA" else name), printed, re.MULTILINE):
            tags[name] = found[1]
    if named := _NAMED.search(printed):
        tags["METAGGA"] = named[1]
    if tags.get("GGA", "--") == "--":
        tags["GGA"] = "/".join(dict.fromkeys(_POTENTIALS.findall(printed)))
    of_species = {name: values.split() for name, values in _HUBBARD.findall(printed)}
    scheme = _SCHEME.search(printed)
    hubbard = acting(of_species, float(scheme[1]) if scheme else _DUDAREV) if of_species else ["0"] * len(symbols)
    return tell(tags, symbols, _TITLES.findall(printed), hubbard)


def told_in_vasprun(incar: ET.Element | None, parameters: ET.Element, atominfo: ET.Element) -> Told:
    """Return what three elements of a vasprun.xml tell; the first is the INCAR, which VASP repeats there."""
    names = {"ENCUT": "ENMAX"}
    tags = {} if incar is None else dict(OFF)
    for name in (*_DECIMALS, *TRUTHS, "GGA", "METAGGA"):
        for element in (parameters, incar):
            found = None if element is None else element.findtext(f".//i[@name='{names.get(name, name)}']")
            if found and found.strip():
                tags[name] = found.strip()
                break
    rows = [[cell.text or "" for cell in row] for row in atominfo.iterfind("array[@name='atomtypes']/set/rc")]
    values = {name: (parameters.findtext(f".//v[@name='{name}']") or "").split() for name in _OF_HUBBARD}
    scheme = parse_float(parameters.findtext(".//i[@name='LDAUTYPE']") or "2")
    hubbard = acting(values, scheme) if is_on(parameters, "LDAU") else ["0"] * len(rows)
    return tell(tags, [row[1].strip() for row in rows], [row[-1] for row in rows], hubbard)


def tell(tags: Mapping[str, str], symbols: Sequence[str], titles: Sequence[str], hubbard: Sequence[str]) -> Told:
    """Return what is told of a reference by its tags, its potentials and their U, as `acting` returns it; what is empty
    is not known."""
    told = {name: _shared(tags.get(name, ""), decimals) for name, decimals in _DECIMALS.items()}
    if told["SIGMA"] == "0":  # an OUTCAR prints 0.00 of more decimals
        width = parse_float(tags["SIGMA"])
        told["SIGMA"] = f"{width:g}" if width else ""
    told["IVDW"] = _SAME_IVDW.get(told["IVDW"], told["IVDW"])
    told["GGA"] = _word(tags.get("GGA", "")) or _functional_of(titles)
    told["METAGGA"] = _word(tags.get("METAGGA", ""))[:5]
    told |= {name: _word(tags.get(name, ""))[:1] for name in TRUTHS}
    told["METAGGA"] = "none" if told["METAGGA"] in {"F", "NONE"} else told["METAGGA"]
    unused = _unused(told)
    told |= _by_element("TITEL", symbols, titles)
    told |= _by_element("U-J", symbols, hubbard)
    return {name: value for name, value in told.items() if value and name not in unused}


def _unused(told: Told) -> set[str]:
    """Return the names of what VASP passes over beside the rest."""
    unused = {"LNONCOLLINEAR"}  # told by LSORBIT, or rare
    if told["ISMEAR"] in _WITHOUT_SIGMA:
        unused.add("SIGMA")
    if "T" in (told["LSORBIT"], told["LNONCOLLINEAR"]):
        unused.add("ISPIN")
    if told["LHFCALC"] != "T":
        unused |= {"AEXX", "HFSCREEN"}
    if told["METAGGA"] not in {"", "none"}:
        unused.add("GGA")
    return unused


def acting(values: Mapping[str, Sequence[str]], scheme: float) -> list[str]:
    """Return what acts on each potential, eV: U − J, with another scheme than Dudarev's U and J; 0 where LDAUL is -1.

    >>> acting({"LDAUL": ["2", "-1"], "LDAUU": ["5.0", "4.0"], "LDAUJ": ["1.0", "0"]}, scheme=2)
    ['4', '0']
    """
    u = values.get("LDAUU", ())
    exchange = values.get("LDAUJ") or ["0"] * len(u)
    orbitals = values.get("LDAUL") or [""] * len(u)
    if not len(u) == len(exchange) == len(orbitals):
        return []
    return [
        "0" if orbital == "-1" else describe_u(parse_float(each), parse_float(j), scheme)
        for each, j, orbital in zip(u, exchange, orbitals, strict=True)
    ]


def describe_u(u: float, j: float, scheme: float) -> str:
    """Return what U and J, eV, are told as: their difference, or both."""
    if scheme == _DUDAREV:
        return _shared(f"{u - j:.6f}", 1)
    both = [_shared(f"{value:.6f}", 1) for value in (u, j)]
    return " J ".join(both) if all(both) else ""


def _shared(text: str, decimals: int) -> str:
    """Return a number as an OUTCAR prints it; nothing where that is open, as of 0.125 with two decimals.

    >>> _shared("0.05000000", 2), _shared("800.0D0", 1), _shared("0.125", 2), _shared("yes", 2)
    ('0.05', '800', '', '')
    """
    value = parse_float(text)
    if not math.isfinite(value) or abs(abs(value) * 10**decimals % 1 - 0.5) < 1e-6:
        return ""
    return round_number(value, decimals)


def _word(text: str) -> str:
    return text.strip("\"' .-").upper()


def _functional_of(titles: Sequence[str]) -> str:
    """Return the functional that TITELs tell, as LEXCH has it; nothing where one of them is unknown."""
    found = dict.fromkeys(_OF_TITLE.get(title.strip().partition(" ")[0], "") for title in titles)
    return "" if "" in found else "/".join(found)


def _by_element(name: str, symbols: Sequence[str], values: Sequence[str]) -> Told:
    """Return a value for each element; of sublattices with values of their own all of them, in no order."""
    found: dict[str, list[str]] = {}
    if len(symbols) == len(values):
        for symbol, value in zip(symbols, values, strict=True):
            found.setdefault(symbol, []).append(" ".join(value.split()))
    return {f"{name} {symbol}": "/".join(sorted(set(each))) for symbol, each in found.items() if all(each)}


def is_on(parameters: ET.Element, name: str) -> bool:
    """Say whether a logical tag is true in an element of a vasprun.xml."""
    return (parameters.findtext(f".//i[@name='{name}']") or "").strip(" .").upper().startswith("T")
