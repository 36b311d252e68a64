"""``al screen``: candidates → predictions → filters → ranking; what comes first goes on.

Each is a step with a folder of its own, so that the same command goes on after an interruption, and a change of what
is wanted does not make candidates, or predict, again. With ``label`` the loop of `screen_loop` stands before the
ranking, which then takes known values for those candidates that have one.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from al_driver.data.frames import read_frames, write_frames
from al_driver.data.sources import find_paths
from al_driver.errors import ConfigError, Problem, StateMismatch
from al_driver.files import hash_path, write_atomic
from al_driver.layout import (
    CANDIDATES_FILE,
    RANKED_FILE,
    SCREEN_STAGES,
    SCREEN_STEPS,
    SELECTED_FILE,
    STRUCTURES_DIR,
    WorkFolder,
)
from al_driver.schema.base import Params, identity
from al_driver.schema.screen import ScreenParams
from al_driver.screen.candidates import Candidate, make_candidates
from al_driver.screen.equivalent import drop_equivalent
from al_driver.screen.filters import describe
from al_driver.screen.properties import find_model
from al_driver.screen.ranking import KNOWN, Predictions, check_properties, rank, write_table
from al_driver.words import many
from al_driver.workflow.aside import set_aside, set_aside_from
from al_driver.workflow.context import Context
from al_driver.workflow.init_bulk import write_structures
from al_driver.workflow.plotter import Plotter
from al_driver.workflow.screen_label import Labels, value_inputs
from al_driver.workflow.screen_loop import Beginning, ScreenLoop
from al_driver.workflow.screen_tasks import as_frame, read_predictions, run_predict
from al_driver.workflow.step import Record, Step

log = logging.getLogger(__name__)
RULES = ("filters", "rank", "select", "per_composition", "intercalation")
"""Keys of the input that the ranking follows from."""


@dataclass(frozen=True)
class Screened:
    """What a screening came to.

    Attributes
    ----------
    structures
        The folder of the structures that go on.
    reason
        Why its loop ended; None without one.
    """

    structures: Path
    reason: str | None


def run_screen(context: Context, params: ScreenParams) -> Screened:
    """Run every step.

    Raises
    ------
    ConfigError
        If no candidate passes the filters, or a key names a property that no model predicts.
    StateMismatch
        If the folder was made from another input.
    """
    with Plotter(context.folder.root) as plotter:
        begin = _begin(context, params)
        if params.learn is None:
            reason = None
            _rank(context, params, begin, begin.predictions, (begin.predicted.fingerprint,))
        else:
            loop = ScreenLoop.make(context, params, params.learn, begin)
            reason = loop.run()
            log.info("no more labels: %s", reason)
            _rank(context, params, begin, loop.predictions, (loop.predicted, loop.after), loop.labels)
        plotter.finish()
    return Screened(context.folder.root / SCREEN_STAGES[-1] / STRUCTURES_DIR, reason)


def set_aside_screen(folder: WorkFolder, stage: str) -> list[Path]:
    """Rename a stage, or ``K/STEP`` of an iteration, and all later ones to ``.bak.N``, the last first.

    Returns
    -------
    What they are called now.
    """
    number, _, step = stage.rpartition("/")
    *before, rank = (folder.root / name for name in SCREEN_STAGES)
    moved = [set_aside(rank)] if rank.exists() else []
    if number:
        return moved + set_aside_from(folder, int(number), step, SCREEN_STEPS)
    own = before[SCREEN_STAGES.index(stage) :]
    if own and (iterations := folder.iterations()):
        moved += set_aside_from(folder, iterations[0], SCREEN_STEPS[0], SCREEN_STEPS)
    return moved + [set_aside(path) for path in reversed(own) if path.exists()]


def candidate_inputs(params: ScreenParams) -> dict[str, Any]:
    """Return what of the input the candidates follow from."""
    entries = [
        {key: value for key, value in identity(entry).items() if key != "path"}
        | {"path": [hash_path(path) for path in find_paths(entry.path)]}
        for entry in params.candidates
    ]
    return {"seed": params.seed, "candidates": entries}


def _begin(context: Context, params: ScreenParams) -> Beginning:
    """Make the candidates, and predict their properties by the models as they are."""
    made_folder, folder = (context.folder.root / name for name in SCREEN_STAGES[:2])
    made = _make(context, params, made_folder)
    step = Step("predict", folder, {"models": [_identify(model) for model in params.models]}, (made.fingerprint,))
    predicted = run_predict(context, step, params, made_folder, made.result["candidates"])
    units = predicted.result["units"]
    log.info("predict: %s", ", ".join(f"{name} ({unit})" if unit else name for name, unit in units.items()))
    predictions = read_predictions(folder)
    _check_predicted(params, predictions)
    return Beginning(made_folder, made, predicted, read_frames(made_folder / CANDIDATES_FILE), predictions)


def _identify(model: str | Params) -> Any:
    """Return what decides a model's numbers."""
    return {"sha256": hash_path(find_model(model))} if isinstance(model, str) else identity(model)


def _check_predicted(params: ScreenParams, predictions: Predictions) -> None:
    """Refuse keys that name what no model predicts; what is labelled will be predicted once it is learnt.

    Raises
    ------
    ConfigError
        With the names that there are.
    """
    learnt = {params.rank.property} if params.learn else set[str]()
    check_properties(params.filters, params.rank, {*predictions.values, *learnt})
    if params.intercalation is not None:
        columns = [*predictions.values, *([KNOWN] if params.learn else [])]
        if unknown := [*params.intercalation.find_unknown(columns)]:
            raise ConfigError(unknown)
    if params.learn and params.learn.first == "rank" and params.rank.property not in predictions.values:
        message = f'no model predicts {params.rank.property!r} before it is learnt; take "random" or "diverse"'
        raise ConfigError(Problem(message, "learn.first"))


def _make(context: Context, params: ScreenParams, folder: Path) -> Record:
    """Write the candidates of every entry, none equivalent to another."""

    def work() -> dict[str, Any]:
        found, lines = list[Candidate](), list[str]()
        for entry in params.candidates:
            candidates, counts = make_candidates(entry, params.seed)
            found += candidates
            lines.append(f"{entry.called}: {counts.describe()}")
        kept, same = drop_equivalent(found)
        write_frames(folder / CANDIDATES_FILE, [as_frame(candidate) for candidate in kept])
        return {"candidates": len(kept), "equivalent": same, "lines": lines}

    record = context.run_step(Step("candidates", folder, candidate_inputs(params), ()), work, [CANDIDATES_FILE])
    for line in record.result["lines"]:
        log.info("candidates: %s", line)
    if same := record.result["equivalent"]:
        log.info("candidates: %s left out: the same crystal as another", many(len(same), "one"))
    return record


def _rank(
    context: Context,
    params: ScreenParams,
    begin: Beginning,
    predicted: Predictions,
    after: tuple[str, ...],
    labels: Labels | None = None,
) -> None:
    """Write the ranked table, and the structures that go on; a ranking by other rules or labels is set aside, and kept.

    Parameters
    ----------
    after
        Fingerprints of the steps that predicted and labelled.
    labels
        Where there are some: known values count in place of predicted ones, and what failed is left out.
    """
    rules = {name: identity(getattr(params, name)) for name in RULES}
    step = Step("rank", context.folder.root / "rank", rules | (value_inputs(params) if labels else {}), after)
    name, known = params.rank.property, labels.known if labels else {}

    def work() -> dict[str, Any]:
        predictions, acquisition, filters = predicted, params.rank, params.filters
        if labels is not None:  # nothing is to be found out any more
            predictions = predicted.with_known(name, known)
            by = "upper_bound" if name in predictions.deviations else "mean"
            acquisition = acquisition.model_copy(update={"by": by})
            if by == "mean" and filters.max_uncertainty is not None:
                log.warning("filters.max_uncertainty: too few labels to learn from, so nothing gives an uncertainty")
                filters = filters.model_copy(update={"max_uncertainty": None})
        ranking = rank(
            begin.crystals, predictions, filters, acquisition, params.select,
            per_composition=params.per_composition, failed=labels.failed if labels else None,
        )  # fmt: skip
        table = write_table(begin.crystals, predicted, ranking, known if labels else None)
        write_atomic(step.folder / RANKED_FILE, table)
        ranking.check(filters, step.folder / RANKED_FILE)
        frames = labels.frames if labels else {}
        chosen = [_go_on(begin.crystals[i], frames.get(i), predicted, known, name, i) for i in ranking.selected]
        write_frames(step.folder / SELECTED_FILE, chosen)
        write_structures(step.folder / STRUCTURES_DIR, chosen)
        counts = {"ranked": len(ranking.order), "selected": len(chosen)}
        counts |= {"known": sum(index in known for index in ranking.selected)} if labels else {}
        counts |= {"intercalation": rules["intercalation"]}
        return counts | {"property": name, "unit": begin.unit(params), "lines": describe(ranking.reasons)}

    outputs = [RANKED_FILE, SELECTED_FILE, STRUCTURES_DIR]
    try:
        result = context.run_step(step, work, outputs).result
    except StateMismatch:  # it is derived
        log.info("rank: by other rules or labels now; the old ranking is %s", set_aside(step.folder).name)
        result = context.run_step(step, work, outputs).result
    log.info("rank: %s", result["lines"])
    labelled = f", {result['known']} of them labelled" if labels else ""
    log.info(
        "rank: %s selected%s, in %s", many(result["selected"], "candidate"), labelled, step.folder / STRUCTURES_DIR
    )


def _go_on(
    crystal: Atoms, relaxed: Atoms | None, predictions: Predictions, known: Mapping[int, float], name: str, index: int
) -> Atoms:
    """Return a structure that goes on, relaxed where it was, with what is predicted and known of it."""
    chosen = (relaxed or crystal).copy()
    told = {f"predicted_{name}": float(values[index]) for name, values in predictions.values.items()}
    chosen.info = crystal.info | told | ({f"known_{name}": known[index]} if index in known else {})
    return chosen
