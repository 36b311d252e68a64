"""The data a run starts from: what lies ready is used where it is, other formats are converted once."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from al_driver.data.dataset import count_frames, find_systems, system_elements, write_dataset
from al_driver.data.ledger import Row, told_of, way_to, write_ledger
from al_driver.data.sources import find_paths, read_labelled
from al_driver.errors import ConfigError, Problem, StateMismatch
from al_driver.files import hash_json, hash_path
from al_driver.layout import LEDGER_FILE, REJECTED_FILE, SETTINGS_FILE, WorkFolder
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.schema.load import load_params
from al_driver.schema.resource import Resources
from al_driver.schema.run import DataSource, RunParams
from al_driver.words import many, shown_path
from al_driver.workflow.aside import set_aside
from al_driver.workflow.context import Context
from al_driver.workflow.step import Step

log = logging.getLogger(__name__)
NPY = "deepmd/npy"
TOLD_FILES = (LEDGER_FILE, SETTINGS_FILE, REJECTED_FILE)
"""What lies in a set and decides nothing: when and where its frames were calculated."""


@dataclass(frozen=True)
class InitialData:
    """deepmd/npy systems to start from, and the fingerprint that stands for their content."""

    train: list[Path]
    valid: list[Path]
    fingerprint: str


@dataclass(frozen=True)
class Place:
    """Where one source's data lie, and where they are converted to unless they lie ready."""

    path: Path
    format: str | None
    target: Path

    @cached_property
    def is_ready(self) -> bool:
        """Whether trainers read it where it lies; deepmd/npy/mixed, whose frames differ in species, must be sorted."""
        is_npy = self.path.is_dir() and self.format in (None, NPY)
        return is_npy and next(self.path.rglob("set.*/real_atom_types.npy"), None) is None

    @property
    def folder(self) -> Path:
        return self.path if self.is_ready else self.target

    def identity(self) -> dict[str, Any]:
        hashes = [hash_path(path, leave_out=TOLD_FILES) for path in find_paths(self.path)]
        return {"sha256": hash_json(hashes), "format": self.format}


def prepare_data(context: Context, params: RunParams) -> InitialData:
    """Find or convert the initial and the validation data.

    Raises
    ------
    ConfigError
        If data are missing, cannot be read, or hold an element that ``type_map`` lacks.
    StateMismatch
        If the run was begun with other data.
    """
    folder, found = context.folder.data, find_data(params, context.resources)
    places = {
        key: [
            Place(path, source.format, folder / f"{key}.{index:03d}")
            for index, (path, source) in enumerate(zip(found[key], sources, strict=True))
        ]
        for key, sources in (("init_data", params.init_data), ("valid_data", params.valid_data))
    }
    to_convert = [place for group in places.values() for place in group if not place.is_ready]

    def work() -> dict[str, Any]:
        rows: list[Row] = []
        for place in to_convert:
            frames = read_labelled(place.path, place.format, params.type_map)
            where = write_dataset(place.target, frames, params.type_map)
            for (system, index), atoms in zip(where, frames, strict=True):
                told = told_of(atoms.info) | {"source": way_to(atoms.info["source"], folder)}
                rows.append({"system": f"{place.target.name}/{system}", "index": index, **told})
        if rows:
            write_ledger(folder, rows, {})
        valid = [os.path.relpath(place.folder, folder) for place in places["valid_data"]]
        return {"converted": [place.target.name for place in to_convert], "valid": valid}

    inputs: dict[str, Any] = {key: [place.identity() for place in group] for key, group in places.items()}
    step = Step("0/train", folder, inputs | {"type_map": list(params.type_map)}, ())
    outputs = [place.target.name for place in to_convert]
    try:
        record = context.run_step(step, work, outputs)
    except StateMismatch:
        if not context.new_data:
            raise
        set_aside(folder)
        record = context.run_step(step, work, outputs)
    systems = {
        key: [system for place in group for system in _checked_systems(place.folder, params.type_map, key)]
        for key, group in places.items()
    }
    data = InitialData(systems["init_data"], systems["valid_data"], record.fingerprint)
    n_train, n_valid = (sum(map(count_frames, group)) for group in (data.train, data.valid))
    log.info("data: %s to start from, %d to validate on", many(n_train, "frame"), n_valid)
    return data


def find_data(params: RunParams, resources: Resources) -> dict[str, list[Path]]:
    """Return where the data of each source lie, by key.

    Raises
    ------
    ConfigError
        With everything that is not there.
    """
    found: dict[str, list[Path]] = {"init_data": [], "valid_data": []}
    problems: list[Problem] = []
    for key, sources in (("init_data", params.init_data), ("valid_data", params.valid_data)):
        for source in sources:
            try:
                found[key].append(locate(source, key, params, resources))
            except ConfigError as error:
                problems += error.problems
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return found


def locate(source: DataSource, key: str, params: RunParams, resources: Resources | None = None) -> Path:
    """Return where a source's data lie; for an ``init_bulk``, see `made_folder`.

    ``resources`` tell which file to name in the command that makes them.

    Raises
    ------
    ConfigError
        If nothing is there, with the command that makes it.
    """
    if source.init_bulk is not None:
        path = made_folder(load_params(source.init_bulk, InitBulkParams), key, params)
        if not path.exists():
            command = make_command(source.init_bulk, resources)
            raise ConfigError(Problem(f"{shown_path(path)} is not there yet.\n  Make it first: {command}", key=key))
        return path
    assert source.path is not None  # noqa: S101  (the schema wants one of the two)
    maker = None if source.path.exists() else _find_maker(source.path)
    if maker is not None:
        message = f"is not there yet; make it first: {make_command(maker, resources)}\n"
        hint = f'  Where {{"init_bulk": "{maker.name}"}} stands in its place, `al check` looks into that file too'
        raise ConfigError(Problem(message + hint, file=source.path))
    find_paths(source.path)
    if source.format is None and source.path.is_dir():
        _refuse_work_folder(source.path, key)
    return source.path


def _refuse_work_folder(path: Path, key: str) -> None:
    """Refuse a folder that holds calculations too: frames would come twice, and those held back would be trained on."""
    for system in find_systems(path) if any(path.rglob("type.raw")) else ():
        above = [folder for folder in system.parents if folder == path or path in folder.parents]
        work = next((WorkFolder(folder) for folder in above if WorkFolder(folder).history.is_file()), None)
        if work is None:
            continue
        sets = {"init_data": work.dataset, "valid_data": work.valid}
        ready = f"name {shown_path(sets[key])}" if sets[key].exists() else f"`al gather {shown_path(work.root)} -o OUT`"
        what = "is a work folder" if work.root == path else f"holds the work folder {shown_path(work.root)}"
        raise ConfigError(Problem(f"{what}, with every label and those held back; {ready} in its place", file=path))


def make_command(param: Path, resources: Resources | None) -> str:
    """Return the command that makes the data of an ``init_bulk``, with the resource file that the user gave."""
    resource = resources.read_from if resources else None
    return f"al init_bulk {shown_path(param)} {shown_path(resource) if resource else 'RESOURCE'}"


def made_folder(made: InitBulkParams, key: str, params: RunParams) -> Path:
    """Return where the data of an ``init_bulk`` lie, or will.

    That is its dataset; as validation data what it held back, or its dataset where it holds back nothing and no other
    key names what it makes.
    """
    folder = WorkFolder(made.work_dir)
    trains = any(_is_from(made, source) for source in params.init_data)
    takes_all = key == "init_data" or (made.valid_fraction == 0 and not trains)
    return folder.dataset if takes_all else folder.valid


def _is_from(made: InitBulkParams, source: DataSource) -> bool:
    """Say whether a source names what an ``init_bulk`` makes, by its param file or by its folder."""
    work_dir = made.work_dir.resolve()
    if source.init_bulk is None:
        return source.path is not None and work_dir in (source.path.resolve(), *source.path.resolve().parents)
    try:
        return load_params(source.init_bulk, InitBulkParams).work_dir.resolve() == work_dir
    except ConfigError:
        return False  # told where it is checked


def _find_maker(path: Path) -> Path | None:
    """Return the param file, beside the folders that are there, of the ``init_bulk`` that will make a path."""
    folder = next(parent for parent in path.parents if parent.is_dir())
    for file in sorted(folder.glob("*.json")):
        try:
            made = load_params(file, InitBulkParams)
        except (ConfigError, OSError):
            continue
        if path in (WorkFolder(made.work_dir).dataset, WorkFolder(made.work_dir).valid):
            return file
    return None


def _checked_systems(path: Path, type_map: Sequence[str], key: str) -> list[Path]:
    systems = find_systems(path)
    for system in systems:
        strange = sorted(set(system_elements(system)) - set(type_map))
        if strange:
            raise ConfigError(Problem(f"{system} holds {', '.join(strange)}, which `type_map` lacks", key=key))
    return systems
