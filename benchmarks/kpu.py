"""How fast the exact Kalman prediction uncertainty (KPU) is, and how time and memory grow with the cell.

For models nobody trained, of the size of the preset "small" (the numbers are as good to multiply), on silicon and on an
alloy:

- time per force component in a 64-atom cell, against the plain way, which evaluates and derives the whole model once
  per component: in the same process, on equal threads, taking turns; and that the values are equal;
- the same by autograd alone, which is what a model other than `se_e2_a` gets;
- where the time goes: gradients, products with the covariance;
- 64 to 4,096 atoms: time per component (of some atoms, where there are many) and peak memory, a process each;
- float32: error and time.

Run: ``python benchmarks/kpu.py``, minutes; the load of the machine is printed, and ratios hold under load.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

THREADS = os.environ.setdefault("OMP_NUM_THREADS", str(min(2, len(os.sched_getaffinity(0)))))
os.environ.setdefault("DP_INTRA_OP_PARALLELISM_THREADS", THREADS)
os.environ.setdefault("DP_INTER_OP_PARALLELISM_THREADS", "1")
ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "al_driver" / "tasks"), str(ROOT / "tests" / "trainers")]

import numpy as np  # noqa: E402  (after the number of threads)
from ase import Atoms  # noqa: E402
from ase.build import bulk  # noqa: E402

DESCRIPTOR = {"type": "se_e2_a", "rcut": 5.0, "rcut_smth": 0.5, "neuron": [16, 32], "axis_neuron": 4}
FITTING = {"neuron": [32, 32, 32], "resnet_dt": False}
ROUNDS, BLOCK, SOME = 5, 1024, 48


def silicon(repeat: int) -> Atoms:
    """Return 64 atoms, repeated."""
    atoms = bulk("Si", "diamond", a=5.43, cubic=True) * (2, 2, 2)
    atoms.positions += np.random.default_rng(0).normal(scale=0.1, size=atoms.positions.shape)
    return atoms * repeated(repeat)


def alloy(repeat: int) -> Atoms:
    """Return 64 atoms of two elements, repeated."""
    rng = np.random.default_rng(0)
    atoms = bulk("Al", "fcc", a=4.0, cubic=True) * (4, 2, 2)
    atoms.numbers[rng.permutation(64)[:20]] = 29
    atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
    return atoms * repeated(repeat)


def repeated(times: int) -> tuple[int, int, int]:
    """Return the most even supercell of so many cells, a power of two."""
    powers = [(times.bit_length() - 1 + axis) // 3 for axis in (2, 1, 0)]
    return (2 ** powers[0], 2 ** powers[1], 2 ** powers[2])


SYSTEMS = {"silicon": (silicon, ["Si"], [36]), "alloy": (alloy, ["Al", "Cu"], [60, 40])}


def write_models(folder: Path) -> None:
    from kalman_trainings import make_checkpoint

    for name, (_, type_map, sel) in SYSTEMS.items():
        make_checkpoint(folder / f"{name}.pt", DESCRIPTOR | {"sel": sel}, FITTING, type_map, BLOCK)


def seconds(work: Any) -> np.ndarray:
    """Return how long something takes: by the clock, and of the processors' time."""
    start, used = time.perf_counter(), time.process_time()
    work()
    return np.array([time.perf_counter() - start, time.process_time() - used])


def compare(folder: Path, name: str) -> None:
    """Print times per component in a 64-atom cell."""
    from kalman_trainings import Plain
    from kpu_model import KalmanModel

    atoms = SYSTEMS[name][0](1)
    plain, checkpoint = Plain(folder / f"{name}.pt"), folder / f"{name}.pt"
    ours, autograd = KalmanModel(checkpoint), KalmanModel(checkpoint, closed_form=False)
    single = KalmanModel(checkpoint, single=True)
    frame = ours.make_frame(atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_chemical_symbols())
    values = ours.force_uncertainty(frame)
    expected = [plain.force(atoms, atom) for atom in (0, 21)]
    worst = max(abs(values[atom] / wanted - 1) for atom, wanted in zip((0, 21), expected, strict=True))
    assert worst < 1e-6, f"{name}: differs from the plain way by {worst:g}"
    worst_single = float(np.abs(single.force_uncertainty(frame) / values - 1).max())
    autograd.force_uncertainty(frame, [0])
    gradients = [group for _, group in ours.force_gradients(frame, np.arange(64))]
    works = {
        "plain": (lambda: plain.force(atoms, 5), 3),
        "al kpu": (lambda: ours.force_uncertainty(frame), 192),
        "  gradients": (lambda: list(ours.force_gradients(frame, np.arange(64))), 192),
        "  products with P": (lambda: [ours.quadratic(group) for group in gradients], 192),
        "by autograd": (lambda: autograd.force_uncertainty(frame), 192),
        "float32": (lambda: single.force_uncertainty(frame), 192),
    }
    times: dict[str, list[np.ndarray]] = {work: [] for work in works}
    for _ in range(ROUNDS):
        for work, (run, components) in works.items():
            times[work].append(seconds(run) / components)
    print(f"{name}: 64 atoms, {ours.n_weights} weights in {len(ours.covariance)} blocks; ms per component, and how")
    print(f"  often that goes into the plain way's; the same in processors' time (medians of {ROUNDS} rounds)")
    for work in works:
        ratios = np.median(np.array(times["plain"]) / np.array(times[work]), axis=0)
        wall, used = 1e3 * np.median(times[work], axis=0)
        print(f"  {work:18s} {wall:8.3f} {ratios[0]:8.1f} {used:12.3f} {ratios[1]:8.1f}")
    print(f"  largest relative difference to the plain way {worst:.1e}, of float32 {worst_single:.1e}")


def measure(checkpoint: Path, name: str, repeat: int) -> None:
    """Print one line for a cell of 64 times ``repeat`` atoms."""
    from kpu_model import KalmanModel

    atoms = SYSTEMS[name][0](repeat)
    model = KalmanModel(checkpoint)
    start = read_memory("VmRSS")
    frame = model.make_frame(atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_chemical_symbols())
    some = np.arange(SOME)
    model.force_uncertainty(frame, some[:4])
    once = min(seconds(lambda: model.force_uncertainty(frame, some))[0] for _ in range(3)) / SOME / 3
    prepared = seconds(
        lambda: model.make_frame(atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_chemical_symbols())
    )[0]
    energy = seconds(lambda: model.energy_uncertainty(frame))[0]
    print(f"  {len(atoms):6d} {1e3 * once:14.3f} {prepared:12.3f} {energy:10.3f} {read_memory('VmHWM') - start:14.0f}")


def read_memory(key: str) -> float:
    """Return a figure of this process, MB."""
    return int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0]) / 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_models(folder)
        print(f"{THREADS} threads; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        for system in SYSTEMS:
            compare(folder, system)
        print("silicon, cells of        ms per component  neighbours s  energy s  MB beside the model")
        for repeat in (1, 8, 64):
            command = [sys.executable, __file__, "--measure", str(folder / "silicon.pt"), "silicon", str(repeat)]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="")
        print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs=3, metavar=("CHECKPOINT", "SYSTEM", "REPEAT"), help=argparse.SUPPRESS)
    asked = parser.parse_args().measure
    if asked:
        measure(Path(asked[0]), asked[1], int(asked[2]))
    else:
        main()
