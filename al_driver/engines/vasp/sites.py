"""What belongs to atoms and not to a calculation: first magnetic moments, U, charge. μ_B, eV.

A moment stands with the atom (``initial_magmoms`` of the structure file), or comes from the element; an element's atoms
are told apart by their ``tags``: ``Fe1`` are iron atoms with the tag 1, ``Fe`` all others.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Annotated, Literal

from ase import Atoms

from al_driver.engines.sites import element_of, of_site
from al_driver.engines.vasp.incar import Tags, is_true, number
from al_driver.engines.vasp.poscar import Layout
from al_driver.engines.vasp.potentials import Potential
from al_driver.errors import ConfigError, Problem
from al_driver.schema.base import Float, NonNegativeFloat, Params
from al_driver.schema.elements import Element
from al_driver.units import Unit


class Hubbard(Params):
    """U and J of the electrons of one kind of an element's atoms."""

    l: Literal[0, 1, 2, 3]  # noqa: E741  (as VASP and every paper call it)
    """Of which electrons: 0 s, 1 p, 2 d, 3 f."""
    u: Annotated[NonNegativeFloat, Unit("eV")]
    """LDAUU."""
    j: Annotated[Float, Unit("eV")] = 0.0
    """LDAUJ."""


def magnetic_tags(user: Tags, atoms: Atoms, layout: Layout, magmoms: Mapping[str, float], key: str) -> Tags:
    """Return ISPIN and MAGMOM; an atom's own moment comes before its element's. None without spin.

    Where moments are given and an atom has none, it starts from 0.

    Raises
    ------
    ConfigError
        If atoms have moments, and nobody says whether the calculation is spin-polarised; ``key`` names the INCAR.
    """
    own = atoms.get_initial_magnetic_moments()
    if own.ndim > 1 or is_noncollinear(user) or not (magmoms or own.any()):
        return {}
    if not magmoms and "ISPIN" not in user:
        message = "a structure gives its atoms moments, but the INCAR has no ISPIN; set ISPIN = 2, or 1 to ignore them"
        raise ConfigError(Problem(message, key))
    if not magmoms and number(user, "ISPIN", 1) != 2:
        return {}
    values = [
        float(own[index]) if own.any() else of_site(dict(magmoms), atoms.symbols[index], atoms.get_tags()[index]) or 0.0
        for index in layout.order
    ]
    runs = [(value, len(list(group))) for value, group in groupby(values)]
    words = " ".join(f"{count}*{value:.10g}" if count > 1 else f"{value:.10g}" for value, count in runs)
    return {"ISPIN": "2", "MAGMOM": words}


def hubbard_tags(user: Tags, layout: Layout, ldau: Mapping[str, Hubbard]) -> Tags:
    """Return LDAU and what belongs to it, a number for each group of the POSCAR."""
    if not ldau:
        return {}
    found = [ldau.get(name, ldau.get(symbol)) for (symbol, name), _ in layout.groups]
    return {
        "LDAU": ".TRUE.",
        "LDAUTYPE": user.get("LDAUTYPE", "2"),
        "LDAUL": " ".join("-1" if one is None else str(one.l) for one in found),
        "LDAUU": " ".join("0" if one is None else f"{one.u:.10g}" for one in found),
        "LDAUJ": " ".join("0" if one is None else f"{one.j:.10g}" for one in found),
    }


def charge_tags(charge: float | None, layout: Layout, potentials: Mapping[Element, Potential]) -> Tags:
    """Return NELECT: the valence electrons of the potentials, less the charge of the cell."""
    if charge is None:
        return {}
    neutral = sum(count * potentials[symbol].n_electrons for (symbol, _), count in layout.groups)
    return {"NELECT": f"{neutral - charge:.10g}"}


def is_noncollinear(tags: Tags) -> bool:
    """Say whether moments are vectors."""
    return is_true(tags, "LSORBIT") or is_true(tags, "LNONCOLLINEAR")


def has_spin(tags: Tags) -> bool:
    """Say whether a calculation is spin-polarised."""
    return number(tags, "ISPIN", 1) == 2 or is_noncollinear(tags)


def split_sites(ldau: Mapping[str, Hubbard]) -> Sequence[str]:
    """Return the names that need a group of their own in the POSCAR."""
    return [name for name in ldau if name != element_of(name)]
