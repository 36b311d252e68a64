"""Fixtures of the small run. What takes long is made once for all workers; to read, or to copy."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ase.build import bulk
from small_run import INIT, RESOURCE, RUN, call_al, merge

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it now fails: the driver must never need it
import al_driver
al_driver.run("param.json", "resource.json")
"""


def make_once(factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], None]) -> Path:
    """Return a folder that the first worker to ask for it makes; one that could not be filled is made anew."""
    root = factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder, done = root / name, root / f"{name}.done"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            fill(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def silicon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with POSCAR, init.json and its finished `init_bulk`."""
    return make_once(tmp_path_factory, "silicon", _fill_silicon)


def _fill_silicon(folder: Path) -> None:
    folder.mkdir()
    atoms = bulk("Si", cubic=True, a=5.431)
    atoms.write(folder / "POSCAR", format="vasp")
    (folder / "init.json").write_text(json.dumps(INIT))
    (folder / "resource.json").write_text(json.dumps(RESOURCE))
    done = call_al(folder, "init_bulk", "init.json", "resource.json")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def finished_run(silicon: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that has ended; its driver could not have imported torch."""
    return make_once(tmp_path_factory, "finished", lambda folder: _fill_finished(silicon, folder))


def _fill_finished(silicon: Path, folder: Path) -> None:
    shutil.copytree(silicon, folder)
    param = merge(RUN, {"query": {"choose": "diverse", "shortlist": 2}})
    (folder / "param.json").write_text(json.dumps(param))
    command = [sys.executable, "-c", WITHOUT_TORCH]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.fixture(scope="session")
def packed_run(silicon: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short `al run` that has ended, and whose steps are packed."""
    return make_once(tmp_path_factory, "packed", lambda folder: _fill_packed(silicon, folder))


def _fill_packed(silicon: Path, folder: Path) -> None:
    shutil.copytree(silicon, folder)
    job = {"structures": 0, "ensemble": "nvt", "temperatures": [100], "n_steps": 40, "dump_every": 4}
    steps = {"first": 10, "next": 10, "final": 10}
    short = merge(RUN, {"explore": {"iterations": [[job]]}, "train": {"steps": steps}})
    (folder / "param.json").write_text(json.dumps(short))
    packed = {role: {"pack": True} for role in ("explore", "label")}
    (folder / "resource.json").write_text(json.dumps(merge(RESOURCE, packed)))
    done = call_al(folder, "run", "param.json", "resource.json")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def make_run(silicon: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a folder ready for ``al run param.json resource.json``."""

    def make(name: str = "run", resource: dict[str, Any] | None = None, **changes: Any) -> Path:
        folder = tmp_path / name
        shutil.copytree(silicon, folder)
        (folder / "param.json").write_text(json.dumps(merge(RUN, changes)))
        (folder / "resource.json").write_text(json.dumps(merge(RESOURCE, resource or {})))
        return folder

    return make
