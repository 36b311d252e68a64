"""Namelists of ``pw.x`` as the driver writes them over the user's own, and the words in which it says so."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from al_driver.engines.base import Calculation
from al_driver.engines.pw_input import NAMELISTS, Namelists, PwInput, quote
from al_driver.engines.pw_motion import WORDS, Motion
from al_driver.engines.pw_settings import OF_ONE_CELL

PREFIX = "scratch"
"""The beginning of the names of what pw.x leaves."""
_CONTROL = {
    "calculation": "'scf'",
    "restart_mode": "'from_scratch'",
    "tprnfor": ".true.",
    "outdir": "'./'",
    "wfcdir": "'./'",
    "prefix": quote(PREFIX),
    "disk_io": "'none'",
}
_ELECTRONS = {"scf_must_converge": ".true."}  # without it pw.x calls an unconverged SCF converged
_OF_MOTION = frozenset({"ions", "cell"})  # namelists that an SCF does not read


def make_namelists(
    user: PwInput, system: Mapping[str, str], motion: Motion, *, pseudo_dir: Path, has_stress: bool
) -> Namelists:
    """Return the namelists of an input, in the order in which pw.x reads them.

    Parameters
    ----------
    system
        The whole &SYSTEM.
    """
    kept = [name for name in user.namelists if name not in _OF_MOTION or name in motion.keys]
    names = {"control", "system", "electrons", *motion.keys, *kept}
    order = dict.fromkeys([*NAMELISTS, *kept])
    namelists = {name: dict(user.namelists.get(name, {})) for name in order if name in names}
    tstress = ".true." if has_stress else ".false."
    namelists["control"] |= {**_CONTROL, "tstress": tstress, "pseudo_dir": quote(str(pseudo_dir))}
    namelists["system"] = dict(system)
    namelists["electrons"] |= _ELECTRONS
    for name, keys in motion.keys.items():
        namelists[name] = {key: value for key, value in namelists[name].items() if key not in motion.removed}
        namelists[name] |= keys
    return namelists


def describe_input(user: PwInput, calculation: Calculation, of_keys: Sequence[str]) -> tuple[str, ...]:
    """Return, in words, what is set over the user's input; ``of_keys`` says what follows from keys of ours."""
    is_label = calculation == "label"
    fixed = {("control", key): value for key, value in _CONTROL.items() if is_label or key != "calculation"}
    fixed |= {("electrons", key): value for key, value in _ELECTRONS.items()} | {("system", "ibrav"): "0"}
    lines = [
        f"{namelist.upper()}: {key} = {value}{_instead(user.namelists.get(namelist, {}).get(key), value)}"
        for (namelist, key), value in fixed.items()
    ]
    lines.append("CONTROL: tstress = .true. for cells periodic in three directions; pseudo_dir")
    removed = sorted(key for key in user.namelists.get("system", {}) if OF_ONE_CELL.fullmatch(key))
    per_cell = f"; {', '.join(removed)} removed" if removed else ""
    lines.append(f"SYSTEM: nat and ntyp, from each structure{per_cell}")
    lines += [*of_keys, *WORDS[calculation]]
    unused = [f"&{name.upper()}" for name in user.namelists if name in _OF_MOTION]
    if unused and is_label:
        lines.append(f"{' and '.join(unused)} removed: they are not of an SCF")
    grid = "" if "K_POINTS" in user.cards else " and K_POINTS"
    lines.append(f"ATOMIC_SPECIES, CELL_PARAMETERS, ATOMIC_POSITIONS{grid}, from each structure and your keys")
    return tuple(lines)


def _instead(old: str | None, new: str) -> str:
    return f", in place of {old}" if old is not None and old.strip("'\"").lower() != new.strip("'\"") else ""
