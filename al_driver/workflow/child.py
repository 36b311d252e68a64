"""Programs of ours that a command of the user's waits for: in a folder of their own, and ended with this process.

They print a line for what they have done, leave what they were asked for, or ``diagnosis.json`` with the reason.
"""

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from al_driver.errors import ConfigError, TasksFailed
from al_driver.jobs.processes import child_environment

DIAGNOSIS_FILE = "diagnosis.json"


def run_child(
    command: Sequence[str],
    folder: Path,
    name: str,
    result: str,
    on_line: Callable[[str], object] | None = None,
    *,
    less_memory: str = "",
) -> None:
    """Run a program in a folder, and wait.

    Parameters
    ----------
    name
        What the user calls it: "al kpu".
    result
        The file that it must leave in the folder.
    on_line
        Called with each line that it prints.
    less_memory
        What the user can do about a process that was killed.

    Raises
    ------
    ConfigError
        If it found the input wrong.
    TasksFailed
        If it broke off.
    """
    status = _run(command, folder, on_line)
    if (folder / DIAGNOSIS_FILE).exists():
        raise ConfigError(json.loads((folder / DIAGNOSIS_FILE).read_text(encoding="utf-8"))["detail"])
    if status or not (folder / result).exists():
        said = [line for line in (folder / "errors").read_text(errors="replace").splitlines() if line.strip()]
        killed = f"it was killed by signal {-status}, perhaps for memory{less_memory}" if status < 0 else ""
        raise TasksFailed(f"{name} broke off: {killed or (said[-1][:300] if said else 'it said nothing')}")


def _run(command: Sequence[str], folder: Path, on_line: Callable[[str], object] | None) -> int:
    """Return the exit status; the program does not outlive this process."""
    with (folder / "errors").open("w") as errors, subprocess.Popen(
        list(command), cwd=folder, env=child_environment({}), stdout=subprocess.PIPE, stderr=errors, text=True,
        start_new_session=True,
    ) as child:  # fmt: skip
        try:
            for line in child.stdout or ():
                if on_line:
                    on_line(line)
            return child.wait()
        except BaseException:
            child.kill()
            raise
