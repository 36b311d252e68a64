"""The split of first data into training and validation, by lineage: never neighbouring frames on both sides.

Copies and single structures are drawn one by one, seeded: none is a neighbour of another in time. Frames of one file
(a trajectory) are cut: its end is held back as one block, and the frame before the block belongs to neither side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ase import Atoms

from al_driver.errors import ConfigError, Problem
from al_driver.seeds import make_rng


@dataclass
class Split:
    """Indices of frames, each list rising."""

    train: list[int] = field(default_factory=list)
    valid: list[int] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    """Gaps between the two sides of a trajectory."""


def split_frames(frames: Sequence[Atoms], fraction: float, seed: int) -> Split:
    """Hold back a share of the frames; ``info`` tells of each its ``entry``, ``file`` and ``moment`` in the file.

    Raises
    ------
    ConfigError
        If nothing would be left to train on.
    """
    files: dict[tuple[int, int], dict[int, list[int]]] = {}
    for index, atoms in enumerate(frames):
        file = files.setdefault((int(atoms.info["entry"]), int(atoms.info["file"])), {})
        file.setdefault(int(atoms.info["moment"]), []).append(index)
    trajectories = [moments for moments in files.values() if len(moments) > 1]
    single = [index for moments in files.values() if len(moments) == 1 for group in moments.values() for index in group]
    n_valid = round(fraction * len(single))
    drawn = set(make_rng(seed, "init_bulk", "valid").permutation(len(single))[:n_valid].tolist())
    split = Split(valid=[index for place, index in enumerate(single) if place in drawn])
    split.train = [index for place, index in enumerate(single) if place not in drawn]
    seen = len(single)
    for moments in trajectories:
        seen += sum(map(len, moments.values()))
        _cut(moments, round(fraction * seen) - len(split.valid), split)
    if frames and not split.train:
        message = f"{fraction:g} of {len(frames)} labelled frames leaves none to train on.\n"
        raise ConfigError(Problem(f"{message}  Lower it, or make more structures.", "valid_fraction"))
    for indices in (split.train, split.valid, split.left_out):
        indices.sort()
    return split


def _cut(moments: dict[int, list[int]], wanted: int, split: Split) -> None:
    """Hold back the end of a trajectory: so many frames or a few more, since all copies of a moment go together."""
    left = sorted(moments)
    held_back: list[int] = []
    while left and len(held_back) < wanted:
        held_back += moments[left.pop()]
    if held_back and left:
        split.left_out += moments[left.pop()]
    split.valid += held_back
    split.train += [index for moment in left for index in moments[moment]]
