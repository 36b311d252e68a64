"""What the conformance test runs an engine with: its program, in folders that move, and files that are cut in two."""

import shlex
import shutil
import subprocess
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

import numpy as np

from al_driver.engines.base import Engine
from al_driver.errors import EngineError
from al_driver.jobs.processes import child_environment, find_program

Run = Callable[[Engine, Path], None]
"""Runs an engine's program in a folder that holds its inputs, and leaves stdout and stderr in ``output_name``."""
_MAX_FILES = 4
_Result = TypeVar("_Result")


def run_engine(engine: Engine, directory: Path) -> None:
    """Run the engine's default command, found on the PATH or beside this Python, on one thread."""
    argv = engine.command(tuple(shlex.split(engine.default_command)))
    program = find_program(argv[0])
    require(program is not None, f"program {argv[0]!r} is not installed")
    with (directory / engine.output_name).open("wb") as output:
        env = child_environment({"OMP_NUM_THREADS": "1"})
        subprocess.run(
            (str(program), *argv[1:]), cwd=directory, stdout=output, stderr=subprocess.STDOUT, env=env, check=False
        )


def calculate(
    engine: Engine, folder: Path, run: Run, write: Callable[[Path], None], read: Callable[[Path], _Result]
) -> tuple[_Result, frozenset[Path]]:
    """Run one calculation, and return what was read of it with the files that the program made.

    Its folder moves twice on the way, as an attempt's does when it is published.
    """
    written, moved = folder.with_name(f"{folder.name}.written"), folder.with_name(f"{folder.name}.moved")
    written.mkdir(parents=True)
    write(written)
    inputs = {path.relative_to(written) for path in files_in(written)}
    require(not engine.is_complete(written), "is_complete() is true before the program ran")
    try:
        read(written)
    except EngineError as error:
        require(error.where == written, f"the error names {error.where}, not the folder it is about")
    else:
        raise AssertionError("a result is read before the program ran")
    written.rename(moved)
    run(engine, moved)
    for path in engine.find_scratch(moved):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    moved.rename(folder)
    files = files_in(folder)
    require(len(files) <= _MAX_FILES, f"{len(files)} files are left: {[path.name for path in files]}")
    result = read(folder)
    require(engine.is_complete(folder), "is_complete() is false after the program ran to its end")
    return result, frozenset(path for path in files if path.relative_to(folder) not in inputs)


def check_halves(
    engine: Engine,
    made: Collection[Path],
    folder: Path,
    read: Callable[[Path], _Result],
    is_same: Callable[[_Result], bool],
) -> None:
    """Prove that half a result is never taken for a whole one: each file the program made is cut in two, in turn."""
    require(bool(made), "the program wrote no file")
    for path in sorted(made):
        broken = folder.with_name("broken")
        shutil.copytree(folder, broken)
        data = path.read_bytes()
        (broken / path.relative_to(folder)).write_bytes(data[: len(data) // 2])
        try:
            is_wrong = not is_same(read(broken))
        except EngineError:
            is_wrong = False
        except Exception as error:
            raise AssertionError(f"half of {path.name} raises {error!r}, not EngineError") from error
        require(not is_wrong or not engine.is_complete(broken), f"half of {path.name} is read as a label")
        shutil.rmtree(broken)


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def require(condition: bool | np.bool_, message: str) -> None:
    if not condition:
        raise AssertionError(message)
