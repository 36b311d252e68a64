"""Frames of reference dynamics, scored by models that have not seen them: what `coverage.py` and `ranking.py` ask.

Cells of 16 atoms, silicon (Stillinger–Weber) or silicon carbide (Erhart–Albe), models of the preset `small`. They learn
from dynamics up to 600 K and are asked of dynamics of the crystal at 300, 600 and 1200 K, and of what was molten at
2500 K, of ten trajectories each (a crystal as small as this keeps its vibrations for long: one trajectory is no sample
of its temperature), with frames 0.2 ps apart. Cells as small as these have to be far hotter to melt: silicon does
at 5000 K, and is a liquid at 2500 K then; silicon carbide at 10,000 K, and is a glass then. Scored can be

- `kpu`: one model trained with the Kalman filter and its virtual committee, as the driver does;
- `exact`: that model's exact uncertainty, as `al kpu` calculates it;
- `committee`: the force deviation of four members trained with Adam;
- `force`: the force that the first member gives; `distance`: how far its descriptor of an atom lies from the nearest
  one, of that element, in the training data (each component divided by its spread there).

A score and an error (of the model that drives) are the largest of a frame's atoms. eV/Å. It imports DeePMD-kit.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DP_INTRA_OP_PARALLELISM_THREADS", "1")
os.environ.setdefault("DP_INTER_OP_PARALLELISM_THREADS", "1")

import numpy as np
from ase import Atoms
from ase.build import bulk
from numpy.typing import NDArray
from scipy.spatial import KDTree

import al_driver
from al_driver.data.dataset import find_systems, read_system
from al_driver.files import write_json
from al_driver.trainers.base import Training
from al_driver.trainers.deepmd import DeepmdTrainer

Floats = NDArray[np.float64]
NAMES = ("kpu", "exact", "committee", "force", "distance")
TEMPERATURES = (300, 600, 1200, 2500)
TRAINED_AT = (300, 600)
N_TRAIN, N_MEMBERS, KALMAN_STEPS, ADAM_STEPS = 30, 4, 100, 1000
EVERY = 200  # steps of 1 fs between two frames
MELT, MELTING = 2500, 15  # K, at which a structure that so many frames molten was is asked about
TRAJECTORIES, SKIPPED = 10, 3  # of each temperature, and frames left out at the beginning of each
MELTS_AT = {"Si": 5000, "SiC": 10_000}
SYSTEMS: dict[str, tuple[Atoms, list[str], dict[str, Any]]] = {
    "Si": (
        bulk("Si", cubic=True, a=5.43), ["Si"],
        {"engine": "lammps", "pair_style": "sw", "pair_coeff": ["* * Si.sw Si"]},
    ),
    "SiC": (
        bulk("SiC", "zincblende", cubic=True, a=4.36), ["Si", "C"],
        {"engine": "lammps", "pair_style": "tersoff", "pair_coeff": ["* * SiC_Erhart-Albe.tersoff Si C"]},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """Frames of one temperature: the errors of the model that drives, and scores, each of shape (n,)."""

    errors: dict[str, Floats]
    """Of the model with the filter (``kpu``) and of the first member (``committee``)."""
    scores: dict[str, Floats]

    def error_of(self, name: str) -> Floats:
        return self.errors["kpu" if name in {"kpu", "exact"} else "committee"]


def make_frames(folder: Path, system: str, purpose: str, temperature: int, n_frames: int, seed: int) -> list[Atoms]:
    """Return labelled frames, trajectory by trajectory: of one to train on, else of `TRAJECTORIES`."""
    n = 1 if purpose == "train" else TRAJECTORIES
    starts = [SYSTEMS[system][0].repeat((2, 1, 1))] * n
    work = f"{system}.{purpose}.{temperature}"
    if temperature == MELT:
        work = f"{system}.{purpose}.melt"
        hot = _run_dynamics(folder, system, f"{work}.start", starts, MELTS_AT[system], MELTING, seed)
        starts = [frames[-1] for frames in hot]
    each = n_frames // n
    found = _run_dynamics(folder, system, work, starts, temperature, each + max(SKIPPED, each // 10 + 1), seed)
    return [frame for frames in found for frame in frames[-each:]]


def _run_dynamics(
    folder: Path, system: str, work: str, starts: list[Atoms], temperature: int, n_frames: int, seed: int
) -> list[list[Atoms]]:
    """Return the frames of trajectories of the reference, EVERY steps apart; run them unless they are there."""
    if not (folder / work / "dataset").exists():
        for number, start in enumerate(starts):
            start.write(folder / f"{work}.{number}.vasp")
        entry = {
            "perturb": {"copies": 1, "cell_fraction": 0, "temperature": min(temperature, 1200)},
            "aimd": {"temperature": temperature, "n_steps": n_frames * EVERY, "every": EVERY},
        }
        entries = [{"path": f"{work}.{n}.vasp", "name": f"{work}.{n}"} | entry for n in range(len(starts))]
        param = {"seed": seed, "work_dir": work, "type_map": SYSTEMS[system][1], "label": SYSTEMS[system][2]}
        write_json(folder / f"{work}.json", param | {"structures": entries, "valid_fraction": 0})
        write_json(folder / "resource.json", {"default": {"executor": "inline"}})
        al_driver.init_bulk(folder / f"{work}.json", folder / "resource.json")
    frames = [frame for system in find_systems(folder / work / "dataset") for frame in read_system(system)]
    each = len(frames) // len(starts)
    assert len(frames) == each * len(starts) and each >= n_frames, f"{work} holds {len(frames)} frames"
    return [frames[each * n :][:each] for n in range(len(starts))]


def train(folder: Path, trainer: DeepmdTrainer, system: str, seed: int) -> Path:
    """Train a model on dynamics up to 600 K unless it is there; return its folder."""
    kind = f"kpu{trainer.virtual_models}" if trainer.committee_size() != trainer.models else "adam"
    target = folder / f"{system}.{kind}.{seed}"
    if not (target / "evaluation.json").exists():
        target.mkdir(exist_ok=True)
        systems = [path for t in TRAINED_AT for path in find_systems(folder / f"{system}.train.{t}/dataset")]
        training = Training("first", seed, tuple(SYSTEMS[system][1]), tuple(systems), (), None)
        trainer.write_inputs(training, target)
        start = time.monotonic()
        with (target / "output").open("w") as output:
            subprocess.run(trainer.command(("dp",)), cwd=target, stdout=output, stderr=output, check=True)
        write_json(target / "seconds.json", time.monotonic() - start)
    return target


def kalman_trainer(virtual_models: int = 3) -> DeepmdTrainer:
    keys = {"trainer": "deepmd", "preset": "small", "steps": {"first": KALMAN_STEPS}, "virtual_models": virtual_models}
    return DeepmdTrainer.model_validate(keys).with_covariance()


def adam_trainer() -> DeepmdTrainer:
    return DeepmdTrainer.model_validate({"trainer": "deepmd", "preset": "small", "steps": {"first": ADAM_STEPS}})


def evaluate(model: Path, frames: Sequence[Atoms]) -> Floats:
    """Return forces on frames of one composition, shape (n_frames, n_atoms, 3)."""
    potential, *given = _given(model, frames)
    return np.asarray(potential.eval(*given)[1], dtype=float).reshape(len(frames), len(frames[0]), -1)


def describe(model: Path, frames: Sequence[Atoms]) -> Floats:
    """Return descriptors in frames of one composition, shape (n_frames, n_atoms, n_features)."""
    potential, *given = _given(model, frames)
    return np.asarray(potential.eval_descriptor(*given), dtype=float).reshape(len(frames), len(frames[0]), -1)


def _given(model: Path, frames: Sequence[Atoms]) -> tuple[Any, Floats, Floats, list[int]]:
    """Return a model, and frames as it takes them: positions, cells, kinds."""
    from deepmd.infer import DeepPot

    potential = DeepPot(str(model))
    kinds = [potential.get_type_map().index(symbol) for symbol in frames[0].symbols]
    coords = np.array([frame.positions.reshape(-1) for frame in frames])
    return potential, coords, np.array([frame.cell.array.reshape(-1) for frame in frames]), kinds


def distance(known: Floats, asked: Floats, symbols: Sequence[str]) -> Floats:
    """Return how far each atom's descriptor lies from the nearest known one of its element, shape (n_frames, n_atoms).

    Both have the shape (n_frames, n_atoms, n_features), and the atoms the order of `symbols`.
    """
    found = np.zeros(asked.shape[:2])
    for element in set(symbols):
        atoms = [number for number, symbol in enumerate(symbols) if symbol == element]
        there = known[:, atoms].reshape(-1, known.shape[-1])
        spread = there.std(axis=0)
        varies = spread > 1e-10 * spread.max()
        tree = KDTree(there[:, varies] / spread[varies])
        found[:, atoms] = tree.query(asked[:, atoms][..., varies] / spread[varies])[0]
    return found


def exact_kpu(checkpoint: Path, frames: Sequence[Atoms]) -> Floats:
    """Return the largest exact uncertainty of each frame's atoms, shape (n_frames,)."""
    sys.path.append(str(Path(al_driver.__file__).parent / "tasks"))
    from kpu_model import KalmanModel

    model = KalmanModel(checkpoint)
    found = []
    for atoms in frames:
        frame = model.make_frame(atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_chemical_symbols())
        parts = [model.quadratic(g).sum(dim=1).max() for _, g in model.force_gradients(frame, np.arange(len(atoms)))]
        found.append(float(max(parts)) ** 0.5)
    return np.array(found)


def deviation(members: Floats) -> Floats:
    """Return σ of each atom, from forces of shape (n_members, n_frames, n_atoms, 3)."""
    found: Floats = np.sqrt(((members - members.mean(axis=0)) ** 2).sum(axis=-1).mean(axis=0))
    return found


def score_all(
    folder: Path, system: str, seed: int, n_frames: int, purpose: str,
    temperatures: Sequence[int] = TEMPERATURES, names: Sequence[str] = NAMES,
) -> dict[int, Scored]:  # fmt: skip
    """Make data and models unless they are there; return frames by temperature, with the scores that are asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    known = [frame for t in TRAINED_AT for frame in make_frames(folder, system, "train", t, N_TRAIN, 1)]
    seeds = {"test": 2, "calibrate": 3}
    frames = [f for t in temperatures for f in make_frames(folder, system, purpose, t, n_frames, seeds[purpose])]
    true = np.array([frame.arrays["forces"] for frame in frames])
    trainer = kalman_trainer()
    kalman = train(folder, trainer, system, seed)
    ours = np.array([evaluate(kalman / name, frames) for name in trainer.model_files(kalman)])
    errors = {"kpu": _error(ours, true)}
    scores = {"kpu": trainer.score_factor(kalman) * _largest(deviation(ours))}
    if "exact" in names:
        scores["exact"] = exact_kpu(kalman / "model.ckpt.pt", frames)
    if {"committee", "force", "distance"} & set(names):
        members = [
            train(folder, adam_trainer(), system, 1000 * seed + n) / "frozen_model.pth" for n in range(N_MEMBERS)
        ]
        theirs = np.array([evaluate(member, frames) for member in members])
        errors["committee"] = _error(theirs, true)
        scores["committee"] = _largest(deviation(theirs))
        scores["force"] = _largest(np.linalg.norm(theirs[0], axis=-1))
        scores["distance"] = _largest(
            distance(describe(members[0], known), describe(members[0], frames), list(frames[0].symbols))
        )
    parts = np.split(np.arange(len(frames)), len(temperatures))
    return {
        temperature: Scored(*({name: values[part] for name, values in found.items()} for found in (errors, scores)))
        for temperature, part in zip(temperatures, parts, strict=True)
    }


def _error(members: Floats, true: Floats) -> Floats:
    """Return the largest force error in each frame, of the first member."""
    return _largest(np.linalg.norm(members[0] - true, axis=-1))


def _largest(of_atoms: Floats) -> Floats:
    found: Floats = of_atoms.max(axis=1)
    return found
