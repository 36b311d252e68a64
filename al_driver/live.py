"""What a person sees in a terminal: log lines, a live bar for the step that runs, and the table of `al status`."""

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from al_driver.live_screen import add_screen
from al_driver.words import by_element, many

if TYPE_CHECKING:  # `al status` needs none of them
    from pathlib import Path

    from al_driver.jobs.progress import Progress as TaskProgress
    from al_driver.workflow.convert import Conversion
    from al_driver.workflow.plots import PlotReport
    from al_driver.workflow.report import Report

MOST_LINES = 60  # of each rendered input
MOST_CHARACTERS = 240  # of each of its lines
MOST_FILES = 40  # that are listed whole; of more only those with something to tell


class LiveDisplay:
    """A bar for the step that runs, in a terminal; nothing where stdout goes to a file."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console, transient=True,
        )  # fmt: skip
        self._task: TaskID | None = None
        self._enabled = console.is_terminal

    def show(self, step: str, progress: "TaskProgress") -> None:
        """Draw how far a step is."""
        if not self._enabled:
            return
        counts = f"{progress.running} running" + (f", {progress.failed} failed" if progress.failed else "")
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task(step, counts=counts)
        completed = progress.done + progress.failed
        self._bar.update(self._task, description=step, total=progress.total, completed=completed, counts=counts)

    def done(self) -> None:
        """Take the bar away."""
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._bar.stop()
            self._task = None


class _ConsoleHandler(logging.Handler):
    """Prints a log line above the bar; long lines stay whole, so that they can be searched and copied."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.ERROR:  # errors are printed once, by the command line
            self._console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)


def log_to(console: Console) -> None:
    """Print the package's log lines, one a step and a state change."""
    logger = logging.getLogger("al_driver")
    logger.addHandler(_ConsoleHandler(console))
    logger.setLevel(logging.INFO)


def status_table(state: dict[str, Any]) -> Table:
    """Return one row an iteration: what was learnt, seen and labelled; of the other commands one row a stage."""
    tasks = state["tasks"]
    title = f"{state['folder']}: {state['state']}"
    if state["state"] == "running":
        title += f", {state['step']} ({tasks['done']} of {many(tasks['total'], 'task')}, {tasks['running']} running)"
        title += f"; waiting: {state['waits']}" if state["waits"] else ""
    table = Table(title=Text(title), caption=Text(_caption(state)), title_justify="left", caption_justify="left")
    if state["kind"] == "init_bulk":
        _add_stages(table, state["stages"], ("structures", "dropped", "labelled", "rejected"))
        return table
    if state["kind"] == "screen":
        add_screen(table, state)
        return table
    for heading in ("iteration", "energy RMSE\nmeV/atom", "force RMSE\neV/Å", "frames", "accurate", "candidate",
                    "failed", "selected", "labelled", "rejected"):  # fmt: skip
        table.add_column(heading, justify="right")
    for row in [*state["iterations"], {"iteration": "final", "train": state["final"]}]:
        if any(row.get(step) for step in ("train", "query", "label")):
            table.add_row(*_cells(row))
    return table


def _add_stages(table: Table, stages: list[dict[str, Any]], keys: tuple[str, ...]) -> None:
    for heading in ("stage", *keys):
        table.add_column(heading, justify="right")
    for stage in stages:
        cells = stage | dict(zip(("labelled", "rejected"), _labels(stage), strict=True))
        table.add_row(stage["name"], *(str(cells.get(key, "")) for key in keys))


def _cells(row: dict[str, Any]) -> list[str]:
    train, query, label = (row.get(step) or {} for step in ("train", "query", "label"))
    cells = [str(row["iteration"])]
    cells.append(f"{1e3 * train['energy_rmse']:.2f}" if train else "")
    cells.append(f"{train['force_rmse']:.4f}" if train else "")
    cells += [str(query.get(key, "")) for key in ("frames", "accurate", "candidate", "failed", "selected")]
    return [*cells, *_labels(label)]


def _labels(label: dict[str, Any]) -> tuple[str, str]:
    """Return how many frames have a label and how many have none, after all retries; where they took part, as a sum."""
    labelled, rejected, recovered = (label.get(key) for key in ("labelled", "rejected", "recovered"))
    if labelled is None or rejected is None:
        return "", ""
    if not recovered:
        return str(labelled), str(rejected)
    return f"{labelled + recovered} ({recovered} recovered)", str(rejected - recovered)


def _audit_lines(iterations: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what the audits of each iteration measured, and the word on the newest."""
    audits = [(row["iteration"], row["audit"]) for row in iterations if row.get("audit") and row["audit"]["audits"]]
    for iteration, audit in audits:
        held = f"bound held for {audit['covered']} of {audit['bounded']}" if audit["bounded"] else "no bound yet"
        outside = f", {audit['outside']} outside" if audit["outside"] else ""
        yield (
            f"audit {iteration}: {many(audit['audits'], 'frame')}, "
            f"largest force error {audit['largest_error']:.3g} eV/Å, "
            f"{audit['missed_target']} above the target of {audit['target']:g}; {held}{outside}"
        )
    if audits and audits[-1][1]["word"]:
        yield f"{audits[-1][1]['word']}."


def _caption(state: dict[str, Any]) -> str:
    is_run = state["kind"] == "run"
    trained = next((row["train"] for row in state["iterations"] if is_run and row["train"]), None)
    where = "" if trained is None else f"RMSE on {'validation' if trained['on'] == 'valid' else 'training'} data. "
    if state["error"]:
        where += state["error"]
    elif is_run:
        where += f"Verdict: {state['verdict']['state']}: {state['verdict']['reason']}"
    elif state["kind"] == "screen" and state["verdict"]["state"] == "done":
        where += f"No more labels: {state['verdict']['reason']}."
    where = "\n".join((where, *(_audit_lines(state["iterations"]) if is_run else ())))
    files = state["files"]
    counted = f"{'' if files['is_exact'] else 'at least '}{many(files['total'], 'file')}"
    return "\n".join((where, counted, *(f"warning: {warning}" for warning in state["warnings"]))).strip()


def filter_table(found: dict[str, Any]) -> Table:
    """Return one row an iteration and structure: what a rule would have selected, beside what was."""
    rule = ", ".join(
        f"{name} {by_element(value) if isinstance(value, dict) else f'{value:g}'}"
        for name, value in found["rule"].items()
        if value is not None
    )
    unbound = any(part["has_bound"] is False for part in found["iterations"])
    note = "where no bound was known yet, the highest scores" if unbound else ""
    table = Table(title=Text(f"{found['folder']}: {rule}"), caption=Text(note), title_justify="left")
    for heading in ("iteration", "structure", "frames", "accurate", "candidate", "failed", "selected", "as it was"):
        table.add_column(heading, justify="right")
    for part in found["iterations"]:
        rows = part["by_structure"] if len(part["by_structure"]) > 1 else ()
        for row in (*({**row, "was": None} for row in rows), {"structure": "all", **part}):
            counts = (str(row[key]) for key in ("frames", "accurate", "candidate", "failed", "selected"))
            was = f"{row['was']['candidate']}, {row['was']['selected']} kept" if row["was"] else ""
            table.add_row(str(part["iteration"]), row["structure"], *counts, was)
    return table


def plot_lines(report: "PlotReport") -> Iterator[str]:
    """Yield the lines of `al status --plots`: what was drawn, what was there already, and what cannot be drawn."""
    yield from (f"drawn: {path}" for path in report.written)
    if report.current:
        folders = list(dict.fromkeys(str(path.parent) for path in report.current))
        shown = ", ".join(folders[:4]) + (f" and {len(folders) - 4} more" if len(folders) > 4 else "")
        yield f"up to date: {many(len(report.current), 'picture')} in {shown}"
    yield from (f"not drawn: {line}" for line in report.nothing)


def print_report(report: "Report", console: Console, *, show: bool | None = None) -> None:
    """Print what `al check` found and would do; what matters first, the verdict last. With errors, warnings alone.

    ``show`` prints the rendered inputs too; left out, where stdout is no terminal.

    Raises
    ------
    ConfigError
        With the errors, if there are any.
    """
    for title, lines in {"first tasks": report.plan, "set by the driver": report.set_by_driver}.items():
        if lines and not report.errors:
            console.rule(title, align="left")
            for line in lines:
                console.print(line, markup=False, highlight=False)
    for problem in report.warnings:
        console.print(f"warning: {problem}", markup=False, highlight=False)
    report.raise_errors()
    is_shown = not console.is_terminal if show is None else show
    if is_shown:
        _print_inputs(report, console)
    verdict = "ok" + (f", {many(len(report.warnings), 'warning')}" if report.warnings else "")
    hidden = "" if is_shown or not report.inputs else f"; `--show` prints the inputs: {', '.join(report.inputs)}"
    console.print(verdict + hidden, markup=False, highlight=False, soft_wrap=True)


def _print_inputs(report: "Report", console: Console) -> None:
    for name, content in report.inputs.items():
        console.rule(name, align="left")
        lines = [_shorten(line) for line in content.splitlines()]
        console.print("\n".join(lines[:MOST_LINES]), markup=False, highlight=False)
        if len(lines) > MOST_LINES:
            console.print(f"… {many(len(lines) - MOST_LINES, 'more line')}")


def _shorten(line: str) -> str:
    """Cut a line that holds more than a person reads, such as all positions in one."""
    return line if len(line) <= MOST_CHARACTERS else f"{line[:MOST_CHARACTERS]}… {len(line) - MOST_CHARACTERS:,} more"


@contextlib.contextmanager
def file_bar(console: Console, what: str = "files") -> Iterator[Callable[[int, int], None]]:
    """Draw how many files are read, or what else is done, in a terminal; from the first call on: a thread draws it."""
    if not console.is_terminal:
        yield lambda _done, _total: None
        return
    bar = Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console, transient=True)
    task = bar.add_task(what, total=None)

    def draw(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield draw
    finally:
        bar.stop()


def print_conversion(result: "Conversion", console: Console) -> None:
    """Print what `al convert` read, left out, and wrote."""

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    for loaded in result.files:
        if len(result.files) > MOST_FILES and not loaded.left_out:
            continue
        first = f" ({loaded.left_out[0][1]})" if loaded.left_out else ""
        left_out = _counts(Counter(reason for reason, _ in loaded.left_out))
        say(f"{loaded.source.path}  {loaded.source.format}  {many(len(loaded.moments), 'frame')}{left_out}{first}")
    for path, reason in result.aside:
        say(f"{path}  not used: {reason}")
    n_frames = sum(len(loaded.moments) for loaded in result.files)
    gap = f", {result.gap} between training and validation" if result.gap else ""
    say(f"{many(len(result.files), 'file')}, {many(n_frames, 'frame')}{_counts(result.left_out)}{gap}")
    if result.repeated:
        words = "is the structure of another" if result.repeated == 1 else "are structures of others"
        say(f"{many(result.repeated, 'frame')} of them {words}, and count twice; `al gather` takes each once")
    for name, count in result.written.items():
        say(f"{_place(result.out, name)}  {many(count, 'frame')}")
    say(f"elements in order: {' '.join(result.type_map)}")
    if not any(loaded.is_labelled for loaded in result.files):
        say("structures without energies: good to start from, not to train on")
    for hint in result.hints:
        say(f"warning: {hint}")


def _place(out: "Path", name: str) -> "Path":
    """Return where a system lies: ``out`` itself, a deepmd folder in it, or the one extxyz file of such a folder."""
    if not out.is_dir():
        return out
    files = sorted((out / name).glob("*.extxyz"))
    return files[0] if files else out / name


def _counts(reasons: Counter[str]) -> str:
    return "".join(f", {count} left out: {reason}" for reason, count in reasons.items())
