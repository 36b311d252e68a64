"""What a test needs to run PWmat's stand-in: potentials that are made up, an input, an engine, a structure."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.build import bulk

from al_driver.engines.base import Engine
from al_driver.engines.pwmat import Pwmat

STANDIN = Path(__file__).parents[1] / "standins" / "pwmat.py"
MOVEMENT = Path(__file__).parents[1] / "data" / "files" / "MOVEMENT_1.gz"
ETOT = "4 1  # nodes\nECUT = 50\nXCFUNCTIONAL = PBE ! the functional\njob = md\nMD_DETAIL = 1 10 1 300 300\n"
DETAIL = "1, 1, 0, 500, 1e-5, 1, 1"


def make_upf(folder: Path, symbol: str) -> Path:
    path = folder / f"{symbol}.SG15.PBE.UPF"
    path.write_text(f'<UPF version="2.0.1">\n<PP_HEADER element="{symbol}"/>\n</UPF>\n')
    return path


def make_engine(folder: Path, text: str = ETOT, **keys: Any) -> Pwmat:
    folder.mkdir(exist_ok=True)
    (folder / "etot.input").write_text(text)
    potentials = {symbol: make_upf(folder, symbol) for symbol in ("C", "Si")}
    defaults = {"input": folder / "etot.input", "pseudopotentials": potentials, "kspacing": 0.5}
    return Pwmat.model_validate({"engine": "pwmat", **defaults, **keys})


def make_dftb(folder: Path, **keys: Any) -> Pwmat:
    folder.mkdir(exist_ok=True)
    (folder / "skf").mkdir()
    for pair in ("Si-Si", "Si-C", "C-Si", "C-C"):
        (folder / "skf" / f"{pair}.skf").write_text("0.02 500\n")
    dftb = {"slater_koster": folder / "skf", "detail": DETAIL}
    return make_engine(folder, **{"pseudopotentials": {}, "dftb": dftb, **keys})


def run_standin(engine: Engine, directory: Path, env: Mapping[str, str] = {}) -> None:
    with (directory / engine.output_name).open("wb") as output:
        variables = os.environ | {"OMP_NUM_THREADS": "1"} | env
        subprocess.run(
            [sys.executable, STANDIN], cwd=directory, stdout=output, stderr=output, env=variables, check=False
        )


def make_carbide() -> Atoms:
    """Return silicon carbide in a triclinic cell, without symmetry; its elements are not put together."""
    atoms = Atoms("SiC", [(0, 0, 0), (1.09, 1.09, 1.09)], cell=bulk("Si", a=4.36).cell, pbc=True) * (2, 1, 1)
    atoms.set_cell(atoms.cell.array @ [[1.02, 0.01, 0.02], [0, 0.99, 0.03], [0, 0.01, 1.01]], scale_atoms=True)
    atoms.rattle(0.06, seed=3)
    return atoms
