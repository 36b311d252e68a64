"""The closing audit: the final model explores with fresh seeds, and frames drawn at random are labelled.

They are never trained on. A look lies in ``closing/look.NNN/`` of the work folder, with steps of its own. Like
``final/`` it is derived: when the data or the input changed it is set aside and made anew, and labels that exist are
found again. A look that is done is not made again when the run has gone on since, although its model lies aside then:
what `al retry` has recovered meanwhile changes neither its model nor its word. Frames of the last look that `al retry`
recovered count in its statement, where they are of its reference.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from al_driver.engines.base import Engine
from al_driver.errors import StateMismatch
from al_driver.explorers.base import Stage
from al_driver.explorers.sweep import make_trajectories, read_entries
from al_driver.files import read_json
from al_driver.layout import MD_TASKS_FILE, QUERY_JOB_FILE, SELECTED_FILE, STATEMENT_FILE, WorkFolder
from al_driver.query.calibration import Calibration
from al_driver.query.statement import ClosingFrame, Demand, Survival, describe_statement, state_structure
from al_driver.schema.run import RunParams
from al_driver.words import by_element
from al_driver.workflow.aside import set_aside
from al_driver.workflow.audit import pair_frames, write_derived
from al_driver.workflow.check_target import explored_structures
from al_driver.workflow.context import Context
from al_driver.workflow.explore import explore_inputs, run_explore
from al_driver.workflow.label import label_detail, label_inputs, run_label
from al_driver.workflow.query import SCORES_DIR, query_inputs, run_query
from al_driver.workflow.recovered import find_retries
from al_driver.workflow.references import describe_other
from al_driver.workflow.step import Record, Step

log = logging.getLogger(__name__)
MOST_REPLICAS = 20
"""So often at most the trajectories of all stages run, to hold enough independent frames."""


@dataclass(frozen=True)
class Look:
    """A closing audit and the model it is of."""

    number: int
    """1, 2 …"""
    final: Step
    """The training of the final model."""
    make_models: Callable[[], list[Path]]
    """Trains it unless it is there."""
    labelled: Sequence[Path]
    """Systems that it was trained on."""
    calibration: Calibration
    independent: dict[str, int]
    """Independent frames that the trajectories of a structure held when it was last explored."""
    recovered: dict[str, Any]
    """What the inputs of its training say of recovered labels."""
    after: int
    """The iteration that it follows."""
    is_last: bool
    """Whether the run has not gone on since."""


def make_demand(params: RunParams, look: int) -> Demand:
    """Return what a look is to show."""
    query = params.query
    return Demand(query.max_bad_fraction, query.confidence, len(explored_structures(params)), look)


def run_look(context: Context, params: RunParams, look: Look) -> dict[str, Any]:
    """Explore, draw, label; return the statement that follows, and leave it in the look's folder."""
    try:
        return _run(context, params, look)
    except StateMismatch as mismatch:
        folder = context.folder.closing(look.number)
        if "was made from another input" not in str(mismatch) or str(folder) not in str(mismatch):
            raise
        log.info(
            "closing audit %d: the data or the input changed; the old one is now %s", look.number, set_aside(folder)
        )
        return _run(context, params, look)


def _run(context: Context, params: RunParams, look: Look) -> dict[str, Any]:
    folder, demand = context.folder.closing(look.number), make_demand(params, look.number)
    stage = make_stage(params, look.independent, demand.n_frames)
    explored, queried, labelled = (folder / name for name in ("explore", "query", "label"))
    engine, name = params.label_engine, f"closing/{look.number}"
    inputs = explore_inputs(params, stage) | look.recovered
    explore = Step(f"{name}/explore", explored, inputs, (look.final.fingerprint,))
    inputs = query_inputs(params, stage) | {"closing": demand.n_frames}
    query = Step(f"{name}/query", queried, inputs, (explore.fingerprint,))
    label = Step(
        f"{name}/label", labelled, label_inputs(engine, params.type_map), (query.fingerprint,), label_detail(engine)
    )
    models = [] if all(_is_done(step) for step in (explore, query, label)) else look.make_models()
    run_explore(
        context,
        params,
        step=explore,
        iteration=look.number,
        stage=stage,
        models=models,
        purpose=f"closing.{look.number}",
    )
    run_query(
        context, params, step=query, iteration=look.number, explored=explored, labelled=look.labelled, models=models,
        labels_left=None, calibration=look.calibration, closing=demand.n_frames,
    )  # fmt: skip
    run_label(context, engine, step=label, selected=queried / SELECTED_FILE, type_map=params.type_map)
    context.pack(labelled, "label")
    retries = _own_retries(labelled, engine) if look.is_last else []
    statement = _state(params, folder, stage, demand, [labelled, *retries])
    statement["after_iteration"] = look.after
    write_derived(folder / STATEMENT_FILE, statement)
    log.info("closing audit %d: %s", look.number, statement["text"])
    return statement


def _own_retries(labelled: Path, engine: Engine) -> list[Path]:
    """Return the retries of a look that are of its own reference: errors against another are none of the model's."""
    own = []
    for retry in find_retries(labelled):
        if told := describe_other(retry.settings, engine):
            log.warning("%s %s; its frames do not count in the closing audit", retry.folder, told)
        else:
            own.append(retry.folder)
    return own


def _is_done(step: Step) -> bool:
    record = Record.read(step.folder)
    return (
        record is not None
        and record.fingerprint == step.fingerprint
        and all((step.folder / name).exists() for name in record.outputs)
    )


def make_stage(params: RunParams, independent: dict[str, int], n_frames: int) -> Stage:
    """Return the jobs of all stages, each once, repeated until they should hold enough independent frames.

    Twice as many as were seen to be needed: another model's trajectories may hold fewer, and a look that lacks one is
    lost.
    """
    jobs = list(dict.fromkeys(job for stage in params.explore.iterations for job in stage.jobs))
    worst = min((independent.get(name, 1) or 1 for name in explored_structures(params)), default=1)
    replicas = min(max(math.ceil(2 * n_frames / worst), 1), MOST_REPLICAS)
    return Stage(jobs=tuple(jobs * replicas))


def find_last_look(work: WorkFolder) -> Path | None:
    """Return the label step of the last closing audit; None where there is none, or the run has gone on since."""
    looks = [folder for folder in work.closing_folders() if (folder / STATEMENT_FILE).exists()]
    if not looks:
        return None
    after = int(read_json(looks[-1] / STATEMENT_FILE).get("after_iteration", -1))
    return looks[-1] / "label" if after == max(work.iterations(), default=-1) else None


def _state(params: RunParams, folder: Path, stage: Stage, demand: Demand, labelled: Sequence[Path]) -> dict[str, Any]:
    """Return what a look shows, structure by structure; labels lie in the folders ``labelled``."""
    explored, queried = folder / "explore", folder / "query"
    targets = params.query.targets(params.type_map)
    frames: dict[str, list[ClosingFrame]] = {}
    for atoms, errors in pair_frames(queried, labelled, params.type_map):
        wanted = np.array([targets[symbol] for symbol in atoms.get_chemical_symbols()])
        frames.setdefault(str(atoms.info["structure"]), []).append(
            ClosingFrame(str(atoms.info["task"]), errors, wanted)
        )
    summary = Record.read(queried)
    counts = {part["structure"]: part for part in summary.result["by_structure"]} if summary else {}
    drawn = {name: part["audits"] + part.get("unsound", 0) for name, part in counts.items()}
    survivals = _survivals(params, explored, stage, counts)
    parts = []
    for name, survival in survivals.items():
        own = frames.get(name, [])
        parts.append(state_structure(name, own, drawn.get(name, 0) - len(own), survival, demand))
    models = read_json(queried / SCORES_DIR / QUERY_JOB_FILE).get("models") or ["?"]
    statement: dict[str, Any] = {
        "look": demand.look,
        "model": models[0],
        "targets": targets,
        "target_text": by_element(targets),
        "max_bad_fraction": demand.max_bad_fraction,
        "confidence": demand.own_confidence,
        "frames_needed": demand.n_frames,
        "met": all(part["met"] for part in parts),
        "structures": parts,
    }
    return statement | {"text": describe_statement(statement)}


def _survivals(
    params: RunParams, explored: Path, stage: Stage, counts: dict[str, dict[str, Any]]
) -> dict[str, Survival]:
    """Return how the trajectories of each structure ended, those that never began early; ``counts`` of its frames."""
    wanted = make_trajectories(
        params.explore, stage, read_entries(params.explore, params.type_map), seed=0, iteration=0
    )
    n_ended: Counter[str] = Counter()
    for task in read_json(explored / MD_TASKS_FILE):
        n_ended[task["structure"]] += params.explore.outcome(explored / task["path"])["state"] == "ended"
    found = {}
    for name in dict.fromkeys(trajectory.structure for trajectory in wanted):
        own = [trajectory for trajectory in wanted if trajectory.structure == name]
        temperatures = sorted({end for trajectory in own for end in trajectory.temperature})
        pressures = sorted({trajectory.pressure for trajectory in own if trajectory.pressure is not None})
        frames, failed = (counts.get(name, {}).get(key, 0) for key in ("frames", "failed"))
        found[name] = Survival(
            len(own), n_ended[name], tuple(temperatures), tuple(pressures), n_frames=frames, n_failed=failed
        )
    return found


def lacks_frames(statement: dict[str, Any]) -> bool:
    """Say whether nothing but the number of its frames keeps a closing audit from showing what it should."""
    needed = statement["frames_needed"]
    parts = [part for part in statement["structures"] if not part["met"]]
    return not any(part["unstable"] or part["bad"] or part["frames"] >= needed for part in parts)


def why_not_met(statement: dict[str, Any]) -> str | None:
    """Say what a closing audit has not shown; None where it has shown all."""
    for part in statement["structures"]:
        if part["met"]:
            continue
        if part["unstable"]:
            return f"closing audit of {part['structure']}: {part['unstable']}, so that the others prove nothing"
        if part["frames"] < statement["frames_needed"]:
            return (
                f"closing audit of {part['structure']}: {part['frames']} independent frames, and "
                f"{statement['frames_needed']} are needed; explore longer (n_steps) or at more conditions"
            )
        lost = f", {part['without_label']} of them for want of a label" if part["without_label"] else ""
        return (
            f"closing audit of {part['structure']}: {part['bad']} of {part['frames']} frames miss the target{lost}, so "
            f"that up to {part['bad_at_most']:.1%} may; {statement['max_bad_fraction']:.1%} are allowed"
        )
    return None
