"""Ctrl-C, SIGTERM and tasks that fail, as the command line tells them; afterwards the same command goes on."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from ase.build import bulk
from small_run import AL, INIT, RESOURCE, call_al, merge

from al_driver.files import read_json

pytestmark = pytest.mark.needs("lmp")
SLEEPS = "#!/bin/sh\nsleep 600 &\nwait\n"
FAILS = "#!/bin/sh\necho 'ERROR: no pair style of that name'\nexit 1\n"
WORKS = '#!/bin/sh\nexec lmp "$@"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder ready for ``al init_bulk init.json resource.json``: three labels, by the program ``reference``."""
    bulk("Si", cubic=True, a=5.431).write(tmp_path / "POSCAR", format="vasp")
    structure = {"path": "POSCAR", "name": "si", "scale": [0.98, 1.0, 1.02]}
    (tmp_path / "init.json").write_text(json.dumps(INIT | {"structures": [structure]}))
    write_resource(tmp_path, {})
    return tmp_path


def write_resource(folder: Path, changes: dict[str, Any]) -> None:
    label = {"label": {"command": str(folder / "reference"), "retries": 0, "max_failed": 0}}
    (folder / "resource.json").write_text(json.dumps(merge(merge(RESOURCE, label), changes)))


def write_reference(folder: Path, script: str) -> None:
    (folder / "reference").write_text(script)
    (folder / "reference").chmod(0o755)


def begun(folder: Path) -> list[int]:
    """Return the pids of the tasks that have begun."""
    lines = [line for file in folder.glob("init/label/jobs/*/journal.jsonl") for line in file.read_text().splitlines()]
    return [event["pid"] for event in map(json.loads, lines) if event["event"] == "begin"]


def processes_below(folder: Path) -> list[str]:
    found = []
    for process in psutil.process_iter(["cwd", "cmdline", "status"]):
        cwd = process.info["cwd"]
        if cwd and Path(cwd).is_relative_to(folder / "init") and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(f"{process.pid}: {process.info['cmdline']}")
    return found


@pytest.mark.parametrize(
    ("number", "executor"), [(signal.SIGINT, "local"), (signal.SIGINT, "inline"), (signal.SIGTERM, "local")]
)
def test_an_interrupted_run_says_so_and_leaves_nothing_running(
    folder: Path, number: signal.Signals, executor: str
) -> None:
    write_reference(folder, SLEEPS)
    write_resource(folder, {"default": {"executor": executor}})
    driver = subprocess.Popen(
        [*AL, "init_bulk", "init.json", "resource.json"], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(begun(folder)) < 2:
        assert driver.poll() is None and time.monotonic() < deadline, driver.communicate()
        time.sleep(0.02)
    assert len(processes_below(folder)) >= 2
    for _ in range(3):  # a terminal and `make` both pass a signal on
        driver.send_signal(number)
        time.sleep(0.03)
    printed, errors = driver.communicate(timeout=60)
    assert "goes on" not in printed  # said once, in the end
    assert (driver.returncode, errors) == (130, "al: interrupted; the same command goes on from here\n")
    assert processes_below(folder) == []
    assert not (folder / "init/al.lock").exists()
    assert read_json(folder / "init/history.json")["state"] == "stopped"

    write_reference(folder, WORKS)
    again = call_al(folder, "init_bulk", "init.json", "resource.json")
    assert again.returncode == 0, again.stderr
    assert read_json(folder / "init/label/step.json")["result"]["labelled"] == 3


def test_tasks_that_fail_are_told_with_their_reason(folder: Path) -> None:
    write_reference(folder, FAILS)
    failed = call_al(folder, "init_bulk", "init.json", "resource.json")
    assert failed.returncode == 3
    assert failed.stderr.startswith("al: ")
    assert "ERROR: no pair style of that name" in failed.stderr
    assert str(folder / "init/label/task.00000") in failed.stderr
    assert len(failed.stderr.splitlines()) <= 3
    shown = call_al(folder, "status", "init")
    assert "failed" in shown.stdout
    assert "no pair style of that name" in " ".join(shown.stdout.split())

    write_reference(folder, WORKS)
    assert call_al(folder, "init_bulk", "init.json", "resource.json").returncode == 0


def test_a_run_does_not_go_into_the_folder_of_an_init_bulk(folder: Path) -> None:
    (folder / "init").mkdir()
    (folder / "init/history.json").write_text('{"kind": "run"}')
    write_reference(folder, WORKS)
    refused = call_al(folder, "init_bulk", "init.json", "resource.json")
    assert refused.returncode == 4
    assert refused.stderr == (
        f"al: {folder / 'init'} belongs to an `al run`, and this is an `al init_bulk`.\n"
        "  Give one of the two another `work_dir` in its param file.\n"
    )
    assert read_json(folder / "init/history.json") == {"kind": "run"}
