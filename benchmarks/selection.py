"""How fast deviation files become classes, and how much memory that takes.

Makes 100 deviation files of 10,000 frames each, as LAMMPS writes them, then reads and classes

- 1 M frames as the query step does: frames a second, and against the usual way (``np.loadtxt`` a file, then a Python
  loop that sorts frames into lists), in the same run;
- 1 M and 10 M frames (the files read ten times over), each in a process of its own: peak memory;
- 1 M frames with the lines of candidates and ``frames.csv``: rows a second.

Run: ``python benchmarks/selection.py``; needs 130 MB of disk for a minute.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from al_driver.query.job import MdTask
from al_driver.query.report import FramesFile
from al_driver.query.selection import Census
from al_driver.query.window import Window, read_scored
from al_driver.seeds import make_rng

N_FILES, N_FRAMES, SLOW_FILES = 100, 10_000, 10
LOWER, UPPER = 0.10, 0.30
WINDOW = Window("max_force", LOWER, UPPER, max_force=50.0, stop_after=N_FRAMES)
HEADER = "#       step         max_devi_v         min_devi_v         avg_devi_v" + "".join(
    f"{name:>19}" for name in ("max_devi_f", "min_devi_f", "avg_devi_f")
)


def write_files(folder: Path) -> None:
    """Write deviations that wander, log-normal, about 0.07 eV/Å; some in ten are candidates."""
    for index in range(N_FILES):
        rng = np.random.default_rng(index)
        rows = np.exp(rng.normal(np.log(0.07), 0.6, (N_FRAMES, 6)))
        rows[0] = 4e-16
        lines = (f"{10 * i:12d}" + "".join(f" {x:18.6e}" for x in row) for i, row in enumerate(rows.tolist()))
        (folder / f"{index:03d}.out").write_text("\n".join([HEADER, *lines, ""]))


def count_classes(files: Iterable[Path]) -> np.ndarray:
    """Return the numbers of accurate, candidate and failed frames, as the query step finds them."""
    counts = np.zeros(3, dtype=np.int64)
    for file in files:
        for scored in read_scored(file, WINDOW):
            counts += np.bincount(scored.classes, minlength=3)
    return counts


def count_slowly(files: Iterable[Path]) -> np.ndarray:
    """Return the same numbers the usual way: read each file by `np.loadtxt`, and put each frame into a list."""
    accurate, candidate, failed = [], [], []
    for task, file in enumerate(files):
        table = np.loadtxt(file)
        for row in range(1, len(table)):
            if table[row][4] < LOWER:
                accurate.append([task, int(table[row][0])])
            elif table[row][4] < UPPER:
                candidate.append([task, int(table[row][0])])
            else:
                failed.append([task, int(table[row][0])])
    return np.array([len(accurate), len(candidate), len(failed)])


def run_whole(files: Iterable[Path], folder: Path) -> None:
    """Class frames, put candidates in line, and write ``frames.csv``."""
    seen = Census(20)
    with FramesFile(folder / "frames.csv") as frames_file:
        for index, file in enumerate(files):
            task = MdTask(path=f"task.{index:06d}", structure="bulk", temperature=(300.0, 300.0), n_steps=10 * N_FRAMES)
            for scored in read_scored(file, WINDOW):
                marks = frames_file.add(task, scored, WINDOW.column)
                seen.add(scored, index, marks, make_rng(1, index))


def peak_memory(folder: Path, repeats: int) -> float:
    """Return the peak memory, MB, of a process that classes, ranks and lists the files so many times over."""
    command = [sys.executable, __file__, "--measure", str(folder), str(repeats)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def seconds(work: object) -> float:
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder)
        files = sorted(folder.glob("*.out"))
        n_frames = N_FILES * (N_FRAMES - 1)
        fast = min(seconds(lambda: count_classes(files)) for _ in range(3))
        slow = min(seconds(lambda: count_slowly(files[:SLOW_FILES])) for _ in range(2)) * N_FILES / SLOW_FILES
        assert np.array_equal(count_classes(files[:SLOW_FILES]), count_slowly(files[:SLOW_FILES]))
        whole = min(seconds(lambda: run_whole(files, folder)) for _ in range(2))
        print(f"files to classes      {n_frames / fast / 1e6:6.2f} M frames/s  (one process, one thread)")
        print(f"loadtxt and a loop    {n_frames / slow / 1e6:6.2f} M frames/s  (equal counts)")
        print(f"                      {slow / fast:6.1f} times as fast")
        print(f"with frames.csv       {n_frames / whole / 1e6:6.2f} M frames/s")
        one, ten = peak_memory(folder, 1), peak_memory(folder, 10)
        print(f"peak memory           {one:6.1f} MB for 1 M frames, {ten:.1f} MB for 10 M frames")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "REPEATS"), help=argparse.SUPPRESS)
    measure = parser.parse_args().measure
    if measure:
        run_whole(sorted(Path(measure[0]).glob("*.out")) * int(measure[1]), Path(measure[0]))
        status = Path("/proc/self/status").read_text()  # getrusage would count what the parent had before it forked
        print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
    else:
        main()
