"""Screenings whose structures a run or an ``init_bulk`` starts from, as entries of its ``structures`` name them."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from al_driver.errors import ConfigError, Problem
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.schema.load import load_params
from al_driver.schema.places import join_key
from al_driver.schema.resource import Resources
from al_driver.schema.run import RunParams
from al_driver.schema.screen import ScreenParams
from al_driver.screen.parents import read_parents
from al_driver.structures.screened import is_made
from al_driver.workflow.check import check_run
from al_driver.workflow.check_init import check_init_bulk
from al_driver.workflow.check_screen import check_screen
from al_driver.workflow.init_bulk import write_structures
from al_driver.workflow.report import Report


@dataclass(frozen=True)
class Screening:
    """A screening that an entry names.

    Attributes
    ----------
    key
        Where it stands.
    given
        Its param file, or its parameters where they stand in the entry.
    path
        The pattern of its structures.
    """

    key: str
    given: Path | ScreenParams
    path: Path

    @property
    def is_made(self) -> bool:
        """Whether its structures are there."""
        return is_made(self.path)

    @property
    def called(self) -> str:
        return self.given.name if isinstance(self.given, Path) else self.key

    def load(self) -> ScreenParams:
        """Return its parameters.

        Raises
        ------
        ConfigError
            If something is wrong with its file.
        """
        return load_params(self.given, ScreenParams) if isinstance(self.given, Path) else self.given


def find_screens(params: RunParams | InitBulkParams) -> Iterator[Screening]:
    """Yield the screenings that entries name; a param file that several name, once."""
    files = list[Path]()
    where = ".".join(map(str, params.entries_at))
    for index, entry in enumerate(params.entries):
        given = params.screens.get(index, entry.screen)
        if isinstance(given, Path):
            if given in files:
                continue
            files.append(given)
        if isinstance(given, Path | ScreenParams):
            yield Screening(f"{join_key(where, index)}.screen", given, entry.path)


def check_screens(
    params: RunParams | InitBulkParams, resources: Resources | None, *, render: bool = False
) -> Report | None:
    """Check the screenings that are not made yet, and what follows them; None where all are made.

    What a screening will select is not known before. For the rest of the file the crystals that its candidates are
    made from stand in: enough to find what is wrong with engines and programs before the screening takes its time.
    """
    report, missing = Report(), {one.path: one for one in find_screens(params) if not one.is_made}
    if not missing:
        return None
    found = dict[Path, ScreenParams]()
    for screening in missing.values():
        try:
            found[screening.path] = screening.load()
            nested = check_screen(found[screening.path], resources, render=render)
        except ConfigError as error:
            nested = Report(problems=[*error.problems])
        if isinstance(screening.given, Path):
            report.nest(screening.key, nested.problems)
        else:
            report.collect(lambda found=nested.problems: found, screening.key)  # type: ignore[misc]
        report.plan += [f"screening first ({screening.called}): {line}" for line in nested.plan]
        report.set_by_driver += nested.set_by_driver
        report.inputs |= nested.inputs
    if not report.errors:
        _check_rest(report, params, found, resources)
    message = "is not made yet, and is made first; what the rest of this file comes to is told once it is"
    report.problems.append(Problem(message, next(iter(missing.values())).key, severity="warning"))
    return report


def _check_rest(
    report: Report,
    params: RunParams | InitBulkParams,
    screens: Mapping[Path, ScreenParams],
    resources: Resources | None,
) -> None:
    with tempfile.TemporaryDirectory() as name:
        stand_ins = dict[Path, Path]()
        for number, (path, screen) in enumerate(screens.items()):
            parents = [read_parents(entry.path, entry.supercell)[0][1].atoms for entry in screen.candidates]
            write_structures(Path(name, str(number)), parents)
            stand_ins[path] = Path(name, str(number), path.name)
        entries = tuple(
            entry.model_copy(update={"path": stand_ins.get(entry.path, entry.path)}) for entry in params.entries
        )
        if isinstance(params, RunParams):
            explore = params.explore.model_copy(update={"structures": entries})
            rest = check_run(params.model_copy(update={"explore": explore}), resources)
        else:
            rest = check_init_bulk(params.model_copy(update={"structures": entries}), resources)
    report.set_by_driver += [line for line in rest.set_by_driver if line not in report.set_by_driver]
    for problem in rest.problems:
        stands_in = problem.file is not None and problem.file.is_relative_to(name)
        told = replace(problem, file=None) if stands_in else problem
        report.problems += [told] if told not in report.problems else []
