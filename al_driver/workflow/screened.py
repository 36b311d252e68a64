"""Screenings whose structures a run or an ``init_bulk`` starts from: their param files stand in ``structures``."""

from collections.abc import Iterator
from pathlib import Path

from al_driver.errors import ConfigError, Problem
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.schema.load import load_params
from al_driver.schema.resource import Resources
from al_driver.schema.run import RunParams
from al_driver.schema.screen import ScreenParams
from al_driver.structures.screened import is_made
from al_driver.workflow.check_screen import check_screen
from al_driver.workflow.report import Report


def find_screens(params: RunParams | InitBulkParams) -> dict[Path, str]:
    """Return the key of each screening's param file that entries name, each file once."""
    return {file: key for key, file, _ in _entries(params)}


def check_screens(
    params: RunParams | InitBulkParams, resources: Resources | None, *, render: bool = False
) -> Report | None:
    """Check the screenings that are not made yet; None where all are.

    What an entry will hold is not known before, so that nothing else can be checked.
    """
    report, found = Report(), {file: key for key, file, path in _entries(params) if not is_made(path)}
    for file, key in found.items():
        try:
            nested = check_screen(load_params(file, ScreenParams), resources, render=render)
        except ConfigError as error:
            nested = Report(problems=[*error.problems])
        report.nest(key, nested.problems)
        report.plan += [f"screening first ({file.name}): {line}" for line in nested.plan]
        report.inputs |= nested.inputs
    if found:
        message = "is not made yet, and is made first; the rest of this file is checked once it is"
        report.problems.append(Problem(message, next(iter(found.values())), severity="warning"))
    return report if found else None


def _entries(params: RunParams | InitBulkParams) -> Iterator[tuple[str, Path, Path]]:
    """Yield key, param file and path of the structures of each entry that names a screening."""
    if isinstance(params, RunParams):
        where, found = "explore.structures", [(entry.screen, entry.path) for entry in params.explore.structures]
    else:
        where, found = "structures", [(entry.screen, entry.path) for entry in params.structures]
    for index, (file, path) in enumerate(found):
        if file is not None:
            yield f"{where}[{index}].screen", file, path
