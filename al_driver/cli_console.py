"""Where the command line prints: a terminal, or a file."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from al_driver.workflow.context import Display

GOES_ON = "interrupted; the same command goes on from here"
WIDTH_OF_FILES = 120


def make_console() -> "Console":
    """Return the terminal, or a file of a fixed width."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=WIDTH_OF_FILES)


def make_display() -> "Display":
    """Return what shows progress, with what the package logs above it."""
    from al_driver.live import LiveDisplay, log_to

    console = make_console()
    log_to(console)
    return LiveDisplay(console)
