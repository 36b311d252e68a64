"""Fixtures of the small run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ase.build import bulk
from small_run import INIT, RESOURCE, RUN, call_al, merge


@pytest.fixture(scope="session")
def silicon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with POSCAR, init.json and its finished `init_bulk`."""
    folder = tmp_path_factory.mktemp("silicon")
    atoms = bulk("Si", cubic=True, a=5.431)
    atoms.write(folder / "POSCAR", format="vasp")
    (folder / "init.json").write_text(json.dumps(INIT))
    (folder / "resource.json").write_text(json.dumps(RESOURCE))
    done = call_al(folder, "init_bulk", "init.json", "resource.json")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def packed_run(silicon: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short `al run` that has ended, and whose steps are packed; to read, or to copy."""
    folder = tmp_path_factory.mktemp("packed") / "run"
    shutil.copytree(silicon, folder)
    job = {"structures": 0, "ensemble": "nvt", "temperatures": [100], "n_steps": 40, "dump_every": 4}
    steps = {"first": 10, "next": 10, "final": 10}
    short = merge(RUN, {"explore": {"iterations": [[job]]}, "train": {"steps": steps}})
    (folder / "param.json").write_text(json.dumps(short))
    packed = {role: {"pack": True} for role in ("explore", "label")}
    (folder / "resource.json").write_text(json.dumps(merge(RESOURCE, packed)))
    done = call_al(folder, "run", "param.json", "resource.json")
    assert done.returncode == 0, done.stderr
    return folder


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
