"""What a work folder holds for its pictures: the records, ``frames.csv``, the members' evaluations, the labels.

Each function reads and draws one picture, or says in a few words why there is nothing to draw. eV, Å, K, bar.
"""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from al_driver.data.dataset import find_systems
from al_driver.errors import StateMismatch
from al_driver.files import read_json
from al_driver.layout import (
    AUDIT_FILE,
    DATASET_DIR,
    EVALUATION_ARRAYS_FILE,
    FRAMES_FILE,
    VALID_DIR,
    WorkFolder,
    model_name,
)
from al_driver.plots.coverage import AuditPoint, draw_coverage
from al_driver.plots.deviation import Bounds, draw_deviation
from al_driver.plots.frames import FrameCensus, take_census
from al_driver.plots.labels import Labels, draw_labels
from al_driver.plots.learning import DATA_NAMES, Point, draw_learning
from al_driver.plots.parity import Member, draw_parity
from al_driver.plots.selected import draw_selected
from al_driver.query.window import CLASS_NAMES
from al_driver.workflow.step import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_FRAME = "no frame could be scored"
NO_LOWER = 1e-12
"""A lower bound below which no score lies."""
MOST_FORCES = 200_000
"""Forces of an ``init_bulk`` that are drawn, and those of a fixed draw where there are more."""


@dataclass(frozen=True)
class Query:
    """A finished query: its counted frames, None where none could be scored, and the window."""

    census: FrameCensus | None
    bounds: Bounds


def read_query(folder: Path) -> Query:
    """Read what both pictures of an iteration's frames show."""
    summary = _result(folder)
    lower = summary["lower"]
    if lower is not None and lower < NO_LOWER:  # of a target that no frame meets
        lower = None
    bounds = Bounds(summary["metric"], lower, summary["upper"], summary.get("uncertainty", "committee"))
    return Query(take_census(folder / FRAMES_FILE, list(bounds.known.values())), bounds)


def draw_deviation_of(read: Callable[[], Query], index: int) -> "Figure | str":
    """Draw the distribution of the scores of an iteration."""
    query = read()
    if query.census is None:
        return NO_FRAME
    return draw_deviation(f"iteration {index}: how unsure the models are", query.census, query.bounds)


def draw_selected_of(read: Callable[[], Query], index: int) -> "Figure | str":
    """Draw where the selected frames of an iteration lie."""
    query = read()
    if query.census is None:
        return NO_FRAME
    return draw_selected(f"iteration {index}: where the selected frames lie", query.census, query.bounds)


def draw_coverage_of(labelled: Sequence[tuple[int, Path]]) -> "Figure | str":
    """Draw how the audits of all iterations kept to their bounds, from label steps, each with its iteration."""
    reports = [(index, read_json(folder / AUDIT_FILE)) for index, folder in labelled]
    audits = [
        AuditPoint(index, frame["error"], frame["bound"]) for index, report in reports for frame in report["frames"]
    ]
    if not audits:
        return "no audit frame has a label"
    index, newest = reports[-1]
    title = f"iteration {index}: do the bounds on force errors hold?"
    return draw_coverage(title, audits, newest["target"], newest["coverage"])


def draw_learning_of(trained: Sequence[tuple[str, Path]], scored: Mapping[str, Path], what: str) -> "Figure":
    """Draw the learning curve over training steps, each with its name, and the query steps of the same names."""
    points = []
    for name, folder in trained:
        members = _result(folder)["members"]
        counts = tuple(_result(scored[name])[kind] for kind in CLASS_NAMES) if name in scored else None
        points.append(
            Point(
                name, tuple(member["energy_rmse"] for member in members),
                tuple(member["force_rmse"] for member in members), members[0]["on"],
                members[0].get("n_frames"), members[0].get("n_train"), counts,
            )
        )  # fmt: skip
    return draw_learning(f"learning curve: {what}", points)


def draw_parity_of(folder: Path, what: str) -> "Figure | str":
    """Draw the parity of every member of a committee."""
    evaluations = _result(folder)["members"]
    names = [model_name(member) for member in range(len(evaluations))]
    missing = [name for name in names if not (folder / name / EVALUATION_ARRAYS_FILE).exists()]
    if missing:
        return f"{missing[0]} left no {EVALUATION_ARRAYS_FILE}; it was trained by another version or program"
    members = [_read_member(folder / name, evaluation) for name, evaluation in zip(names, evaluations, strict=True)]
    on, n_frames = evaluations[0]["on"], evaluations[0]["n_frames"]
    title = f"{what}: models against labels, {n_frames:,} {DATA_NAMES[on]} frames"
    return draw_parity(title + (" (no validation data)" if on == "train" else ""), members)


def _read_member(folder: Path, evaluation: Mapping[str, Any]) -> Member:
    path = folder / EVALUATION_ARRAYS_FILE
    try:
        with np.load(path) as arrays:
            return Member(
                folder.name, arrays["energy_reference"], arrays["energy_predicted"], arrays["formula"],
                int(arrays["n_energies"]), arrays["force_reference"].astype(float),
                arrays["force_predicted"].astype(float), int(arrays["n_forces"]), evaluation["energy_rmse"],
                evaluation["force_rmse"],
            )  # fmt: skip
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise StateMismatch(f"{path} is damaged ({error}); nothing but the picture needs it.") from error


def draw_labels_of(folder: WorkFolder) -> "Figure | str":
    """Draw energies over volume, and the sizes of forces, of what an ``init_bulk`` labelled."""
    parts = [
        (kind, system)
        for kind, name in (("training", DATASET_DIR), ("validation", VALID_DIR))
        if (folder.root / name).is_dir()
        for system in find_systems(folder.root / name)
    ]
    if not parts:
        return "there are no labelled structures"
    share = MOST_FORCES // len(parts)
    return draw_labels("first data: what was labelled", [_read_labels(kind, system, share) for kind, system in parts])


def _read_labels(kind: str, system: Path, most_forces: int) -> Labels:
    def load(name: str) -> Any:
        return np.concatenate([np.load(file) for file in sorted(system.glob(f"set.*/{name}.npy"))]).astype(float)

    forces = load("force").reshape(-1, 3)
    n_frames = len(energy := load("energy").ravel())
    n_atoms = len(forces) // n_frames
    if len(forces) > most_forces:
        forces = np.random.default_rng(0).choice(forces, most_forces, replace=False)
    volume = None
    if not (system / "nopbc").exists():
        volume = np.abs(np.linalg.det(load("box").reshape(-1, 3, 3))) / n_atoms
    return Labels(system.name, kind, energy / n_atoms, volume, np.linalg.norm(forces, axis=1))


def _result(step: Path) -> dict[str, Any]:
    record = Record.read(step)
    if record is None:
        raise StateMismatch(f"{step} was set aside meanwhile; its pictures are drawn when it is done again.")
    return record.result
