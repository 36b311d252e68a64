"""The program that runs ASE calculators: its thermostat is canonical, its integrator keeps the energy."""

import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, SCFError, all_changes
from ase.calculators.emt import EMT
from ase.units import fs, kB

from al_driver.engines.base import Dynamics
from al_driver.engines.motion import draw_velocities
from al_driver.tasks.ase_calculation import Results, explain, find_callable, find_version, run_dynamics


class Free(Calculator):
    """No forces: the thermostat alone decides the velocities."""

    implemented_properties = ("energy", "forces")  # type: ignore[assignment]

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(self.atoms), 3))}


class Kept(Results):
    """Keeps frames in place of writing them."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"))
        self.frames: list[Atoms] = []
        self.energies: list[float] = []

    def write_frame(self, atoms: Atoms) -> None:
        self.frames.append(Atoms(atoms.numbers, positions=atoms.positions))
        self.energies.append(atoms.get_potential_energy())


def move(atoms: Atoms, kept: Kept, dynamics: Dynamics) -> None:
    run_dynamics(atoms, kept, **asdict(dynamics), velocities=draw_velocities(atoms, dynamics).tolist())


def kinetic_energies(kept: Kept, timestep: float) -> np.ndarray:
    """Return the kinetic energy at half steps, eV, from how far the atoms went."""
    positions = np.array([frame.positions for frame in kept.frames])
    velocities = np.diff(positions, axis=0) / (1000 * fs * timestep)
    masses = kept.frames[0].get_masses()[:, np.newaxis]
    return (masses * velocities**2).sum(axis=(1, 2)) / 2


def test_the_thermostat_is_canonical_and_has_its_time_constant() -> None:
    """Three atoms: with 9 in place of 6 degrees of freedom the mean would be half as large again."""
    atoms, kept = Atoms("LiNiO", positions=np.eye(3), calculator=Free()), Kept()
    move(atoms, kept, Dynamics(temperature=500.0, n_steps=15000, timestep=0.002, every=1, tau_t=0.01, seed=1))
    energies = kinetic_energies(kept, 0.002) / (kB * 500.0)
    assert energies.mean() == pytest.approx(3.0, abs=0.1)  # 6 / 2
    assert energies.var() == pytest.approx(3.0, abs=0.4)
    before, after = energies[:-5] - 3.0, energies[5:] - 3.0  # 5 steps are tau_t
    assert (before * after).mean() / energies.var() == pytest.approx(np.exp(-1), abs=0.08)
    centre = np.array([frame.get_center_of_mass() for frame in kept.frames])
    assert np.abs(centre - centre[0]).max() < 1e-9


def test_without_a_thermostat_the_energy_is_kept() -> None:
    atoms, kept = bulk("Cu", cubic=True) * (2, 2, 2), Kept()
    atoms.calc = EMT()
    move(atoms, kept, Dynamics(temperature=600.0, n_steps=100, timestep=0.002, every=1, tau_t=1e9, seed=3))
    kinetic = kinetic_energies(kept, 0.002)
    potential = np.array(kept.energies)
    total = kinetic[1:] / 2 + kinetic[:-1] / 2 + potential[1:-1]
    assert np.ptp(potential) > 0.5
    assert np.ptp(total) < 0.02


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SCFError("stopped"), "scf_unconverged"),
        (RuntimeError("SCF not converged in 250 cycles"), "scf_unconverged"),
        (type("KohnShamConvergenceError", (RuntimeError,), {})("Did not reach it!"), "scf_unconverged"),
        (RuntimeError("Failed to converge"), "scf_unconverged"),
        (RuntimeError("convergence NOT achieved after 100 iterations"), "scf_unconverged"),
        (RuntimeError("the electronic density has not been converged"), "scf_unconverged"),
        (ValueError("no parameters for Uuo"), "engine_error"),
        (RuntimeError("converged, but the disk is full"), "engine_error"),
        (subprocess.CalledProcessError(2, "pw.x", stderr="SCF did not converge"), "scf_unconverged"),
    ],
)
def test_the_words_of_an_error_decide_its_reason(error: Exception, reason: str) -> None:
    assert explain(error).reason == reason


def test_a_long_error_is_cut() -> None:
    assert len(explain(ValueError("x" * 1000)).detail) == 300


def test_a_method_of_a_class_of_a_module_is_found() -> None:
    spec = {"module": None, "calculator": "ase.calculators.tersoff.Tersoff.from_lammps"}
    assert find_callable(spec).__name__ == "from_lammps"
    assert find_version(spec)["program"] == "ase"
