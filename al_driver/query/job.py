"""What the query program is asked to do, and how the driver knows that it did.

The driver writes ``query.json`` into a folder; ``python -m al_driver.tasks.query FOLDER`` reads it and leaves
``summary.json``, ``frames.csv`` and ``selected.extxyz`` beside it. Every path in it is relative to that folder. K, bar.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from al_driver.errors import EngineError, StateMismatch
from al_driver.explorers.base import Guard
from al_driver.files import read_json
from al_driver.layout import FRAMES_FILE, SELECTED_FILE, SUMMARY_FILE
from al_driver.query.calibration import Calibration, Factor
from al_driver.query.params import QueryParams
from al_driver.query.window import Window
from al_driver.schema.base import Float, Int, NonNegativeInt, Params, PositiveFloat, PositiveInt
from al_driver.units import Unit

MOST_LOOKED_AT = 4_000
"""Most candidates that a look ahead compares, unless more may be chosen."""


class MdTask(Params):
    """A finished molecular-dynamics task."""

    path: str
    """Its folder; the last part is its name."""
    structure: str
    """Name of the entry of ``structures`` it belongs to."""
    temperature: Annotated[tuple[Float, Float], Unit("K")]
    """Set temperature at the first and at the last step."""
    pressure: Annotated[Float, Unit("bar")] | None = None
    """Set pressure, where there is one."""
    n_steps: PositiveInt
    """Steps that were asked for."""
    score_factor: PositiveFloat = 1.0
    """What makes scores of the deviations: those of a virtual committee are in the unit of errors."""

    @property
    def name(self) -> str:
        return Path(self.path).name

    def temperature_at(self, step: int) -> float:
        """Return the set temperature at a step, K."""
        first, last = self.temperature
        return first + (last - first) * min(step / self.n_steps, 1.0)


class QueryJob(Params):
    """One query: the trajectories of an iteration, and the rules by which frames are chosen."""

    query: QueryParams
    """Metric, window, caps and choice."""
    explorer: str
    """Who wrote the trajectories."""
    guard: Guard = Guard()
    """Limits of physics; ``min_distance`` and ``max_force`` are checked here too."""
    stop_after: PositiveInt
    """Failed frames in a row after which a trajectory is not read any more."""
    type_map: Annotated[tuple[str, ...], Field(min_length=1)]
    """Elements in the order of the models."""
    seed: Int
    """The run's seed."""
    iteration: NonNegativeInt
    """Index of the iteration."""
    structures: tuple[str, ...]
    """Names of the entries in their order: the order of the selected frames."""
    max_select: dict[str, PositiveInt] = Field(default={})
    """An entry's own cap, by its name."""
    labels_left: NonNegativeInt | None = None
    """How many frames the run may still label; no limit when None."""
    tasks: tuple[MdTask, ...]
    """The trajectories."""
    n_audits: NonNegativeInt = 0
    """Audit frames of each structure."""
    audits_only: bool = False
    """Nothing but audit frames is selected."""
    calibration: Calibration | None = None
    """With a target: what bounds the errors, from the audits known before this query."""
    labelled: tuple[str, ...] = ()
    """deepmd/npy folders whose frames are labelled already."""
    models: tuple[str, ...] = ()
    """Hashes of the models whose deviations are the scores, to be told of each frame."""
    features: str | None = None
    """What the candidates of the shortlist are compared by, where the choice compares them."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError("two of `tasks` have the same name")
        unknown = sorted(({task.structure for task in self.tasks} | self.max_select.keys()) - set(self.structures))
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not one of `structures` {list(self.structures)}")
        return self

    def cap(self, structure: str) -> int:
        """Return the most frames of a structure, audits aside, that may be selected."""
        return 0 if self.audits_only else self.max_select.get(structure, self.query.max_select)

    def window(self, factor: Factor | None) -> Window:
        """Return what scores mean where a factor bounds the errors; without a target that is the same everywhere.

        With one, the upper limit is the guard: a deviation as large as no force should be.
        """
        lower, upper = self.query.lower, self.query.upper
        if self.calibration is not None:
            lower, upper = self.calibration.lower(factor), self.guard.max_force
        if lower is None or upper is None:
            raise StateMismatch("the query has a target, and no calibration; `al run` writes it: redo the query.")
        return Window(self.query.metric, lower, upper, self.guard.max_force, self.stop_after)

    def shortlist_length(self, structure: str) -> int:
        """Return the most candidates of a structure that are compared."""
        cap = self.cap(structure)
        most = cap if self.budget is None else min(cap, max(self.budget, 1))
        if self.query.choose == "lookahead":  # whose kernel grows with the square of their number
            return min(self.query.shortlist * most, max(MOST_LOOKED_AT // len(self.structures), most))
        return self.query.shortlist * most

    @property
    def compares(self) -> bool:
        """Candidates may be selected, and are compared with each other for it."""
        return self.query.compares and not self.audits_only and self.budget != 0

    @property
    def budget(self) -> int | None:
        """The most frames that may be selected in all; None for no limit."""
        if self.audits_only:
            return None
        limits = [limit for limit in (self.query.max_labels_per_iteration, self.labels_left) if limit is not None]
        return min(limits, default=None)


def verify_query(directory: Path) -> None:
    """Accept a query whose counts add up and whose files hold what the summary says.

    Raises
    ------
    EngineError
        If a file is missing, the counts do not add up, or frames are missing.
    """
    for name in (SUMMARY_FILE, FRAMES_FILE, SELECTED_FILE):
        if not (directory / name).is_file():
            raise EngineError("no_output", directory, f"the query left no {name}")
    try:
        summary = read_json(directory / SUMMARY_FILE)
        for part in (summary, *summary["by_structure"]):
            if part["accurate"] + part["candidate"] + part["failed"] != part["frames"]:
                raise EngineError("engine_error", directory, f"the counts of {SUMMARY_FILE} do not add up")
    except (StateMismatch, KeyError, TypeError) as error:
        raise EngineError("engine_error", directory, f"{SUMMARY_FILE} is damaged ({error})") from error
    with (directory / SELECTED_FILE).open(encoding="utf-8") as stream:
        n_frames = sum("Properties=" in line for line in stream)
    if n_frames != summary["selected"]:
        detail = f"{SELECTED_FILE} has {n_frames} frames, {SUMMARY_FILE} says {summary['selected']}"
        raise EngineError("engine_error", directory, detail)
