"""Tiny training data with made-up smooth labels, and a training as the driver runs it."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones

from al_driver.data.dataset import find_systems, write_dataset
from al_driver.trainers.base import Phase, Training
from al_driver.trainers.deepmd import DeepmdTrainer

TINY = {
    "model": {
        "descriptor": {
            "type": "se_e2_a",
            "rcut": 4.0,
            "rcut_smth": 1.0,
            "sel": "auto",
            "neuron": [4, 8],
            "axis_neuron": 2,
        },
        "fitting_net": {"neuron": [8, 8]},
    },
    "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5},
    "loss": {"start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1},
    "training": {"training_data": {"batch_size": 1}, "numb_steps": 20},
}


def tiny_input(**sections: Any) -> dict[str, Any]:
    """Return a small DeePMD input, with whole sections replaced or added."""
    return json.loads(json.dumps(TINY | sections))


def make_trainer(**keys: Any) -> DeepmdTrainer:
    if "preset" not in keys:
        keys = {"input": tiny_input()} | keys
    return DeepmdTrainer.model_validate({"trainer": "deepmd", **keys})


def labelled(atoms: Atoms, rng: np.random.Generator, virial: bool = True) -> Atoms:
    """Return a rattled copy with Lennard-Jones labels."""
    atoms = atoms.copy()
    atoms.positions += rng.normal(scale=0.08, size=atoms.positions.shape)
    calculated = atoms.copy()
    calculated.calc = LennardJones(sigma=2.3, epsilon=0.4, rc=5.0, smooth=True)
    atoms.info["energy"] = float(calculated.get_potential_energy())
    atoms.arrays["forces"] = calculated.get_forces()
    if virial:
        atoms.info["virial"] = -calculated.get_stress(voigt=False) * atoms.get_volume()
    return atoms


def silicon_frames(n_frames: int, seed: int) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    return [labelled(bulk("Si", "diamond", a=5.43, cubic=True), rng) for _ in range(n_frames)]


def write_systems(directory: Path, frames: Sequence[Atoms], type_map: Sequence[str]) -> list[Path]:
    write_dataset(directory, frames, type_map)
    return find_systems(directory)


def train(
    trainer: DeepmdTrainer,
    directory: Path,
    systems: Sequence[Path],
    *,
    seed: int = 3,
    phase: Phase = "first",
    type_map: Sequence[str] = ("Si",),
    valid: Sequence[Path] = (),
    parent: Path | None = None,
    damage: dict[str, Any] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Train one member as the driver does: in an attempt's folder. ``damage`` is merged into the input's training."""
    directory.mkdir(parents=True)
    training = Training(phase, seed, tuple(type_map), tuple(systems), tuple(valid), parent)
    trainer.write_inputs(training, directory)
    if damage:
        config = json.loads((directory / "input.json").read_text())
        config["training"]["training_data"] |= damage
        (directory / "input.json").write_text(json.dumps(config))
    finished = subprocess.run(
        trainer.command(("dp",)), cwd=directory, env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    (directory / "output").write_text(finished.stdout + finished.stderr)
    return finished
