"""The command line itself: it answers at once, asks for nothing heavy, and leaves signals that are ignored alone."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ase.build import bulk
from small_run import AL, INIT, RESOURCE, call_al

import al_driver

HEAVY = ("ase", "numpy", "scipy", "torch", "deepmd", "dpdata", "submitit", "pydantic", "jinja2")
LOADED = """
import sys
from al_driver.cli import main
sys.argv = ["al", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
sys.stderr.write(" ".join(sys.modules))
"""
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it now fails
import al_driver
assert al_driver.check("init.json", "resource.json").plan
print(al_driver.init_bulk("init.json", "resource.json"))
assert sys.modules["torch"] is None
"""
SIGNALS = """
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from al_driver.cli import main
sys.argv = ["al", "schema", "resource"]
try:
    main()
finally:
    sys.stderr.write(f"{signal.getsignal(signal.SIGHUP)!r} {signal.getsignal(signal.SIGTERM)!r}")
"""


def run_python(code: str, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_help_answers_at_once(tmp_path: Path) -> None:
    """Little more than what typer itself costs, in CPU time, so that a busy machine does not matter."""

    def seconds(start: Callable[[], "subprocess.CompletedProcess[str]"]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert start().returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert "active learning" in call_al(tmp_path, "--help").stdout
    bare = min(seconds(lambda: run_python("import typer.core, rich.console, rich.table", tmp_path)) for _ in range(3))
    assert min(seconds(lambda: call_al(tmp_path, "--help")) for _ in range(3)) < 4 * bare


def test_the_version_is_told(tmp_path: Path) -> None:
    assert call_al(tmp_path, "--version").stdout == f"al {al_driver.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["status", "work"], ["status", "work", "--json"]])
def test_help_and_status_load_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/history.json").write_text('{"kind": "run"}')
    ended = run_python(LOADED, tmp_path, *arguments)
    assert ended.returncode == 0, ended.stderr
    unwanted = set(HEAVY) - ({"pydantic"} if "status" in arguments else set())
    assert sorted(unwanted & set(ended.stderr.split())) == []


@pytest.mark.needs("lmp")
def test_check_and_init_bulk_need_no_torch(tmp_path: Path) -> None:
    bulk("Si", cubic=True, a=5.431).write(tmp_path / "POSCAR", format="vasp")
    structures = [{"path": "POSCAR", "scale": [0.98, 1.02]}]
    (tmp_path / "init.json").write_text(json.dumps(INIT | {"structures": structures, "valid_fraction": 0}))
    (tmp_path / "resource.json").write_text(json.dumps(RESOURCE))
    ended = run_python(WITHOUT_TORCH, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == str(tmp_path / "init/dataset")


def test_a_signal_that_nohup_ignores_stays_ignored(tmp_path: Path) -> None:
    told = run_python(SIGNALS, tmp_path).stderr
    assert told.startswith("<Handlers.SIG_IGN: 1> <function _raise_on_signals")


def test_what_is_wrong_ends_with_2_and_no_traceback(tmp_path: Path) -> None:
    refused = call_al(tmp_path, "status", "nowhere")
    assert refused.returncode == 2
    assert refused.stderr.startswith("al: nowhere is no work folder of `al run`")
    refused = call_al(tmp_path, "run", "param.json")
    assert refused.returncode == 2
    assert "RESOURCE" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_reader_that_stops_reading_is_no_failure(tmp_path: Path) -> None:
    pipe = subprocess.Popen([*AL, "schema", "run"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert pipe.stdout is not None and pipe.stderr is not None
    pipe.stdout.close()
    pipe.wait(60)
    assert b"Traceback" not in pipe.stderr.read()
