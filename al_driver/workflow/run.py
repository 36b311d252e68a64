"""The loop: iterations of train → explore → query → label, stage after stage, then the model to use."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from al_driver.data.dataset import find_systems
from al_driver.errors import StateMismatch
from al_driver.explorers.base import Stage
from al_driver.layout import DATASET_DIR, SELECTED_FILE
from al_driver.query.calibration import Audit, Calibration
from al_driver.schema.resource import Role
from al_driver.schema.run import RunParams
from al_driver.trainers.base import Phase
from al_driver.workflow.aside import set_aside
from al_driver.workflow.audit import calibrate, describe_audits, measure, report_audits
from al_driver.workflow.closing import Look, lacks_frames, make_demand, run_look, why_not_met
from al_driver.workflow.context import Context
from al_driver.workflow.converge import why_open
from al_driver.workflow.explore import explore_inputs, run_explore
from al_driver.workflow.history import is_before
from al_driver.workflow.initial import InitialData, prepare_data
from al_driver.workflow.label import label_detail, label_inputs, run_label
from al_driver.workflow.plotter import Plotter
from al_driver.workflow.query import query_inputs, run_query
from al_driver.workflow.reasons import Seen, find_reason, why_worse
from al_driver.workflow.recovered import Retry, choose_retries, retry_inputs
from al_driver.workflow.references import check_same_data, check_same_reference
from al_driver.workflow.step import Record, Step
from al_driver.workflow.train import model_paths, run_train, train_inputs

log = logging.getLogger(__name__)
PACKED: tuple[Role, ...] = ("explore", "label")
"""Steps of an iteration that can be packed once it has ended."""


@dataclass(frozen=True)
class Verdict:
    """Whether the run converged, and why it ended."""

    state: str
    """``converged`` or ``not_converged``."""
    reason: str
    statement: dict[str, Any] | None = None
    """With a target: what the last closing audit shows."""


@dataclass
class Loop:
    """A run of the loop: what has been labelled so far, and the fingerprints that the next step follows from."""

    context: Context
    params: RunParams
    data: InitialData
    plotter: Plotter
    labelled: list[Path] = field(default_factory=list)
    """deepmd/npy systems of the iterations so far, without what a retry recovered."""
    recovered: list[Retry] = field(default_factory=list)
    """Of the iterations before, the retries that the last training learnt from."""
    n_labelled: int = 0
    done: list[int] = field(default_factory=list)
    """The iterations that have labelled."""
    after: tuple[str, ...] = ()
    audits: list[Audit] = field(default_factory=list)
    """With a target: the audit frames of the iterations so far, with the errors of the models that met them."""
    reports: list[dict[str, Any]] = field(default_factory=list)
    """What the audits of each iteration said of the bounds."""
    seen: list[Seen] = field(default_factory=list)
    """What each iteration measured."""
    independent: dict[str, int] = field(default_factory=dict)
    """Independent frames of each structure in the iteration that explored it last."""
    statement: dict[str, Any] | None = None
    """What the last closing audit shows."""
    n_looks: int = 0
    is_short: bool = False
    """What the last closing audit lacked was frames or labels: no error stands in the way."""

    def iterate(self, iteration: int, stage: Stage) -> str | None:
        """Run one iteration; say why its stage is not done, or None when it is."""
        self.is_short = False
        trained = self._train(iteration)
        models = model_paths(self.params, self.context.folder.step(iteration, "train"), trained)
        explored = self._explore(iteration, stage, models, trained)
        calibration = calibrate(self.params, self.audits, self.context.folder.step(iteration, "train"))
        queried = self._query(iteration, stage, models, explored, calibration)
        labelled = self._label(iteration, queried)
        audited = self._audit(iteration, calibration) if calibration else None
        for name in PACKED:
            self.context.pack(self.context.folder.step(iteration, name), name)
        self.plotter.draw()
        self.seen.append(Seen(trained.result, explored.result, queried.result, labelled.result, audited))
        for part in queried.result["by_structure"]:
            if part.get("independent"):
                self.independent[part["structure"]] = part["independent"]
        return why_open(explored.result, queried.result, self.params.query, audited)

    def finish(self) -> list[Path]:
        """Train the model to use on everything. It is derived: when the data changed it is made anew."""
        return self._finish(self._final_step(self.context.folder.root))

    def _finish(self, step: Step) -> list[Path]:
        try:
            trained = self._run_train(step, "final", None)
        except StateMismatch:
            log.info("final: the data or the input changed; the old model is now %s", set_aside(step.folder).name)
            trained = self._run_train(step, "final", None)
        if self.seen and (worse := why_worse(trained.result, self.seen[-1].trained)):
            log.warning("%s: %s", step.name, worse)
        return model_paths(self.params, step.folder, trained)

    def close(self) -> str | None:
        """Audit the final model as it would be now; say what that has not shown, or None when the run has converged."""
        calibration = calibrate(self.params, self.audits, None)
        if calibration is None:
            return None
        self.is_short = (left := self.labels_left()) is not None and left < self._look_cost()
        if self.is_short:
            return f"{left} labels are left, and a closing audit takes {self._look_cost()}: raise max_labels"
        self.n_looks += 1
        folder, after = self.context.folder.closing(self.n_looks), self.done[-1]
        has_gone_on = self.context.folder.step(after + 1, "train").exists()
        final = self._final_step(folder / "explore" if has_gone_on else self.context.folder.root)
        look = Look(
            self.n_looks, final, lambda: self._finish(final), self.systems, calibration, self.independent,
            retry_inputs(self.context.folder, self.recovered), after, not has_gone_on,
        )  # fmt: skip
        self.statement = run_look(self.context, self.params, look)
        self.n_labelled += sum(part["frames"] for part in self.statement["structures"])
        self.is_short = lacks_frames(self.statement)
        return why_not_met(self.statement)

    def advice(self) -> str:
        """Return what stands in the way, and what to do about it; nothing where the reason says that itself."""
        return "" if self.is_short else find_reason(self.seen, self.params.query, self.params.train.short_training())

    def _look_cost(self) -> int:
        demand = make_demand(self.params, self.n_looks + 1)
        return demand.n_frames * demand.n_structures

    def _final_step(self, begun: Path) -> Step:
        """Return the final training, with the recovered labels that the step in ``begun`` began with, or with all."""
        self.recovered = self._choose_retries(begun)
        inputs = train_inputs(self.params, "final") | retry_inputs(self.context.folder, self.recovered)
        return Step("final", self.context.folder.final, inputs, self.after)

    def _train(self, iteration: int) -> Record:
        phase: Phase = "next" if iteration else "first"
        self.recovered = self._choose_retries(self.context.folder.step(iteration, "train"))
        inputs = train_inputs(self.params, phase) | retry_inputs(self.context.folder, self.recovered)
        step = self._step(iteration, "train", inputs, self.after)
        parents = self.context.folder.step(iteration - 1, "train") if iteration else None
        return self._run_train(step, phase, parents, accepted=self._is_accepted(iteration, "train"))

    def _run_train(self, step: Step, phase: Phase, parents: Path | None, *, accepted: bool = False) -> Record:
        return run_train(
            self.context, self.params, step=step, phase=phase, parents=parents, accepted=accepted,
            systems=self.systems, valid_systems=self.data.valid,
        )  # fmt: skip

    def _explore(self, iteration: int, stage: Stage, models: list[Path], trained: Record) -> Record:
        step = self._step(iteration, "explore", explore_inputs(self.params, stage), (trained.fingerprint,))
        return run_explore(
            self.context, self.params, step=step, iteration=iteration, stage=stage, models=models,
            accepted=self._is_accepted(iteration, "explore"),
        )  # fmt: skip

    def _query(
        self, iteration: int, stage: Stage, models: list[Path], explored: Record, calibration: Calibration | None
    ) -> Record:
        step = self._step(iteration, "query", query_inputs(self.params, stage), (explored.fingerprint,))
        return run_query(
            self.context, self.params, step=step, iteration=iteration, models=models,
            explored=self.context.folder.step(iteration, "explore"), labelled=self.systems,
            labels_left=self.labels_to_learn(),
            calibration=calibration, accepted=self._is_accepted(iteration, "query"),
        )  # fmt: skip

    def _audit(self, iteration: int, calibration: Calibration) -> dict[str, Any]:
        """Measure the errors of the models that explored, on frames that they have not been trained on."""
        explored, queried, labelled = (
            self.context.folder.step(iteration, name) for name in ("explore", "query", "label")
        )
        audits = measure(explored, queried, labelled, self.params.type_map, iteration)
        self.reports.append(report_audits(audits, calibration, self.reports, labelled))
        self.audits += audits
        log.info("%d/label: %s", iteration, describe_audits(self.reports[-1]))
        return self.reports[-1]

    def _label(self, iteration: int, queried: Record) -> Record:
        engine = self.params.label_engine
        inputs = label_inputs(engine, self.params.type_map)
        step = self._step(iteration, "label", inputs, (queried.fingerprint,), label_detail(engine))
        record = run_label(
            self.context, engine, step=step, type_map=self.params.type_map,
            accepted=self._is_accepted(iteration, "label"),
            selected=self.context.folder.step(iteration, "query") / SELECTED_FILE,
            known=self.labelled if self.params.allow_mixed else self.systems,
        )  # fmt: skip
        if not self.params.allow_mixed:
            remedy = f"Label it anew with --redo {step.name}"
            check_same_reference(step.folder, record.inputs.get("label"), engine, remedy)
        self.done.append(iteration)
        self.n_labelled += record.result["labelled"]
        if record.result["labelled"]:
            self.labelled += find_systems(step.folder / DATASET_DIR)
        self.after = (record.fingerprint,)
        return record

    def labels_to_learn(self) -> int | None:
        """Return what an iteration may spend: with a target, what a closing audit needs is kept back."""
        left = self.labels_left()
        return left if left is None or not self.params.query.has_target else max(left - self._look_cost(), 0)

    @property
    def systems(self) -> list[Path]:
        """What the last training learnt from, deepmd/npy."""
        recovered = (find_systems(retry.folder / DATASET_DIR) for retry in self.recovered)
        return [*self.data.train, *self.labelled, *(system for systems in recovered for system in systems)]

    def _choose_retries(self, train_folder: Path) -> list[Retry]:
        """Return the retries whose labels a training learns from; refuse those of another reference."""
        chosen = choose_retries(self.context.folder, self.done, train_folder)
        for retry in chosen if not self.params.allow_mixed else ():
            check_same_reference(retry.folder, retry.settings, self.params.label_engine, "Move that folder away")
        return chosen

    def labels_left(self) -> int | None:
        """Return what remains of ``max_labels``."""
        most = self.params.query.max_labels
        n_labelled = self.n_labelled + sum(retry.n_labelled for retry in self.recovered)
        return None if most is None else max(most - n_labelled, 0)

    def _step(
        self,
        iteration: int,
        name: str,
        inputs: dict[str, Any],
        after: tuple[str, ...],
        detail: dict[str, Any] | None = None,
    ) -> Step:
        return Step(f"{iteration}/{name}", self.context.folder.step(iteration, name), inputs, after, detail or {})

    def _is_accepted(self, iteration: int, step: str) -> bool:
        return is_before((iteration, step), self.context.accepted_before)


def run_loop(context: Context, params: RunParams) -> Verdict:
    """Run every stage until it converges or its repeats are used up, then train the model to use."""
    data = prepare_data(context, params)
    check_same_data(data.train, params)
    with Plotter(context.folder.root) as plotter:
        loop = Loop(context, params, data, plotter, after=(data.fingerprint,))
        verdict = _run_stages(loop, params)
        loop.finish()
        plotter.finish()
    return verdict


def _run_stages(loop: Loop, params: RunParams) -> Verdict:
    iteration, query = 0, params.query
    open_stages: dict[int, str] = {}
    for number, stage in enumerate(params.explore.iterations):
        is_last = number == len(params.explore.iterations) - 1
        for _ in range(stage.max_repeats):
            reason = loop.iterate(iteration, stage)
            iteration += 1
            if reason is None and query.has_target and query.stop_when_converged and is_last:
                reason = loop.close()
            if reason is None and (query.stop_when_converged or not query.has_target):
                break
            if loop.labels_to_learn() == 0:
                if reason is None and query.has_target and is_last:
                    break  # what is kept back for the closing audit is left
                return Verdict(
                    "not_converged",
                    f"max_labels ({query.max_labels}) are spent; stage {number}: {reason or 'more could be learnt'}",
                    loop.statement,
                )
        if reason is None and query.has_target and not query.stop_when_converged and is_last:
            reason = loop.close()
        if reason is not None:
            open_stages[number] = reason
    if query.has_target and loop.statement is not None and reason is None:  # it speaks of all stages
        return Verdict("converged", loop.statement["text"], loop.statement)
    if not open_stages:
        return Verdict("converged", f"in every stage fewer than {query.converged_fraction:.0%} of frames unsure")
    stages = "; ".join(f"stage {number}: {reason}" for number, reason in open_stages.items())
    return Verdict("not_converged", f"{stages}. {loop.advice()}".removesuffix(". "), loop.statement)
