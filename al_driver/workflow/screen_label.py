"""The labels of a screening: candidates relaxed and calculated by an engine, or looked up in a table, as values.

A value is the formation energy per atom, E/N − Σ x_i μ_i with the energy an atom μ_i of each element in its reference
state, or E/N where none are given, eV/atom; or what the table says. What gave none is in ``rejected.jsonl``.
"""

import csv
import io
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ase import Atoms

from al_driver.data.dataset import find_systems
from al_driver.data.frames import read_frames, sort_by_type, write_frames
from al_driver.errors import ConfigError, Problem
from al_driver.files import write_atomic, write_json_lines
from al_driver.layout import DATASET_DIR, LABELLED_FILE, REJECTED_FILE, RELAXED_FILE, SELECTED_FILE, VALUES_FILE
from al_driver.schema.base import identity
from al_driver.schema.learn import KnownTable, Learn
from al_driver.schema.screen import ScreenParams
from al_driver.schema.suggest import nearest
from al_driver.screen.tables import is_number, read_rows
from al_driver.workflow.context import Context
from al_driver.workflow.label import label_detail, label_inputs, run_label
from al_driver.workflow.recovered import read_rejected
from al_driver.workflow.relax import relax_structures
from al_driver.workflow.step import Record, Step
from al_driver.workflow.whole import check_whole

log = logging.getLogger(__name__)


@dataclass
class Labels:
    """What has been labelled so far; candidates by their index.

    Attributes
    ----------
    crystals
        All candidates.
    known
        Values of the property.
    failed
        Why a candidate has none.
    frames
        As they were calculated, where that was after a relaxation.
    systems
        deepmd/npy systems of the engine's labels.
    """

    crystals: Sequence[Atoms]
    known: dict[int, float] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    frames: dict[int, Atoms] = field(default_factory=dict)
    systems: list[Path] = field(default_factory=list)

    @cached_property
    def index(self) -> dict[str, int]:
        """The index of each candidate by its id."""
        return {str(atoms.info["id"]): number for number, atoms in enumerate(self.crystals)}

    @property
    def n_spent(self) -> int:
        """How much of the budget is spent."""
        return len(self.known) + len(self.failed)


def value_inputs(params: ScreenParams) -> dict[str, Any]:
    """Return what of the input makes values of labels."""
    references = params.learn.reference_energies if params.learn else None
    return {"property": params.rank.property, "reference_energies": references}


def run_labels(
    context: Context, params: ScreenParams, folder: Path, iteration: int, queried: Record, labels: Labels
) -> Record:
    """Relax, where that is asked for, and label what an iteration chose.

    Parameters
    ----------
    folder
        Of the iteration.
    labels
        Of the iterations before: what energies are usual is learnt from them.
    """
    assert params.learn is not None  # noqa: S101  (the schema wants it with `label`)
    selected, after = folder / "query" / SELECTED_FILE, queried.fingerprint
    if isinstance(params.label, KnownTable):
        inputs = {"table": identity(params.label)}
        step = Step(f"{iteration}/label", folder / "label", inputs, (after,), accepts=False)
        return _look_up(context, params.label, step, selected, find_names(labels.crystals))
    engine, type_map = params.label_engine, params.type_map
    assert engine is not None and type_map is not None  # noqa: S101  (the schema)
    if params.learn.relax is not None:
        step = Step(
            f"{iteration}/relax", folder / "relax", _relax_inputs(params, params.learn), (after,), accepts=False
        )
        after = _run_relax(context, params, step, selected).fingerprint
        selected = step.folder / RELAXED_FILE
    step = Step(
        f"{iteration}/label", folder / "label", label_inputs(engine, type_map), (after,), label_detail(engine),
        accepts=False,
    )  # fmt: skip
    record = run_label(context, engine, step=step, selected=selected, type_map=type_map, known=labels.systems)
    context.pack(step.folder, "label")
    return record


def _relax_inputs(params: ScreenParams, learn: Learn) -> dict[str, Any]:
    assert learn.relax is not None  # noqa: S101  (asked before)
    own = {key: value for key, value in identity(learn.relax).items() if key != "engine"}
    engine = {"sha256": params.relax_engine(learn.relax).identity("relax")}
    return {"relax": own | {"identity": engine}, "type_map": list(params.type_map or ())}


def _run_relax(context: Context, params: ScreenParams, step: Step, selected: Path) -> Record:
    """Write the relaxed structures of an iteration's candidates."""
    learn, type_map = params.learn, params.type_map
    assert learn is not None and learn.relax is not None and type_map is not None  # noqa: S101  (the schema)
    asked = (params.relax_engine(learn.relax), learn.relax.relaxation)

    def work() -> dict[str, Any]:
        frames = [sort_by_type(frame, type_map) for frame in read_frames(selected)]
        for frame in frames:
            frame.info["lineage"] = frame.info["id"]
        made = relax_structures(context, step, frames, dict.fromkeys(range(len(frames)), asked))
        write_frames(step.folder / RELAXED_FILE, made.structures)
        write_json_lines(step.folder / REJECTED_FILE, made.rejected)
        counts = {"structures": len(made.structures), "dropped": len(made.rejected)}
        return counts | {"versions": sorted(made.versions)}

    record = context.run_step(step, work, [RELAXED_FILE, REJECTED_FILE])
    log.info("%s: relaxed %d, rejected %d", step.name, record.result["structures"], record.result["dropped"])
    context.pack(step.folder, "relax")
    return record


def _look_up(
    context: Context, table: KnownTable, step: Step, selected: Path, names: Mapping[str, tuple[str, ...]]
) -> Record:
    """Write what a table says of an iteration's candidates; ``names`` of each candidate's id."""

    def work() -> dict[str, Any]:
        values, frames = read_known(table), read_frames(selected)
        text, rejected = io.StringIO(), []
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["id", "value"])
        for number, frame in enumerate(frames):
            value = next((values[name] for name in names[str(frame.info["id"])] if name in values), None)
            if value is None:
                detail = f"{table.table.name} has no value of {frame.info['id']}"
                rejected.append({"frame": number, "reason": "no_output", "detail": detail, "where": "."})
            else:
                rows.writerow([frame.info["id"], f"{value:.17g}"])
        write_atomic(step.folder / VALUES_FILE, text.getvalue())
        write_json_lines(step.folder / REJECTED_FILE, rejected)
        return {"labelled": len(frames) - len(rejected), "rejected": len(rejected), "reused": 0}

    record = context.run_step(step, work, [VALUES_FILE, REJECTED_FILE])
    log.info("%s: %d of the table, %d without a value", step.name, record.result["labelled"], record.result["rejected"])
    return record


def read_known(table: KnownTable) -> dict[str, float]:
    """Return the finite values of a table by the words of its id column.

    Raises
    ------
    ConfigError
        If it cannot be read, has not these columns, no value, or two values of one id.
    """
    rows = read_rows(table.table)
    there = [name for name in (rows[0] if rows else ()) if name]
    for key in ("column", "id_column"):
        if (name := getattr(table, key)) not in there:
            problem = Problem(f"the table has no column {name!r}{nearest(name, there, otherwise='there are')}", key)
            raise ConfigError(problem)
    found = [(str(row[table.id_column]), float(row[table.column])) for row in rows if is_number(row[table.column])]
    if not found:
        raise ConfigError(Problem(f"no row has a number in the column {table.column!r}", "column", table.table))
    twice = next((name for name, count in Counter(name for name, _ in found).items() if count > 1), None)
    if twice is not None:
        raise ConfigError(Problem(f"has two values of {twice!r}", "id_column", table.table))
    return dict(found)


def find_names(crystals: Sequence[Atoms]) -> dict[str, tuple[str, ...]]:
    """Return what a table may call each candidate: its id, or the stem of its file where no other has the same."""
    stems = [Path(str(atoms.info["file"])).stem for atoms in crystals]
    counts = Counter(stems)
    return {
        str(atoms.info["id"]): (str(atoms.info["id"]), *([stem] if counts[stem] == 1 else []))
        for atoms, stem in zip(crystals, stems, strict=True)
    }


def read_labels(folder: Path, params: ScreenParams, labels: Labels) -> dict[int, float]:
    """Add what an iteration's folder holds to the labels; return the new values."""
    new, index = dict[int, float](), labels.index
    for step in ("relax", "label"):
        check_whole(folder / step)
    asked = [index[str(frame.info["id"])] for frame in read_frames(folder / "query" / SELECTED_FILE)]
    if (folder / "relax").is_dir():
        labels.failed |= {asked[row["frame"]]: str(row["reason"]) for row in read_rejected(folder / "relax")}
        relaxed = read_frames(folder / "relax" / RELAXED_FILE)
        asked = [index[str(frame.info["id"])] for frame in relaxed]
        labels.frames |= dict(zip(asked, relaxed, strict=True))
    if isinstance(params.label, KnownTable):
        with (folder / "label" / VALUES_FILE).open(encoding="utf-8", newline="") as stream:
            new = {index[row["id"]]: float(row["value"]) for row in csv.DictReader(stream)}
    else:
        references = params.learn.reference_energies if params.learn else None
        for frame in read_frames(folder / "label" / LABELLED_FILE):
            new[index[str(frame.info["id"])]] = energy_per_atom(frame, references)
        if (dataset := folder / "label" / DATASET_DIR).is_dir():
            labels.systems += find_systems(dataset)
    labels.failed |= {asked[row["frame"]]: str(row["reason"]) for row in read_rejected(folder / "label")}
    labels.known |= new
    return new


def energy_per_atom(frame: Atoms, references: dict[str, float] | None) -> float:
    """Return the energy an atom of a labelled frame, eV; with references, the formation energy."""
    elements = math.fsum(references[symbol] for symbol in frame.get_chemical_symbols()) if references else 0.0
    return (float(frame.info["energy"]) - elements) / len(frame)
