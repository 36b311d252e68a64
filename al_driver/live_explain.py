"""What `al explain` prints: the lineage of a frame, or of a whole set, in words. eV, eV/Å, K, bar, μ_B."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from al_driver.data.reference import REFERENCE
from al_driver.layout import ARCHIVE_FILE
from al_driver.words import many

SHORT = 12  # digits of a hash
MOST = 8  # entries of one kind that are shown
_UNITS = {"temperature": " K", "pressure": " bar"}
_SCORE_UNITS = {"max_force": " eV/Å", "mean_force": " eV/Å", "max_virial": " eV/atom"}


def lineage_table(told: Mapping[str, Any]) -> Table:
    """Return two columns: what, and what is known of it."""
    title = f"{told['dataset']}: "
    title += f"frame {told['index']}" if "frame" in told else many(told["frames"], "frame")
    table = Table.grid(padding=(0, 2))
    table.title, table.title_justify = Text(title), "left"
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in _frame(told) if "frame" in told else _set(told):
        table.add_row(Text(name), Text(words))
    return table


def _frame(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    row = told["frame"]
    if "system" in row:
        yield "lies in", f"{row['system']}, frame {row['index']}"
    yield from _origin(row, Path(told["ledger"]))
    if "score" in row:
        models = ", ".join(digest[:SHORT] for digest in row.get("models") or ())
        by = f" of {len(row['models'])} models ({models})" if models else ""
        yield "chosen for", f"{row.get('metric', 'score')} {_value(row['score'])}{_unit(row)}{by}"
    yield from _reference(row, told["settings"], Path(told["ledger"]))
    if row.get("checks"):
        limits = ", ".join(f"{key} {_value(value)}" for key, value in (row.get("gate") or {}).items())
        yield "passed", ", ".join(row["checks"]) + (f"; limits: {limits}" if limits else "")
    if "magmoms" in row:
        moments = row["magmoms"] or ()
        yield "moments", " ".join(_value(moment) for moment in moments) + " μ_B" if moments else "not known"


def _origin(row: Mapping[str, Any], ledger: Path) -> Iterator[tuple[str, str]]:
    if "work" in row:
        step = os.path.normpath(ledger / row["work"] / row.get("label", ""))
        yield "labelled in", f"{step}, frame {row.get('frame', '?')}"
    if "task" in row:
        given = "".join(f", {_value(row[key])}{unit}" for key, unit in _UNITS.items() if row.get(key) is not None)
        where = f"iteration {row.get('iteration', '?')}, {row['task']}, step {row.get('step', '?')}"
        yield "from", f"molecular dynamics of {row.get('structure', '?')}: {where}{given}"
    elif "lineage" in row:
        file = f" of {os.path.normpath(ledger / row.get('work', '') / row['source'])}" if "source" in row else ""
        yield "from", f"structure {row.get('structure', '?')}, frame {row.get('moment', 0)}{file}"
        yield "made by", " → ".join(_stages(row)) or "nothing: it is labelled as it was given"
    elif "source" in row:
        file = os.path.normpath(ledger / row["source"])
        yield "from", f"{file}, step {row.get('step', '?')}, read as {row.get('format', '?')}"


def _stages(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the stages of an ``al init_bulk`` did, in their order."""
    if "relax" in row:
        yield f"relax ({row['relax']})"
    if "supercell" in row:
        yield f"supercell {row['supercell']}"
    if "scale" in row:
        yield f"scale {_value(row['scale'])}"
    if "copy" in row:
        yield f"perturb, copy {row['copy']}"
    if "aimd" in row:
        step = row.get("aimd_step", 0)
        yield f"aimd from structure {row['aimd']}, step {step}" + ("" if step else " (its start)")


def _reference(row: Mapping[str, Any], settings: Mapping[str, Any] | None, ledger: Path) -> Iterator[tuple[str, str]]:
    program = " ".join(str(row[key]) for key in ("program", "version") if row.get(key))
    if row.get("engine") or program:
        hashes = ", ".join(f"{key} {row[key][:SHORT]}" for key in ("settings", "input") if row.get(key))
        yield "calculated by", ", ".join(filter(None, (row.get("engine"), program, hashes)))
    if settings:
        yield "settings", _settings(settings)
    if row.get(REFERENCE):
        yield "reference", row[REFERENCE]
    if row.get("calculation"):
        host = f", on {row['host']}" if row.get("host") else ""
        seconds = f" in {row['seconds']:.1f} s" if row.get("seconds") is not None else ""
        ended = f", ended {row['finished']}" if row.get("finished") else ""
        again = f"; found again from {row['reused']}" if row.get("reused") else ""
        task = ledger / row.get("work", "") / row["calculation"]
        packed = f" in {ARCHIVE_FILE}" if not task.exists() and task.with_name(ARCHIVE_FILE).exists() else ""
        yield "calculation", f"{row['calculation']}{packed}{host}{seconds}{ended}{again}"


def _set(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for number, (system, count) in enumerate(told["systems"].items()):
        if number < MOST:
            yield "" if number else "systems", f"{system}  {many(count, 'frame')}"
    yield from _more("systems", len(told["systems"]))
    for number, origin in enumerate(told["origins"][:MOST]):
        yield "" if number else "from", f"{_describe(origin, Path(told['ledger']))}  {many(origin['frames'], 'frame')}"
    yield from _more("origins", len(told["origins"]))
    for reference in told["references"]:
        words = f"{reference['engine'] or 'reference'} ({reference['settings'][:SHORT]})"
        yield "calculated by", f"{words}  {many(reference['frames'], 'frame')}"
        if reference["keys"]:
            yield "settings", _settings(reference["keys"])
    for name, key in (("programs", "programs"), ("passed", "checks"), ("hosts", "hosts")):
        for number, (words, count) in enumerate(told[key].items()):
            if number < MOST:
                yield "" if number else name, f"{words}  {many(count, 'frame')}"
        yield from _more(name, len(told[key]))
        rest = told["frames"] - sum(told[key].values())
        if told[key] and rest and key != "hosts":  # labels that came with their structures ran on no host of ours
            yield "", f"not told  {many(rest, 'frame')}"
    if told["reused"]:
        yield "found again", many(told["reused"], "frame")


def _describe(origin: Mapping[str, Any], ledger: Path) -> str:
    work = ledger / origin.get("work", "")
    parts = [os.path.normpath(work / origin.get("label", ""))] if "work" in origin else []
    parts += [f"iteration {origin['iteration']}"] if "iteration" in origin else []
    parts += [f"structure {origin['structure']}"] if "structure" in origin else []
    parts += [os.path.normpath(work / origin["source"])] if "source" in origin else []
    parts += [f"as {origin['format']}"] if "format" in origin else []
    parts += [", then ".join(origin["stages"])] if "stages" in origin else []
    parts += [f"{_range(origin[key])}{unit}" for key, unit in _UNITS.items() if key in origin]
    parts += [f"score {_range(origin['score'])}"] if "score" in origin else []
    return ", ".join(parts) or "not known"


def _settings(settings: Mapping[str, Any]) -> str:
    """Say settings on one line; a file stands as the first digits of its hash."""
    return ", ".join(f"{key} {_value(value)}" for key, value in settings.items() if value is not None and value != {})


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        if set(value) == {"sha256"}:
            return _value(value["sha256"])
        return "{" + ", ".join(f"{key} {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return f"file {value[:SHORT]}" if re.fullmatch("[0-9a-f]{64}", str(value)) else str(value)


def _unit(row: Mapping[str, Any]) -> str:
    return _SCORE_UNITS.get(str(row.get("metric")), "")


def _range(ends: Sequence[float]) -> str:
    low, high = (_value(end) for end in ends)
    return low if low == high else f"{low}–{high}"


def _more(name: str, number: int) -> Iterator[tuple[str, str]]:
    if number > MOST:
        yield "", f"and {number - MOST} more {name}; --json has all"
