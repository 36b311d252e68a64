"""VASP's engine keeps the promises of every engine, with the stand-in for the program."""

from pathlib import Path

import numpy as np
import pytest
import vasp_path  # noqa: F401
from ase import Atoms
from ase.build import bulk
from vasp_case import make_engine, run_standin

from al_driver.engines.testing import check_engine


@pytest.fixture
def alloy() -> Atoms:
    atoms = bulk("Si", a=5.6).repeat((2, 1, 1))
    atoms.symbols = "CuAlAlCu"
    atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + np.random.default_rng(5).normal(scale=0.03, size=(3, 3))), scale_atoms=True
    )
    atoms.rattle(0.08, seed=6)
    return atoms


def run(engine, directory: Path) -> None:
    run_standin(engine, directory)


def test_labels(alloy: Atoms, tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Al", "Cu"])
    label = check_engine(engine, alloy, tmp_path / "x", changed={"kspacing": 0.2}, calculations=(), run=run)
    assert label.atoms.get_chemical_symbols() == ["Cu", "Al", "Al", "Cu"]


@pytest.mark.long
@pytest.mark.parametrize("calculation", ["relax", "aimd"])
def test_relaxations_and_dynamics(calculation, alloy: Atoms, tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Al", "Cu"])
    check_engine(engine, alloy, tmp_path / "x", changed={"charge": 1.0}, calculations=(calculation,), run=run)
