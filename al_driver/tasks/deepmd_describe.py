"""Describe the candidates of a shortlist by the environments of their worst atoms, with models of DeePMD-kit.

Run in a folder by the Python that has DeePMD-kit, which may be another environment than the driver's: this file imports
nothing of `al_driver`. It reads `describe.json` (shortlist, models, systems, type_map, worst_atoms, relative_epsilon,
covariance, force_factor), whose paths start at the folder, and leaves `features.npz`. With a covariance that is the
kernel of a look ahead (`deepmd_gradients.py`), else descriptors. Å, eV/Å; descriptors without a unit.

An atom is the worse, the more the models' forces on it differ: they are calculated again for the candidates alone,
since what LAMMPS could write of every atom of every frame would outgrow the trajectory. Descriptors are those of the
first model, which drives the dynamics. Frames are taken a batch at a time; of the training set no more than
`MAX_TRAINING_ATOMS` atoms are looked at, in frames drawn once for all, and none is kept.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

BATCH_ATOMS = 2_000
"""Atoms that are evaluated at once; a larger frame is evaluated alone."""
MAX_TRAINING_ATOMS = 100_000
"""Environments of the training set that candidates are compared with."""
BLOCK_ROWS = 2_000


def main() -> int:
    """Do everything in the current folder; return the exit status."""
    here = str(Path(__file__).parent)
    sys.path[:] = [*(entry for entry in sys.path if entry != here), here]  # neighbours come after the libraries
    threads = os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("DP_INTRA_OP_PARALLELISM_THREADS", threads)
    os.environ.setdefault("DP_INTER_OP_PARALLELISM_THREADS", "1")
    import numpy as np

    spec = json.loads(Path("describe.json").read_text(encoding="utf-8"))
    with np.load(spec["shortlist"], allow_pickle=False) as arrays:
        frames = dict(arrays)
    try:
        features = look_ahead(frames, spec) if spec["covariance"] else describe(frames, spec)
    except (FloatingPointError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    np.savez(".features.npz", **features)
    Path(".features.npz").replace("features.npz")
    return 0


def describe(frames: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return what candidates are compared by.

    Parameters
    ----------
    frames
        The arrays of `shortlist.npz`; see `al_driver/tasks/shortlist.py`.

    Returns
    -------
    ``task`` and ``step`` of shape (n,); of the ``worst_atoms`` worst atoms of each frame, the worst first, ``atoms``
    (their places in the frame), ``kinds`` and ``known`` (the distance to the nearest environment of that element that
    is trained on, infinite where there is none), of shape (n, k), and ``descriptors``, of shape (n, k, d). Places and
    kinds are −1 where a frame has fewer atoms. Descriptors and distances are divided by the spread of the training
    set's descriptors of that element.

    Raises
    ------
    FloatingPointError
        If a model gives a force or a descriptor that is not finite.
    """
    import numpy as np
    from deepmd.infer import DeepPot

    atoms = find_worst_atoms(frames, spec)
    model = DeepPot(spec["models"][0])
    kinds, parts = np.full(atoms.shape, -1), {}
    for batch in make_batches(frames["n_atoms"], frames["periodic"]):
        coords, cells, types = take_frames(frames, batch)
        found = evaluate_descriptors(model, coords, cells, types, spec["type_map"])
        for frame, values, own in zip(batch, found, types):  # noqa: B905  (may run in a Python without `strict`)
            here = atoms[frame][atoms[frame] >= 0]
            kinds[frame, : len(here)] = own[here]
            parts[frame] = np.zeros((atoms.shape[1], found.shape[-1]))
            parts[frame][: len(here)] = values[here]
    descriptors = np.stack([parts[frame] for frame in range(len(atoms))]) if parts else np.zeros((*atoms.shape, 0))
    known, spread = compare_with_training(model, kinds, descriptors, spec)
    scale = np.where(kinds >= 0, spread[kinds], 1.0)
    return {
        "task": frames["task"],
        "step": frames["step"],
        "atoms": atoms,
        "kinds": kinds,
        "known": known / scale,
        "descriptors": (descriptors / scale[..., None]).astype(np.float32),
    }


def look_ahead(frames: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``task`` and ``step`` of shape (n,), and what `deepmd_gradients.make_kernel` does of the worst atoms.

    Raises
    ------
    FloatingPointError
        If a model gives a force that is not finite.
    ValueError
        If the covariance does not serve.
    """
    import deepmd_gradients

    atoms = find_worst_atoms(frames, spec)
    return {"task": frames["task"], "step": frames["step"], **deepmd_gradients.make_kernel(frames, atoms, spec)}


def find_worst_atoms(frames: Mapping[str, Any], spec: Mapping[str, Any]) -> Any:
    """Return the atoms of each frame on whose forces the models differ most, shape (n, k), −1 for none.

    One model is in memory at a time. The deviation is that of DP-GEN (Comput. Phys. Commun. 253, 107206 (2020)):
    sqrt(⟨|F − ⟨F⟩|²⟩), divided by |⟨F⟩| + ε where that is the score.
    """
    import numpy as np
    from deepmd.infer import DeepPot

    mean, square = np.zeros_like(frames["positions"]), np.zeros_like(frames["positions"])
    ends = np.cumsum(frames["n_atoms"])
    for count, path in enumerate(spec["models"], 1):
        model = DeepPot(path)
        for batch in make_batches(frames["n_atoms"], frames["periodic"]):
            coords, cells, types = take_frames(frames, batch)
            forces = model.eval(coords, cells, model_kinds(model, types, spec["type_map"]), mixed_type=True)[1]
            if not np.isfinite(forces).all():
                raise FloatingPointError(f"{path} gives a force that is not finite")
            rows = np.concatenate([np.arange(ends[frame] - frames["n_atoms"][frame], ends[frame]) for frame in batch])
            difference = forces.reshape(-1, 3) - mean[rows]
            mean[rows] += difference / count
            square[rows] += difference * (forces.reshape(-1, 3) - mean[rows])
    deviation = np.sqrt(square.sum(axis=1) / len(spec["models"]))
    if spec["relative_epsilon"] is not None:
        deviation /= np.linalg.norm(mean, axis=1) + spec["relative_epsilon"]
    atoms = np.full((len(ends), spec["worst_atoms"]), -1)
    for frame, end in enumerate(ends):
        own = deviation[end - frames["n_atoms"][frame] : end]
        worst = np.argsort(-own, kind="stable")[: spec["worst_atoms"]]
        atoms[frame, : len(worst)] = worst
    return atoms


def compare_with_training(model: Any, kinds: Any, descriptors: Any, spec: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the distance of each atom to the nearest environment of its element that is trained on, and the spread.

    The spread of an element's descriptors is the root mean square of their distances to their mean; 1 where nothing
    of that element, or nothing that differs, is trained on.
    """
    import numpy as np

    n_kinds = len(spec["type_map"])
    known = np.where(kinds >= 0, np.inf, 0.0)
    count, square = np.zeros(n_kinds), np.zeros(n_kinds)
    total = np.zeros((n_kinds, descriptors.shape[-1]))
    for coords, cells, types in training_batches(spec["systems"], spec["type_map"]) if len(kinds) else ():
        found, own = evaluate_descriptors(model, coords, cells, types, spec["type_map"])[types >= 0], types[types >= 0]
        for kind in np.unique(own):
            those = found[own == kind]
            count[kind] += len(those)
            total[kind] += those.sum(axis=0)
            square[kind] += (those**2).sum()
            mask = kinds == kind
            known[mask] = np.minimum(known[mask], find_nearest(descriptors[mask], those))
    mean_square = square / np.maximum(count, 1)
    variance = mean_square - ((total / np.maximum(count, 1)[:, None]) ** 2).sum(axis=1)
    return known, np.sqrt(np.where(variance > 1e-12 * mean_square, variance, 1.0))


def find_nearest(points: Any, others: Any) -> Any:
    """Return the distance of each point to the nearest other, shape (n_points,)."""
    import numpy as np

    found = np.empty(len(points))
    for start in range(0, len(points), BLOCK_ROWS):
        block = points[start : start + BLOCK_ROWS]
        squares = (block**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2.0 * block @ others.T
        found[start : start + BLOCK_ROWS] = np.sqrt(np.maximum(squares.min(axis=1), 0.0))
    return found


def evaluate_descriptors(model: Any, coords: Any, cells: Any, types: Any, type_map: Sequence[str]) -> Any:
    """Return the descriptors of frames of one size, shape (n_frames, n_atoms, d); kinds of −1 are no atoms."""
    import numpy as np

    found = model.eval_descriptor(coords, cells, model_kinds(model, types, type_map), mixed_type=True)
    if not np.isfinite(found[types >= 0]).all():
        raise FloatingPointError("the model gives a descriptor that is not finite")
    return found


def model_kinds(model: Any, types: Any, type_map: Sequence[str]) -> Any:
    """Return kinds in the order of the type map as the model numbers them."""
    import numpy as np

    own = model.get_type_map()
    return np.array([*(own.index(name) for name in type_map), -1])[types]


def training_batches(systems: Sequence[str], type_map: Sequence[str]) -> Iterator[tuple[Any, Any, Any]]:
    """Yield coordinates, cells (None without) and kinds of frames that are trained on, a batch at a time.

    If they have more than `MAX_TRAINING_ATOMS` atoms, frames are drawn, the same for every model.
    """
    import deepmd_evaluate
    import numpy as np

    shapes = [deepmd_evaluate.load(Path(system), "coord").shape for system in systems]
    frames = np.array([(index, frame) for index, (count, _) in enumerate(shapes) for frame in range(count)])
    n_atoms = np.array([shapes[index][1] // 3 for index, _ in frames])
    if n_atoms.sum() > MAX_TRAINING_ATOMS:
        order = np.random.default_rng(0).permutation(len(frames))
        n_kept = max(1, int(np.searchsorted(np.cumsum(n_atoms[order]), MAX_TRAINING_ATOMS, side="right")))
        frames = frames[np.sort(order[:n_kept])]
    for index in np.unique(frames[:, 0]):
        system, own = Path(systems[index]), frames[frames[:, 0] == index, 1]
        coords = deepmd_evaluate.load(system, "coord")
        cells = None if (system / "nopbc").exists() else deepmd_evaluate.load(system, "box")
        types = deepmd_evaluate.model_types(system, len(coords), list(type_map))
        for batch in make_batches([coords.shape[1] // 3] * len(own), [cells is not None] * len(own)):
            chosen = own[batch]
            yield coords[chosen], None if cells is None else cells[chosen], types[chosen]


def make_batches(n_atoms: Sequence[int], periodic: Sequence[bool]) -> Iterator[list[int]]:
    """Yield places of frames of one size and kind of cell, no more than `BATCH_ATOMS` atoms at once."""
    alike: dict[tuple[int, bool], list[int]] = {}
    for frame, (size, cell) in enumerate(zip(n_atoms, periodic)):  # noqa: B905  (as in `describe`)
        alike.setdefault((int(size), bool(cell)), []).append(frame)
    for (size, _), frames in alike.items():
        n_frames = max(1, BATCH_ATOMS // size)
        yield from (frames[start : start + n_frames] for start in range(0, len(frames), n_frames))


def take_frames(frames: Mapping[str, Any], batch: Sequence[int]) -> tuple[Any, Any, Any]:
    """Return coordinates, cells (None without) and kinds of frames of one size, in the form DeePMD-kit takes."""
    import numpy as np

    ends = np.cumsum(frames["n_atoms"])
    rows = np.array([np.arange(ends[frame] - frames["n_atoms"][frame], ends[frame]) for frame in batch])
    cells = frames["cells"][batch].reshape(-1, 9) if frames["periodic"][batch[0]] else None
    return frames["positions"][rows].reshape(len(batch), -1), cells, frames["kinds"][rows]


if __name__ == "__main__":
    sys.exit(main())
