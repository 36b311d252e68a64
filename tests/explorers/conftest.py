"""Two tiny DeePMD models, trained for two steps: bounded forces, some spread, no physics. Kept in pytest's cache."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk

from al_driver.data.dataset import write_dataset
from al_driver.files import hash_json
from al_driver.jobs.processes import child_environment, find_program

TYPE_MAP = ["Ge", "Si"]
ONE_THREAD = {f"{name}_THREADS": "1" for name in ("OMP_NUM", "DP_INTRA_OP_PARALLELISM", "DP_INTER_OP_PARALLELISM")}


def training_input(seed: int) -> dict[str, Any]:
    descriptor = {"type": "se_e2_a", "rcut": 4.0, "rcut_smth": 2.0, "sel": [4, 20], "neuron": [4, 8], "axis_neuron": 2}
    return {
        "model": {
            "type_map": TYPE_MAP,
            "descriptor": descriptor | {"seed": seed},
            "fitting_net": {"neuron": [8, 8], "seed": seed + 10},
        },
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-6, "decay_steps": 10},
        "loss": {"type": "ener"},
        "training": {
            "training_data": {"systems": ["../data/Si8"], "batch_size": 1},
            "numb_steps": 2, "seed": seed, "disp_freq": 1, "save_freq": 2,
        },
    }  # fmt: skip


def train(folder: Path) -> None:
    frames = []
    for seed in range(2):
        atoms = bulk("Si", cubic=True)
        atoms.rattle(0.05, seed=seed)
        atoms.info["energy"] = -34.0
        atoms.info["virial"] = np.zeros((3, 3))
        atoms.arrays["forces"] = np.random.default_rng(seed).normal(size=(8, 3))
        frames.append(atoms)
    write_dataset(folder / "data", frames, TYPE_MAP)
    dp = find_program("dp")
    assert dp is not None
    running = []
    for seed in range(2):
        member = folder / f"{seed}"
        member.mkdir()
        (member / "input.json").write_text(json.dumps(training_input(seed)))
        steps = "--pt train input.json", f"--pt freeze -o ../model.{seed}.pth"
        command = f"{dp} {steps[0]} > log 2>&1 && {dp} {steps[1]} >> log 2>&1"
        running.append(subprocess.Popen(["sh", "-c", command], cwd=member, env=child_environment(ONE_THREAD)))
    assert [process.wait() for process in running] == [0, 0], (folder / "0/log").read_text()[-2000:]
    for seed in range(2):
        shutil.rmtree(folder / f"{seed}")


@pytest.fixture(scope="session")
def models(request: pytest.FixtureRequest) -> list[str]:
    """Return the two models as absolute names."""
    cache = request.config.cache
    assert cache is not None
    wanted = cache.mkdir("al_models") / hash_json([training_input(0), "deepmd-kit 3.2.0"])[:16]
    if not wanted.is_dir():
        temporary = Path(tempfile.mkdtemp(dir=wanted.parent))
        train(temporary)
        try:
            temporary.rename(wanted)
        except OSError:  # another worker was quicker
            shutil.rmtree(temporary)
    return [str(wanted / f"model.{seed}.pth") for seed in range(2)]


@pytest.fixture(scope="session")
def lmp() -> str:
    program = find_program("lmp")
    assert program is not None
    os.environ.update(ONE_THREAD)
    return program
