"""Deviation files as LAMMPS writes them, for tests."""

from collections.abc import Sequence
from pathlib import Path

HEADER = (
    "#       step         max_devi_v         min_devi_v         avg_devi_v"
    "         max_devi_f         min_devi_f         avg_devi_f\n"
)


def row(step: int, max_f: float, *, avg_f: float = 0.01, max_v: float = 0.02) -> str:
    return f"{step:12d} {max_v:18.6e} {0.001:18.6e} {0.005:18.6e} {max_f:18.6e} {0.002:18.6e} {avg_f:18.6e}\n"


def write_deviations(path: Path, max_forces: Sequence[float], every: int = 10, first: int = 10) -> Path:
    """Write the largest force deviation of frames at steps first, first + every …"""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (row(first + every * i, value) for i, value in enumerate(max_forces))
    path.write_text(HEADER + "".join(rows))
    return path
