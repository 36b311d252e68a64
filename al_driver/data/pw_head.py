"""What the head of a ``pw.x`` run tells of its reference: cutoffs and smearing (Ry), functional, potentials, U (eV).

pw.x prints U as a table by species (simplified scheme), as ``U(  1) =`` by their number (full scheme), or, from 7.1 on,
as ``U(Fe-3d) =``; of intersite terms (V) it may print nothing. Sublattices of an element are told together.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from al_driver.data.ledger import SHORT
from al_driver.data.reference import Told, round_number

OF_REFERENCE = (
    r"(?P<cutoff>kinetic-energy cutoff|charge density cutoff)\s*=(?P<rydberg>.*)Ry|Exchange-correlation\s*=(?P<xc>.*)"
    r"|PseudoPot\. #\s*\d+ for\s+(?P<pseudo>[A-Za-z]{1,2})\b"
    r"|number of k points=\s*\d+(?P<occupations>.*)"
)
"""The beginnings of lines, as alternatives of a regular expression."""
OF_HUBBARD = (
    r"(?P<intersite>Reading Hubbard V)|(?P<projectors>Hubbard projectors)|(?P<table>atomic species +L +U)"
    r"|(?:Full LDA\+U calculation|Hubbard parameters of DFT\+U)(?P<values>.*)"
)
INTERSITE = "with intersite V"
"""What is told of each element's U where terms between sites are on, whose values pw.x may not print."""
_ANY = "U"
_SMEARING = re.compile(r"\s*(?P<kind>.*\S)\s+smearing, width \(Ry\)=\s*(?P<width>\S+)")
_PARAMETER = re.compile(r"\b(U|J0|J)\( *([A-Za-z0-9_]+)(?:-\d\w)?\) *= *(-?[\d.]+)")
_COLUMNS = {"U": 2, "J0": 4}


def take_reference(told: Told, elements: Mapping[str, str], match: re.Match[str], stream: Iterator[str]) -> bool:
    """Take what the run's reference is from a line, if it tells of it; a functional by its numbers, which stay.

    Parameters
    ----------
    elements
        By the names of ATOMIC_SPECIES, in their order.
    match
        Of a regular expression that has `OF_REFERENCE` and `OF_HUBBARD`.
    stream
        The lines after it.
    """
    if match["cutoff"]:
        name = "ecutwfc" if match["cutoff"].startswith("kinetic") else "ecutrho"
        told[name] = round_number(match["rydberg"], 2)
    elif match["occupations"] is not None:
        smearing = _SMEARING.match(match["occupations"])
        told["degauss"] = round_number(smearing["width"], 4) if smearing else "none"
        told["occupations"] = smearing["kind"] if smearing else match["occupations"].strip(" ()\n")
    elif match["pseudo"]:
        checksum = next((line.split()[-1] for line in islice(stream, 2) if "MD5" in line), "")
        told[f"pseudo {match['pseudo'].capitalize()}"] = checksum[:SHORT]
    elif match["xc"] is not None:
        numbers = (match["xc"] if "(" in match["xc"] else next(stream, "")).partition("(")[2]
        told["functional"] = _functional(numbers)
    elif match["intersite"]:
        told[_ANY] = INTERSITE
    elif match["projectors"]:  # of 7.1 on; values follow
        told[_ANY] = ""
        _drop_hubbard(told)
    elif match["table"] or match["values"] is not None:
        lines = list(iter(lambda: next(stream, "").strip(), ""))
        values = _read_table(lines) if match["table"] else _read_values(lines, list(elements))
        told.update(tell_hubbard(elements, values, INTERSITE if "+V" in (match["values"] or "") else ""))
    else:
        return False
    return True


def tell_no_hubbard(told: Told, elements: Mapping[str, str]) -> None:
    """Tell, before U are printed, that no element has one; or that there are terms between sites."""
    otherwise = told.pop(_ANY, None)
    told.update(tell_hubbard(elements, {}, otherwise or "") if otherwise != "" else {})


def tell_hubbard(elements: Mapping[str, str], values: Mapping[str, str], otherwise: str = "") -> Told:
    """Return what is told of each element's U; of sublattices with other values all of them, in no order.

    Parameters
    ----------
    elements
        By the names of species.
    values
        As `describe_hubbard` returns them, by the names of species.
    otherwise
        What is told of all of them in place of values.

    >>> tell_hubbard({"Fe1": "Fe", "Fe2": "Fe", "O": "O"}, {"Fe1": "4", "Fe2": "3.5"})
    {'U Fe': '3.5/4', 'U O': '0'}
    """
    found: dict[str, set[str]] = {}
    for name, element in elements.items():
        found.setdefault(element, set()).add(otherwise or values.get(name, "0"))
    return {f"U {element}": "/".join(sorted(each)) for element, each in found.items()}


def describe_hubbard(parameters: Mapping[str, str]) -> str:
    """Return U with what stands beside it: J of the full scheme, J0 of the simplified one where it is not 0.

    >>> describe_hubbard({"U": "4.0000", "J0": "0.0000"}), describe_hubbard({"U": "4.0", "J": "0.8"})
    ('4', '4 J 0.8')
    """
    rounded = {name: round_number(text, 4) for name, text in parameters.items()}
    beside = [f"{name} {value}" for name, value in rounded.items() if name == "J" or (name != "U" and value != "0")]
    return " ".join([rounded.get("U", "0"), *beside])


def _drop_hubbard(told: Told) -> None:
    for name in [name for name in told if name.startswith("U ")]:
        del told[name]


def _read_table(lines: Sequence[str]) -> dict[str, str]:
    rows = [line.split() for line in lines]
    return {
        row[0]: describe_hubbard({name: row[column] for name, column in _COLUMNS.items()})
        for row in rows
        if len(row) > max(_COLUMNS.values())
    }


def _read_values(lines: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Return U by species; ``U(  2)`` is of the second one."""
    found: dict[str, dict[str, str]] = {}
    for parameter, site, value in (each for line in lines for each in _PARAMETER.findall(line)):
        name = names[int(site) - 1] if site.isdecimal() and 0 < int(site) <= len(names) else site
        found.setdefault(name, {})[parameter] = value
    return {name: describe_hubbard(parameters) for name, parameters in found.items()}


def _functional(text: str) -> str:
    """Return the numbers of a functional, without zeros at the end; pw.x 4 printed them without spaces.

    >>> _functional("1434)"), _functional("  1   4   3   4   0   0   0)"), _functional(" 0 0 0 0 0 5 0)")
    ('1 4 3 4', '1 4 3 4', '0 0 0 0 0 5')
    """
    numbers = re.findall(r"\d+", text)
    numbers = [*numbers[0]] if len(numbers) == 1 else numbers
    while numbers and int(numbers[-1]) == 0:
        numbers.pop()
    return " ".join(numbers)
