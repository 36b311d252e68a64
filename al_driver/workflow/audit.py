"""Measured errors of a run's models, and what follows from them: the files ``calibration.json`` and ``audit.json``.

Both are derived from finished steps, hold no time and no path, and are written again where they are missing. The first
lies beside the models whose errors it bounds, and was known before they were queried; the second beside the labels that
measured them. eV/Å, K.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from al_driver.data.frames import Array, read_frames, sort_by_type
from al_driver.errors import StateMismatch
from al_driver.files import read_json, write_json
from al_driver.layout import AUDIT_FILE, AUDIT_FRAMES_FILE, CALIBRATION_FILE, LABELLED_FILE, MD_TASKS_FILE
from al_driver.query.calibration import Audit, Calibration
from al_driver.query.verdict import upper_limit
from al_driver.schema.run import RunParams
from al_driver.words import many

log = logging.getLogger(__name__)
CONFIDENCE = 0.95
"""Of the word that a coverage has failed."""


def calibrate(params: RunParams, audits: Sequence[Audit], trained: Path | None) -> Calibration | None:
    """Return what bounds the errors of the models in a train step, and leave it there; None without a target."""
    if not params.query.has_target:
        return None
    calibration = Calibration.fit(audits, params.query.targets(params.type_map), params.query.coverage)
    if trained is not None:
        write_derived(trained / CALIBRATION_FILE, calibration.model_dump(mode="json"))
    return calibration


def pair_frames(queried: Path, labelled: Sequence[Path], type_map: Sequence[str]) -> Iterator[tuple[Atoms, Array]]:
    """Yield each labelled audit frame, and the force error of each of its atoms, in the order of selection.

    The labels lie in the folders ``labelled``: of a label step, and of its retries where those count.

    Raises
    ------
    StateMismatch
        If a frame does not have the atoms that were sent.
    """
    labels = {_place(frame): frame for folder in labelled for frame in _read(folder / LABELLED_FILE)}
    for frame in _read(queried / AUDIT_FRAMES_FILE):
        driven, label = sort_by_type(frame, type_map), labels.get(_place(frame))
        if label is None:
            continue  # its label was rejected
        if not np.array_equal(driven.numbers, label.numbers):
            raise StateMismatch(
                f"{labelled[0] / LABELLED_FILE}: an audit frame has other atoms than were sent; redo the label."
            )
        yield driven, np.linalg.norm(driven.arrays["forces"] - label.arrays["forces"], axis=1)


def measure(explored: Path, queried: Path, labelled: Path, type_map: Sequence[str], iteration: int) -> list[Audit]:
    """Return the audit frames of an iteration that were labelled, with their errors, in the order of selection.

    The forces of the model that explored are those of the trajectory: nothing is evaluated again. What a retry recovers
    later does not count: bounds that were known, and what followed from them, stay as they were.
    """
    ramped = {task["path"] for task in read_json(explored / MD_TASKS_FILE) if len(set(task["temperature"])) > 1}
    audits = []
    for driven, error in pair_frames(queried, [labelled], type_map):
        symbols = np.array(driven.get_chemical_symbols())
        info = driven.info
        audits.append(
            Audit(
                iteration=iteration, structure=str(info["structure"]), task=str(info["task"]), step=int(info["step"]),
                temperature=float(info["temperature"]), ramped=info["task"] in ramped, score=float(info["score"]),
                errors={str(name): float(error[symbols == name].max()) for name in np.unique(symbols)},
            )
        )  # fmt: skip
    return audits


def report_audits(
    audits: Sequence[Audit], calibration: Calibration, earlier: Sequence[dict[str, Any]], labelled: Path
) -> dict[str, Any]:
    """Say how the audits of an iteration kept to the bounds that were known before; leave it beside their labels.

    Parameters
    ----------
    earlier
        What was said of the iterations before.

    Returns
    -------
    The number of audits, how many missed the target, how many were outside, how many had a bound (``bounded``) and how
    many of these kept to it (``covered``), the same of all iterations so far, and ``word``: what a person should know.
    """
    bounds = [calibration.bound(audit) for audit in audits]
    errors = [audit.error(calibration.targets) for audit in audits]
    has_factor = calibration.general is not None
    counts = {
        "audits": len(audits),
        "missed_target": sum(error > calibration.target for error in errors),
        "outside": sum(bound is None for bound in bounds) if has_factor else 0,
        "bounded": sum(bound is not None for bound in bounds),
        "covered": sum(bound is not None and error <= bound for bound, error in zip(bounds, errors, strict=True)),
    }
    total = {name: count + sum(report[name] for report in earlier) for name, count in counts.items()}
    report = counts | {
        "largest_error": max(errors, default=None),
        "target": calibration.target,
        "coverage": calibration.coverage,
        "so_far": total,
        "word": _word(calibration, total),
        "frames": [
            audit.model_dump(mode="json") | {"error": error, "bound": bound}
            for audit, error, bound in zip(audits, errors, bounds, strict=True)
        ],
    }
    write_derived(labelled / AUDIT_FILE, report)
    return report


def describe_audits(report: dict[str, Any]) -> str:
    """Return what an iteration's audit found, as one line."""
    if not report["audits"]:
        return "audit: no frame"
    text = f"audit: {many(report['audits'], 'frame')}, largest force error {report['largest_error']:.3g} eV/Å"
    text += f" ({report['missed_target']} above the target {report['target']:g})"
    if report["bounded"]:
        text += f"; bound held for {report['covered']} of {report['bounded']}"
    if report["outside"]:
        text += f", {report['outside']} outside"
    return f"{text}. {report['word']}" if report["word"] else text


def _word(calibration: Calibration, total: dict[str, int]) -> str:
    """Return what a person should know of the bounds; empty where all is well."""
    if calibration.general is None and not total["bounded"]:
        return f"No bound yet: {calibration.n_audits} of {calibration.n_needed} audits were known"
    if not total["bounded"]:
        return ""
    held = total["bounded"] - total["covered"]
    most = 1 - upper_limit(total["covered"], total["bounded"], CONFIDENCE)
    if most > 1 - calibration.coverage:
        share = total["covered"] / total["bounded"]
        return (
            f"The bound fails: {held} of {total['bounded']} audits exceed it, so that it holds for {share:.0%} where "
            f"{calibration.coverage:.0%} were promised; the frames are unlike those it was set by"
        )
    return ""


def _place(frame: Atoms) -> tuple[str, int]:
    return str(frame.info["task"]), int(frame.info["step"])


def _read(path: Path) -> list[Atoms]:
    return read_frames(path) if path.exists() and path.stat().st_size else []


def write_derived(path: Path, content: dict[str, Any]) -> None:
    """Write a derived file unless it is there as it should be."""
    try:
        if read_json(path) == content:
            return
    except (FileNotFoundError, StateMismatch):
        pass
    write_json(path, content)
