"""Is the statement true with which a run with `target_force_error` ended?

Takes a finished work folder of silicon with Stillinger–Weber as the reference (`examples/si/param.target.json`,
`param.kpu.json`) and its final model, and asks of them what nobody has:

- frames of the reference's own dynamics at the temperatures of the statement, of new starts, 0.2 ps apart: in how many
  does no atom's force error exceed the target?
- molecular dynamics of the model, ten trajectories of 100 ps: how many reach their end without a guard?

The dynamics run with the model compressed (`dp compress`), which is twice as fast; how far its forces differ is told.
Printed are what was claimed and what was seen. A run that ended without a statement is told as such, with its reason.

Run: ``python benchmarks/target.py examples/si/work_kpu --folder FOLDER``; an hour on an idle core for 100 ps, minutes
with ``--picoseconds 2``. Interrupted, it goes on with the same command.
"""

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DP_INTRA_OP_PARALLELISM_THREADS", "1")
os.environ.setdefault("DP_INTER_OP_PARALLELISM_THREADS", "1")

import numpy as np
from ase import Atoms
from ase.build import bulk
from scored_frames import Floats, evaluate

import al_driver
from al_driver.data.dataset import find_systems, read_system
from al_driver.data.lammps import write_data
from al_driver.files import read_json, write_json
from al_driver.jobs.processes import find_program
from al_driver.query.verdict import lower_limit
from al_driver.workflow.status import status

EVERY, LENGTH = 200, 0.001  # steps between two frames; ps a step
SW = {"engine": "lammps", "pair_style": "sw", "pair_coeff": ["* * Si.sw Si"]}
INPUT = """
units           metal
atom_style      atomic
boundary        p p p
read_data       structure.data
pair_style      deepmd {model}
pair_coeff      * * Si
velocity        all create {temperature} {seed} mom yes rot no dist gaussian
timestep        {timestep}
fix             dynamics all nvt temp {temperature} {temperature} 0.1
compute         close all coord/atom cutoff 1.3
compute         closest all reduce max c_close
variable        close equal c_closest
variable        heat equal temp
fix             guard1 all halt 10 v_close > 0.5 error soft
fix             guard2 all halt 10 v_heat > {hottest} error soft
thermo          {every}
run             {n_steps}
print           "reached $(step)"
"""


def reference_frames(folder: Path, temperatures: list[float], n_frames: int) -> list[Atoms]:
    """Return labelled frames of new trajectories, as many of each temperature."""
    each = -(-n_frames // len(temperatures))
    bulk("Si", cubic=True, a=5.431).write(folder / "POSCAR", format="vasp")
    entries = [
        {
            "path": "POSCAR", "name": f"at-{temperature:g}", "supercell": [2, 2, 2],
            "perturb": {"copies": 1, "cell_fraction": 0, "temperature": temperature},
            "aimd": {"temperature": temperature, "n_steps": int(1.1 * each + 1) * EVERY, "every": EVERY},
        }
        for temperature in temperatures
    ]  # fmt: skip
    write_json(folder / "resource.json", {"default": {"executor": "inline"}})
    found = []
    for number, entry in enumerate(entries):
        param = {"seed": 20260 + number, "work_dir": f"init.{number}", "type_map": ["Si"], "label": SW}
        write_json(folder / f"{number}.json", param | {"structures": [entry], "valid_fraction": 0})
        al_driver.init_bulk(folder / f"{number}.json", folder / "resource.json")
        frames = [f for system in find_systems(folder / f"init.{number}/dataset") for f in read_system(system)]
        found += frames[-each:]
    return found


def largest(forces: Floats) -> Floats:
    """Return the length of the longest vector of each frame."""
    found: Floats = np.linalg.norm(forces, axis=-1).max(axis=-1)
    return found


def compress(folder: Path, model: Path) -> Path:
    """Return the model with its descriptor's networks tabulated."""
    target = folder / "compressed.pth"
    if not target.exists():
        command = [str(find_program("dp")), "--pt", "compress", "-i", str(model), "-o", "begun.pth", "-t"]
        command.append(str(model.with_name("input.json")))
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
        (folder / "begun.pth").replace(target)
    return target


def survives(folder: Path, model: Path, temperature: float, seed: int, picoseconds: float) -> bool:
    """Run a trajectory of the model unless it has been; say whether it reached its end."""
    if (folder / "survived.json").exists():
        return bool(read_json(folder / "survived.json"))
    folder.mkdir(exist_ok=True)
    n_steps = round(picoseconds / LENGTH)
    write_data(folder / "structure.data", bulk("Si", cubic=True, a=5.431) * (2, 2, 2), ["Si"])
    text = INPUT.format(
        model=model, temperature=temperature, seed=seed, timestep=LENGTH, hottest=3 * temperature, every=1000,
        n_steps=n_steps,
    )  # fmt: skip
    (folder / "in.lammps").write_text(text)
    command = [str(find_program("lmp")), "-in", "in.lammps", "-log", "none", "-nocite"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    survived = done.returncode == 0 and f"reached {n_steps}" in done.stdout.split("\n")
    write_json(folder / "survived.json", survived)
    return survived


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--trajectories", type=int, default=10)
    parser.add_argument("--picoseconds", type=float, default=100)
    parser.add_argument("--folder", type=Path, help="keep everything here, and take what is there")
    asked = parser.parse_args()
    verdict = status(asked.work)["verdict"]
    print(f"{verdict['state']}: {verdict['reason']}")
    statements = sorted(asked.work.glob("closing/look.[0-9][0-9][0-9]/statement.json"))
    if not statements:
        return
    claimed = read_json(statements[-1])
    (part,), (target,) = claimed["structures"], set(claimed["targets"].values())
    model = (asked.work / "final/model.000/frozen_model.pth").absolute()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (asked.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        frames = reference_frames(folder, part["temperatures"], asked.frames)
        forces = evaluate(model, frames)
        errors = largest(forces - np.array([frame.arrays["forces"] for frame in frames]))
        good = int((errors <= target).sum())
        print(f"frames with no atom's force error above {target:g} eV/Å, at {part['temperatures']} K:")
        print(f"  claimed: at least {1 - part['bad_at_most']:.1%} ({part['bad']} of {part['frames']} were bad)")
        print(f"  seen:    {good / len(errors):.1%} ({len(errors) - good} of {len(errors)} bad; at least ", end="")
        print(f"{lower_limit(good, len(errors), 0.95):.1%} at 95 %); median {np.median(errors):.3f} eV/Å")
        fast = compress(folder, model)
        apart = largest(evaluate(fast, frames) - forces).max()
        print(f"compressed, forces differ by at most {apart:.1e} eV/Å", flush=True)
        temperatures = [part["temperatures"][i % len(part["temperatures"])] for i in range(asked.trajectories)]
        ended = sum(
            survives(folder / f"md.{i}", fast, t, 1000 + i, asked.picoseconds) for i, t in enumerate(temperatures)
        )
        print(f"trajectories of {asked.picoseconds:g} ps that reach their end:")
        print(f"  claimed: at least {part['survival_at_least']:.1%} ({part['survived']} of {part['trajectories']} did)")
        print(f"  seen:    {ended} of {asked.trajectories}")


if __name__ == "__main__":
    main()
