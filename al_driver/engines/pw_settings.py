"""What in a user's input of ``pw.x`` decides what an SCF converges to, and what only how it gets there.

Named are the keys of the latter kind, and of &CONTROL and &ELECTRONS those of the former, so that a key nobody thought
of stands with what decides. Source: INPUT_PW of the Quantum ESPRESSO documentation.
"""

import re
from collections.abc import Mapping
from typing import Any

from ase.io.espresso_namelist.keys import pw_keys

from al_driver.engines.pw_input import INDEXED, NOT_BY_TYPE, Namelists, PwInput
from al_driver.engines.pw_sites import type_of
from al_driver.errors import ConfigError, Problem
from al_driver.schema.suggest import nearest

CONV_THR = 1e-6
"""pw.x's own threshold of the energy, Ry."""
MIXING_BETA = 0.7
"""pw.x's own."""
OF_ONE_CELL = re.compile(r"celldm\(\d\)|a|b|c|cosab|cosac|cosbc|space_group|uniqueb|origin_choice|rhombohedral")
"""Keys of &SYSTEM that say what CELL_PARAMETERS says."""
_OF_CONTROL = frozenset({"tefield", "dipfield", "lelfield", "gate", "lfcp", "trism", "nberrycyc", "lberry"})
_OF_ELECTRONS = frozenset({"efield", "efield_cart", "efield_phase", "real_space", "tqr"})
_NOT_OF_SYSTEM = frozenset(
    {"ibrav", "nat", "ntyp", "nosym", "nosym_evc", "noinv", "no_t_rev", "force_symmorphic", "use_all_frac", "report"}
)
_OF_MOTION = frozenset({"ions", "cell"})
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([ed][+-]?\d+)?")


def describe_settings(user: PwInput, *, is_relaxation: bool = False) -> dict[str, Any]:
    """Return the keys and cards that decide the numbers, however they are written; an index stands as its element."""
    found: dict[str, Any] = {}
    for name, keys in user.namelists.items():
        if name not in _OF_MOTION or is_relaxation:
            found[name] = {
                _by_element(key, user): canonical(value) for key, value in sorted(keys.items()) if _decides(name, key)
            }
    card = user.cards.get("K_POINTS")
    if card is not None:
        found["K_POINTS"] = [card.option, *(card.lines[0].split() if card.lines and card.option != "gamma" else ())]
    if "HUBBARD" in user.cards:
        card = user.cards["HUBBARD"]
        found["HUBBARD"] = [card.option, *sorted(" ".join(line.split()) for line in card.lines)]
    return {name: value for name, value in found.items() if value}


def describe_accuracy(user: PwInput) -> dict[str, float]:
    """Return the threshold of the energy, Ry, below which an SCF ends."""
    text = user.value("electrons", "conv_thr")
    return {"conv_thr": CONV_THR if text is None else _as_number(text, CONV_THR)}


def start_elsewhere(user: PwInput) -> PwInput:
    """Return an input whose SCF begins from other wave functions and mixes half as much of each new density."""
    own = user.value("electrons", "startingwfc")
    beta = _as_number(user.value("electrons", "mixing_beta") or "", MIXING_BETA)
    changes = {"startingwfc": "'atomic+random'" if own == "random" else "'random'", "mixing_beta": f"{beta / 2:.6g}"}
    return PwInput(user.namelists | {"electrons": user.namelists.get("electrons", {}) | changes}, user.cards)


def tag_names() -> list[str]:
    """Return every key that pw.x knows."""
    return sorted({key.lower() for keys in pw_keys.values() for key in keys})


def change_tags(user: PwInput, tags: Mapping[str, str]) -> PwInput:
    """Return an input with other values of keys, named as ``mixing_beta`` or ``electrons.mixing_beta``.

    Raises
    ------
    ConfigError
        If pw.x knows no such key.
    """
    namelists: Namelists = {name: dict(keys) for name, keys in user.namelists.items()}
    for tag, value in tags.items():
        name, _, key = tag.lower().rpartition(".")
        bare = key.partition("(")[0]
        homes = [home for home, keys in pw_keys.items() if bare in {known.lower() for known in keys}]
        if not homes or (name and name.lstrip("&") not in homes):
            raise ConfigError(Problem(f"pw.x knows no such key{nearest(bare, tag_names())}", key=tag))
        namelists.setdefault(name.lstrip("&") or homes[0], {})[key] = _quoted(value)
    return PwInput(namelists, user.cards)


def _decides(namelist: str, key: str) -> bool:
    """Say whether a key decides what an SCF converges to."""
    bare = key.partition("(")[0]
    if namelist == "control":
        return bare in _OF_CONTROL
    if namelist == "electrons":
        return bare in _OF_ELECTRONS
    return namelist != "system" or (bare not in _NOT_OF_SYSTEM and not OF_ONE_CELL.fullmatch(key))


def _by_element(key: str, user: PwInput) -> str:
    match = INDEXED.fullmatch(key)
    element = type_of(match[2], user.types) if match and match[1] not in NOT_BY_TYPE else None
    if match is None or element is None:
        return key
    return f"{match[1]}({','.join([*match[2].split(',')[:-1], element])})"


def canonical(text: str) -> Any:
    """Return a value such that two ways to write it are one.

    >>> canonical("1.0d-8"), canonical(".TRUE."), canonical("'Gaussian'"), canonical("t")
    (1e-08, True, 'gaussian', True)
    """
    bare = text.strip().lower()
    if _NUMBER.fullmatch(bare):
        return float(bare.replace("d", "e"))
    if re.fullmatch(r"\.?t(rue)?\.?|\.?f(alse)?\.?", bare):
        return bare.lstrip(".").startswith("t")
    return " ".join(bare.strip("'\"").split())


def _as_number(text: str, default: float) -> float:
    value = canonical(text)
    return value if isinstance(value, float) else default


def _quoted(value: str) -> str:
    """Return a value as Fortran reads it: a word in quotes, whatever else as it is."""
    is_word = isinstance(canonical(value), str) and not value.startswith(("'", '"'))
    return "'" + value.replace("'", "''") + "'" if is_word else value
