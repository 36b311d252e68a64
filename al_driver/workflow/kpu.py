"""``al kpu``: the exact Kalman prediction uncertainty of frames, computed where DeePMD-kit is. eV/Å, eV/atom.

The work is `al_driver/tasks/kpu.py`, in a process of its own: this one never imports torch.
"""

import json
import math
import re
import tempfile
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from al_driver.data.formats.load import find_sources, load_source, refused
from al_driver.data.frames import write_frames
from al_driver.data.sources import find_paths
from al_driver.data.structure_files import read_structure_file
from al_driver.errors import ConfigError, Problem
from al_driver.trainers.deepmd_program import python_command
from al_driver.workflow.child import run_child
from al_driver.workflow.target import check_target

PROGRAM = Path(__file__).parents[1] / "tasks" / "kpu.py"
CHECKPOINT = "model.ckpt.pt"
FORCE, ENERGY, SCALE = "kpu_force", "kpu_energy", "kpu_scale"
Progress = Callable[[int, int], None]


def kpu(
    checkpoint: Path | str,
    frames: Path | str,
    out: Path | str,
    *,
    format: str | None = None,
    atoms: Sequence[int] | None = None,
    scaled: bool = False,
    single: bool = False,
    device: str = "auto",
    memory: float = 1.0,
    command: Sequence[str] = ("dp",),
    progress: Progress | None = None,
) -> list[Atoms]:
    """Write frames with ``kpu_force``, u_i of each atom, and in the comment ``kpu_energy``, sqrt(KPU(E)) / N.

    Also in the comment: ``kpu_scale`` = sqrt(Π 1/λ) of the filter; u divided by it does not grow with the updates.

    Parameters
    ----------
    checkpoint
        ``model.ckpt.pt`` of a training with LKF, or the folder of a model or of a train step.
    frames
        A file or folder in any format that `al convert` or ASE reads, or a pattern.
    out
        An extxyz file that is not there yet.
    format
        Of the frames, where it is not recognised.
    atoms
        Whose forces; all of them when None. The others are NaN.
    scaled
        Write both divided by ``kpu_scale``.
    single
        Work in float32.
    device
        "auto" or "cpu".
    memory
        GB that the computation may take, beside model and covariance.
    command
        As ``train.command`` in resource.json: where DeePMD-kit is.
    progress
        Called with the number of frames done and their count.

    Returns
    -------
    The frames as they were written.

    Raises
    ------
    ConfigError
        If checkpoint or frames do not serve, or ``out`` is there already.
    TasksFailed
        If the program broke off.
    """
    out = Path(out).expanduser()
    if out.suffix not in {".extxyz", ".xyz"}:
        raise ConfigError(f"-o {out}: expected a file whose name ends in .extxyz")
    if out.exists():
        raise ConfigError(f"-o {out} is there already; name a new file, or take it away")
    check_target(out)
    if not 0 < memory < math.inf:
        raise ConfigError(f"--memory {memory:g}: expected GB, more than 0")
    spec = {
        "checkpoint": str(find_checkpoint(Path(checkpoint).expanduser())),
        "atoms": None if atoms is None else list(atoms),
        "memory": memory,
        "single": single,
        "device": device,
    }
    structures = _read(Path(frames).expanduser(), format)
    found = _compute(spec, structures, python_command(command, PROGRAM), progress)
    factor = float(found["scale"]) if scaled else 1.0
    ends = np.cumsum([len(structure) for structure in structures])
    for structure, values, energy in zip(structures, np.split(found["force"], ends), found["energy"], strict=False):
        structure.arrays[FORCE] = values / factor
        structure.info |= {ENERGY: float(energy) / factor, SCALE: float(found["scale"])}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_frames(out, structures, [FORCE])
    return structures


def parse_atoms(text: str | None) -> list[int] | None:
    """Return the atoms that "0,5,7-9" names, or None for all.

    Raises
    ------
    ConfigError
        If it is no list of numbers.
    """
    if text is None:
        return None
    parts = [re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip()) for part in text.split(",")]
    ranges = [range(int(part[1]), int(part[2] or part[1]) + 1) for part in parts if part]
    if len(ranges) < len(parts) or not all(ranges):
        raise ConfigError(f"--atoms {text}: expected numbers and ranges, as 0,5,7-9; the first atom is 0")
    return sorted({atom for one in ranges for atom in one})


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint that a file, or the folder of a model or of a train step, stands for.

    Raises
    ------
    ConfigError
        If there is none, or more than one.
    """
    if path.is_file():
        return path.resolve()
    if not path.is_dir():
        raise ConfigError(Problem("does not exist; a checkpoint was expected, or the folder of a training", file=path))
    if (path / CHECKPOINT).is_file():
        return (path / CHECKPOINT).resolve()
    found = sorted(path.glob(f"model.*/{CHECKPOINT}")) or sorted(path.glob("*.pt"))
    if len(found) != 1:
        names = ", ".join(str(file.relative_to(path)) for file in found[:4])
        what = f"holds several checkpoints ({names}); name one" if found else f"holds no {CHECKPOINT}"
        raise ConfigError(Problem(what, file=path))
    return found[0].resolve()


def _read(path: Path, format: str | None) -> list[Atoms]:
    """Read every frame of every file, in order."""
    frames: list[Atoms] = []
    for file in find_paths(path):
        sources = find_sources(file, format)
        if not sources and file.is_dir():
            raise ConfigError(Problem("holds no file in a format that is recognised", file=file))
        if not sources:
            frames += read_structure_file(file, ())
        for loaded in map(load_source, sources):
            if loaded.problem or loaded.left_out:
                detail = loaded.left_out[0][1] if loaded.left_out else ""
                loaded.problem = loaded.problem or f"has a frame that cannot be taken: {detail}"
                raise ConfigError(refused(loaded))
            frames += (atoms for block in loaded.blocks for atoms in block.frames())
    for number, atoms in enumerate(frames, 1):
        if not (len(atoms) and np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
            message = f"frame {number} holds no atoms, or a coordinate that is not a finite number"
            raise ConfigError(Problem(message, file=path))
    return frames


def _compute(
    spec: dict[str, Any], frames: Sequence[Atoms], command: Sequence[str], progress: Progress | None
) -> dict[str, Any]:
    """Run the program in a folder of its own, and return its arrays."""
    with tempfile.TemporaryDirectory(prefix="al-kpu-") as name:
        folder = Path(name)
        (folder / "kpu.json").write_text(json.dumps(spec), encoding="utf-8")
        np.savez(
            folder / "frames.npz",
            n_atoms=[len(atoms) for atoms in frames],
            symbols=np.concatenate([atoms.get_chemical_symbols() for atoms in frames]),
            positions=np.concatenate([atoms.positions for atoms in frames]),
            cells=np.array([atoms.cell.array for atoms in frames]),
            pbc=np.array([atoms.pbc for atoms in frames]),
        )
        done = count(1)

        def tell(line: str) -> None:
            if progress and line.startswith("frame "):
                progress(next(done), len(frames))

        run_child(command, folder, "al kpu", "kpu.npz", tell, less_memory=": try --memory")
        with np.load(folder / "kpu.npz", allow_pickle=False) as arrays:
            return dict(arrays)
