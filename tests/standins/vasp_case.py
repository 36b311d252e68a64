"""What a test needs to run the stand-in of VASP: made-up potentials, an INCAR, an engine, and how to run it."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from al_driver.engines.base import Engine
from al_driver.engines.vasp import Vasp

STANDIN = Path(__file__).with_name("vasp.py")
COMMAND = f"{sys.executable} {STANDIN}"
INCAR = """\
SYSTEM = test   ! of nothing
ENCUT = 400 ; EDIFF = 1E-8
ISMEAR = 0 ; SIGMA = 0.05   # gaussian
NELM = 120
ISYM = 0
LREAL = .FALSE.
"""
ZVAL = {"Si": 4.0, "Cu": 11.0, "Al": 3.0, "Fe": 8.0, "O": 6.0, "Ni": 10.0}


def write_potcar(
    path: Path,
    symbol: str,
    title: str | None = None,
    lexch: str = "PE",
    enmax: float = 250.0,
    vrhfin: str | None = None,
) -> Path:
    """Write a potential that holds nothing but what its head says."""
    name = title or f"PAW_PBE {symbol} 01Jan2001"
    zval = ZVAL.get(symbol, 4.0)
    path.write_text(
        f"  {name}\n   {zval:.13f}\n parameters from PSCTR are:\n   VRHFIN ={vrhfin or symbol}: made up\n"
        f"   LEXCH  = {lexch}\n   TITEL  = {name}\n   POMASS =   28.085; ZVAL   = {zval:8.3f}    mass and valenz\n"
        f"   ENMAX  = {enmax:8.3f}; ENMIN  = {0.75 * enmax:8.3f} eV\n"
        " END of PSCTR-controll parameters\n End of Dataset\n"
    )
    return path


def make_keys(folder: Path, elements: Sequence[str], incar: str = INCAR, **changes: Any) -> dict[str, Any]:
    """Write an INCAR and potentials; return the engine's keys."""
    (folder / "INCAR.user").write_text(incar)
    potcar = {symbol: str(write_potcar(folder / f"POTCAR.{symbol}", symbol)) for symbol in elements}
    keys = {"engine": "vasp", "incar": str(folder / "INCAR.user"), "potcar": potcar, "kspacing": 0.5} | changes
    return {key: value for key, value in keys.items() if value is not None}


def make_engine(folder: Path, elements: Sequence[str], incar: str = INCAR, **changes: Any) -> Vasp:
    """Return an engine with an INCAR and potentials of its own."""
    return Vasp.model_validate(make_keys(folder, elements, incar, **changes))


def run_standin(engine: Engine, directory: Path, fault: str = "", timeout: float | None = None) -> int:
    """Run the stand-in in a folder; return its exit code."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "STANDIN_VASP": fault}
    with (directory / engine.output_name).open("wb") as output:
        return subprocess.run(
            [sys.executable, str(STANDIN)],
            cwd=directory,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            timeout=timeout,
            check=False,
        ).returncode
