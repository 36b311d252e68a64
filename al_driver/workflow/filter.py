"""``al filter``: what another window, or another target, would have selected, from the scores that a run has stored.

Nothing runs and nothing is written. A trajectory is known up to where the run cut it: with a larger ``upper`` than the
run had, what lies behind is not counted. Frames that cannot be labelled (duplicates, too close) are not told apart.
Scores in the units of the metric, eV/Å.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from al_driver.errors import ConfigError
from al_driver.files import read_json
from al_driver.layout import AUDIT_FILE, FRAMES_FILE, QUERY_JOB_FILE, SUMMARY_FILE, WorkFolder
from al_driver.query.budget import share_out
from al_driver.query.calibration import Audit, Calibration
from al_driver.query.job import QueryJob
from al_driver.query.reading import read_job
from al_driver.query.selection import Census
from al_driver.query.table import TableRows, read_table
from al_driver.query.window import ACCURATE, CANDIDATE, FAILED, find_end
from al_driver.workflow.history import History, find_work_folder
from al_driver.workflow.query import SCORES_DIR
from al_driver.workflow.step import Record

NAMES = ("accurate", "candidate", "failed")


@dataclass(frozen=True)
class Rule:
    """A window, or a wanted force error with the audits that were known; exactly one."""

    lower: float | None = None
    upper: float | None = None
    target: float | dict[str, float] | None = None
    """Of every element, or one for each."""

    def __post_init__(self) -> None:
        window = (self.lower, self.upper)
        if (self.target is None) == (window == (None, None)) or (self.target is None and None in window):
            raise ConfigError("give --lower and --upper, or --target alone.")
        if self.lower is not None and self.upper is not None and not 0 < self.lower < self.upper:
            raise ConfigError(f"--lower ({self.lower:g}) must be positive and below --upper ({self.upper:g}).")
        targets = self.target.values() if isinstance(self.target, dict) else [self.target]
        for target in (number for number in targets if number is not None):
            if not 0 < target < math.inf:
                raise ConfigError(f"--target ({target:g}) must be positive; it is a force error in eV/Å.")

    def targets(self, type_map: Sequence[str]) -> dict[str, float]:
        """Return the wanted force error of each element, eV/Å; there must be a target.

        Raises
        ------
        ConfigError
            If an element has none, or one that the run does not know has one.
        """
        if not isinstance(self.target, dict):
            return dict.fromkeys(type_map, float(self.target or 0.0))
        if set(self.target) != set(type_map):
            raise ConfigError(
                f"--target names {', '.join(self.target)}; give one number, or one for each of {', '.join(type_map)}."
            )
        return {element: self.target[element] for element in type_map}


def read_target(text: str | None) -> float | dict[str, float] | None:
    """Read a number, or one for each element.

    >>> read_target("0.1"), read_target("Si=0.1,C=0.2")
    (0.1, {'Si': 0.1, 'C': 0.2})
    """
    if text is None:
        return None
    try:
        if "=" not in text:
            return float(text)
        pairs = [part.split("=") for part in text.split(",")]
        found = {element.strip(): float(number) for element, number in pairs}
    except ValueError:
        found = {}
    if not found or len(found) < text.count("="):
        raise ConfigError(f"--target {text!r} is no force error in eV/Å; give 0.1, or one per element: Si=0.1,C=0.2.")
    return found


def filter_run(directory: Path | str, rule: Rule) -> dict[str, Any]:
    """Return what a rule would have selected in each finished query of a run, beside what was selected.

    Raises
    ------
    ConfigError
        If the folder is none of `al run`, or a target is given and the run has measured no errors.
    StateMismatch
        If a file is missing or damaged.
    """
    folder = find_work_folder(Path(directory), "al filter")
    iterations, audits = [], list[Audit]()
    measured = any((folder.step(index, "label") / AUDIT_FILE).exists() for index in folder.iterations())
    if History(folder.history).read()["kind"] != "run":
        raise ConfigError(f"{folder.root} is of `al init_bulk`, which scores nothing; give that of an `al run`.")
    if rule.target is not None and not measured:
        raise ConfigError(
            f"{folder.root} has no audit frames, which say what a score is worth in eV/Å: its input had a window.\n"
            "  Give --lower and --upper; or run with `target_force_error`."
        )
    saved = 0  # labels that the rule has left of what the run spent
    for index in folder.iterations():
        query = folder.step(index, "query")
        if Record.read(query):
            job = read_job(query / SCORES_DIR / QUERY_JOB_FILE)
            if job.labels_left is not None:
                job = job.model_copy(update={"labels_left": max(job.labels_left + saved, 0)})
            iterations.append({"iteration": index, **_filter(query, job, rule, audits)})
            saved += iterations[-1]["was"]["selected"] - iterations[-1]["selected"]
        audits += _read_audits(folder, index)
    if not iterations:
        raise ConfigError(f"{folder.root} has no finished query yet.")
    return {"folder": str(folder.root), "rule": vars(rule), "iterations": iterations}


def _read_audits(folder: WorkFolder, index: int) -> list[Audit]:
    path = folder.step(index, "label") / AUDIT_FILE
    frames = read_json(path)["frames"] if path.exists() else []
    return [Audit.model_validate({k: v for k, v in frame.items() if k in Audit.model_fields}) for frame in frames]


@dataclass
class _Task:
    """A trajectory while its rows are read."""

    in_a_row: int = 0
    ended: bool = False


@dataclass
class _Bounds:
    """Where the window of each trajectory begins and ends."""

    job: QueryJob
    rule: Rule
    calibration: Calibration | None
    tasks: dict[str, _Task] = field(default_factory=dict)

    def window(self, name: str) -> tuple[float, float]:
        if self.calibration is None:
            return self.rule.lower or 0.0, self.rule.upper or 0.0
        task = next(task for task in self.job.tasks if task.name == name)
        return self.calibration.lower(
            self.calibration.factor(task.structure, task.temperature)
        ), self.job.guard.max_force


def _filter(query: Path, job: QueryJob, rule: Rule, audits: Sequence[Audit]) -> dict[str, Any]:
    """Count one query's frames by class, and how many would have been selected."""
    calibration, n_audits = None, 0
    if rule.target is not None:
        calibration = Calibration.fit(audits, rule.targets(job.type_map), job.query.coverage)
        n_audits = job.n_audits
    bounds = _Bounds(job, rule, calibration)
    census = {name: Census(job.cap(name)) for name in job.structures}
    sound = dict.fromkeys(job.structures, 0)
    for rows in read_table(query / FRAMES_FILE):
        for name in dict.fromkeys(rows.task.tolist()):
            mine = rows.take(np.asarray(rows.task == name))
            classes = _classify(mine, bounds, name.decode(), job)
            structure = next(task.structure for task in job.tasks if task.name == name.decode())
            census[structure].counts += np.bincount(classes, minlength=3)
            sound[structure] += int(np.isfinite(mine.score[: len(classes)]).sum())
    before = read_json(query / SUMMARY_FILE)
    independent = {part["structure"]: part.get("independent") for part in before["by_structure"]}
    for name, seen in census.items():
        seen.n_audits = min(n_audits, independent.get(name) or sound[name])
    selected = _select(census, sound, job.budget)
    by_structure: list[dict[str, Any]] = [
        {"structure": name, **_count(seen), "selected": count}
        for (name, seen), count in zip(census.items(), selected, strict=True)
    ]
    totals = {name: sum(part[name] for part in by_structure) for name in ("frames", *NAMES, "selected")}
    bounded = None if calibration is None else calibration.general is not None
    return {
        **totals, "has_bound": bounded, "by_structure": by_structure,
        "was": {name: before[name] for name in ("frames", *NAMES, "selected")},
    }  # fmt: skip


def _classify(rows: TableRows, bounds: _Bounds, name: str, job: QueryJob) -> NDArray[np.uint8]:
    """Return the classes of a trajectory's rows, up to the cut."""
    task = bounds.tasks.setdefault(name, _Task())
    lower, upper = bounds.window(name)
    classes = np.full(len(rows.score), FAILED, dtype=np.uint8)
    classes[rows.score < upper] = CANDIDATE
    classes[rows.score < lower] = ACCURATE
    old_upper = np.inf if job.query.upper is None else job.query.upper
    classes[(rows.classes == FAILED) & (rows.score < min(old_upper, job.guard.max_force))] = FAILED  # absurd forces
    end, task.in_a_row = find_end(classes == FAILED, job.stop_after, task.in_a_row)
    if task.ended:
        return classes[:0]
    task.ended = end is not None
    return classes[:end]


def _select(census: dict[str, Census], sound: dict[str, int], budget: int | None) -> list[int]:
    """Return how many frames of each structure would be labelled, audits among them."""
    fallback = all(not seen.counts[:FAILED].any() for seen in census.values())
    audits = [min(seen.n_audits, sound[name]) for name, seen in census.items()]
    most = []
    for (name, seen), drawn in zip(census.items(), audits, strict=True):
        offered = sound[name] if fallback else int(seen.counts[CANDIDATE])
        most.append(min(seen.cap, offered, sound[name] - drawn))
    left = None if budget is None else max(budget - sum(audits), 0)
    shares = share_out(left, [seen.bad_fraction for seen in census.values()], most)
    return [drawn + share for drawn, share in zip(audits, shares, strict=True)]


def _count(seen: Census) -> dict[str, int]:
    counts = {name: int(count) for name, count in zip(NAMES, seen.counts, strict=True)}
    return {"frames": sum(counts.values()), **counts}
