"""The loop of a screening that labels: iterations of train → query → (relax →) label over one property.

Each iteration fits a surrogate to everything that is known, predicts it for all candidates and calculates those that
score best; before there are labels enough to fit, candidates are chosen as ``learn.first`` says. It ends with a fit to
all labels and its predictions, when the budget is spent, when nothing better was found for some time, or when no
candidate is left. Budget and patience are in no fingerprint: raised, the same command goes on.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from al_driver.data.frames import write_frames
from al_driver.files import hash_path, read_json, write_atomic
from al_driver.layout import EVALUATION_FILE, KNOWN_FILE, MODEL_DIR, RANKED_FILE, SELECTED_FILE
from al_driver.schema.base import identity
from al_driver.schema.learn import KnownTable, Learn
from al_driver.schema.screen import ScreenParams
from al_driver.screen.choosing import By, Pool, choose_next
from al_driver.screen.job import SMALLEST_KNOWN, FitJob, FitSettings
from al_driver.screen.properties import find_model
from al_driver.screen.ranking import Predictions, group_names, write_table
from al_driver.seeds import make_rng, make_seed
from al_driver.words import many
from al_driver.workflow.context import Context
from al_driver.workflow.screen_label import Labels, read_labels, run_labels, value_inputs
from al_driver.workflow.screen_tasks import PREDICTED, UNIT, read_predictions, run_fit
from al_driver.workflow.step import Record, Step

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Beginning:
    """What a loop starts from.

    Attributes
    ----------
    folder, made
        Of the candidates, with the record of their step.
    predicted
        The record of the step that predicted.
    crystals, predictions
        The candidates, and what the models say of them.
    """

    folder: Path
    made: Record
    predicted: Record
    crystals: list[Atoms]
    predictions: Predictions

    def unit(self, params: ScreenParams) -> str:
        """Return the unit of what is ranked by."""
        if isinstance(params.label, KnownTable):
            return params.label.unit
        return UNIT if params.label is not None else str(self.predicted.result["units"].get(params.rank.property, ""))


@dataclass
class ScreenLoop:
    """What is known so far, and the fingerprint that the next step follows from.

    Attributes
    ----------
    after
        Fingerprint of the last step that labelled, or of the first predictions.
    predictions, predicted
        The newest of all candidates, and the fingerprint of the step that made them.
    has_learnt
        Whether they are of a surrogate that has learnt from labels.
    stale
        Iterations in a row, up to now, that found nothing better.
    """

    context: Context
    params: ScreenParams
    learn: Learn
    begin: Beginning
    labels: Labels
    after: str
    predictions: Predictions
    predicted: str
    has_learnt: bool = False
    stale: int = 0

    @classmethod
    def make(cls, context: Context, params: ScreenParams, learn: Learn, begin: Beginning) -> "ScreenLoop":
        """Return a loop that has labelled nothing yet."""
        first = begin.predicted.fingerprint
        return cls(context, params, learn, begin, Labels(begin.crystals), first, begin.predictions, first)

    def run(self) -> str:
        """Iterate; say why it ended. What has been learnt, and labelled, is in the loop then."""
        iteration = 0
        while True:
            if len(self.labels.known) >= SMALLEST_KNOWN:
                self._learn(iteration)
            if reason := self._why_done():
                return reason
            queried = self._query(iteration)
            if not queried.result["selected"]:
                return "every candidate that passes the filters is labelled"
            self._label(iteration, queried)
            iteration += 1

    def _learn(self, iteration: int) -> None:
        """Fit a surrogate to all labels, and predict every candidate by it."""
        name, unit = self.params.rank.property, self.begin.unit(self.params)
        start = self._start()
        inputs = {
            "seed": self.params.seed,
            "fit": identity(self.learn.fit),
            "start": None if start is None else {"sha256": hash_path(find_model(start))},
            **value_inputs(self.params),
        }
        step = self._step(iteration, "train", inputs, self.begin.made.fingerprint, self.after)

        def work() -> dict[str, Any]:
            write_frames(step.folder / KNOWN_FILE, self._known_frames())
            settings = FitSettings(**dict(self.learn.fit), seed=make_seed(self.params.seed, "screen", iteration))
            job = FitJob(target=name, unit=unit, start=start, settings=settings, inputs=(Path(),), base=Path())
            run_fit(self.context, step, job, self.begin.folder, len(self.begin.crystals))
            found = read_json(step.folder / MODEL_DIR / EVALUATION_FILE)
            return {"known": len(self.labels.known), **{key: found[key] for key in ("n", "mae", "uncertainty")}}

        trained = self.context.run_step(step, work, [KNOWN_FILE, MODEL_DIR, *PREDICTED]).result
        log.info(
            "%s: learnt from %d; MAE %.3g %s on %d that no training saw", step.name, trained["known"],
            trained["mae"], unit, trained["n"],
        )  # fmt: skip
        self.predictions = self.begin.predictions.with_property(name, read_predictions(step.folder))
        self.predicted, self.has_learnt = step.fingerprint, True

    def _start(self) -> str | None:
        """Return the network that learns: the one that predicts the property, or the first; None for a new one."""
        networks, name = self.params.surrogates, self.params.rank.property
        if self.learn.from_scratch or not networks:
            return None
        names = list(self.begin.predictions.values)[: len(networks)]
        return networks[names.index(name) if name in names else 0]

    def _known_frames(self) -> Iterator[Atoms]:
        for index, value in sorted(self.labels.known.items()):
            frame: Atoms = self.begin.crystals[index].copy()
            frame.info = {"id": frame.info["id"], self.params.rank.property: value}
            yield frame

    def _why_done(self) -> str | None:
        """Say why nothing more is labelled; None where something is."""
        if self.labels.n_spent >= self.learn.max_labels:
            return f"max_labels ({self.learn.max_labels}) are spent"
        if self.learn.patience is not None and self.stale >= self.learn.patience:
            return f"{many(self.stale, 'iteration')} in a row brought nothing among the best {self.params.select}"
        return None

    def _query(self, iteration: int) -> Record:
        """Choose what is calculated next."""
        params, learn = self.params, self.learn
        by: By = "acquisition" if self.has_learnt else "mean" if learn.first == "rank" else learn.first
        rules = {name: identity(getattr(params, name)) for name in ("seed", "filters", "rank", "per_composition")}
        own = {"max_labels_per_iteration": learn.max_labels_per_iteration, "by": by}
        step = self._step(iteration, "query", rules | own, self.predicted, self.after)

        def work() -> dict[str, Any]:
            pool = Pool(self.begin.crystals, self.predictions, self.labels.known, self.labels.failed)
            n = min(learn.max_labels_per_iteration, learn.max_labels - self.labels.n_spent)
            rng = make_rng(params.seed, "screen", iteration, "query")
            ranking = choose_next(
                pool, params.filters, params.rank, n, by=by, per_composition=params.per_composition, rng=rng
            )
            table = write_table(self.begin.crystals, self.predictions, ranking, self.labels.known)
            write_atomic(step.folder / RANKED_FILE, table)
            write_frames(step.folder / SELECTED_FILE, [self.begin.crystals[index] for index in ranking.selected])
            told = {"property": params.rank.property, "unit": self.begin.unit(params), "wanted": params.select}
            return {"candidates": len(ranking.order), "selected": len(ranking.selected), "by": by, **told}

        record = self.context.run_step(step, work, [RANKED_FILE, SELECTED_FILE])
        how = params.rank.by if by == "acquisition" else by
        log.info("%s: %d of %d, by %s", step.name, record.result["selected"], record.result["candidates"], how)
        return record

    def _label(self, iteration: int, queried: Record) -> None:
        """Calculate what was chosen, and see whether it is better than what was known."""
        folder = self.context.folder.step(iteration, "label").parent
        before = dict(self.labels.known)
        record = run_labels(self.context, self.params, folder, iteration, queried, self.labels)
        self.after = record.fingerprint
        new = read_labels(folder, self.params, self.labels)
        if self.has_learnt:
            self.stale = 0 if self._is_better(before, new) else self.stale + 1
        if self.labels.known:
            best = min(self.labels.known, key=lambda index: self._turn(self.labels.known[index]))
            log.info(
                "%d/label: %s known, the best is %.6g %s (%s)", iteration, many(len(self.labels.known), "value"),
                self.labels.known[best], self.begin.unit(self.params), self.begin.crystals[best].info["id"],
            )  # fmt: skip

    def _is_better(self, before: Mapping[int, float], new: Mapping[int, float]) -> bool:
        """Say whether a new value is among the best of its group, as many as are wanted."""
        names = group_names(self.begin.crystals, per_composition=self.params.per_composition)
        for index, value in new.items():
            known = sorted(self._turn(other) for i, other in before.items() if names[i] == names[index])
            if len(known) < self.params.select or self._turn(value) < known[self.params.select - 1]:
                return True
        return False

    def _turn(self, value: float) -> float:
        """Return a value such that a small one is looked for."""
        return float(self.params.rank.lower_is_better(np.array(value)))

    def _step(self, iteration: int, name: str, inputs: dict[str, Any], *after: str) -> Step:
        folder = self.context.folder.step(iteration, name)
        return Step(f"{iteration}/{name}", folder, inputs, after, accepts=False)
