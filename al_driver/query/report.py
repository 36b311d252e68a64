"""What a query leaves behind: ``frames.csv``, ``selected.extxyz`` and ``summary.json``.

Scores in the units of the metric, deviations in eV/Å and eV/atom as LAMMPS wrote them (those of a virtual committee are
scaled too), K, bar. ``frames.csv`` may have millions of rows: they are put together in numpy, block by block, from the
very characters of the deviation files.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from al_driver.data.frames import write_frames
from al_driver.errors import StateMismatch
from al_driver.layout import AUDIT_FRAMES_FILE, SELECTED_FILE
from al_driver.query.job import MdTask, QueryJob
from al_driver.query.selection import Census, Choice, Selected
from al_driver.query.window import CLASS_NAMES, Scored

HEADER = "task,structure,temperature,pressure,step,score,max_devi_f,avg_devi_f,max_devi_v,class,selected\n"
_CLASSES = np.array([f"{name}," for name in CLASS_NAMES], dtype="S")


class FramesFile:
    """Writes ``frames.csv``; it appears, whole, when the block ends without an error."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.tmp")

    def __enter__(self) -> Self:
        self._stream = self._temporary.open("wb")
        self._size = self._stream.write(HEADER.encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        if kind is None:
            self._temporary.replace(self._path)

    def add(self, task: MdTask, scored: Scored, column: str) -> NDArray[np.int64]:
        """Write frames of one task as not selected.

        Parameters
        ----------
        column
            The column of the deviation file that is the score.

        Returns
        -------
        Shape (n,): where in the file each row says whether its frame is selected; `mark` takes them.
        """
        rows = scored.rows
        text = {name: _blank_to_nul(written) for name, written in rows.text.items()}
        parts: list[bytes | NDArray[Any]] = _conditions(task, rows.step)
        for name in ("step", column, "max_devi_f", "avg_devi_f", "max_devi_v"):
            parts += [text[name], b","]
        table = _join_columns([*parts, _CLASSES[scored.classes], b"0\n"], len(rows))
        is_text = table != 0
        ends = self._size + np.cumsum(np.count_nonzero(is_text, axis=1))
        self._size += self._stream.write(table[is_text].tobytes())
        return ends - 2

    def mark(self, frames: Sequence[Selected]) -> None:
        """Say of frames written before that they are selected."""
        for place in sorted(frame.mark for frame in frames):
            self._stream.seek(place)
            self._stream.write(b"1")


def _conditions(task: MdTask, steps: NDArray[np.int64]) -> list[bytes | NDArray[Any]]:
    """Return task, structure, temperature and pressure of each row, with the commas behind them."""
    line = io.StringIO()
    csv.writer(line, lineterminator=",").writerow([task.name, task.structure])
    pressure = "" if task.pressure is None else repr(task.pressure)
    names, end = line.getvalue().encode(), f",{pressure},".encode()
    first, last = task.temperature
    if first == last:
        return [names + repr(first).encode() + end]
    return [names, np.array([repr(task.temperature_at(int(step))) for step in steps], dtype="S"), end]


def _blank_to_nul(text: NDArray[np.bytes_]) -> NDArray[np.uint8]:
    """Return the characters, shape (n, width), with 0 for each blank."""
    characters = np.ascontiguousarray(text).view(np.uint8).reshape(len(text), -1)
    return np.where(characters == ord(" "), 0, characters)


def _join_columns(parts: Sequence[bytes | NDArray[Any]], n_rows: int) -> NDArray[np.uint8]:
    """Put columns side by side, shape (n_rows, width); a constant stands in every row."""
    columns = []
    for part in parts:
        if isinstance(part, bytes):
            columns.append(np.broadcast_to(np.frombuffer(part, dtype=np.uint8), (n_rows, len(part))))
        else:
            columns.append(part.view(np.uint8).reshape(n_rows, -1))
    return np.hstack(columns)


def write_selected(directory: Path, job: QueryJob, choice: Choice) -> None:
    """Write the selected frames, each with where it comes from; audits also with the forces of the model that explored.

    Raises
    ------
    StateMismatch
        If an audit frame has no forces.
    """
    for frame in choice.frames:
        task = job.tasks[frame.task]
        frame.atoms.info = {
            "structure": frame.structure,
            "task": task.name,
            "step": frame.step,
            "temperature": task.temperature_at(frame.step),
            **({} if task.pressure is None else {"pressure": task.pressure}),
            "score": frame.score,
            "metric": job.query.metric,
            "iteration": job.iteration,
            **({"models": " ".join(job.models)} if job.models else {}),
            **({"audit": True} if frame.audit else {}),
        }
        if frame.audit and "forces" not in frame.atoms.arrays:
            raise StateMismatch(f"{task.path}: the frames hold no forces (fx fy fz), and audits need them.")
    if job.n_audits:
        write_frames(directory / AUDIT_FRAMES_FILE, [frame.atoms for frame in choice.frames if frame.audit])
    for frame in choice.frames:
        frame.atoms.arrays.pop("forces", None)  # the model's, not a label
    write_frames(directory / SELECTED_FILE, [frame.atoms for frame in choice.frames])


def make_summary(job: QueryJob, census: dict[str, Census], choice: Choice) -> dict[str, Any]:
    """Return the content of ``summary.json``: counts in all and by structure, and what decided them."""
    chosen = [frame.structure for frame in choice.frames]
    by_structure = [
        {
            "structure": name,
            **_count(seen.counts),
            "selected": chosen.count(name),
            **_count_audits(job, seen, [frame for frame in choice.frames if frame.structure == name]),
            **({"unsound": choice.unsound[name]} if choice.unsound.get(name) else {}),
        }
        for name, seen in census.items()
    ]
    counts = sum((seen.counts for seen in census.values()), start=np.zeros(3, dtype=np.int64))
    return {
        **_count(counts),
        "selected": len(chosen),
        "by_structure": by_structure,
        **_sum_audits(job, by_structure),
        "uncertainty": job.query.uncertainty,
        "metric": job.query.metric,
        "lower": _lower(job),
        "upper": job.query.upper,
        "choose": job.query.choose,
        "budget": job.budget,
        "all_failed": choice.fallback,
        "skipped": choice.skipped,
    }


def _lower(job: QueryJob) -> float | None:
    """Return the lower bound of the window; with a target that of frames of no group, None where there is no bound."""
    if job.calibration is None:
        return job.query.lower
    factor = job.calibration.general
    return None if factor is None else job.calibration.lower(factor)


def _count_audits(job: QueryJob, seen: Census, chosen: Sequence[Selected]) -> dict[str, int]:
    """Return what a query with a target counts beside the classes."""
    if not job.n_audits:
        return {}
    audits = sum(frame.audit for frame in chosen)
    return {
        "audits": audits, "independent": seen.n_stretches, "above_target": seen.n_above, "outside": seen.n_outside,
    }  # fmt: skip


def _sum_audits(job: QueryJob, by_structure: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the sums of these counts, and what bounded the errors."""
    if not job.n_audits or job.calibration is None:
        return {}
    sums = {name: sum(part[name] for part in by_structure) for name in ("audits", "above_target", "outside")}
    general = job.calibration.general
    known = {"n_audits": job.calibration.n_audits, "n_needed": job.calibration.n_needed}
    factor = None if general is None else {"a": general.a, "beta": job.calibration.beta, "n": general.n}
    return sums | {"calibration": known | {"target": job.calibration.target, "factor": factor}}


def _count(counts: NDArray[np.int64]) -> dict[str, int]:
    numbers = {name: int(count) for name, count in zip(CLASS_NAMES, counts, strict=True)}
    return {"frames": sum(numbers.values()), **numbers}
