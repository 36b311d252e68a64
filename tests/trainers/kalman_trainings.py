"""Tiny models trained by the Kalman filter, several in one process; and their uncertainty, computed the plain way."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from tiny_trainings import labelled, silicon_frames, tiny_input, write_systems

LKF = {"type": "LKF", "kf_blocksize": 1024, "kf_start_pref_e": 1, "kf_limit_pref_e": 1, "kf_start_pref_f": 1,
       "kf_limit_pref_f": 1}  # fmt: skip
SE_ATTEN = {"type": "se_atten", "rcut": 4.0, "rcut_smth": 1.0, "sel": 60, "neuron": [4, 8], "axis_neuron": 2}
MODELS: dict[str, dict[str, Any]] = {
    "silicon": {},
    "alloy": {"blocks": 200, "descriptor": {"type_one_side": False}},  # 4 blocks
    "embedding": {"descriptor": SE_ATTEN | {"attn_layer": 0}},
    "attention": {"descriptor": SE_ATTEN | {"attn_layer": 1, "attn": 8}},
    "adam": {"optimizer": {"type": "Adam"}},
}
_PROGRAM = """
import os, sys
from deepmd.main import main
for folder in sys.argv[1:]:
    os.chdir(folder)
    main(["--pt", "train", "input.json", "--skip-neighbor-stat"])
"""


def alloy(seed: int, cells: tuple[int, int, int] = (2, 2, 1)) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = bulk("Al", "fcc", a=4.05, cubic=True) * cells
    atoms.numbers[rng.permutation(len(atoms))[: len(atoms) // 3]] = 29
    return labelled(atoms, rng)


def train_models(folder: Path) -> dict[str, Path]:
    """Train each of `MODELS` a few steps; return the checkpoints."""
    systems = {"silicon": write_systems(folder / "si", silicon_frames(6, seed=1), ["Si"]),
               "alloy": write_systems(folder / "alcu", [alloy(seed) for seed in range(6)], ["Al", "Cu"])}  # fmt: skip
    for name, keys in MODELS.items():
        kind = "silicon" if name in {"silicon", "adam"} else "alloy"
        config = tiny_input(optimizer=keys.get("optimizer", LKF | {"kf_blocksize": keys.get("blocks", 1024)}))
        config["model"]["type_map"] = ["Si"] if kind == "silicon" else ["Al", "Cu"]
        own = keys.get("descriptor", {})
        config["model"]["descriptor"] = (
            own if "type" in own else config["model"]["descriptor"] | {"sel": [30] * (1 + (kind == "alloy"))} | own
        )
        for section in ("descriptor", "fitting_net"):
            config["model"][section]["seed"] = 5
        data = {"systems": [str(system.resolve()) for system in systems[kind]], "batch_size": 1}
        config["training"] = {"training_data": data, "numb_steps": 4, "seed": 1, "disp_file": "lcurve.out"}
        (folder / name).mkdir()
        (folder / name / "input.json").write_text(json.dumps(config))
    env = os.environ | {"OMP_NUM_THREADS": "1", "DP_INTRA_OP_PARALLELISM_THREADS": "1", "NUM_WORKERS": "0"}
    command = [sys.executable, "-c", _PROGRAM, *(str(folder / name) for name in MODELS)]
    finished = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return {name: (folder / name / "model.ckpt-4.pt").resolve() for name in MODELS}


def make_checkpoint(
    path: Path, descriptor: dict[str, Any], fitting: dict[str, Any], type_map: list[str], block: int = 150, **keys: Any
) -> None:
    """Write a model nobody trained as DeePMD-kit would, with a covariance that is not the identity."""
    import torch
    from deepmd.pt.model.model import get_model
    from deepmd.pt.optimizer.LKF import LKFOptimizer
    from deepmd.pt.train.wrapper import ModelWrapper
    from deepmd.utils.argcheck import normalize

    model = {"type_map": type_map, "descriptor": descriptor | {"seed": 1}, "fitting_net": fitting | {"seed": 2}}
    model |= keys
    config = tiny_input(model=model)
    config["training"]["training_data"]["systems"] = ["nowhere"]
    model = normalize(config)["model"]
    wrapper = ModelWrapper(get_model(json.loads(json.dumps(model))), model_params=model)
    statistics = np.random.default_rng(0)
    for name, buffer in wrapper.named_buffers():
        if name.endswith(("sea.mean", "sea.stddev")):
            buffer += torch.as_tensor(statistics.uniform(0.1, 0.3, (len(buffer), 1, 4)))
    optimizer = LKFOptimizer(wrapper.parameters(), 0.98, 0.9987, block)
    for block in optimizer.state_dict()["state"][0]["P"]:
        factor = torch.as_tensor(statistics.normal(size=block.shape))
        block += factor @ factor.T
    torch.save({"model": wrapper.state_dict(), "optimizer": optimizer.state_dict()}, path)


class Plain:
    """The uncertainty computed the plain way: the whole model again for each component of a force."""

    def __init__(self, checkpoint: Path, **keys: Any) -> None:
        import torch
        from deepmd.infer.deep_pot import DeepPot

        potential = DeepPot(str(checkpoint), **keys)
        self.model = potential.deep_eval.dp.model["Default"].train()
        self.type_map = potential.get_type_map()
        self.weights = list(self.model.parameters())
        self.covariance = torch.load(checkpoint, weights_only=True)["optimizer"]["state"][0]["P"]

    def force(self, atoms: Atoms, atom: int) -> float:
        """Return u of an atom."""
        picks = [lambda output, a=a: output["force"][0, atom, a] for a in range(3)]
        return float(sum(self.variance(atoms, pick) for pick in picks) ** 0.5)

    def energy(self, atoms: Atoms) -> float:
        """Return sqrt(KPU(E)) / N."""
        return float(self.variance(atoms, lambda output: output["energy"].sum()) ** 0.5) / len(atoms)

    def variance(self, atoms: Atoms, pick: Callable[[Any], Any]) -> float:
        """Return KPU of what is picked from the model's output."""
        import torch

        types = torch.tensor([[self.type_map.index(name) for name in atoms.get_chemical_symbols()]])
        box = torch.tensor(atoms.cell.array.reshape(1, 9)) if atoms.pbc.any() else None
        output = self.model(torch.tensor(atoms.positions.reshape(1, -1)), types, box=box)
        target = pick(output) + 0.0 * output["energy"].sum()
        parts = []
        for part, weight in zip(
            torch.autograd.grad(target, self.weights, allow_unused=True), self.weights, strict=True
        ):
            part = torch.zeros_like(weight) if part is None else part
            parts.append((part.T if part.ndim > 1 else part).reshape(-1))
        vector, total = torch.cat(parts), 0.0
        for block in self.covariance:
            here, vector = vector[: len(block)], vector[len(block) :]
            total += float((here @ block @ here).detach())
        assert len(vector) == 0
        return total


def plain_uncertainty(checkpoint: Path, atoms: Atoms, which: list[int]) -> tuple[float, list[float]]:
    """Return sqrt(KPU(E)) / N, and u of some atoms."""
    plain = Plain(checkpoint, no_jit=True)
    return plain.energy(atoms), [plain.force(atoms, atom) for atom in which]
