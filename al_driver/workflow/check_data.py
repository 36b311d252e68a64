"""The data that a run names: each is opened; what an ``init_bulk`` will make is checked by its param file."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from al_driver.data.dataset import find_systems
from al_driver.data.reference import Reference, references_in, references_of
from al_driver.data.sources import read_labelled
from al_driver.data.system_check import check_system
from al_driver.errors import ConfigError, Problem
from al_driver.layout import WorkFolder
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.schema.load import load_params
from al_driver.schema.resource import Resources
from al_driver.schema.run import DataSource, RunParams
from al_driver.workflow.initial import Place, locate, made_folder, make_command
from al_driver.workflow.references import check_told_data
from al_driver.workflow.report import under


def check_data(params: RunParams, resources: Resources | None, *, read: bool) -> Iterator[Problem]:
    """Yield what is wrong with ``init_data`` and ``valid_data``.

    Parameters
    ----------
    resources
        Where known: the command that makes what is missing names their file.
    read
        Whether to read data that must be converted too, which may take a while; a run does so when it begins.
    """
    for key, sources in (("init_data", params.init_data), ("valid_data", params.valid_data)):
        told: list[Reference] = []
        for index, source in enumerate(sources):
            where = f"{key}[{index}]"
            try:
                to_make = _check_origin(source, key, params, resources)
                if to_make is None:
                    told += _check_content(locate(source, key, params, resources), source, params, read=read)
                else:
                    yield Problem(to_make, where, severity="warning")
            except ConfigError as error:
                for problem in error.problems:
                    is_made = source.init_bulk is not None
                    yield under(f"{where}.init_bulk", problem) if is_made else replace(problem, key=where)
        yield from check_told_data(told, key, params)


def open_init_bulks(params: RunParams) -> list[tuple[str, InitBulkParams]]:
    """Return key and content of each sound ``init_bulk`` that has not been made yet, each file once."""
    found: dict[Path, tuple[str, InitBulkParams]] = {}
    for key, sources in (("init_data", params.init_data), ("valid_data", params.valid_data)):
        for index, source in enumerate(sources):
            if source.init_bulk is None or source.init_bulk in found:
                continue
            try:
                made = load_params(source.init_bulk, InitBulkParams)
            except ConfigError:
                continue  # told by `check_data`
            if not WorkFolder(made.work_dir).dataset.exists():
                found[source.init_bulk] = (f"{key}[{index}].init_bulk", made)
    return list(found.values())


def _check_origin(source: DataSource, key: str, params: RunParams, resources: Resources | None) -> str | None:
    """Say what makes the data, where they are not made yet.

    Raises
    ------
    ConfigError
        If the ``init_bulk`` that is named is wrong, or will never make such data.
    """
    if source.init_bulk is None:
        return None
    made = load_params(source.init_bulk, InitBulkParams)
    folder, place = WorkFolder(made.work_dir), made_folder(made, key, params)
    if made.label_engine is None:
        raise ConfigError(Problem("makes structures only (`label` is false); a run needs labels", "label"))
    if place == folder.valid and not place.exists() and (made.valid_fraction == 0 or folder.dataset.exists()):
        raise ConfigError(
            Problem(
                f"holds nothing back (valid_fraction {made.valid_fraction:g}); raise it, or name other valid_data",
                "valid_fraction",
            )
        )
    if place.exists():
        return None
    return f"not made yet; make it first: {make_command(source.init_bulk, resources)}"


def _check_content(path: Path, source: DataSource, params: RunParams, *, read: bool) -> list[Reference]:
    """Open the data; return what they tell of their references."""
    place = Place(path, source.format, Path())
    if place.is_ready:
        systems = find_systems(path)
        n_frames = sum(check_system(system, params.type_map) for system in systems)
        if n_frames == 0:
            raise ConfigError(Problem("holds no frame", file=path))
        return references_of(systems)
    frames = read_labelled(path, source.format, params.type_map) if read else []
    return references_in(atoms.info for atoms in frames)
