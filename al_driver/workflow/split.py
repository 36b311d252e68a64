"""The split of first data into training and validation, by lineage: never neighbouring frames on both sides.

Copies and single structures are drawn one by one, seeded: none is a neighbour of another in time. A trajectory, be it
the frames of one file or an AIMD with the structure it starts from, is cut: its end is held back as one block, and the
frame before the block belongs to neither side.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from al_driver.errors import ConfigError, Problem
from al_driver.seeds import make_rng

MOST_TOLD = 5  # compositions, in a message


@dataclass
class Split:
    """Indices of frames, each list rising."""

    train: list[int] = field(default_factory=list)
    valid: list[int] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    """Gaps between the two sides of a trajectory."""


def split_frames(
    infos: Sequence[Mapping[str, Any]], fraction: float, seed: int, elements: Sequence[Collection[str]] = ()
) -> Split:
    """Hold back a share of the frames; fewer where a model would not learn an element at all.

    Parameters
    ----------
    infos
        Of each frame its ``entry``, ``file`` and ``moment`` in the file, and, of an AIMD, ``aimd`` and ``aimd_step``.
    elements
        Those of each frame; where they are not known, nothing is kept for their sake.

    Raises
    ------
    ConfigError
        If nothing would be left to train on.
    """
    files: dict[tuple[int, ...], dict[int, list[int]]] = {}
    for index, info in enumerate(infos):
        file = files.setdefault((int(info["entry"]), int(info["file"])), {})
        file.setdefault(int(info["moment"]), []).append(index)
    trajectories = [moments for moments in files.values() if len(moments) > 1]
    alone = [index for moments in files.values() if len(moments) == 1 for group in moments.values() for index in group]
    single = [index for index in alone if "aimd" not in infos[index]]
    dynamics: dict[tuple[int, ...], dict[int, list[int]]] = {}
    for info, index in ((infos[index], index) for index in alone if "aimd" in infos[index]):
        start = (int(info["entry"]), int(info["aimd"]))
        dynamics.setdefault(start, {})[int(info["aimd_step"])] = [index]
    trajectories += dynamics.values()
    kinds = [frozenset(kind) for kind in elements] or [frozenset[str]()] * len(infos)
    kept = Counter(kind for frame in kinds for kind in frame)  # frames to train on that hold each element
    n_valid = round(fraction * len(single))
    split = Split()
    for place in make_rng(seed, "init_bulk", "valid").permutation(len(single)).tolist():
        index = single[place]
        is_needed = any(kept[kind] == 1 for kind in kinds[index])
        is_drawn = len(split.valid) < n_valid and not is_needed
        (split.valid if is_drawn else split.train).append(index)
        kept -= Counter(kinds[index] if is_drawn else ())
    seen = len(single)
    for moments in trajectories:
        frames = [index for moment in moments.values() for index in moment]
        seen += len(frames)
        own = Counter(kind for index in frames for kind in kinds[index])
        before = len(split.train)
        keep_one = any(kept[kind] == n for kind, n in own.items())
        _cut(moments, round(fraction * seen) - len(split.valid), split, keep_one=keep_one)
        kept -= Counter(kind for index in {*frames} - {*split.train[before:]} for kind in kinds[index])
    if infos and (not split.train or round(fraction * len(infos)) == len(infos)):
        message = f"{fraction:g} of {len(infos)} labelled frames leaves none to train on.\n"
        raise ConfigError(Problem(f"{message}  Lower it, or make more structures.", "valid_fraction"))
    for indices in (split.train, split.valid, split.left_out):
        indices.sort()
    return split


def only_held_back(split: Split, kinds: Sequence[Collection[str]]) -> list[str]:
    """Return, sorted, what no frame to train on holds although others do.

    Parameters
    ----------
    kinds
        What each frame holds, e.g. its elements.
    """
    trained = {kind for index in split.train for kind in kinds[index]}
    return sorted({kind for index in (*split.valid, *split.left_out) for kind in kinds[index]} - trained)


def describe_held_back(n_valid: int, n_between: int) -> str:
    """Say how many frames are not trained on, in the words of every command that has them."""
    held_back = f"{n_valid or 'none'} held back for validation"
    return held_back + (f", {n_between} between training and validation" if n_between else "")


def describe_lost(split: Split, elements: Sequence[Collection[str]], formulas: Sequence[str]) -> str:
    """Say which elements, or else compositions, the training set lacks since all their frames are held back."""
    lost = only_held_back(split, elements)
    if lost:
        return f"no frame to train on holds {', '.join(lost)}: all that do are held back"
    lost = only_held_back(split, [(formula,) for formula in formulas])
    more = f" and {len(lost) - MOST_TOLD} more" if len(lost) > MOST_TOLD else ""
    return f"every frame of {', '.join(lost[:MOST_TOLD])}{more} is held back: none is trained on" if lost else ""


def _cut(moments: dict[int, list[int]], wanted: int, split: Split, *, keep_one: bool) -> None:
    """Hold back the end of a trajectory: so many frames or a few more, since all copies of a moment go together.

    With ``keep_one`` its first moment is trained on, and fewer are held back, or none.
    """
    left = sorted(moments)
    held_back: list[int] = []
    while len(left) > 2 * keep_one and len(held_back) < wanted:
        held_back += moments[left.pop()]
    if held_back and left:
        split.left_out += moments[left.pop()]
    split.valid += held_back
    split.train += [index for moment in left for index in moments[moment]]
