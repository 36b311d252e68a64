"""What pw.x would print of a user's input, to compare files of others with. Ry; U in eV.

The functional is left out, which the potentials may decide.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from al_driver.data.ledger import SHORT
from al_driver.data.pw_head import INTERSITE
from al_driver.data.reference import Told, round_number
from al_driver.engines.pw_input import INDEXED, PwInput
from al_driver.engines.pw_settings import canonical
from al_driver.engines.pw_sites import type_of
from al_driver.engines.sites import shared_by_atoms

_U = "hubbard_u"


def describe_told(user: PwInput, potentials: Mapping[str, Path], hubbard_u: Mapping[str, float]) -> Told:
    """Return what is known to be printed; the U of an element is empty where it is not the same for all its atoms.

    Parameters
    ----------
    hubbard_u
        By site, in addition to the input's own.
    """
    ecutwfc, width = (canonical(user.value("system", key) or "") for key in ("ecutwfc", "degauss"))
    ecutrho = canonical(user.value("system", "ecutrho") or "") or (4 * ecutwfc if isinstance(ecutwfc, float) else "")
    told = {"ecutwfc": round_number(ecutwfc, 2), "ecutrho": round_number(ecutrho, 2)}
    is_smeared = canonical(user.value("system", "occupations") or "") == "smearing"
    told["degauss"] = round_number(width, 4) if is_smeared else "none"
    sums = {symbol: hashlib.md5(path.read_bytes(), usedforsecurity=False) for symbol, path in potentials.items()}
    told |= {f"pseudo {symbol}": digest.hexdigest()[:SHORT] for symbol, digest in sums.items()}
    return {name: value for name, value in told.items() if value} | _tell_hubbard(user, potentials, hubbard_u)


def _tell_hubbard(user: PwInput, elements: Iterable[str], hubbard_u: Mapping[str, float]) -> Told:
    """Return the U of each element; nothing where the input has J or the like, which is printed in several ways."""
    kinds = _kinds_of(user) if hubbard_u or "HUBBARD" in user.cards or user.is_true("system", "lda_plus_u") else {"u"}
    if "v" in kinds:
        return {f"U {element}": INTERSITE for element in elements}
    if kinds - {"u"}:
        return {}
    given = _read_u(user) | {site: str(u) for site, u in hubbard_u.items()}
    values = {site: round_number(u, 4) for site, u in given.items()}
    return {f"U {element}": shared_by_atoms(values, element) for element in elements}


def _kinds_of(user: PwInput) -> set[str]:
    """Return in small letters which parameters an input has: U, J, J0, V and others."""
    rows = (line.split() for line in user.cards["HUBBARD"].lines) if "HUBBARD" in user.cards else ()
    keys = (match[1] for key in user.namelists.get("system", {}) if (match := INDEXED.fullmatch(key)))
    kinds = {row[0].lower() for row in rows if row} | {
        key.removeprefix("hubbard_") for key in keys if key.startswith("hubbard_")
    }
    scheme = {"1": {"j"}, "2": {"v"}}.get(user.value("system", "lda_plus_u_kind") or "0", set())
    return kinds | scheme


def _read_u(user: PwInput) -> dict[str, str]:
    """Return the U of an input by site, where they are on."""
    if "HUBBARD" in user.cards:
        rows = (line.split() for line in user.cards["HUBBARD"].lines)
        return {row[1].partition("-")[0]: row[2] for row in rows if len(row) > 2 and row[0].upper() == "U"}
    if not user.is_true("system", "lda_plus_u"):
        return {}
    matches = ((INDEXED.fullmatch(key), value) for key, value in user.namelists["system"].items())
    sites = ((type_of(match[2], user.types), value) for match, value in matches if match and match[1] == _U)
    return {site: str(canonical(value)) for site, value in sites if site is not None}
