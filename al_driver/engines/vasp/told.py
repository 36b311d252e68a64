"""What an OUTCAR of the user's INCARs and POTCARs would tell of them, to compare files of others with. eV."""

from collections.abc import Mapping, Sequence

from al_driver.data.formats.vasp_head import tell
from al_driver.data.reference import Told
from al_driver.engines.vasp.incar import Tags, is_true, number
from al_driver.engines.vasp.potentials import Potential

_DEFAULTS = {"ISMEAR": 1.0, "SIGMA": 0.2, "IVDW": 0.0}


def told_of(incars: Sequence[Tags], potentials: Mapping[str, Potential]) -> Told:
    """Return what all frames have, whichever INCAR is theirs.

    Left out are a cutoff that the potentials of a structure give, and ISPIN where its moments do.
    """
    first, *others = (_told_of(tags, potentials) for tags in incars)
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _told_of(tags: Tags, potentials: Mapping[str, Potential]) -> Told:
    functionals = {potential.functional for potential in potentials.values()}
    found = {name: str(number(tags, name, default)) for name, default in _DEFAULTS.items()}
    found |= {name: str(number(tags, name, 0)) for name in ("ENCUT", "ISPIN") if name in tags}
    found["GGA"] = tags.get("GGA", functionals.pop() if len(functionals) == 1 else "").strip("\"'")[:2]
    found["METAGGA"] = tags.get("METAGGA", "").strip("\"'")
    found["LHFCALC"] = "T" if is_true(tags, "LHFCALC") else "F"
    return tell(found, list(potentials), [potential.title for potential in potentials.values()], ())
