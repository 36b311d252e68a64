"""How tests kill a driver, with its tasks or without, and count what was run."""

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
from small_run import AL


def start_driver(folder: Path, verb: str = "run", resource: str = "resource.json") -> "subprocess.Popen[bytes]":
    log = (folder / "driver.out").open("ab")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*AL, verb, "param.json", resource], cwd=folder, stdout=log, stderr=log, env=environment)


def end_driver(driver: "subprocess.Popen[bytes]", folder: Path, *, tasks_too: bool) -> None:
    driver.kill()
    driver.wait()
    for process in psutil.process_iter(["cwd"]) if tasks_too else ():
        cwd = process.info["cwd"]
        if cwd and Path(cwd).is_relative_to(folder / "work") and process.pid != os.getpid():
            process.kill()


def wait_until(done: Callable[[], bool], driver: "subprocess.Popen[bytes]", limit: float = 240) -> bool:
    """Return whether it came true before the driver ended."""
    deadline = time.monotonic() + limit
    while not done():
        if driver.poll() is not None:
            return False
        assert time.monotonic() < deadline, "the driver hangs"
        time.sleep(0.002)
    return True


def count_ends(work: Path) -> Counter[str]:
    """Count, over all journals, how often each task came to a good end by itself."""
    ends: Counter[str] = Counter()
    for journal in work.glob("**/jobs/*/journal.jsonl"):
        step = journal.parents[2].relative_to(work)
        for line in journal.read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "end" and event.get("code") == 0 and not event.get("cancelled"):
                ends[f"{step}/{event['task']}"] += 1
    return ends
