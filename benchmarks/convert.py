"""How fast a folder of OUTCARs becomes training data: `al convert` against dpdata alone, with the same numbers out.

Makes 16 OUTCARs of 500 ionic steps each, by repeating steps of a real run (tests/data/files), then converts them

- with dpdata: ``LabeledSystem`` of each file, ``MultiSystems``, ``to("deepmd/npy")``;
- with `al_driver.convert`, by one process and by as many as there are processors,

in turns, three times; the fastest of each counts. The sets are then compared number by number.

Run: ``OMP_NUM_THREADS=1 python benchmarks/convert.py``; needs 600 MB of disk for a minute.
"""

import argparse
import gzip
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dpdata
import numpy as np

import al_driver
import al_driver.workflow.convert
from al_driver.data.dataset import find_systems, read_system

OUTCAR = Path(__file__).parents[1] / "tests/data/files/OUTCAR.h2o.md.gz"
ORDER = ["O", "H"]  # as dpdata leaves them
HEAD_ENDS, STEP_ENDS = "Iteration    2(   1)", "Iteration    3(   1)"


def write_outcars(folder: Path, n_files: int, n_steps: int) -> None:
    """Write OUTCARs that repeat the second step of a run of three; positions differ by file and step."""
    text = gzip.decompress(OUTCAR.read_bytes()).decode()
    start, end = (text.rindex("\n", 0, text.index(mark)) + 1 for mark in (HEAD_ENDS, STEP_ENDS))
    first = text.rindex("\n", 0, text.index("Iteration    1(   1)")) + 1
    head, step, tail = text[:first], text[start:end], text[text.index(" General timing") :]
    energy, position = "TOTEN  =       -28.43874406", "4.27"
    assert energy in step and position in step
    for index in range(n_files):
        (folder / f"{index:03d}").mkdir(parents=True)
        with (folder / f"{index:03d}/OUTCAR").open("w") as stream:
            stream.write(head)
            for number in range(n_steps):
                own = step.replace(energy, f"TOTEN  =       -28.{index:02d}{number:06d}")
                own = own.replace("Iteration    2(", f"Iteration {number + 1:4d}(")
                stream.write(own.replace(position, f"4.{30 + number % 60}"))
            stream.write(tail)


def convert_with_dpdata(source: Path, target: Path) -> None:
    systems = dpdata.MultiSystems()
    for path in sorted(source.glob("*/OUTCAR")):
        systems.append(dpdata.LabeledSystem(str(path), fmt="vasp/outcar"))
    systems.to("deepmd/npy", str(target))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def largest_difference(one: Path, other: Path) -> float:
    """Return the largest relative difference of any energy, force, virial, cell or position of two sets."""
    worst = 0.0
    for a, b in zip(read_system(one), read_system(other), strict=True):
        assert a.get_chemical_symbols() == b.get_chemical_symbols()
        pairs = [(a.info["energy"], b.info["energy"]), (a.arrays["forces"], b.arrays["forces"])]
        pairs += [(a.info["virial"], b.info["virial"]), (a.positions, b.positions), (a.cell.array, b.cell.array)]
        worst = max(worst, *(float(np.abs(np.subtract(x, y)).max() / np.abs(x).max()) for x, y in pairs))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_outcars(folder / "runs", options.files, options.steps)
        n_workers = len(os.sched_getaffinity(0))
        ways: dict[str, Callable[[Path], object]] = {
            "dpdata": lambda out: convert_with_dpdata(folder / "runs", out),
            "al, 1 process": lambda out: al_driver.convert(folder / "runs", out, workers=1, type_map=ORDER),
            f"al, {n_workers} processes": lambda out: al_driver.convert(folder / "runs", out, type_map=ORDER),
        }
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(options.repeats):
            for way, convert in ways.items():
                shutil.rmtree(folder / way, ignore_errors=True)
                best[way] = min(best[way], seconds(lambda convert=convert, way=way: convert(folder / way)))
        n_frames = options.files * options.steps
        size = sum(path.stat().st_size for path in (folder / "runs").rglob("OUTCAR"))
        print(f"{options.files} OUTCARs, {n_frames} frames, {size / 1e6:.0f} MB")
        for way, time_taken in best.items():
            ratio = best["dpdata"] / time_taken
            print(
                f"{way:16} {n_frames / time_taken:8.0f} frames/s  {size / time_taken / 1e6:5.0f} MB/s  {ratio:5.2f} ×"
            )
        systems = [find_systems(folder / way)[0] for way in ways]
        worst = max(largest_difference(systems[0], other) for other in systems[1:])
        print(f"largest relative difference between the sets: {worst:.1e} (dpdata's kbar has seven digits)")
        assert worst < 1e-7


if __name__ == "__main__":
    main()
