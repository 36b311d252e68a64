"""``--redo`` and ``--accept-from``: what is made anew from the input as it is now, and what stays as it is.

Both set a step and all later ones aside. `--accept-from K` also keeps what was finished before, whatever the input
says; a `--redo` of an earlier step takes that back from this step on.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from al_driver.errors import ConfigError, StateMismatch
from al_driver.layout import STEPS, WorkFolder
from al_driver.schema.suggest import nearest
from al_driver.workflow.aside import check_reached, set_aside_from
from al_driver.workflow.context import Context
from al_driver.workflow.history import Position, is_before

log = logging.getLogger(__name__)
REDO, ACCEPT_FROM = "--redo", "--accept-from"


def request_steps(redo: str | None, accept_from: int | None) -> str | None:
    """Return what the user asks of ``al run``, as on the command line; None for nothing.

    Raises
    ------
    ConfigError
        If both are given, or one is malformed.
    """
    if redo is not None and accept_from is not None:
        raise ConfigError(f"{REDO} and {ACCEPT_FROM} exclude each other; give one.")
    if redo is None and accept_from is None:
        return None
    request = f"{REDO} {redo}" if accept_from is None else f"{ACCEPT_FROM} {accept_from}"
    read_request(request)
    return request


def request_stage(redo: str | None, stages: Sequence[str], steps: Sequence[str] = ()) -> str | None:
    """Return what the user asks of ``al init_bulk`` or ``al screen``, as on the command line; None for nothing.

    Parameters
    ----------
    steps
        Of an iteration, where the command has some: ``K/STEP`` names one.

    Raises
    ------
    ConfigError
        If there is no such stage, or step.
    """
    if redo is None:
        return None
    iteration, _, step = redo.rpartition("/")
    if redo not in stages and not (iteration.isdecimal() and step in steps):
        also = f", and K/STEP, e.g. 2/label; steps are {', '.join(steps)}" if steps else ""
        raise ConfigError(f"{REDO} {redo}: stages are {', '.join(stages)}{also}{nearest(redo, stages)}")
    return f"{REDO} {redo}"


def read_request(request: str) -> Position:
    """Return the first step that a request of ``al run`` makes anew.

    Raises
    ------
    ConfigError
        If it is malformed.
    """
    option, _, value = request.partition(" ")
    iteration, _, step = value.partition("/") if option == REDO else (value, "", STEPS[0])
    if not iteration.isdecimal() or step not in STEPS:
        expected = f"K/STEP, e.g. 2/explore; steps are {', '.join(STEPS)}" if option == REDO else "an iteration, e.g. 2"
        raise ConfigError(f"{request}: expected {expected}.")
    return int(iteration), step


def redo_steps(context: Context, request: str | None) -> None:
    """Carry out a request of ``al run``, and say in the context what it means for the steps.

    Raises
    ------
    ConfigError
        If the run has not come to that iteration.
    """
    changes = {}
    if request is not None:
        start, kept = read_request(request), context.history.accepted_before
        if request.startswith(ACCEPT_FROM) or is_before(start, kept):
            changes["accepted_before"] = list(start)
    holds, moved = context.history.carry_out(
        request,
        lambda asked: check_reached(context.folder, read_request(asked)[0]),
        lambda asked: set_aside_from(context.folder, *read_request(asked)),
        **changes,
    )
    _say_aside(moved)
    context.accepted_before = context.history.accepted_before
    context.new_data = holds is not None and (holds.startswith(ACCEPT_FROM) or read_request(holds) == (0, STEPS[0]))


def redo_stages(
    context: Context, request: str | None, set_aside_stages: Callable[[WorkFolder, str], list[Path]]
) -> None:
    """Carry out a request of ``al init_bulk`` or ``al screen``.

    Parameters
    ----------
    set_aside_stages
        Sets a stage and all later ones of a folder aside, and returns what they are called now.
    """

    def check(asked: str) -> None:
        iteration, _, _ = asked.removeprefix(f"{REDO} ").rpartition("/")
        if iteration:
            check_reached(context.folder, int(iteration))

    _, moved = context.history.carry_out(
        request, check, lambda asked: set_aside_stages(context.folder, asked.removeprefix(f"{REDO} "))
    )
    _say_aside(moved)


@contextlib.contextmanager
def forgotten_on_mismatch(context: Context) -> Iterator[None]:
    """Take a request for carried out where the input has changed since: given again, it means the new input."""
    try:
        yield
    except StateMismatch:
        context.history.add("the input does not match the folder", pending=None)
        raise


def _say_aside(paths: list[Path]) -> None:
    for path in paths:
        log.info("set aside: %s", path)
