"""A work folder as two iterations and a final model leave it, as far as pictures need it; no program is started."""

from pathlib import Path
from typing import Any

import numpy as np

from al_driver.files import write_json
from al_driver.query.report import HEADER

COUNTS = {"accurate": 2, "candidate": 3, "failed": 1}
SCORES = [("accurate", 0.02), ("accurate", 0.05), ("candidate", 0.15), ("candidate", 0.2), ("candidate", 0.4),
          ("failed", 3.0)]  # fmt: skip


def write_marker(folder: Path, **result: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    record = {"fingerprint": folder.name, "inputs": {}, "result": result, "outputs": [], "finished": str(result)}
    write_json(folder / "step.json", record)


def write_train(folder: Path, on: str = "valid", n_train: int = 8, arrays: bool = True) -> None:
    rng = np.random.default_rng(n_train)
    members = []
    for member in range(2):
        energy, force = rng.normal(-5, 0.1, size=(2, 6)), rng.normal(size=(2, 90))
        rmse = {
            f"{name}_rmse": float(np.sqrt(np.mean(np.diff(values, axis=0) ** 2)))
            for name, values in (("energy", energy), ("force", force))
        }
        members.append({**rmse, "on": on, "n_frames": 6, "n_train": n_train, "versions": {}})
        (folder / f"model.{member:03d}").mkdir(parents=True)
        if arrays:
            np.savez(
                folder / f"model.{member:03d}/evaluation.npz", energy_reference=energy[0], energy_predicted=energy[1],
                formula=np.zeros(6, dtype=np.int32), n_energies=6, force_reference=force[0], force_predicted=force[1],
                n_forces=900,
            )  # fmt: skip
    write_marker(folder, energy_rmse=0.1, force_rmse=0.2, on=on, members=members)


def write_query(folder: Path) -> None:
    lines = [HEADER]
    for task in range(2):
        for index, (name, score) in enumerate(SCORES):
            selected = int(name == "candidate")
            numbers = ",".join([f"{score:.6e}"] * 4)
            lines.append(f"task.{task:06d},si,{300 * (task + 1)}.0,,{10 * (index + 1)},{numbers},{name},{selected}\n")
    counts = {name: 2 * count for name, count in COUNTS.items()}
    write_marker(folder, frames=12, **counts, selected=6, by_structure=[], metric="max_force", lower=0.1, upper=0.5)
    (folder / "frames.csv").write_text("".join(lines))


def write_run(root: Path, on: str = "valid") -> Path:
    """Write a finished run of two iterations."""
    root.mkdir(parents=True)
    write_json(root / "history.json", {"kind": "run", "state": "done", "events": []})
    for index in range(2):
        write_train(root / f"iter.{index:04d}/train", on, n_train=8 + index)
        write_query(root / f"iter.{index:04d}/query")
    write_train(root / "final", on, n_train=20)
    return root
