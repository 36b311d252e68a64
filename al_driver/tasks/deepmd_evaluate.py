"""Compare a model of DeePMD-kit with labels: errors, and the numbers a parity plot is drawn from.

`deepmd_train.py` imports this file, in the Python that has DeePMD-kit: like that program it imports nothing
of `al_driver`. eV, eV/atom, eV/Å.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_TRAINING_FRAMES = 200
"""Frames a model is evaluated on where there is no validation data."""
MAX_ENERGIES, MAX_FORCES = 5_000, 30_000
"""Frames, and components of forces, that are kept for plots."""


def evaluate(training: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compare ``frozen_model.pth`` with the labels: all validation frames, or a fixed draw of training frames.

    Parameters
    ----------
    training
        The section of DeePMD-kit's input that names the systems.

    Returns
    -------
    What ``evaluation.json`` says of it; and arrays for ``evaluation.npz``, a fixed draw where there are many, the
    same for every member: energies per atom ``energy_reference`` and ``energy_predicted`` with ``formula``, a number
    that tells apart the frames' compositions, shape (n_frames,); components of forces ``force_reference`` and
    ``force_predicted``, shape (n,); and of how many they were drawn, ``n_energies`` and ``n_forces``.

    Raises
    ------
    FloatingPointError
        If the model gives an energy or a force that is not finite.
    """
    import numpy as np
    from deepmd.infer import DeepPot

    on = "valid" if "validation_data" in training else "train"
    systems = [Path(system) for system in training["validation_data" if on == "valid" else "training_data"]["systems"]]
    counts = [len(load(system, "energy")) for system in systems]
    chosen = np.arange(sum(counts))
    if on == "train" and len(chosen) > MAX_TRAINING_FRAMES:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, MAX_TRAINING_FRAMES, replace=False))
    model = DeepPot("frozen_model.pth")
    energies, forces, compositions = [], [], []
    for system, count, end in zip(systems, counts, np.cumsum(counts)):  # noqa: B905  (as in `deepmd_train.py`)
        if not len(frames := chosen[(chosen >= end - count) & (chosen < end)] - (end - count)):
            continue
        types = model_types(system, count, model.get_type_map())[frames]
        boxes = None if (system / "nopbc").exists() else load(system, "box")[frames]
        energy, force = model.eval(load(system, "coord")[frames], boxes, types, mixed_type=True)[:2]
        if not (np.isfinite(energy).all() and np.isfinite(force).all()):
            raise FloatingPointError(f"the model gives an energy or a force that is not finite, for {system}")
        real = types >= 0
        energies.append(np.stack([load(system, "energy")[frames].ravel(), energy.ravel()]) / real.sum(axis=1))
        forces.append(np.stack([load(system, "force")[frames].ravel(), force.ravel()])[:, np.repeat(real, 3)])
        compositions.append(np.stack([(types == kind).sum(axis=1) for kind in range(len(model.get_type_map()))], 1))
    energy, force = np.concatenate(energies, axis=1), np.concatenate(forces, axis=1)
    rmse = [float(np.sqrt(np.mean((predicted - reference) ** 2))) for reference, predicted in (energy, force)]
    summary = {"on": on, "n_frames": len(chosen), "energy_rmse": rmse[0], "force_rmse": rmse[1]}
    return summary, _draw(energy, force, np.concatenate(compositions))


def _draw(energy: Any, force: Any, compositions: Any) -> dict[str, Any]:
    """Return the arrays of `evaluate`: all that there is, or a fixed draw of it."""
    import numpy as np

    rng = np.random.default_rng(0)
    n_energies, n_forces = energy.shape[1], force.shape[1]
    if n_energies > MAX_ENERGIES:
        kept = np.sort(rng.choice(n_energies, MAX_ENERGIES, replace=False))
        energy, compositions = energy[:, kept], compositions[kept]
    if n_forces > MAX_FORCES:
        force = force[:, np.sort(rng.choice(n_forces, MAX_FORCES, replace=False))]
    force = force.astype(np.float32)  # seven digits are more than a picture shows
    return {
        "energy_reference": energy[0],
        "energy_predicted": energy[1],
        "formula": np.unique(compositions, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int32),
        "n_energies": np.int64(n_energies),
        "force_reference": force[0],
        "force_predicted": force[1],
        "n_forces": np.int64(n_forces),
    }


def model_types(system: Path, n_frames: int, type_map: list[str]) -> Any:
    """Return each atom's number in the model, shape (n_frames, n_atoms); -1 for one that only fills a mixed system."""
    import numpy as np

    own = (system / "type_map.raw").read_text().split() if (system / "type_map.raw").exists() else type_map
    kinds = np.tile(np.loadtxt(system / "type.raw", dtype=int, ndmin=1), (n_frames, 1))
    if any(system.glob("set.*/real_atom_types.npy")):  # deepmd/npy/mixed; type.raw says nothing
        kinds = load(system, "real_atom_types").astype(int)
    numbers = {int(kind): type_map.index(own[kind]) if kind >= 0 else -1 for kind in np.unique(kinds)}
    return np.vectorize(numbers.__getitem__)(kinds)


def load(system: Path, name: str) -> Any:
    """Return an array of all sets of a system."""
    import numpy as np

    return np.concatenate([np.load(folder / f"{name}.npy") for folder in sorted(system.glob("set.*"))])
