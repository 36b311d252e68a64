"""``al explain``: where the frames of a labelled set are from, what chose and what calculated them.

It reads the ledger that lies with every set of `al run`, `al init_bulk`, `al gather` and `al convert`; of an extxyz
file it reads what the frames tell themselves. eV, eV/Å, K, bar.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

from al_driver.data.dataset import count_frames
from al_driver.data.frames import read_frames
from al_driver.data.ledger import Ledger, Row, find_ledger, read_ledger, told_of
from al_driver.errors import ConfigError, StateMismatch
from al_driver.layout import LABELLED_FILE, LEDGER_FILE
from al_driver.schema.suggest import nearest_file
from al_driver.words import many

_ORIGIN = ("work", "label", "iteration", "structure", "source", "format")
_STAGES = ("relax", "supercell", "scale", "copy", "aimd_step")
_WORDS = {"copy": "perturb", "aimd_step": "aimd"}


def explain(dataset: Path | str, index: int | None = None) -> dict[str, Any]:
    """Return the lineage of one frame, or a summary of a whole set; the keys are those of ``al explain --json``.

    Parameters
    ----------
    dataset
        A folder with a ledger, a folder or one system of those it tells of, or an extxyz file; with ``:INDEX`` at its
        end it names a frame.
    index
        The frame: in one system as its arrays count it, in a set as the ledger does, which is the order in which
        frames were selected.

    Returns
    -------
    Of a frame ``dataset``, ``ledger`` (the folder that paths start at), ``index``, ``frame`` (its line of the ledger)
    and ``settings`` of its reference. Of a set ``dataset``, ``ledger``, ``frames``, and counts: ``systems``,
    ``origins``, ``references``, ``programs``, ``checks``, ``models``, ``hosts``, ``reused``.

    Raises
    ------
    ConfigError
        If there is no such set, it has no ledger, or no such frame.
    StateMismatch
        If the ledger is damaged, or tells of other frames than the set holds.
    """
    path, named = _split_index(str(dataset))
    index = named if index is None else index
    ledger = _read(path)
    _check_counts(ledger)
    if index is None:
        return {"dataset": str(path), "ledger": str(ledger.folder), **_summary(ledger)}
    if not 0 <= index < len(ledger.rows):
        there = f"it has {len(ledger.rows)}, 0 to {len(ledger.rows) - 1}" if ledger.rows else "it has none"
        raise ConfigError(f"{path} has no frame {index}: {there}.\n  Name one of them: al explain {path}:0")
    row = ledger.rows[index]
    settings = ledger.settings.get(str(row.get("settings")))
    where = {"dataset": str(path), "ledger": str(ledger.folder)}
    return where | {"index": index, "frame": row, "settings": settings}


def _split_index(text: str) -> tuple[Path, int | None]:
    """Part ``DATASET:INDEX``; a name with a colon that exists is a name."""
    head, mark, tail = text.rpartition(":")
    path = Path(text).expanduser()
    if path.exists() or not mark:
        return path, None
    try:
        return Path(head).expanduser(), int(tail)
    except ValueError:
        raise ConfigError(f"{text}: {tail!r} is no number of a frame; expected DATASET or DATASET:INDEX.") from None


def _read(path: Path) -> Ledger:
    if not path.exists():
        raise ConfigError(f"{path} does not exist{nearest_file(path)}.")
    if path.is_file():
        return _read_file(path)
    ledger = find_ledger(path)
    if ledger is None:
        raise ConfigError(
            f"{path} has no lineage: no {LEDGER_FILE} lies in it, or in the two folders above it.\n"
            "  Sets that `al run`, `al init_bulk`, `al gather` and `al convert` write have one, e.g. iter.0000/label."
        )
    if not ledger.rows:
        there = ledger.folder / LEDGER_FILE
        raise ConfigError(f"{there} tells of no frame in {path}.\n  Name a set that it tells of, or a system of one.")
    return ledger


def _read_file(path: Path) -> Ledger:
    """Return what the frames of an extxyz file tell; of a label step's own, what its ledger does."""
    ledger = read_ledger(path.parent) if path.name == LABELLED_FILE else None
    if ledger is not None:
        return ledger
    try:
        frames = read_frames(path)
    except (ValueError, KeyError, IndexError, OSError, StopIteration) as error:
        raise ConfigError(f"{path} is no extxyz file that can be read; name a folder, or an extxyz file.") from error
    return Ledger(path.parent, [told_of(atoms.info) for atoms in frames], {})


def _check_counts(ledger: Ledger) -> None:
    """Refuse a ledger of another state of the set."""
    told = Counter(str(row["system"]) for row in ledger.rows if "system" in row)
    for system, n_told in told.items():
        folder = ledger.folder / system
        if not (folder / "type.raw").exists():  # extxyz, or a system that somebody took away
            continue
        found = count_frames(folder)
        if found != n_told:
            raise StateMismatch(
                f"{folder} holds {many(found, 'frame')}, and {ledger.folder / LEDGER_FILE} tells of {n_told}.\n"
                "  One of the two was changed since they were written together."
            )


def _summary(ledger: Ledger) -> dict[str, Any]:
    rows = ledger.rows
    told: dict[str, Any] = {"frames": len(rows), "systems": _count(rows, lambda row: row.get("system"))}
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        origin = {key: row[key] for key in _ORIGIN if row.get(key) is not None}
        stages = tuple(_WORDS.get(stage, stage) for stage in _STAGES if row.get(stage) is not None)
        groups.setdefault((tuple(origin.items()), stages), []).append(row)
    told["origins"] = [_describe_origin(group) for group in groups.values()]
    engines = {str(row["settings"]): row.get("engine") for row in rows if "settings" in row}
    told["references"] = [
        {"settings": digest, "engine": engines[digest], "keys": ledger.settings.get(digest), "frames": count}
        for digest, count in _count(rows, lambda row: row.get("settings")).items()
    ]
    told["programs"] = _count(rows, _program_of)
    told["checks"] = _count(rows, lambda row: ", ".join(row.get("checks") or ()))
    told["models"] = _count(rows, lambda row: " ".join(row.get("models") or ()))
    told["hosts"] = _count(rows, lambda row: row.get("host"))
    return told | {"reused": sum("reused" in row for row in rows)}


def _describe_origin(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what frames of one origin have in common, and the ranges of what differs."""
    first = rows[0]
    told: dict[str, Any] = {key: first[key] for key in _ORIGIN if first.get(key) is not None}
    stages = [_WORDS.get(stage, stage) for stage in _STAGES if first.get(stage) is not None]
    told |= {"stages": stages} if stages else {}
    for key in ("temperature", "pressure", "score"):
        values = [row[key] for row in rows if isinstance(row.get(key), (int, float))]
        told |= {key: [min(values), max(values)]} if values else {}
    return told | {"frames": len(rows)}


def _program_of(row: Row) -> str:
    """Return program and version of a line: ``pw.x 6.7``; nothing where it is not known."""
    return " ".join(str(row[key]) for key in ("program", "version") if row.get(key))


def _count(rows: Sequence[Row], what: Callable[[Row], Any]) -> dict[str, int]:
    """Count lines by something they tell, in their order; those that do not tell it are not counted."""
    return dict(Counter(str(told) for row in rows if (told := what(row))))
