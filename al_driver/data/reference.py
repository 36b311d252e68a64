"""What outputs print of their reference: cutoff, functional, potentials; one line, ``info["reference"]`` of a frame.

Only what every program says in few words and what makes another reference whatever else stands in the input. Two
outputs are compared in the words that both have: ``potential Si`` is told where there is silicon; and those of two
programs in nothing but that. eV, μ_B.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from al_driver.data.ledger import SHORT, read_ledger
from al_driver.layout import LEDGER_FILE
from al_driver.words import shown_path

REFERENCE = "reference"
PROGRAM = "program"
SETTINGS = "settings"
_FORMATS = {"deepmd", "extxyz"}
"""Formats that are no program's."""
MOST_SHOWN = 3
Told = dict[str, str]
"""By name: ``{"ENCUT": "520", "TITEL Si": "PAW_PBE Si 05Jan2001"}``."""
Reference: TypeAlias = tuple[str, Mapping[str, str]]
"""Where it is told, and what."""


def format_reference(told: Mapping[str, str]) -> str:
    """Return what was told as one line; what is empty is not told.

    >>> format_reference({"ENCUT": "520", "GGA": "PE", "METAGGA": ""})
    'ENCUT = 520; GGA = PE'
    """
    return "; ".join(f"{key} = {value}" for key, value in told.items() if value)


def parse_reference(text: str) -> Told:
    """Return what a line tells."""
    pairs = (part.partition(" = ") for part in text.split("; "))
    return {key.strip(): value.strip() for key, _, value in pairs if value.strip()}


def round_number(text: str | float, decimals: int) -> str:
    """Return a number with the digits that every output of the program has; nothing where it is none.

    >>> round_number("520.00000000", 1), round_number("0.004", 2)
    ('520', '0')
    """
    try:
        return f"{round(float(text), decimals) + 0.0:g}"
    except ValueError:
        return ""


def references_in(infos: Iterable[Mapping[str, Any]], folder: Path | None = None) -> list[Reference]:
    """Return what frames tell of their references, each once, with the source of the first that does.

    Of frames that this program labelled, the first digits of the hash of their settings are told.

    Parameters
    ----------
    folder
        Where relative sources start.
    """
    found: dict[tuple[str, ...], str] = {}
    for info in infos:
        told = str(info.get(REFERENCE, "")), _program_of(info), str(info.get(SETTINGS, ""))[:SHORT]
        if any(told):
            source = str(info.get("source", "data"))
            found.setdefault((source, *told), f"frame {info['step']} of " if "step" in info else "")
    n_of = Counter(source for source, *_ in found)
    references: list[Reference] = []
    for (source, text, program, settings), frame in found.items():
        file = source if folder is None else shown_path((folder / source).resolve())
        words = {name: value for name, value in ((PROGRAM, program), (SETTINGS, settings)) if value}
        references.append((f"{frame if n_of[source] > 1 else ''}{file}", words | parse_reference(text)))
    return references


def _program_of(info: Mapping[str, Any]) -> str:
    """Return the program's name in small letters; of what dpdata read, that of the format."""
    format = str(info.get("format", "")).partition("/")[0]
    return str(info.get(PROGRAM, "" if format in _FORMATS else format)).lower()


def references_of(systems: Sequence[Path]) -> list[Reference]:
    """Return what the ledgers of deepmd systems tell of references, but for settings that lie beside one in full.

    Raises
    ------
    StateMismatch
        If a ledger is damaged.
    """
    names: dict[Path, set[str]] = {}
    for place in map(Path.resolve, systems):
        folder = next((above for above in (place, *place.parents[:2]) if (above / LEDGER_FILE).is_file()), None)
        if folder is not None:
            names.setdefault(folder, set()).add(str(place.relative_to(folder)))
    found = []
    for folder, own in names.items():
        ledger = read_ledger(folder)
        rows = [row for row in ledger.rows if row.get("system") in own] if ledger else []
        known = ledger.settings if ledger else {}
        found += references_in((row for row in rows if row.get(SETTINGS) not in known), folder)
    return found


def describe_mixed(told: Iterable[Reference]) -> str:
    """Say in what references differ, each told with its place; nothing where they agree in all that two of them tell.

    Hashes of settings are not compared: they change with a threshold or an element too, see `describe_hashes`.

    >>> describe_mixed([("a/OUTCAR", {"ENCUT": "400"}), ("b/OUTCAR", {"ENCUT": "520", "GGA": "PE"})])
    'ENCUT is 400 in a/OUTCAR, 520 in b/OUTCAR'
    """
    places = _places_of(told)
    places.pop(SETTINGS, None)
    if len(places.get(PROGRAM, ())) > 1:
        return _describe(PROGRAM, places[PROGRAM])
    apart = [_describe(key, found) for key, found in places.items() if len(found) > 1]
    return "; ".join(apart[:MOST_SHOWN]) + (f"; and {len(apart) - MOST_SHOWN} more" if len(apart) > MOST_SHOWN else "")


def describe_hashes(told: Iterable[Reference]) -> str:
    """Say where the hashes of settings differ, which alone do not tell whether it is in the reference."""
    hashes = _places_of(told).get(SETTINGS, {})
    return _describe("the hash of the settings", hashes) if len(hashes) > 1 else ""


def _places_of(told: Iterable[Reference]) -> dict[str, dict[str, str]]:
    """Return by key the values that are told, each with the first place."""
    places: dict[str, dict[str, str]] = {}
    for place, values in told:
        for key, value in values.items():
            places.setdefault(key, {}).setdefault(value, place)
    return places


def _describe(key: str, found: Mapping[str, str]) -> str:
    values: Sequence[str] = [f"{value} in {place}" for value, place in found.items()]
    more = f" and {len(values) - MOST_SHOWN} others" if len(values) > MOST_SHOWN else ""
    return f"{key} is {', '.join(values[:MOST_SHOWN])}{more}"
