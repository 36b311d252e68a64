"""Is it better to let a Kalman filter (LKF) go on when data come in, or to train from scratch?

Silicon (Stillinger–Weber), cells of 8 atoms, the preset `small`. A first model learns 27 strained and rattled frames;
then 30 frames of dynamics at 1200 K come in, as an iteration of `al run` brings them. On all 57 frames are trained

- `scratch`: a new model;
- `continued`: the first model, with its covariance and its λ, as the driver does;
- `weights`: the first model's weights, with the filter begun anew.

Printed are steps, seconds with start-up, and the force RMSE on 64 frames of dynamics at 300 to 1800 K that nothing
trains on; and, against the best training from scratch, what the best continuation costs and reaches.

Run: ``OMP_NUM_THREADS=1 python benchmarks/kalman_warm_start.py``; some ten minutes on an idle core.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import al_driver
from al_driver.data.dataset import find_systems
from al_driver.files import write_json
from al_driver.schema.jsonc import read_jsonc
from al_driver.trainers.base import Phase, Training
from al_driver.trainers.deepmd import DeepmdTrainer

EXAMPLE = Path(__file__).parents[1] / "examples/si"
FIRST_STEPS = 150
ARMS = {"scratch": (75, 150), "continued": (20, 40, 80), "weights": (40, 80)}


def make_data(folder: Path) -> dict[str, list[Path]]:
    """Calculate first data, what comes in, and reference dynamics to measure with."""
    params = {"first": read_jsonc(EXAMPLE / "init_param.json"), "valid": read_jsonc(EXAMPLE / "valid_param.json")}
    for param in params.values():
        param["structures"] = [entry | {"supercell": [1, 1, 1]} for entry in param["structures"]]
    hot = next(entry for entry in params["valid"]["structures"] if entry["name"] == "1200K")
    hot = hot | {"aimd": hot["aimd"] | {"n_steps": 3000, "every": 100}}
    params["added"] = params["valid"] | {"seed": 5, "structures": [hot]}
    (folder / "POSCAR").write_bytes((EXAMPLE / "POSCAR").read_bytes())
    write_json(folder / "resource.json", {"default": {"executor": "local", "workers": 2, "group_size": 64}})
    for name, param in params.items():
        write_json(folder / f"{name}.json", {**param, "$schema": None, "work_dir": name})
        al_driver.init_bulk(folder / f"{name}.json", folder / "resource.json")
    return {name: find_systems(folder / name / "dataset") for name in params}


def train(folder: Path, training: Training, steps: int, *, keep_filter: bool = True) -> dict[str, Any]:
    """Train one model; return its evaluation, and the seconds it took."""
    keys = {"trainer": "deepmd", "preset": "small", "steps": {"first": steps, "next": steps}}
    if training.parent is not None:
        keys["warm_start"] = {"steps": steps}
    trainer = DeepmdTrainer.model_validate(keys).with_covariance()
    folder.mkdir()
    trainer.write_inputs(training, folder)
    if not keep_filter:
        write_json(folder / "train.json", {**json.loads((folder / "train.json").read_text()), "kalman": None})
    begun = time.monotonic()
    with (folder / "output").open("w") as output:
        subprocess.run(trainer.command(("dp",)), cwd=folder, stdout=output, stderr=output, check=True)
    evaluation: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return evaluation | {"seconds": time.monotonic() - begun}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keep everything here, and take data that are there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).absolute()
        folder.mkdir(exist_ok=True)
        compare(folder, make_data(folder), range(arguments.seeds))


def compare(folder: Path, data: dict[str, list[Path]], seeds: range) -> None:
    both = (*data["first"], *data["added"])
    best: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for seed in seeds:

        def of(phase: Phase, systems: tuple[Path, ...], parent: Path | None = None, seed: int = seed) -> Training:
            return Training(phase, seed, ("Si",), systems, tuple(data["valid"]), parent)

        first = folder / f"first.{seed}"
        result = train(first, of("first", tuple(data["first"])), FIRST_STEPS)
        print(f"seed {seed}: first model, {FIRST_STEPS} steps: {result['force_rmse']:.4f} eV/Å", flush=True)
        for arm, numbers in ARMS.items():
            found = []
            for steps in numbers:
                training = of("first", both) if arm == "scratch" else of("next", both, first)
                keep = arm != "weights"
                result = train(folder / f"{arm}.{steps}.{seed}", training, steps, keep_filter=keep)
                found.append(result)
                print(
                    f"  {arm:10} {steps:4d} steps  {result['seconds']:6.1f} s  {result['force_rmse']:.4f} eV/Å",
                    flush=True,
                )
            best[arm].append(min(found, key=lambda result: result["force_rmse"]))
    for arm in ("continued", "weights"):
        pairs = list(zip(best[arm], best["scratch"], strict=True))
        rmse = sum(one["force_rmse"] / other["force_rmse"] for one, other in pairs) / len(pairs)
        cost = sum(one["seconds"] / other["seconds"] for one, other in pairs) / len(pairs)
        print(f"best {arm} / best scratch: force RMSE {rmse:.2f}, time {cost:.2f}")


if __name__ == "__main__":
    main()
