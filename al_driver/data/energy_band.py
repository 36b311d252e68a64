"""Whether the energy of a frame is usual for its composition: a robust band of what is known of frames like it.

The band is the median ± the larger of a fixed width and some times the robust standard deviation, 1.4826 × the median
absolute deviation, which a few outliers do not move (Leys et al., J. Exp. Soc. Psychol. 49, 764 (2013)). Frames of one
composition are those of one ratio of elements, of whatever size. eV per atom.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from al_driver.data.frames import Array
from al_driver.data.gate import GateLimits

MAD_TO_SIGMA = 1.4826
"""Of a normal distribution."""
Composition = tuple[tuple[int, int], ...]
"""Atomic numbers, rising, each with its share of a formula unit."""


@dataclass(frozen=True)
class Band:
    """Energies that are usual for a composition, eV/atom."""

    name: str
    """The formula unit."""
    n_frames: int
    median: float
    half_width: float

    def holds(self, energy: float) -> bool:
        return abs(energy - self.median) <= self.half_width

    def __str__(self) -> str:
        return f"{self.median:.4g} ± {self.half_width:.3g} of {self.n_frames} frames of {self.name}"


def composition_of(numbers: Iterable[int] | Array) -> Composition:
    """Return the formula unit of atoms.

    >>> composition_of([14, 8, 8, 14, 8, 8])
    ((8, 2), (14, 1))
    """
    species, counts = np.unique(np.asarray(numbers, dtype=int), return_counts=True)
    unit = np.gcd.reduce(counts)
    return tuple((int(number), int(count // unit)) for number, count in zip(species, counts, strict=True))


def find_bands(energies: Mapping[Composition, list[float]], limits: GateLimits) -> dict[Composition, Band]:
    """Return the band of each composition of which enough frames are known."""
    found = {}
    for composition, values in energies.items():
        if len(values) < limits.outlier_frames:
            continue
        median = float(np.median(values))
        sigma = MAD_TO_SIGMA * float(np.median(np.abs(np.asarray(values) - median)))
        width = max(limits.outlier_energy, limits.outlier_deviation * sigma)
        name = "".join(f"{chemical_symbols[number]}{count if count > 1 else ''}" for number, count in composition)
        found[composition] = Band(name, len(values), median, width)
    return found


def collect_energies(systems: Iterable[Path], frames: Iterable[tuple[Atoms, float]]) -> dict[Composition, list[float]]:
    """Return energies per atom by composition: of every frame of deepmd/npy systems, and of frames with an energy."""
    found: dict[Composition, list[float]] = defaultdict(list)
    for system in systems:
        for composition, values in _read_energies(system):
            found[composition] += values
    for atoms, energy in frames:
        found[composition_of(atoms.numbers)].append(energy / len(atoms))
    return found


def _read_energies(system: Path) -> Iterator[tuple[Composition, list[float]]]:
    """Yield the energies of a system, eV/atom; coordinates and forces, the bulk of it, are not read."""
    symbols = (system / "type_map.raw").read_text(encoding="utf-8").split()
    types = np.loadtxt(system / "type.raw", dtype=int, ndmin=1)
    numbers = np.array([atomic_numbers[symbols[kind]] for kind in types])
    composition = composition_of(numbers)
    for path in sorted(system.glob("set.*/energy.npy")):
        yield composition, (np.load(path).ravel() / len(numbers)).astype(float).tolist()
