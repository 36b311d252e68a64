"""The command line. Imports stand inside the commands, so that `al --help` answers at once.

Commands of a kind stand in modules of their own: `cli_data`, `cli_kpu`, `cli_screen`, `cli_slurm`.
"""

import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
import typer.core

from al_driver import __version__
from al_driver.cli_console import GOES_ON, make_console, make_display
from al_driver.cli_data import convert, explain, filter_frames, gather
from al_driver.cli_kpu import kpu
from al_driver.cli_screen import screen
from al_driver.cli_slurm import stop, submit
from al_driver.errors import AlError, ConfigError, Interrupted, LeaveJobs, Problem, tell_once
from al_driver.words import many

_BEGINS = "interrupted; nothing was written, and the same command begins anew"
INTERRUPTED = {
    "run": GOES_ON, "init_bulk": GOES_ON, "init-bulk": GOES_ON, "retry": GOES_ON,
    "convert": _BEGINS, "gather": _BEGINS, "kpu": _BEGINS, "screen": _BEGINS,
}  # fmt: skip
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Commands(typer.core.TyperGroup):
    """The commands; typer itself would end a Ctrl-C without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted(INTERRUPTED.get(str(ctx.invoked_subcommand), "interrupted")) from None


app = typer.Typer(
    cls=_Commands,
    help="Grow machine-learning force fields by active learning: train, explore, query, label.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ParamFile = Annotated[Path, typer.Argument(metavar="PARAM", help="What to do: param.json.")]
ResourceFile = Annotated[Path, typer.Argument(metavar="RESOURCE", help="Where to run it: resource.json.")]
KeepJobs = Annotated[
    bool, typer.Option("--keep-jobs", help="When interrupted, leave the jobs running; they are found again.")
]
Redo = Annotated[
    str | None, typer.Option(metavar="K/STEP", help="Set this step and all later ones aside; make them anew.")
]


def _print_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"al {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    param: ParamFile,
    resource: ResourceFile,
    redo: Redo = None,
    accept_from: Annotated[
        int | None,
        typer.Option(metavar="K", min=0, help="Keep iterations below K as they are; use the new input from K on."),
    ] = None,
    keep_jobs: KeepJobs = False,
) -> None:
    """Run the active-learning loop; the same command continues a stopped run."""
    from al_driver.workflow.verbs import run as run_loop

    _raise_on_signals(LeaveJobs if keep_jobs else KeyboardInterrupt)
    run_loop(param, resource, redo=redo, accept_from=accept_from, display=make_display())


@app.command("init_bulk")
def init_bulk(
    param: ParamFile,
    resource: ResourceFile,
    redo: Annotated[
        str | None, typer.Option(metavar="STAGE", help="Set this stage and all later ones aside; make them anew.")
    ] = None,
    keep_jobs: KeepJobs = False,
) -> None:
    """Make first structures and their labels; the same command continues."""
    from al_driver.workflow.verbs import init_bulk as make_data

    _raise_on_signals(LeaveJobs if keep_jobs else KeyboardInterrupt)
    make_data(param, resource, redo=redo, display=make_display())


app.command("init-bulk", hidden=True)(init_bulk)


@app.command()
def check(
    param: ParamFile,
    resource: ResourceFile,
    no_files: Annotated[bool, typer.Option("--no-files", help="Check keys and values only.")] = False,
    show: Annotated[
        bool | None,
        typer.Option("--show/--no-show", help="Print one input of each kind; by default unless in a terminal."),
    ] = None,
) -> None:
    """Report every problem of both files, and what would be done; submit nothing."""
    from al_driver.live import print_report
    from al_driver.workflow.verbs import check as check_files

    try:
        print_report(check_files(param, resource, no_files=no_files), make_console(), show=show)
    except ConfigError as error:
        n_errors = len(tell_once(error.problems))
        if n_errors == 1:
            raise
        raise ConfigError([*error.problems, Problem(many(n_errors, "error"))]) from None


@app.command()
def status(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="The run's folder.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    plots: Annotated[bool, typer.Option("--plots", help="Draw what is missing or out of date, too.")] = False,
) -> None:
    """Show where a run stands, while it runs or after."""
    from al_driver.live import plot_lines, status_table
    from al_driver.workflow.status import status as read_status

    state, report = read_status(directory), None
    if plots:
        from al_driver.workflow.plots import write_plots

        report = write_plots(Path(state["folder"]))
        state["plots"] = report.as_json()
    if as_json:
        sys.stdout.write(json.dumps(state, indent=1, ensure_ascii=False) + "\n")
    else:
        console = make_console()
        console.print(status_table(state))
        for line in plot_lines(report) if report else ():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if report:
        report.raise_errors()


@app.command()
def retry(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="A work folder.")] = Path(),
    reason: Annotated[
        str | None, typer.Option(metavar="REASON", help="Only frames rejected for this, e.g. scf_unconverged.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A key of the engine, of its input, or of resource.json."),
    ] = None,
    param: Annotated[Path | None, typer.Option(metavar="FILE", help="The param file; as last run by default.")] = None,
    resource: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The resource file; as last run by default.")
    ] = None,
) -> None:
    """Calculate rejected frames once more, and add what passes to what later trainings learn from."""
    from al_driver.workflow.retry import retry as retry_frames

    retry_frames(
        directory, reason=reason, settings=settings or (), param=param, resource=resource, display=make_display()
    )


app.command()(convert)
app.command()(gather)
app.command()(explain)
app.command("filter")(filter_frames)
app.command()(kpu)
app.add_typer(screen, name="screen")
app.command()(stop)
app.command()(submit)


@app.command()
def schema(kind: Annotated[str, typer.Argument(metavar="run|init_bulk|screen|resource")]) -> None:
    """Print the JSON Schema of a file, for editors."""
    from al_driver.schema.jsonschema import schema_text

    sys.stdout.write(schema_text(kind))


def main() -> None:
    """Run the command line; every foreseen failure is one to three lines and an exit code."""
    _raise_on_signals(KeyboardInterrupt)
    try:
        app()
    except AlError as error:
        sys.stderr.write(f"al: {error}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        where = f": {error.filename}" if error.filename else "."
        sys.stderr.write(f"al: {error.strerror or error}{where}\n  Mend that and give the same command again.\n")
        sys.exit(2)


def _raise_on_signals(kind: type[KeyboardInterrupt]) -> None:
    """Interrupt once: a shell and `make` both pass a signal on, and the second must not stop the tidying up."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise kind

    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup asks
            signal.signal(number, interrupt)
