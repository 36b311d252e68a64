"""What tells atoms of one element apart: sublattices by the atoms' tags, and values given by element or by sublattice.

``Fe1`` are iron atoms with the tag 1; ``Fe`` are all iron atoms, where no entry speaks of their own tag.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, TypeVar

from ase import Atoms
from pydantic import AfterValidator

from al_driver.errors import ConfigError, Problem

Value = TypeVar("Value")


def _check_site(name: str) -> str:
    if not re.fullmatch(r"[A-Z][a-z]?([1-9]\d*)?", name):
        raise ValueError(f"{name!r} needs an element, or an element and the tag of its atoms, such as Fe or Fe1")
    return name


Site = Annotated[str, AfterValidator(_check_site)]
"""An element, or an element with the tag of its atoms."""


def element_of(site: str) -> str:
    """Return the element of ``Fe1``."""
    return site.rstrip("0123456789")


def of_site(values: Mapping[str, Value], symbol: str, tag: int) -> Value | None:
    """Return the value of an atom: of its element with its tag, or of its element."""
    return values.get(f"{symbol}{tag}", values.get(symbol)) if tag else values.get(symbol)


def shared_by_atoms(values: Mapping[str, str], element: str) -> str:
    """Return what is told of all atoms of an element, 0 where no entry speaks of them; nothing where it is not one.

    >>> shared_by_atoms({"Fe": "4", "O1": "2"}, "Fe"), shared_by_atoms({"O1": "2"}, "O"), shared_by_atoms({}, "O")
    ('4', '', '0')
    """
    own = {site: value for site, value in values.items() if element_of(site) == element}
    found = {*own.values()} | ({"0"} if element not in own else set())
    return found.pop() if len(found) == 1 else ""


def check_sites(values: Mapping[str, object], key: str, type_map: Sequence[str]) -> Iterator[Problem]:
    """Yield sites of elements that never occur."""
    for site in values:
        if element_of(site) not in type_map:
            yield Problem(f"{site} is not of the type_map, {' '.join(type_map)}", key, severity="warning")


def check_tags(values: Mapping[str, object], key: str, atoms: Atoms) -> None:
    """Refuse a frame in which an element, given by sublattices alone, has no atom of any of them.

    Raises
    ------
    ConfigError
        Naming the element, and where tags come from.
    """
    there = {f"{symbol}{tag}" for symbol, tag in zip(atoms.symbols, atoms.get_tags(), strict=True)}
    for element in dict.fromkeys(atoms.get_chemical_symbols()):
        sites = [site for site in values if element_of(site) == element]
        if sites and element not in sites and not there.intersection(sites):
            named = " and ".join(sites)
            message = (
                f"{named} are given, but no {element} atom has such a tag; a column `tags` of an extxyz file gives it"
            )
            raise ConfigError(Problem(message, key))
