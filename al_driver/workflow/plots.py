"""Which pictures can be made of a work folder, from what its finished steps left; drawing them again when that changed.

Pictures are derived: nothing is made from them, no fingerprint knows them. ``plots.json`` beside them says which
finished steps each was drawn from; by that, and not by the times of files, a picture is known to be out of date.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from al_driver.errors import AlError
from al_driver.files import hash_json, read_json, write_atomic, write_json
from al_driver.layout import AUDIT_FILE, PLOTS_DIR, PLOTS_FILE, SCREEN_STAGES, WorkFolder
from al_driver.plots.page import Page
from al_driver.plots.style import drawing, write_figure
from al_driver.workflow.history import History
from al_driver.workflow.plot_data import (
    draw_coverage_of,
    draw_deviation_of,
    draw_labels_of,
    draw_learning_of,
    draw_parity_of,
    draw_selected_of,
    read_query,
)
from al_driver.workflow.screen_found import LabelledScreening, draw_found_of, found_section
from al_driver.workflow.screen_page import Screening, draw_hull_of, draw_ranking_of, draw_voltage_of, make_page
from al_driver.workflow.step import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWING = 1
"""Raised when pictures look different: those of an earlier version are then out of date."""
DEVIATION, SELECTED, LEARNING, PARITY, COVERAGE, LABELS, RANKING, FOUND, HULL, VOLTAGE = (
    f"{name}.png"
    for name in (
        "deviation", "selected", "learning_curve", "parity", "coverage", "labels", "ranking", "found", "hull", "voltage"
    )
)  # fmt: skip
PAGE = "index.html"
NAMES = (DEVIATION, SELECTED, LEARNING, PARITY, COVERAGE, LABELS, RANKING, FOUND, HULL, VOLTAGE, PAGE)


@dataclass(frozen=True)
class Plot:
    """A picture: where it lies, what it is drawn from, and how."""

    path: Path
    key: str
    """Of the finished steps it is drawn from, and of how it is drawn."""
    draw: Callable[[], "Figure | Page | str"]
    """Returns the picture or page, or why there is nothing to draw."""

    @property
    def is_current(self) -> bool:
        index = _read_index(self.path.parent)
        known = index.get(self.path.name)
        return known is not None and known["key"] == self.key and (self.path.exists() or bool(known["nothing"]))


@dataclass
class PlotReport:
    """What became of the pictures of a folder."""

    written: list[Path] = field(default_factory=list)
    current: list[Path] = field(default_factory=list)
    """Those that were up to date."""
    nothing: list[str] = field(default_factory=list)
    """What there is nothing to draw from, and why: a line each."""
    errors: list[tuple[Path, Exception]] = field(default_factory=list)

    def as_json(self) -> dict[str, list[str]]:
        """Return what ``al status --json`` says of the pictures."""
        return {
            "written": [str(path) for path in self.written],
            "current": [str(path) for path in self.current],
            "nothing": self.nothing,
            "failed": [f"{path}: {error}" for path, error in self.errors],
        }

    def raise_errors(self) -> None:
        """Raise the first error; how many more there are stands in `errors`."""
        if self.errors:
            raise self.errors[0][1]


def write_plots(root: Path) -> PlotReport:
    """Draw every picture of a work folder that is missing or out of date; those whose source is gone are removed.

    A picture that fails does not keep the others from being drawn; its error stands in the report.
    """
    report, folder = PlotReport(), WorkFolder(root)
    plans, report.nothing = plan_plots(folder)
    _remove_others(folder, plans)
    for plot in plans:
        try:
            _write(plot, report)
        except Exception as error:  # whatever the reason, the others are drawn
            report.errors.append((plot.path, error))
    return report


def plan_plots(folder: WorkFolder) -> tuple[list[Plot], list[str]]:
    """Return the pictures that can be drawn, and a line for each that cannot."""
    kind = History(folder.history).read()["kind"]
    if kind in _OTHER_PLANS:
        return _OTHER_PLANS[kind](folder)
    plots: list[Plot] = []
    nothing: list[str] = []
    trained: list[tuple[str, Path]] = []
    scored: dict[str, Path] = {}
    audited: list[tuple[int, Path]] = []
    read = lru_cache(maxsize=1)(read_query)  # a long file is read for both pictures at once
    for index in folder.iterations():
        train, query = folder.step(index, "train"), folder.step(index, "query")
        target = train.parent / PLOTS_DIR
        if Record.read(query):
            scored[str(index)] = query
            plots.append(_plan(target / DEVIATION, [query], partial(draw_deviation_of, partial(read, query), index)))
            plots.append(_plan(target / SELECTED, [query], partial(draw_selected_of, partial(read, query), index)))
        else:
            nothing.append(f"iteration {index}: no {DEVIATION} and no {SELECTED} before its query is done")
        if Record.read(train):
            trained.append((str(index), train))
            plots += _plan_training(target, f"iteration {index}", trained, scored)
        else:
            nothing.append(f"iteration {index}: no {PARITY} and no {LEARNING} before its training is done")
        label = folder.step(index, "label")
        if Record.read(label) and (label / AUDIT_FILE).exists():
            audited.append((index, label))
            steps = [step for _, step in audited]
            plots.append(_plan(target / COVERAGE, steps, partial(draw_coverage_of, list(audited))))
    if not folder.iterations():
        nothing.append("the run has not begun an iteration")
    if Record.read(folder.final):
        trained.append(("final", folder.final))
        plots += _plan_training(folder.final / PLOTS_DIR, "final model", trained, scored)
    return plots, nothing


def _plan_training(
    target: Path, what: str, trained: Sequence[tuple[str, Path]], scored: dict[str, Path]
) -> Iterator[Plot]:
    """Yield the pictures of a training: its parity, and the learning curve up to it."""
    folder = trained[-1][1]
    yield _plan(target / PARITY, [folder], partial(draw_parity_of, folder, what))
    steps = [step for name, path in trained for step in (path, scored.get(name)) if step]
    yield _plan(target / LEARNING, steps, partial(draw_learning_of, list(trained), dict(scored), what))


def _plan_init_bulk(folder: WorkFolder) -> tuple[list[Plot], list[str]]:
    split = folder.root / "split"
    if Record.read(split):
        return [_plan(folder.root / PLOTS_DIR / LABELS, [split], partial(draw_labels_of, folder))], []
    return [], [f"no {LABELS} before the structures are labelled and split; an init_bulk has no other pictures"]


def _plan_screen(folder: WorkFolder) -> tuple[list[Plot], list[str]]:
    ranked, target = folder.root / SCREEN_STAGES[-1], folder.root / PLOTS_DIR
    labelled = LabelledScreening(folder)
    found = [_plan(target / FOUND, labelled.steps, partial(draw_found_of, labelled))] if labelled.steps else []
    if not Record.read(ranked):
        return found, [f"no {RANKING} before the candidates are ranked"]
    whole = Screening(folder.root)
    draws: dict[str, Callable[[Screening], Figure | Page | str]] = {RANKING: draw_ranking_of}
    if whole.intercalation is not None:
        draws |= {HULL: draw_hull_of, VOLTAGE: draw_voltage_of}
    pictures = [(Path(name).stem.capitalize(), target / name) for name in draws]
    # of the pictures, so it comes last
    draws[PAGE] = lambda whole: make_page(whole, pictures, found_section(labelled, target / FOUND))
    return [*found, *(_plan(target / name, [ranked], partial(draw, whole)) for name, draw in draws.items())], []


_OTHER_PLANS = {"init_bulk": _plan_init_bulk, "screen": _plan_screen}
"""How the pictures of a folder are planned that is no run's."""


def _plan(path: Path, steps: Sequence[Path], draw: Callable[[], "Figure | Page | str"]) -> Plot:
    records = [record for step in steps if (record := Record.read(step))]
    return Plot(path, hash_json([DRAWING, [[record.fingerprint, record.finished] for record in records]]), draw)


def _write(plot: Plot, report: PlotReport) -> None:
    """Draw one picture unless it is up to date, and note what it was drawn from."""
    folder = plot.path.parent
    where = f"{folder.parent.name}/{folder.name}/{plot.path.name}"
    if plot.is_current:
        reason = _read_index(folder)[plot.path.name]["nothing"]
        if reason:
            report.nothing.append(f"no {where}: {reason}")
        else:
            report.current.append(plot.path)
        return
    folder.mkdir(exist_ok=True)  # not its parents: a folder that was set aside meanwhile must not come back
    with drawing():
        drawn = plot.draw()
        if isinstance(drawn, str):
            plot.path.unlink(missing_ok=True)
            report.nothing.append(f"no {where}: {drawn}")
        else:
            if isinstance(drawn, Page):
                write_atomic(plot.path, drawn.render())
            else:
                write_figure(drawn, plot.path)
            report.written.append(plot.path)
    entry = {"key": plot.key, "nothing": drawn if isinstance(drawn, str) else None}
    write_json(folder / PLOTS_FILE, _read_index(folder) | {plot.path.name: entry})


def _read_index(folder: Path) -> dict[str, Any]:
    """Return what ``plots.json`` says; a damaged one says nothing, and everything is drawn again."""
    try:
        content = read_json(folder / PLOTS_FILE)
        return {name: {"key": entry["key"], "nothing": entry["nothing"]} for name, entry in content.items()}
    except (FileNotFoundError, AlError, AttributeError, KeyError, TypeError):
        return {}


def _remove_others(folder: WorkFolder, plans: Sequence[Plot]) -> None:
    """Remove our pictures whose steps are gone: after a ``--redo`` they would show what is not there any more."""
    planned = {plot.path for plot in plans}
    targets = [folder.step(index, "train").parent for index in folder.iterations()]
    for target in (folder.root, folder.final, *targets):
        for name in NAMES:
            if (path := target / PLOTS_DIR / name) not in planned:
                path.unlink(missing_ok=True)
