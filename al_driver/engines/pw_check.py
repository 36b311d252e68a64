"""What `al check` finds in a user's input of ``pw.x`` before anything is submitted."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from ase.io.espresso_namelist.keys import pw_keys

from al_driver.engines.pw_input import INDEXED, NAMELISTS, NOT_BY_TYPE, Card, PwInput
from al_driver.engines.pw_settings import describe_accuracy
from al_driver.engines.pw_sites import has_spin, site_of, type_of
from al_driver.engines.sites import element_of
from al_driver.engines.upf import check_upf
from al_driver.errors import Problem
from al_driver.schema.suggest import nearest

_USED_CARDS = frozenset(
    {"ATOMIC_SPECIES", "ATOMIC_POSITIONS", "CELL_PARAMETERS", "K_POINTS", "ATOMIC_VELOCITIES", "HUBBARD"}
)
_LOOSE_SCF = 1e-6  # Ry; forces of 4 to 8 atoms are off by 1 meV/Å there, and by up to 13 at ten times as much
_PATH_LENGTH = 80  # of a potential's name in pw.x

Finding = tuple[str, Literal["error", "warning"]]
"""What was found, and how bad it is."""


def check_pseudopotential(symbol: str, path: Path, folder: Path) -> Iterator[Problem]:
    """Yield why a file cannot serve as an element's potential; ``folder`` becomes pw.x's ``pseudo_dir``."""
    yield from check_upf(symbol, path)
    if path.is_file() and len(str(path.relative_to(folder))) > _PATH_LENGTH:
        yield Problem(
            f"{path}: pw.x cannot read so long a path; put the potentials into one folder", f"pseudopotentials.{symbol}"
        )


def check_namelists(user: PwInput) -> Iterator[Finding]:
    """Yield what pw.x would refuse, and what would mean something else for another structure."""
    system = user.namelists.get("system", {})
    for name in sorted(user.namelists.keys() - set(NAMELISTS)):
        yield f"pw.x knows no namelist &{name.upper()}{nearest(name, NAMELISTS)}", "error"
    for name in ("system", "electrons"):
        if name not in user.namelists:
            yield f"&{name.upper()} is missing", "error"
    if "ecutwfc" not in system:
        yield "ecutwfc (Ry) is missing in &SYSTEM; it decides the quality of every label", "error"
    for name, keys in user.namelists.items():
        for key in keys if name in pw_keys else ():
            known = pw_keys[name]
            if key.partition("(")[0] not in {word.lower() for word in known}:
                yield f"&{name.upper()} has {key!r}, which pw.x may not know{nearest(key, known)}", "warning"
    if user.value("system", "occupations") == "from_input":
        yield "occupations = 'from_input' are those of one structure; use smearing, fixed or tetrahedra", "error"
    for key in ("startingpot", "startingwfc"):
        if user.value("electrons", key) == "file":
            yield f"{key} = 'file' needs the files of another calculation; take it out", "error"
    threshold = describe_accuracy(user)["conv_thr"]
    if threshold > _LOOSE_SCF:
        yield f"conv_thr = {threshold:g} Ry: forces are noisy above {_LOOSE_SCF:g}", "warning"
    for key in ("nbnd", "nr1", "nr2", "nr3", "tot_magnetization", "tot_charge"):
        if key in system:
            yield f"{key} = {system[key]} is kept as it is for structures of every size", "warning"
    types = user.types
    for key in system:
        match = INDEXED.fullmatch(key)
        if match and match[1] == "hubbard_v":
            yield f"{key} is numbered by the atoms of one structure", "error"
        elif match and match[1] not in NOT_BY_TYPE and not type_of(match[2], types):
            yield f"{key}: no line of ATOMIC_SPECIES says which element that is; call it there Fe, or Fe1", "error"
    if (
        has_spin(user)
        and "tot_magnetization" not in system
        and (user.value("system", "occupations") or "fixed") == "fixed"
    ):
        yield "nspin = 2 with fixed occupations needs tot_magnetization; use occupations = 'smearing'", "error"
    if "nspin" in system and system["nspin"].strip() not in {"1", "2", "4"}:
        yield f"nspin = {system['nspin']} is not 1, 2 or 4", "error"


def check_given_twice(
    user: PwInput, magmoms: Mapping[str, float], hubbard_u: Mapping[str, float], charge: float | None
) -> Iterator[Finding]:
    """Yield what both the input and a key of ours say, and spin that the input forbids."""
    system = user.namelists.get("system", {})
    pairs = (("starting_magnetization(", magmoms, "magmoms"), ("hubbard_u(", hubbard_u, "hubbard_u"))
    for beginning, given, key in pairs:
        own = next((each for each in system if each.startswith(beginning)), None)
        if own and given:
            yield f"{own} and `{key}` both speak of the atoms; take one of them out", "error"
    if hubbard_u and "HUBBARD" in user.cards:
        yield "card HUBBARD and `hubbard_u` both give U; take one of them out", "error"
    if charge is not None and "tot_charge" in system:
        yield f"tot_charge = {system['tot_charge']} and `charge` both give the charge; take one of them out", "error"
    if magmoms and "nspin" in system and not has_spin(user):
        yield f"nspin = {system['nspin']}, but `magmoms` are given; take one of them out", "error"


def check_cards(user: PwInput, pseudopotentials: Mapping[str, Path]) -> Iterator[Finding]:
    """Yield cards that cannot serve every structure, and potentials other than those that will be used."""
    for name in sorted(user.cards.keys() - _USED_CARDS):
        yield f"card {name} belongs to one structure; take it out", "error"
    for line in user.cards.get("HUBBARD", Card("", ())).lines:
        words = line.split()
        if len(words) != 3 or words[0].upper() == "V":
            yield (
                f"HUBBARD: {line!r} speaks of the atoms of one structure; only lines such as U Fe-3d 4.0 serve all",
                "error",
            )
        elif not site_of(words[1].partition("-")[0]):
            yield f"HUBBARD: {words[1]!r} names no element; write Fe-3d, or Fe1-3d for atoms with the tag 1", "error"
    rows = (line.split() for line in user.cards.get("ATOMIC_SPECIES", Card("", ())).lines)
    for symbol, _, file in (row[:3] for row in rows if len(row) >= 3):
        used = pseudopotentials.get(element_of(symbol))
        if used is not None and used.name != Path(file.strip("'\"")).name:
            yield f"ATOMIC_SPECIES names {file} for {symbol}; {used} of `pseudopotentials` is used", "warning"


def check_k_points(user: PwInput, key: str | None) -> Iterator[Finding]:
    """Yield what is wrong when K_POINTS of the input and one of our keys, or neither, choose k-points."""
    card = user.cards.get("K_POINTS")
    if card and key:
        yield f"K_POINTS of the input and `{key}` both choose k-points; take one of them out", "error"
    elif card is None and key is None:
        yield "nothing chooses k-points; give `kspacing`, `kpoints`, or K_POINTS in the input", "error"
    elif card and card.option not in {"gamma", "automatic"}:
        yield (
            f"K_POINTS {card.option or 'tpiba'} is a list for one cell; use `kspacing`, or K_POINTS automatic",
            "error",
        )
    elif card and card.option == "automatic" and not _is_grid(card):
        yield "K_POINTS automatic needs a line of six integers: the grid and its shift", "error"


def _is_grid(card: Card) -> bool:
    words = card.lines[0].split() if card.lines else []
    return len(words) >= 6 and all(word.isdecimal() for word in words[:6])
