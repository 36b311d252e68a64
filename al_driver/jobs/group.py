"""What a job is told: ``group.json`` with its tasks, and the shell that prepares them where modules are asked for."""

import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from al_driver.errors import ConfigError, Problem
from al_driver.files import write_atomic
from al_driver.jobs.attempts import UNPREPARED, Attempt
from al_driver.jobs.processes import child_environment, find_program
from al_driver.jobs.task import Task
from al_driver.layout import GROUP_FILE
from al_driver.schema.resource import Profile


def write_group(folder: Path, attempts: Sequence[Attempt], profile: Profile) -> None:
    """Write what the runner of a job reads. It stands before anything is submitted."""
    tasks = [
        {
            "task": attempt.task.name,
            "attempt": attempt.number,
            "folder": str(attempt.folder.absolute()),
            "argv": list(attempt.task.argv),
            "output": attempt.task.output,
            "timeout": attempt.timeout,
        }
        for attempt in attempts
    ]
    limit = max((attempt.timeout or 0.0 for attempt in attempts), default=0.0) if profile.is_slurm else 0.0
    content = {
        "workers": profile.side_by_side,
        "limit": limit or None,
        "prefix": shell_prefix(profile),
        "env": profile.env,
        "tasks": tasks,
    }
    write_atomic(folder / GROUP_FILE, json.dumps(content, indent=1))


def shell_prefix(profile: Profile) -> list[str]:
    """Return what stands before a task's program: nothing, or a shell that prepares and then becomes the program.

    The shell reads the site's lines only. The program and its arguments are handed to it as words (``"$@"``), so that
    no quote or ``$(...)`` in them means anything. A shell that ends by itself before it becomes the program exits with
    `UNPREPARED`: that is the site's doing, and not the task's.
    """
    if not has_shell(profile):
        return []
    lines = ["set -e", f"trap '[ $? -gt 128 ] || exit {UNPREPARED}' EXIT"]
    if profile.modules:
        lines.append('[ -n "$(type -t module)" ] || . /etc/profile')
        lines.append(f"module load {shlex.join(profile.modules)}")
    lines += [f". {shlex.quote(str(file))}" for file in profile.source]
    return ["bash", "-c", "\n".join([*lines, *profile.setup, 'exec "$@"']), "al"]


def has_shell(profile: Profile) -> bool:
    """Say whether a shell of the task's own prepares its environment."""
    return bool(profile.modules or profile.source or profile.setup)


def check_programs(tasks: Sequence[Task], profile: Profile) -> None:
    """Find every program the tasks name, but for what modules, setup lines or the nodes of a cluster may have.

    Raises
    ------
    ConfigError
        With all that are missing.
    """
    if profile.is_slurm and tasks and find_program("sbatch") is None:
        raise ConfigError(
            "sbatch was not found: SLURM is not here.\n"
            '  Run al where jobs are submitted, or set "executor": "local" in the resource file.'
        )
    names = [] if profile.is_slurm else sorted({task.argv[0] for task in tasks})
    missing = [name for name in names if _is_missing(name, profile)]
    if missing:
        looked = child_environment(profile.env)["PATH"]
        raise ConfigError([Problem(_describe_missing(name, looked)) for name in missing])


def _is_missing(name: str, profile: Profile) -> bool:
    if "/" in name and not Path(name).is_absolute():
        return True
    return find_program(name, profile.env) is None and (Path(name).is_absolute() or not has_shell(profile))


def _describe_missing(name: str, looked: str) -> str:
    if Path(name).is_absolute():
        return f"{name} does not exist or cannot be executed.\n  Correct `command` in the resource file."
    if "/" in name:
        return f"the program {name!r} is a relative path, but each task runs in its own folder.\n  Give its whole path."
    return (
        f"the program {name!r} was not found in {looked}.\n"
        f"  Install it, or name it with its path, or the module that brings it, in the resource file."
    )


def read_log_tail(logs: Iterable[Path]) -> str:
    """Return the last line that a job itself wrote, as ``: line``; nothing if it wrote none."""
    lines = [line for log in logs if log.is_file() for line in log.read_text(errors="replace").splitlines()]
    return f": {lines[-1]}" if lines else ""
