"""``al status``: where a run stands, read from its folder alone, while it runs or after."""

import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from al_driver.files import read_json
from al_driver.jobs.processes import is_running
from al_driver.layout import AUDIT_FILE, INIT_STAGES, SCREEN_STAGES, SCREEN_STEPS, STEPS, WorkFolder
from al_driver.workflow.counts import count_work
from al_driver.workflow.history import History, find_work_folder
from al_driver.workflow.lock import STALE_SECONDS, read_holder
from al_driver.workflow.recovered import find_retries
from al_driver.workflow.step import Record
from al_driver.workflow.versions import find_version_changes

NO_TASKS = {"total": 0, "done": 0, "running": 0, "failed": 0}


def status(directory: Path | str = ".") -> dict[str, Any]:
    """Return the state of a work folder; the keys are those of ``al status --json``.

    Raises
    ------
    ConfigError
        If the folder is not one of `al run`, `al init_bulk` or `al screen`.
    """
    folder = find_work_folder(Path(directory), "al status")
    history = History(folder.history).read()
    running = is_held(folder.lock)
    state = history["state"]
    if running:
        state = "running"
    elif state == "running":
        state = "stopped"  # the driver was killed before it could say so
    steps = SCREEN_STEPS if history["kind"] == "screen" else STEPS
    iterations = [_iteration(folder, index, steps) for index in folder.iterations()]
    progress = read_json(folder.progress) if folder.progress.exists() else {}
    is_current = bool(progress) and progress["step"] == history.get("step")
    return {
        "folder": str(folder.root),
        "kind": history["kind"],
        "state": state,
        "iteration": max(folder.iterations(), default=0),
        "step": history.get("step", ""),
        "tasks": {key: progress[key] for key in NO_TASKS} if is_current else dict(NO_TASKS),
        "waits": progress.get("waits", "") if running and is_current else "",
        "iterations": iterations,
        "stages": [
            {"name": name, **result}
            for name in (*INIT_STAGES, *SCREEN_STAGES)
            if (result := _result(folder.root / name))
        ],
        "final": _result(folder.final),
        "files": count_work(folder.root),
        "warnings": find_version_changes(folder),
        "error": history["error"],
        "verdict": history["verdict"] or {"state": "open", "reason": "the run has not ended"},
    }


def is_held(lock: Path) -> bool:
    """Say whether a living driver holds a folder; a lock of another host counts while its file is fresh."""
    holder = read_holder(lock)
    if holder is None:
        return False
    if holder.host == socket.gethostname():
        return is_running(holder.pid, holder.started)
    try:
        return time.time() - lock.stat().st_mtime < STALE_SECONDS
    except FileNotFoundError:  # its driver ended just now
        return False


def _iteration(folder: WorkFolder, index: int, steps: Sequence[str]) -> dict[str, Any]:
    """Return what is known of one iteration; None stands for a step that is not finished."""
    results = {name: _result(folder.step(index, name)) for name in steps}
    audit = folder.step(index, "label") / AUDIT_FILE
    return results | {"iteration": index, "audit": read_json(audit) if audit.exists() else None}


def _result(folder: Path) -> dict[str, Any] | None:
    """Return what came of a step; of labels also how many a retry recovered, where there was one."""
    record = Record.read(folder)
    if record is None:
        return None
    retries = find_retries(folder) if folder.name == "label" else []
    return record.result | ({"recovered": sum(retry.n_labelled for retry in retries)} if retries else {})
