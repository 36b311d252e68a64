"""What an OUTCAR of the user's INCARs and POTCARs would tell of them, to compare files of others with. eV."""

from collections.abc import Mapping, Sequence

from al_driver.data.formats.vasp_head import OFF, TRUTHS, describe_u, tell
from al_driver.data.reference import Told
from al_driver.engines.sites import shared_by_atoms
from al_driver.engines.vasp.incar import Tags, is_true, number
from al_driver.engines.vasp.potentials import Potential
from al_driver.engines.vasp.sites import Hubbard

_DEFAULTS = {"ISMEAR": 1.0, "SIGMA": 0.2, "ISPIN": 1.0, "AEXX": 0.25, "HFSCREEN": 0.0}


def told_of(
    incars: Sequence[Tags],
    potentials: Mapping[str, Potential],
    magmoms: Mapping[str, float],
    ldau: Mapping[str, Hubbard],
) -> Told:
    """Return what each frame has, whichever INCAR is its own; empty is what differs from one INCAR to another.

    Left out is what depends on the structure: a cutoff that its potentials give, the U of an element whose atoms have
    several.
    """
    each = [_told_of(tags, potentials, magmoms, ldau) for tags in incars]
    names = dict.fromkeys(name for told in each for name in told)
    values = {name: {told.get(name, "") for told in each} for name in names}
    return {name: found.pop() if len(found) == 1 else "" for name, found in values.items()}


def _told_of(
    tags: Tags, potentials: Mapping[str, Potential], magmoms: Mapping[str, float], ldau: Mapping[str, Hubbard]
) -> Told:
    functionals = {potential.functional for potential in potentials.values()}
    found = {name: str(number(tags, name, default)) for name, default in _DEFAULTS.items()}
    found |= {"ENCUT": str(number(tags, "ENCUT", 0))} if "ENCUT" in tags else {}
    found |= {"ISPIN": "2"} if magmoms else {}
    found |= {name: "T" if is_true(tags, name) else "F" for name in TRUTHS}
    found["IVDW"] = str(number(tags, "IVDW", 1.0 if is_true(tags, "LVDW") else 0.0))
    found["METAGGA"] = tags.get("METAGGA", OFF["METAGGA"])
    found["GGA"] = tags.get("GGA", functionals.pop() if len(functionals) == 1 else "")
    titles = [potential.title for potential in potentials.values()]
    return tell(found, list(potentials), titles, [_hubbard(tags, symbol, ldau) for symbol in potentials])


def _hubbard(tags: Tags, symbol: str, ldau: Mapping[str, Hubbard]) -> str:
    """Return what acts on all atoms of an element; nothing where it is the INCAR's, or of some of them another."""
    if not ldau:
        return "" if is_true(tags, "LDAU") else "0"
    scheme = number(tags, "LDAUTYPE", 2)
    return shared_by_atoms({site: describe_u(one.u, one.j, scheme) for site, one in ldau.items()}, symbol)
