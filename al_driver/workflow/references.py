"""One training set, one reference: labels of two cutoffs, functionals or spin states do not belong together.

Every label step keeps the settings of its engine; data that come from such a step, or were gathered from some, are
compared with the reference of the run before anything trains. Of other data nothing is known.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from al_driver.data.ledger import SHORT
from al_driver.data.reference import PROGRAM, SETTINGS, Reference, describe_hashes, describe_mixed, references_of
from al_driver.data.sources import find_paths
from al_driver.engines.base import Engine
from al_driver.errors import ConfigError, Problem, StateMismatch
from al_driver.files import read_json
from al_driver.layout import SETTINGS_FILE
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.schema.load import load_params
from al_driver.schema.run import DataSource, RunParams
from al_driver.workflow.initial import locate
from al_driver.workflow.step import Record, describe_changes

MOST_SHOWN = 4
REMEDY = "Leave one of them out, or calculate its structures anew by `label`"
ALLOW = '"allow_mixed": true trains on them together'
MOST_LEVELS = 2
"""Folders from a system up to its work folder: ``init/dataset/Si8``, ``iter.0000/label/dataset/Si8``."""
OTHER_ERRORS = "Errors on these data are against another reference than the models learn from"


def check_references(params: RunParams) -> Iterator[Problem]:
    """Yield which data were labelled with other settings than the run's own labels will be: errors of ``init_data``,
    which would train, and warnings of ``valid_data``."""
    if params.allow_mixed:
        return
    for index, source in enumerate(params.init_data):
        yield from _check_source(source, "init_data", index, params)
    for index, source in enumerate(params.valid_data):
        for problem in _check_source(source, "valid_data", index, params):
            yield replace(problem, message=f"{problem.message.splitlines()[0]}\n  {OTHER_ERRORS}", severity="warning")


def _check_source(source: DataSource, noun: str, index: int, params: RunParams) -> Iterator[Problem]:
    """Yield in what the settings of one source differ from those of the run's own labels."""
    key, engine = f"{noun}[{index}]", params.label_engine
    try:
        if source.init_bulk is not None:
            made = load_params(source.init_bulk, InitBulkParams)
            planned = made.label_engine
            if planned is not None and not made.work_dir.exists():
                yield from _compare(planned.settings(), engine, key)
                return
        for settings in find_settings(locate(source, noun, params)):
            yield from _compare(settings, engine, key)
    except (ConfigError, FileNotFoundError):
        return  # told where files are checked


def find_settings(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the settings with which data were labelled: by a label step, an ``init_bulk``, or what was gathered.

    Parameters
    ----------
    path
        A dataset, a system in it, or a pattern of either.

    Raises
    ------
    ConfigError
        If there is nothing.
    """
    told: list[dict[str, Any]] = []
    for place in find_paths(path):
        for settings in _settings_above(place):
            if settings not in told:
                told.append(settings)
                yield settings


def _settings_above(place: Path) -> Iterator[dict[str, Any]]:
    """Yield the settings that the nearest folder knows, from the data upwards as far as a label step may lie."""
    folders = [place, *place.parents][: 1 + MOST_LEVELS]
    for folder in [step for above in folders[1:] for step in (above, above / "label")]:
        record = Record.read(folder)
        if record is not None and isinstance(record.inputs.get("label"), dict):
            yield record.inputs["label"]
            return
    for folder in folders:
        if (folder / SETTINGS_FILE).is_file():
            yield from read_json(folder / SETTINGS_FILE).values()
            return


def describe_difference(settings: dict[str, Any], engine: Engine) -> str:
    """Say in what settings that were recorded differ from those of an engine; nothing where they agree."""
    recorded, now = (json.loads(json.dumps(each)) for each in (settings, engine.settings()))
    for key in engine.by_name:
        if isinstance(old := recorded.get(key), dict) and isinstance(new := now.get(key), dict):
            recorded[key], now[key] = ({name: each[name] for name in old.keys() & new.keys()} for each in (old, new))
    changes = list(describe_changes(recorded, now))
    more = f"; and {len(changes) - MOST_SHOWN} more" if len(changes) > MOST_SHOWN else ""
    return "; ".join(changes[:MOST_SHOWN]) + more


def describe_other(settings: dict[str, Any] | None, engine: Engine) -> str:
    """Say that something was labelled with other settings than an engine has; what that is stands before.

    Nothing where they agree, or none are known.
    """
    now = engine.settings()["engine"]
    if settings and (before := settings.get("engine", now)) != now:
        return f'was labelled by the engine "{before}", and `label` is "{now}"'
    difference = describe_difference(settings, engine) if settings else ""
    return f"was labelled with other settings than `label` has: {difference}" if difference else ""


def check_told(told: Sequence[Reference], engine: Engine) -> Iterator[Problem]:
    """Yield in what references that outputs tell differ, from one another and from the run's own; where a hash of
    their settings is all that frames of this program tell, that they are others is a warning."""
    own = _tell_own(engine)
    varied = {key for key, value in own.items() if not value}  # from one frame of the run to another
    both = [("`label`", own), *told]
    compared = [(place, {key: each[key] for key in each if key not in varied}) for place, each in both]
    if difference := describe_mixed(compared):
        yield Problem(f"labels of different references: {difference}\n  {REMEDY}; {ALLOW}")
    elif difference := describe_hashes(compared):
        yield Problem(
            f"{difference}: frames do not say in what; a threshold is harmless, a cutoff is not", severity="warning"
        )


def _tell_own(engine: Engine) -> dict[str, str]:
    """Return what an engine tells of its reference; nothing where its files are missing, which its own check tells."""
    try:
        told = {SETTINGS: engine.identity()[:SHORT], **engine.told_reference()}
    except (ConfigError, OSError):
        return {}
    return told | ({PROGRAM: engine.program} if engine.program else {})


def check_told_data(told: Sequence[Reference], noun: str, params: RunParams) -> Iterator[Problem]:
    """Yield what `check_told` finds in ``init_data`` or, where it is a warning, in ``valid_data``."""
    for problem in check_told(told, params.label_engine) if told and not params.allow_mixed else ():
        if noun == "init_data":
            yield replace(problem, key=noun)
        else:
            message = f"{problem.message.splitlines()[0]}\n  {OTHER_ERRORS}"
            yield replace(problem, key=noun, message=message, severity="warning")


def check_same_data(systems: Sequence[Path], params: RunParams) -> None:
    """Refuse data to start from of which the files, converted by now, tell of another reference.

    Raises
    ------
    ConfigError
        Naming the difference.
    """
    found = check_told_data(references_of(systems), "init_data", params)
    if problems := [problem for problem in found if problem.severity == "error"]:
        raise ConfigError(problems)


def check_same_reference(folder: Path, settings: dict[str, Any] | None, engine: Engine, remedy: str) -> None:
    """Refuse labels that a training would learn from, where the reference has changed since.

    Raises
    ------
    StateMismatch
        Naming the difference, and what to do in place of training on both.
    """
    if told := describe_other(settings, engine):
        raise StateMismatch(f'{folder} {told}\n  {remedy}, or say "allow_mixed": true to train on both.')


def _compare(settings: dict[str, Any], engine: Engine, key: str) -> Iterator[Problem]:
    if told := describe_other(settings, engine):
        yield Problem(
            f"{told}\n  Use one reference for both: label these data by `label` too, or take theirs there; {ALLOW}", key
        )
