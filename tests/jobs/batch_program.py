"""A driver for tests: tasks are shell scripts that must write ``result``. Run as a program, it can be killed.

``python batch_program.py FOLDER`` reads ``FOLDER/batch.json`` and ends as `al` does: 0, 2, 3 or 130.
"""

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from al_driver.errors import AlError, EngineError
from al_driver.jobs.batch import run_batch
from al_driver.jobs.progress import BatchResult
from al_driver.jobs.task import Task
from al_driver.schema.resource import Profile


def write_nothing(folder: Path) -> None:
    """A task without inputs."""


def verify_result(folder: Path) -> None:
    """Pass when ``result`` is there and says nothing bad."""
    if not (folder / "result").exists():
        raise EngineError("no_output", folder, "there is no result")
    if "unconverged" in (folder / "result").read_text():
        raise EngineError("scf_unconverged", folder, "not converged after 100 steps")


def make_task(folder: Path, script: str, *words: str) -> Task:
    """Make a task of a shell script and its arguments ``$1 ...``."""
    return Task(folder, ("sh", "-c", script, "sh", *words), write_nothing, verify_result)


def run_scripts(folder: Path, scripts: dict[str, str], profile: Profile, **options: Any) -> BatchResult:
    """Run scripts as a batch in a folder."""
    tasks = [make_task(folder / name, script) for name, script in scripts.items()]
    return run_batch(tasks, profile, jobs_dir=folder / "jobs", **options)


def wait_until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait for something that must happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def main(folder: Path) -> int:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    batch = json.loads((folder / "batch.json").read_text())
    try:
        result = run_scripts(
            folder,
            batch["scripts"],
            Profile.model_validate(batch["profile"]),
        )
    except KeyboardInterrupt:
        return 130
    except AlError as error:
        sys.stdout.write(str(error))
        return error.exit_code
    sys.stdout.write(json.dumps({"done": [task.name for task in result.done], "failed": list(result.failed)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
