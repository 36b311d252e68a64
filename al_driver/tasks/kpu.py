"""Compute the Kalman prediction uncertainty of frames with one model of DeePMD-kit.

Run in a folder by the Python that has DeePMD-kit, which may be another environment than the driver's: this file, and
`kpu_model.py` and `kpu_frame.py`, which it loads, import nothing of `al_driver`. It reads `kpu.json` (checkpoint,
atoms, memory, single, device) and `frames.npz`, prints a line a frame, and leaves `kpu.npz`, or `diagnosis.json` with
a reason where that cannot be. eV/Å, eV/atom.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    """Do everything in the current folder; return the exit status."""
    here = str(Path(__file__).parent)
    sys.path[:] = [*(entry for entry in sys.path if entry != here), here]  # neighbours come after the libraries
    spec = json.loads(Path("kpu.json").read_text(encoding="utf-8"))
    if spec["device"] == "cpu":
        os.environ["DEVICE"] = "cpu"  # DeePMD-kit takes a GPU wherever there is one
    threads = os.environ.get("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    os.environ.setdefault("DP_INTRA_OP_PARALLELISM_THREADS", threads)
    os.environ.setdefault("DP_INTER_OP_PARALLELISM_THREADS", "1")
    import kpu_model
    import numpy as np

    try:
        found = compute(spec)
    except kpu_model.Refused as failure:
        Path("diagnosis.json").write_text(json.dumps({"detail": str(failure)}), encoding="utf-8")
        return 1
    np.savez(".kpu.npz", **found)
    Path(".kpu.npz").replace("kpu.npz")
    return 0


def compute(spec: dict[str, Any]) -> dict[str, Any]:
    """Return ``force``, u of every atom (NaN where it was not asked for), ``energy``, and ``scale``.

    Raises
    ------
    kpu_model.Refused
        If the checkpoint does not serve, a frame has an element that the model does not know, or a number is not
        finite.
    """
    import kpu_model
    import numpy as np

    with np.load("frames.npz", allow_pickle=False) as arrays:
        frames = dict(arrays)
    model = kpu_model.KalmanModel(Path(spec["checkpoint"]), memory=spec["memory"], single=spec["single"])
    ends = np.cumsum(frames["n_atoms"])
    force, energy = np.full(ends[-1], np.nan), np.empty(len(ends))
    for number, (n_atoms, end) in enumerate(zip(frames["n_atoms"], ends)):  # noqa: B905  (as in `deepmd_train.py`)
        own = slice(end - n_atoms, end)
        atoms = np.arange(n_atoms) if spec["atoms"] is None else np.asarray(spec["atoms"], dtype=int)
        try:
            if atoms.size and atoms.max() >= n_atoms:
                raise kpu_model.Refused(f"has {n_atoms} atoms, counted from 0, and atom {atoms.max()} is asked for")
            cell, pbc = frames["cells"][number], frames["pbc"][number]
            frame = model.make_frame(frames["positions"][own], cell, pbc, frames["symbols"][own].tolist())
            force[own][atoms] = model.force_uncertainty(frame, atoms)
            energy[number] = model.energy_uncertainty(frame)
        except kpu_model.Refused as failure:
            raise kpu_model.Refused(f"frame {number + 1} of {len(ends)}: {failure}") from failure
        sys.stdout.write(f"frame {number + 1} of {len(ends)}\n")
        sys.stdout.flush()
    return {"force": force, "energy": energy, "scale": np.float64(model.scale)}


if __name__ == "__main__":
    sys.exit(main())
