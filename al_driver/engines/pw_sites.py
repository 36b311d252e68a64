"""Species of ``pw.x``: atoms of one element that differ in tag or first moment are species of their own, ``Fe1``.

pw.x knows first moments, U and their like by species alone. A moment stands with the atom (``initial_magmoms`` of the
structure file) or comes from our keys, in μ_B; pw.x reads it as a share of the valence electrons of the potential.
What the user's input gives by the lines of its ATOMIC_SPECIES goes to all species of that element, or, where a line is
called ``Fe1``, to those of its atoms with the tag 1. Source: INPUT_PW of the Quantum ESPRESSO documentation.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ase import Atoms
from ase.data import atomic_numbers

from al_driver.engines.pw_input import INDEXED, NOT_BY_TYPE, Card, PwInput
from al_driver.engines.sites import element_of, of_site
from al_driver.errors import ConfigError, Problem

MOST_SPECIES = 10
"""In one calculation: ntypx of pw.x."""
_OF_MOMENTS = "starting_magnetization"
_SITE = re.compile(r"[A-Z][a-z]?([1-9]\d*)?")


@dataclass(frozen=True)
class Species:
    """A line of ATOMIC_SPECIES."""

    name: str
    symbol: str
    tag: int
    """Of its atoms, where something is given for that tag; otherwise 0."""
    moment: float | None
    """Of each of its atoms at first, μ_B; None where only the user's input may speak of it."""


def site_of(name: str) -> str | None:
    """Return what a name of ATOMIC_SPECIES speaks of: an element, or one with a tag; None where it is neither."""
    return name if _SITE.fullmatch(name) and element_of(name) in atomic_numbers else None


def type_of(indices: str, types: Sequence[str]) -> str | None:
    """Return the site that the last index of a key, such as ``starting_magnetization(1)``, stands for."""
    last = indices.split(",")[-1]
    return site_of(types[int(last) - 1]) if last.isdecimal() and 1 <= int(last) <= len(types) else None


def has_spin(user: PwInput) -> bool:
    """Say whether a user's input asks for a spin-polarised calculation."""
    return user.value("system", "nspin") in {"2", "4"} or user.is_true("system", "noncolin")


def first_moments(user: PwInput, atoms: Atoms, magmoms: Mapping[str, float]) -> list[float] | None:
    """Return the first moment of each atom, μ_B: its own, else that of its site, else 0; None where none are given.

    Raises
    ------
    ConfigError
        If atoms have moments, and nobody says whether the calculation is spin-polarised.
    """
    own = atoms.get_initial_magnetic_moments()
    if own.ndim > 1 or not (magmoms or own.any()):
        return None
    if not magmoms and not has_spin(user):
        if "nspin" in user.namelists.get("system", {}):
            return None
        message = "a structure gives its atoms moments, but the input has no nspin; set nspin = 2, or 1 to ignore them"
        raise ConfigError(Problem(message, "input"))
    if own.any():
        return [float(moment) for moment in own]
    pairs = zip(atoms.symbols, atoms.get_tags(), strict=True)
    return [of_site(magmoms, symbol, tag) or 0.0 for symbol, tag in pairs]


def make_species(
    atoms: Atoms, elements: Sequence[str], sites: Collection[str], moments: Sequence[float] | None
) -> tuple[list[Species], list[int]]:
    """Return the species of a frame, in the order of ``elements``, and the index of each atom's.

    Parameters
    ----------
    sites
        Names for which something is given; only tags that are among them tell atoms apart.

    Raises
    ------
    ConfigError
        If there are more than pw.x can tell apart.
    """
    tags = [
        int(tag) if f"{symbol}{tag}" in sites else 0
        for symbol, tag in zip(atoms.symbols, atoms.get_tags(), strict=True)
    ]
    own: Sequence[float | None] = moments or [None] * len(atoms)
    kinds = list(zip(atoms.symbols, tags, own, strict=True))
    wanted = sorted(dict.fromkeys(kinds), key=lambda kind: (elements.index(kind[0]), kind[1], -(kind[2] or 0.0)))
    if len(wanted) > MOST_SPECIES:
        message = (
            f"{len(wanted)} kinds of atoms, by element, tag and first moment; pw.x tells {MOST_SPECIES} apart.\n"
            "  Give all atoms of a sublattice one moment"
        )
        raise ConfigError(Problem(message, "magmoms"))
    species: list[Species] = []
    for symbol, tag, moment in wanted:
        is_only = sum(kind[0] == symbol for kind in wanted) == 1
        taken = {one.name for one in species}
        free = (f"{symbol}{number}" for number in ([tag] if 0 < tag < 10 else []) + list(range(1, 10)))
        name = symbol if is_only else next(each for each in (*free, symbol) if each not in taken)
        species.append(Species(name, symbol, tag, moment))
    return species, [wanted.index(kind) for kind in kinds]


def number_keys(system: Mapping[str, str], types: Sequence[str], species: Sequence[Species]) -> dict[str, str]:
    """Number keys by type as the frame's species are; what is of an element that the frame lacks is left out."""
    numbered: dict[str, str] = {}
    tables: dict[tuple[str, ...], dict[str, str]] = {}
    for key, value in system.items():
        match = INDEXED.fullmatch(key)
        if match is None or match[1] in NOT_BY_TYPE:
            numbered[key] = value
        elif site := type_of(match[2], types):
            tables.setdefault((match[1], *match[2].split(",")[:-1]), {})[site] = value
    for (name, *others), values in tables.items():
        for number, one in enumerate(species, 1):
            found = of_site(values, one.symbol, one.tag)
            if found is not None:
                numbered[f"{name}({','.join([*others, str(number)])})"] = found
    return numbered


def moment_keys(
    user: PwInput, numbered: Mapping[str, str], species: Sequence[Species], valences: Mapping[str, float]
) -> dict[str, str]:
    """Return nspin and the first moments, as shares of the valence electrons; none without spin.

    Raises
    ------
    ConfigError
        If a moment is larger than an atom can have, or nothing says any first moment, which pw.x refuses.
    """
    are_given = any(one.moment is not None for one in species)
    if not are_given and user.value("system", "nspin") != "2":
        return {}
    is_said = are_given or any(key.startswith(_OF_MOMENTS) for key in user.namelists.get("system", {}))
    if not is_said and "tot_magnetization" not in numbered:
        message = "nspin = 2, but nothing gives a first moment; use `magmoms`, or starting_magnetization in the input"
        raise ConfigError(Problem(message, "magmoms"))
    keys = {} if has_spin(user) else {"nspin": "2"}
    for number, one in enumerate(species, 1):
        key, n_electrons = f"{_OF_MOMENTS}({number})", valences[one.symbol]
        share = (one.moment or 0.0) / n_electrons
        if abs(share) > 1:
            message = f"{one.symbol} has {n_electrons:g} valence electrons, and no moment of {one.moment:g} μ_B"
            raise ConfigError(Problem(message, "magmoms"))
        if one.moment is not None or key not in numbered:
            keys[key] = f"{share:.10g}"
    return keys


def hubbard_keys(
    numbered: Mapping[str, str], species: Sequence[Species], hubbard_u: Mapping[str, float]
) -> dict[str, str | None]:
    """Return U, eV, and lda_plus_u; None for a lda_plus_u to take away, where no atom of the frame has a U."""
    found = [of_site(hubbard_u, one.symbol, one.tag) for one in species]
    keys: dict[str, str | None] = {
        f"hubbard_u({number})": f"{u:.10g}" for number, u in enumerate(found, 1) if u is not None
    }
    if any(found):
        return {"lda_plus_u": ".true.", **keys}
    if any(key.startswith("hubbard_") and "(" in key for key in numbered):
        return {}
    return {"lda_plus_u": None}


def hubbard_card(card: Card, species: Sequence[Species]) -> list[str]:
    """Return the lines of a user's HUBBARD card for the frame's species."""
    tables: dict[tuple[str, str], dict[str, str]] = {}
    for keyword, name, value in (line.split()[:3] for line in card.lines):
        site, _, manifold = name.partition("-")
        tables.setdefault((keyword, manifold), {})[site] = value
    return [
        f"{keyword} {one.name}-{manifold} {found}"
        for (keyword, manifold), values in tables.items()
        for one in species
        if (found := of_site(values, one.symbol, one.tag)) is not None
    ]


def named_sites(user: PwInput, *values: Mapping[str, object]) -> set[str]:
    """Return the names for which the user's input or our keys give something."""
    card = user.cards.get("HUBBARD", Card("", ()))
    of_card = {line.split()[1].partition("-")[0] for line in card.lines if len(line.split()) > 1}
    return {*user.types, *of_card, *(site for each in values for site in each)}
