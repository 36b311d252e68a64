"""When a screening that labels found what it looks for: read from the tables of its queries, and of its ranking."""

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_driver.data.frames import Array, read_frames
from al_driver.layout import RANKED_FILE, SCREEN_STAGES, SELECTED_FILE, WorkFolder
from al_driver.plots.found import Found, draw_found
from al_driver.plots.page import Section
from al_driver.screen.acquisition import Acquisition
from al_driver.screen.ranking import UNKNOWN, group_by, group_names
from al_driver.words import many
from al_driver.workflow.step import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class LabelledScreening:
    """A screening with iterations, finished or not, by its folder.

    The table of a query knows what was labelled before it, that of the ranking everything.
    """

    folder: WorkFolder

    @cached_property
    def queries(self) -> list[tuple[str, Path, Record]]:
        """Iteration, folder and record of each query that is done."""
        steps = [(str(index), self.folder.step(index, "query")) for index in self.folder.iterations()]
        return [(name, step, record) for name, step in steps if (record := Record.read(step))]

    @property
    def steps(self) -> list[Path]:
        """What a picture is drawn from, the newest table last; nothing before something is labelled.

        A query of an `al` that did not write down how many are wanted cannot be the newest.
        """
        ranked = self.folder.root / SCREEN_STAGES[-1]
        queries = [step for _, step, _ in self.queries]
        if queries and Record.read(ranked):
            return [*queries, ranked]
        return queries if len(queries) > 1 and "wanted" in self.queries[-1][2].result else []

    @cached_property
    def found(self) -> Found | None:
        """What was labelled, in order; None where no candidate has a value."""
        with (self.steps[-1] / RANKED_FILE).open(encoding="utf-8", newline="") as stream:
            rows = {row["id"]: row for row in csv.DictReader(stream)}
        frames, ends, names, n_blind = list[Atoms](), list[int](), list[str](), 0
        for name, step, record in self.queries:
            asked = [frame for frame in read_frames(step / SELECTED_FILE) if _is_labelled(rows[frame.info["id"]])]
            if not asked:
                continue
            frames += asked
            ends.append(len(frames))
            names.append(name)
            n_blind = n_blind if record.result["by"] == "acquisition" else len(frames)
        values = np.array([float(rows[frame.info["id"]]["known"] or "nan") for frame in frames])
        if not np.isfinite(values).any():
            return None
        shown, best, wanted = self._judge(frames, values)
        return Found(shown, best, wanted, ends, names, n_blind)

    @cached_property
    def rules(self) -> dict[str, Any]:
        """What was looked for: ``rank``, ``select``, ``per_composition``."""
        record = Record.read(self.steps[-1])
        assert record is not None  # noqa: S101  (asked before)
        return {"select": record.result.get("wanted")} | record.inputs

    @property
    def axis(self) -> str:
        """What the values are, with their unit."""
        name, unit = self.rules["rank"]["property"], self.queries[-1][2].result.get("unit")
        what = f"{name} ({unit})" if unit else str(name)
        return f"{what},\nfrom the best of its composition" if self.rules["per_composition"] else what

    def _judge(self, frames: list[Atoms], values: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Return the values, the best up to each, and which are among the best of all, shape (n_labels,) each.

        Where each composition counts for itself, values are those above the best of the composition.
        """
        turned = Acquisition.model_validate(self.rules["rank"]).lower_is_better(values)
        names = group_names(frames, per_composition=self.rules["per_composition"])
        wanted, shown = np.zeros(len(values), dtype=bool), values.copy()
        for group in group_by(names, np.flatnonzero(np.isfinite(values)).tolist()).values():
            order = np.argsort(turned[group], kind="stable")
            wanted[np.array(group)[order[: self.rules["select"]]]] = True
            if self.rules["per_composition"]:
                turned[group] -= turned[group].min()
                shown[group] = turned[group]
        best = np.full(len(values), np.nan)
        for index in range(len(values)):
            if np.isfinite(turned[: index + 1]).any():
                best[index] = shown[np.nanargmin(turned[: index + 1])]
        return shown, best, wanted


def draw_found_of(folder: LabelledScreening) -> "Figure | str":
    """Draw what the labels found."""
    if folder.found is None:
        return "no candidate has a value"
    return draw_found("what the labels found", folder.axis, folder.found)


def found_section(folder: LabelledScreening, picture: Path) -> Section | None:
    """Return the part of the page that tells what the labels found; None where no candidate has a value."""
    if not folder.steps or folder.found is None:
        return None
    found = folder.found
    n_labels, n_failed = len(found.value), int(np.isnan(found.value).sum())
    blind = f", the first {found.n_blind} before anything had been learnt" if found.n_blind else ""
    failed = f"; {n_failed} gave no value" if n_failed else ""
    words = [
        f"{many(n_labels, 'candidate')} in {many(len(found.ends), 'iteration')}{blind}{failed}.",
        f"Of the {int(found.wanted.sum())} best of them half were found with {many(found.labels_for(0.5), 'label')}, "
        f"all with {found.labels_for(1.0)}. Better ones may be among the candidates that nobody calculated.",
    ]
    return Section("What the labels found", words, picture=picture if picture.exists() else None)


def _is_labelled(row: dict[str, str]) -> bool:
    """Say whether a candidate that was asked for has a value, or why it has none; others were not reached."""
    return bool(row["known"]) or row["left_out"] not in ("", UNKNOWN)
