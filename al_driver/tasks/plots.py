"""Draw the pictures of a work folder beside the run: ``python -m al_driver.tasks.plots FOLDER``.

A picture that fails is told in a line of its own, with exit code 3; the others are drawn.
"""

import sys
from pathlib import Path

from al_driver.errors import AlError
from al_driver.workflow.plots import write_plots

EXIT_CODE = 3


def main(arguments: list[str]) -> int:
    """Draw what is missing or out of date; return the exit code."""
    (folder,) = arguments
    try:
        errors = write_plots(Path(folder)).errors
    except (AlError, OSError) as damage:
        errors = [(Path(folder), damage)]
    for path, error in errors:
        said = str(error).splitlines() or [""]
        sys.stderr.write(f"{path}: {'' if isinstance(error, AlError) else f'{type(error).__name__}: '}{said[0]}\n")
    return EXIT_CODE if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
