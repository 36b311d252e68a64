"""``al retry``: rejected frames are calculated once more, with other settings where asked, and what passes is added.

A retry is a step of its own, ``retry.NNN`` in the folder of the label step whose frames it calculates: killed, it goes
on where it was. The label step, and every training that began before, stay as they are; see `recovered`.
"""

import logging
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from al_driver.data.dataset import find_systems
from al_driver.engines.base import Engine
from al_driver.errors import AlError, ConfigError, Reason
from al_driver.files import read_json
from al_driver.layout import BEGUN_FILE, DATASET_DIR, SELECTED_FILE, WorkFolder, retry_name
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.schema.load import load_params
from al_driver.schema.resource import Profile, Resources
from al_driver.schema.run import RunParams
from al_driver.schema.suggest import nearest
from al_driver.words import shown_path
from al_driver.workflow.aside import set_aside
from al_driver.workflow.changes import OPTION, change_engine, check_accuracy, read_changes
from al_driver.workflow.check_programs import check_engines
from al_driver.workflow.closing import find_last_look
from al_driver.workflow.context import Context, Display
from al_driver.workflow.history import History, find_work_folder
from al_driver.workflow.hold import hold_as_it_is
from al_driver.workflow.init_bulk import STAGE_FILE, split_labels
from al_driver.workflow.initial import prepare_data
from al_driver.workflow.label import label_detail, label_inputs, run_label
from al_driver.workflow.recovered import find_retries, mark_recovered, open_reasons
from al_driver.workflow.references import describe_difference, describe_other
from al_driver.workflow.report import Report
from al_driver.workflow.step import Record, Step

log = logging.getLogger(__name__)
INPUT_DIR = "input"
"""In a retry's folder: the user's own input with its changes."""


@dataclass(frozen=True)
class Retried:
    """What a retry came to."""

    recovered: int
    rejected: dict[str, int]
    """Frames that still have no label, by the reason of the last try."""


@dataclass(frozen=True)
class _Request:
    """What is asked for, with the files of the folder."""

    folder: WorkFolder
    params: RunParams | InitBulkParams
    engine: Engine
    changes: dict[str, str]
    reason: str | None
    known: Sequence[Path] = ()
    """deepmd/npy systems that are labelled."""


def retry(
    directory: Path | str = ".",
    *,
    reason: str | None = None,
    settings: Sequence[str] = (),
    param: Path | str | None = None,
    resource: Path | str | None = None,
    display: Display | None = None,
) -> Retried:
    """Calculate the rejected frames of a work folder once more; add what passes to what later trainings learn from.

    Parameters
    ----------
    directory
        The work folder of an `al run` or an `al init_bulk`.
    reason
        Take only frames that were rejected, the last time, for this one.
    settings
        ``KEY=VALUE`` each: a key of the label engine, a tag of its input file, or a key of resource.json.
    param, resource
        The two files; those that the folder was last run with when left out.

    Raises
    ------
    ConfigError
        If a key does not exist, or the labels would be of another reference than those there.
    FolderLocked
        If a driver works in the folder.
    """
    if reason is not None and reason not in get_args(Reason):
        raise ConfigError(f"--reason {reason}: there is no such reason{nearest(reason, get_args(Reason))}")
    folder = find_work_folder(Path(directory), "al retry")
    if History(folder.history).read()["kind"] == "screen":
        raise ConfigError(f"{folder.root} is of an `al screen`, which takes `--redo K/label` in place of `al retry`.")
    changes = read_changes(settings)
    params, resources = _load(folder, param, resource)
    engine = params.label_engine
    if engine is None:
        raise ConfigError(f"{folder.root} holds structures without labels (`label` is false); nothing was rejected.")
    with tempfile.TemporaryDirectory() as scratch:
        changed, profile = change_engine(engine, resources.role("label"), changes, Path(scratch))
        resources = resources.model_copy(update={"label": profile})
        _check_changed(params, engine, changed, resources)
        request = _Request(folder, params, engine, changes, reason)
        with hold_as_it_is(folder, resources, display, "retry") as context:
            return _retry(context, request, changed)


def _load(
    folder: WorkFolder, param: Path | str | None, resource: Path | str | None
) -> tuple[RunParams | InitBulkParams, Resources]:
    """Read the folder's two files, where they were at its last start unless they are named."""
    history = History(folder.history).read()
    found = {}
    for name, given in (("param", param), ("resource", resource)):
        known = history["files"].get(name)
        path = Path(given) if given is not None else known and folder.root / known
        if not path or not path.exists():
            where = f"{path} is gone" if path else f"{folder.history} does not tell"
            raise ConfigError(f"which {name} file {folder.root} was run with: {where}.\n  Name it: --{name} FILE")
        found[name] = path
    is_run = history["kind"] == "run"
    params = load_params(found["param"], RunParams) if is_run else load_params(found["param"], InitBulkParams)
    if params.work_dir.resolve() != folder.root.resolve():
        raise ConfigError(f"{found['param']} is of the folder {params.work_dir}, not of {folder.root}.")
    return params, load_params(found["resource"], Resources)


def _check_changed(params: RunParams | InitBulkParams, engine: Engine, changed: Engine, resources: Resources) -> None:
    """Refuse another reference, a looser threshold, and what `al check` finds wrong.

    Raises
    ------
    ConfigError
        Naming the difference.
    """
    report = Report()
    report.collect(lambda: changed.check(params.type_map), "label")
    check_engines(report, resources, {"label": {"label": changed}})
    report.raise_errors()
    difference = describe_difference(engine.settings(), changed)
    if difference and not _allows_mixed(params):
        raise ConfigError(
            f"{OPTION} would make another reference: {difference}\n"
            "  Such labels do not belong with those there; change only how the SCF gets there, or the time it has."
            + ('\n  "allow_mixed": true in the param file trains on both.' if isinstance(params, RunParams) else "")
        )
    check_accuracy(engine, changed)


def _allows_mixed(params: RunParams | InitBulkParams) -> bool:
    return isinstance(params, RunParams) and params.allow_mixed


def _retry(context: Context, request: _Request, changed: Engine) -> Retried:
    """Calculate the open frames of each label step, in order."""
    steps = _label_steps(request.folder)
    request = replace(request, known=_known_systems(context, request.params, changed))
    recovered, n_open = 0, 0
    for name, folder in steps:
        mark_recovered(folder)  # of a retry that was killed before it could say so
        frames = [n for n, reason in open_reasons(folder).items() if request.reason in (None, reason)]
        if frames:
            n_open += len(frames)
            recovered += _retry_step(context, request, changed, name, folder, sorted(frames))
    if isinstance(request.params, InitBulkParams):
        split_labels(context, request.params)
    left = Counter(reason for _, folder in steps for reason in open_reasons(folder).values())
    for unfinished in _unfinished_steps(request.folder):
        kind = History(request.folder.history).read()["kind"]
        log.warning(
            "%s is not finished, and nothing of it is tried again; first let it end, by the same `al %s`",
            shown_path(unfinished),
            kind,
        )
    if not n_open:
        what = f"for {request.reason}" if request.reason else "and not recovered"
        log.info("no frame is rejected %s in a finished label step; nothing was calculated", what)
    else:
        told = ", ".join(f"{reason} {count}" for reason, count in sorted(left.items()))
        log.info("recovered %d of %d frames%s", recovered, n_open, f"; without a label: {told}" if told else "")
    return Retried(recovered, dict(left))


def _retry_step(
    context: Context, request: _Request, changed: Engine, name: str, folder: Path, frames: list[int]
) -> int:
    """Calculate frames of one label step; return how many have a label now."""
    record = Record.read(folder)
    assert record is not None  # noqa: S101  (of `_label_steps`)
    params = request.params
    told = describe_other(record.inputs.get("label"), changed)
    if told and not _allows_mixed(params):
        raise ConfigError(f"{folder} {told}\n  Name the param file that it was made with: --param FILE")
    is_run = isinstance(params, RunParams)
    selected = folder.with_name("query") / SELECTED_FILE if is_run else folder.with_name("aimd") / STAGE_FILE
    inputs = {"frames": frames, "changes": request.changes, **label_inputs(changed, params.type_map)}
    step = Step(name, folder, inputs, (record.fingerprint,), label_detail(changed))
    step = replace(step, folder=_choose_folder(step))
    own = step.folder / INPUT_DIR
    own.mkdir(parents=True, exist_ok=True)
    engine, _ = change_engine(request.engine, Profile(), request.changes, own)
    made = run_label(
        context, engine, step=step, selected=selected, type_map=params.type_map, known=request.known, only=frames,
    )  # fmt: skip
    mark_recovered(folder)
    context.pack(step.folder, "label")
    return int(made.result["labelled"])


def _choose_folder(step: Step) -> Path:
    """Return where a retry works: where the same was begun and not finished, else in a new folder.

    One that was begun, never finished, and asked for something else, is set aside; what it calculated is found again.
    """
    number = 0
    while Record.read(folder := step.folder / retry_name(number)) is not None:
        number += 1
    begun = folder / BEGUN_FILE
    if folder.exists() and not (begun.exists() and read_json(begun)["fingerprint"] == step.fingerprint):
        log.info("%s: an earlier retry that was not finished is now %s", step.name, set_aside(folder).name)
    return folder


def _known_systems(context: Context, params: RunParams | InitBulkParams, engine: Engine) -> list[Path]:
    """Return what is labelled so far with an engine's settings: what energies are usual is learnt from it."""
    systems: list[Path] = []
    for _, step in _label_steps(context.folder):
        record = Record.read(step)
        made = [(step, record.inputs.get("label") if record else None)]
        for folder, settings in (*made, *((retry.folder, retry.settings) for retry in find_retries(step))):
            if (folder / DATASET_DIR).exists() and not describe_other(settings, engine):
                systems += find_systems(folder / DATASET_DIR)
    if not isinstance(params, RunParams) or params.allow_mixed:
        return systems
    try:
        return [*prepare_data(context, params).train, *systems]
    except AlError as error:  # a retry needs no data that the run began with
        log.warning("without the initial data: %s", error)
        return systems


def _label_steps(work: WorkFolder) -> list[tuple[str, Path]]:
    """Return name and folder of each finished label step."""
    return [(name, folder) for name, folder in _label_places(work) if Record.read(folder) is not None]


def _unfinished_steps(work: WorkFolder) -> list[Path]:
    """Return the folders of label steps that have begun, and not ended."""
    return [folder for _, folder in _label_places(work) if folder.is_dir() and Record.read(folder) is None]


def _label_places(work: WorkFolder) -> list[tuple[str, Path]]:
    """Return name and folder of each label step, whether it has begun or not."""
    places = [("retry", work.root / "label")]
    places += [(f"{index}/retry", work.step(index, "label")) for index in work.iterations()]
    places += [("closing/retry", look)] if (look := find_last_look(work)) is not None else []
    return places
