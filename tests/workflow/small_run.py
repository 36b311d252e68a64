"""A small, whole run on real programs: 8 silicon atoms, two members, two iterations, Stillinger–Weber as the truth."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

AL = [sys.executable, "-m", "al_driver"]
SW = {"engine": "lammps", "pair_style": "sw", "pair_coeff": ["* * Si.sw Si"]}
INIT: dict[str, Any] = {
    "seed": 7,
    "work_dir": "init",
    "type_map": ["Si"],
    "label": SW,
    "structures": [
        {"path": "POSCAR", "name": "si", "scale": [0.98, 1.02], "perturb": {"copies": 3, "temperature": 400}}
    ],
    "valid_fraction": 0.34,
}
RUN: dict[str, Any] = {
    "seed": 7,
    "work_dir": "work",
    "type_map": ["Si"],
    "init_data": [{"init_bulk": "init.json"}],
    "valid_data": [{"init_bulk": "init.json"}],
    "train": {
        "trainer": "deepmd",
        "input": {
            "model": {
                "descriptor": {
                    "type": "se_e2_a", "rcut": 4.0, "rcut_smth": 2.0, "sel": [40], "neuron": [4, 8], "axis_neuron": 2,
                },
                "fitting_net": {"neuron": [8, 8]},
            },
            "learning_rate": {"type": "exp", "start_lr": 0.003, "stop_lr": 0.001, "decay_steps": 10},
            "loss": {"start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 100, "limit_pref_f": 10},
            "training": {"training_data": {"batch_size": 2}, "numb_steps": 30, "disp_freq": 10},
        },
        "models": 2,
    },
    "explore": {
        "explorer": "lammps",
        "structures": [{"path": "POSCAR", "name": "si"}],
        "iterations": [
            [{"structures": 0, "ensemble": "nvt", "temperatures": [100], "n_steps": 40, "dump_every": 4}],
            [{"structures": "si", "ensemble": "nvt", "temperatures": [150], "n_steps": 40, "dump_every": 4}],
        ],
    },
    "query": {"lower": 1e-4, "upper": 5.0, "max_select": 4},
    "label": SW,
}  # fmt: skip
RESOURCE: dict[str, Any] = {"default": {"workers": 2, "env": {"OMP_NUM_THREADS": "1"}}}


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a copy in which nested keys are replaced."""
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = merge(inner, value) if isinstance(value, dict) and isinstance(inner, dict) else value
    return merged


def call_al(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a folder."""
    return subprocess.run(
        [*AL, *arguments], cwd=folder, text=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def read_datasets(root: Path) -> dict[str, bytes | list[Any]]:
    """Return everything that must be the same between two runs of one input."""
    found: dict[str, Any] = {}
    for path in sorted(root.glob("iter.[0-9][0-9][0-9][0-9]/label/dataset/**/*")):
        if path.is_file():
            name = str(path.relative_to(root))
            found[name] = np.load(path).tolist() if path.suffix == ".npy" else path.read_bytes()
    return found
