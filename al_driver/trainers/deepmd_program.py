"""How a program of ours runs in the Python that ``dp`` belongs to.

``dp`` may live in another environment than the driver. Its first line names the Python that has DeePMD-kit and
torch; our program is handed to that Python by its file's path, behind the same launcher.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from al_driver.errors import ConfigError, Problem
from al_driver.jobs.processes import find_program

KEY = "train.command (resource file)"

_LONG_PATH = re.compile(rb"'''exec' \"?([^\"\n]+?)\"? \"\$0\"")  # how pip writes an interpreter's path that is too long


def python_command(launcher: Sequence[str], program: Path, env: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the command line that runs ``program`` where ``dp`` would run.

    Parameters
    ----------
    launcher
        As in resource.json: ``("dp",)``, ``("srun", "-n", "1", "/opt/dp/bin/dp")``; in place of ``dp`` a Python that
        has DeePMD-kit may stand, which is what a module or a container needs.
    env
        The task's own environment variables, PATH perhaps among them.

    Raises
    ------
    ConfigError
        If ``dp`` is not found, is not the last word, or is not a Python script.
    """
    *before, name = launcher
    if Path(name).name.startswith("python"):
        return (*before, name, str(program))
    found = find_program(name, env)
    if name.startswith("-") or found is None:
        wrong = "is an option" if name.startswith("-") else f"is neither on the PATH nor beside {sys.executable}"
        raise ConfigError(
            Problem(
                f"its last word, {name!r}, {wrong}; `dp` was expected there.\n"
                "  Install DeePMD-kit (in the folder of al: pip install -c constraints.txt -e '.[local]'), or give\n"
                "  the path of `dp`. Where a module or a container brings it, write its Python in place of `dp`: "
                '"command": "python3".',
                key=KEY,
            )
        )
    return (*before, *_read_interpreter(Path(found)), str(program))


def _read_interpreter(script: Path) -> tuple[str, ...]:
    """Return what the first line of a script names."""
    with script.open("rb") as stream:
        first, second = stream.readline(4096), stream.readline(4096)
    words = first[2:].decode(errors="replace").split() if first.startswith(b"#!") else []
    exec_line = _LONG_PATH.match(second)
    if words and Path(words[0]).name == "sh" and exec_line:
        return (exec_line[1].decode(),)
    if words and Path(words[0]).name == "env":
        words = words[1:]
    if not words or not Path(words[0]).name.startswith("python"):
        raise ConfigError(
            Problem(
                f"{script} is not a Python script; expected `dp` as DeePMD-kit installs it.\n"
                "  Give the path of a Python that has DeePMD-kit in place of `dp`.",
                key=KEY,
            )
        )
    return tuple(words)
