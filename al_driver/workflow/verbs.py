"""What the command line and ``import al_driver`` offer: `run`, `init_bulk`; each holds its folder while it works."""

import logging
from pathlib import Path

from al_driver.errors import ConfigError, Problem, StateMismatch
from al_driver.layout import SCREEN_STAGES, SCREEN_STEPS
from al_driver.schema.base import Params
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.schema.load import check_order, kind_of, load_params, load_sound
from al_driver.schema.resource import Resources
from al_driver.schema.run import RunParams
from al_driver.schema.screen import ScreenParams
from al_driver.words import shown_path
from al_driver.workflow.check import check_run
from al_driver.workflow.check_init import check_init_bulk
from al_driver.workflow.check_paths import find_missing
from al_driver.workflow.check_programs import check_resources
from al_driver.workflow.check_screen import check_screen
from al_driver.workflow.context import Display
from al_driver.workflow.hold import hold
from al_driver.workflow.init_bulk import ALL_STAGES, make_initial_data, set_aside_stages
from al_driver.workflow.initial import find_data
from al_driver.workflow.redo import forgotten_on_mismatch, redo_stages, redo_steps, request_stage, request_steps
from al_driver.workflow.report import Report
from al_driver.workflow.run import Verdict, run_loop
from al_driver.workflow.screen import run_screen, set_aside_screen
from al_driver.workflow.screened import Screening, check_screens, find_screens

log = logging.getLogger(__name__)


def run(
    param: Path | str,
    resource: Path | str,
    *,
    redo: str | None = None,
    accept_from: int | None = None,
    display: Display | None = None,
) -> Verdict:
    """Run the active-learning loop, or continue it.

    Parameters
    ----------
    param, resource
        The two JSON files.
    redo
        ``K/STEP``: this step and all later ones are set aside and made anew.
    accept_from
        Iterations below this one stay as they are, whatever the input says now; later ones are set aside.

    Raises
    ------
    ConfigError, TasksFailed, StateMismatch, FolderLocked
        As their exit codes say; the folder can be continued after each.
    """
    check_order(Path(param), Path(resource), "run")
    params, resources = load_params(Path(param), RunParams), load_params(Path(resource), Resources)
    _make_screens(params, resources, display, _files(param, resource))
    report = check_run(params, resources)
    report.raise_errors()
    find_data(params, resources)
    request = request_steps(redo, accept_from)
    with hold("run", params.work_dir, resources, display, **_files(param, resource)) as context:
        _warn(report)
        redo_steps(context, request)
        with forgotten_on_mismatch(context):
            verdict = run_loop(context, params)
        context.history.add("done", state="done", verdict=vars(verdict), pending=None)
        model = shown_path(context.folder.final)
        log.info("done: %s: %s. The model to use is in %s", verdict.state, verdict.reason, model)
        return verdict


def init_bulk(
    param: Path | str, resource: Path | str, *, redo: str | None = None, display: Display | None = None
) -> Path:
    """Make first data, or continue making them; return the folder of the dataset (or of the structures).

    ``redo`` names a stage: it and all later ones are set aside and made anew.
    """
    check_order(Path(param), Path(resource), "init_bulk")
    params, resources = load_params(Path(param), InitBulkParams), load_params(Path(resource), Resources)
    _make_screens(params, resources, display, _files(param, resource))
    report = check_init_bulk(params, resources)
    report.raise_errors()
    request = request_stage(redo, ALL_STAGES)
    with hold("init_bulk", params.work_dir, resources, display, **_files(param, resource)) as context:
        _warn(report)
        redo_stages(context, request, set_aside_stages)
        with forgotten_on_mismatch(context):
            made = make_initial_data(context, params)
        context.history.add("done", state="done", pending=None)
        log.info("done: the %s are in %s", "structures" if params.label_engine is None else "data", shown_path(made))
        return made


def screen(param: Path | str, resource: Path | str, *, redo: str | None = None, display: Display | None = None) -> Path:
    """Screen candidates, or continue; return the folder of the structures that go on.

    ``redo`` names a stage, or ``K/STEP`` of an iteration that labels: it and all later ones are set aside and made
    anew.
    """
    check_order(Path(param), Path(resource), "screen")
    params, resources = load_params(Path(param), ScreenParams), load_params(Path(resource), Resources)
    return _screen(params, resources, display, _files(param, resource), redo)


def _screen(
    params: ScreenParams, resources: Resources, display: Display | None, files: dict[str, Path], redo: str | None
) -> Path:
    report = check_screen(params, resources)
    report.raise_errors()
    request = request_stage(redo, SCREEN_STAGES, SCREEN_STEPS if params.learn else ())
    with hold("screen", params.work_dir, resources, display, **files) as context:
        _warn(report)
        redo_stages(context, request, set_aside_screen)
        with forgotten_on_mismatch(context):
            made = run_screen(context, params)
        verdict = None if made.reason is None else {"state": "done", "reason": made.reason}
        context.history.add("done", state="done", verdict=verdict, pending=None)
        return made.structures


def check(param: Path | str, resource: Path | str, *, no_files: bool = False) -> Report:
    """Check both files; with ``no_files`` only their keys and values. Nothing is submitted.

    Raises
    ------
    ConfigError
        With every problem of keys and values of both files, and with what is wrong with the files and programs that
        the sound part of them names. Where keys and values are right, the report holds the latter.
    """
    check_order(Path(param), Path(resource))
    problems: list[Problem] = []
    params: Params | None = None
    resources: Resources | None = None
    try:
        kind = PARAMS[kind_of(Path(param))]
        params, found = load_sound(Path(param), kind)
        problems += found
        if params is None and not no_files:
            problems += find_missing(Path(param), kind)
    except ConfigError as error:
        problems += error.problems
    try:
        resources, found = load_sound(Path(resource), Resources)
        problems += found
    except ConfigError as error:
        problems += error.problems
    report = Report() if no_files else _check_files(params, resources, render=not problems)
    if problems:
        raise ConfigError([*problems, *report.errors])
    return report


PARAMS: dict[str, type[Params]] = {"run": RunParams, "init_bulk": InitBulkParams, "screen": ScreenParams}


def _check_files(params: Params | None, resources: Resources | None, *, render: bool) -> Report:
    """Check files and programs, as far as the two files could be read."""
    if isinstance(params, RunParams | InitBulkParams):
        screens = check_screens(params, resources, render=render)
        if screens is not None:
            return screens
    if isinstance(params, RunParams):
        return check_run(params, resources, render=render)
    if isinstance(params, InitBulkParams):
        return check_init_bulk(params, resources, render=render)
    if isinstance(params, ScreenParams):
        return check_screen(params, resources, render=render)
    report = Report()
    if resources is not None:
        report.collect(lambda: check_resources(resources))
    return report


def _make_screens(
    params: RunParams | InitBulkParams, resources: Resources, display: Display | None, files: dict[str, Path]
) -> None:
    """Make the screenings that entries of ``structures`` name; what is done of them stays.

    Raises
    ------
    ConfigError
        If something is wrong with one that is not made yet, or with what follows it.
    StateMismatch
        If one was made from another input, with what makes it anew.
    """
    report = check_screens(params, resources)
    if report is not None:
        report.raise_errors()
    for screening in find_screens(params):
        own = screening.load()
        given = files if isinstance(screening.given, ScreenParams) else files | {"param": screening.given}
        log.info("the screening of %s comes first, in %s", screening.key, shown_path(own.work_dir))
        try:
            _screen(own, resources, display, given, redo=None)
        except StateMismatch as error:
            raise StateMismatch(_make_anew(str(error), screening, given)) from error


def _make_anew(message: str, screening: Screening, files: dict[str, Path]) -> str:
    """Say how a screening that another command makes is made from another input."""
    if isinstance(screening.given, Path):
        command = f"`al screen {shown_path(files['param'])} {shown_path(files['resource'])} --redo"
        return message.replace("`--redo", command)
    what = message.splitlines()[0]
    return f"{what}\n  Change `{screening.key}` back, or give it another `work_dir`; what is made stays where it is."


def _warn(report: Report) -> None:
    """Log what `al check` warns of: not everybody checks before a run."""
    for warning in report.warnings:
        log.warning("warning: %s", warning)


def _files(param: Path | str, resource: Path | str) -> dict[str, Path]:
    return {"param": Path(param), "resource": Path(resource)}
