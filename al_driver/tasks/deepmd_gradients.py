"""The kernel of a look-ahead choice: K = G P Gᵀ over the forces on the worst atoms of candidates.

`deepmd_describe.py`, its neighbour, imports it in the Python that has DeePMD-kit: like that program it imports nothing
of `al_driver`. P is the covariance that the Kalman filter left in a checkpoint, G holds a row for each force
component, its gradient in the weights. One block of P is in memory at a time beside one frame's gradients: the rows
wait on the disk, block by block, and there are no more of them than `MOST_DISK` and `MOST_ROWS` allow. eV, eV/Å.
"""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

MOST_DISK, MOST_ROWS = 4.0, 12_000
"""GB that the gradients of all candidates may take, and the most rows of their kernel (1.2 GB): of each frame as many
of its worst atoms count as fit, or one."""
FORCES_PER_UPDATE = 18
"""Components of forces that one update of DeePMD-kit's filter averages: six atoms'."""


def make_kernel(frames: Mapping[str, Any], atoms: Any, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``kernel`` and ``noise``.

    Parameters
    ----------
    frames
        The arrays of `shortlist.npz`.
    atoms
        The worst atoms of each frame, shape (n, k), the worst first, −1 for none.

    Returns
    -------
    K, of shape (3 k n, 3 k n), frame by frame; k may be less than was asked for. And the noise R of a component of
    each frame, shape (n,): the filter's own, when it sees a frame once. Its update takes the mean of
    `FORCES_PER_UPDATE` components, times the factor f of forces, divided by the number N of atoms, with a noise of
    λ ≈ 1 for each block, so that R = 18 (N / f)² n_blocks.

    Raises
    ------
    ValueError
        If the checkpoint holds no sound covariance, or a gradient is not finite.
    """
    import kpu_model

    try:
        model = kpu_model.KalmanModel(Path(spec["covariance"]))
    except kpu_model.Refused as refused:
        raise ValueError(f"{spec['covariance']} {refused}") from None
    most_rows = min(MOST_ROWS, int(MOST_DISK * 1e9 / (4 * model.n_weights)))
    atoms = atoms[:, : max(1, most_rows // (3 * max(1, len(atoms))))]
    n_rows = 3 * atoms.size
    kernel = np.zeros((n_rows, n_rows))
    with tempfile.TemporaryDirectory(dir=".", prefix=".gradients-") as folder:
        sizes = [len(block) for block in model.covariance]
        blocks = [
            np.memmap(Path(folder, f"{number}.f32"), np.float32, "w+", shape=(n_rows, size))
            for number, size in enumerate(sizes)
            if n_rows
        ]
        ends = np.cumsum(sizes)
        for row, gradient in _iterate_gradients(model, frames, atoms, spec):
            for block, start, end in zip(blocks, ends - sizes, ends):  # noqa: B905  (as in `deepmd_train.py`)
                block[row : row + 3] = gradient[:, start:end]
        for block, covariance in zip(blocks, model.covariance):  # noqa: B905
            rows = np.asarray(block, dtype=np.float64)
            kernel += rows @ covariance.cpu().numpy().astype(np.float64) @ rows.T
    noise = FORCES_PER_UPDATE * len(sizes) * (np.asarray(frames["n_atoms"]) / spec["force_factor"]) ** 2
    if not np.isfinite(kernel).all():
        raise ValueError(f"{spec['covariance']}: a gradient of a force is not finite")
    return {"kernel": (kernel + kernel.T) / 2, "noise": noise}


def _iterate_gradients(
    model: Any, frames: Mapping[str, Any], atoms: Any, spec: Mapping[str, Any]
) -> Iterator[tuple[int, Any]]:
    """Yield the first row of an atom, and the gradients of its three force components, shape (3, n_weights)."""
    ends = np.cumsum(frames["n_atoms"])
    for frame, own in enumerate(atoms):
        rows = slice(ends[frame] - frames["n_atoms"][frame], ends[frame])
        symbols = [spec["type_map"][kind] for kind in frames["kinds"][rows]]
        periodic = np.full(3, frames["periodic"][frame])
        whole = model.make_frame(frames["positions"][rows], frames["cells"][frame], periodic, symbols)
        for group, gradients in model.force_gradients(whole, own[own >= 0]):
            for atom, gradient in zip(group, gradients.cpu().numpy()):  # noqa: B905
                place = int(np.flatnonzero(own == atom)[0])
                yield 3 * (frame * atoms.shape[1] + place), gradient
