"""Whether a deepmd/npy system is what training will read: files there, shapes that agree, elements that are known.

Arrays are mapped, not read, so that large data cost nothing.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from al_driver.data.dataset import system_elements
from al_driver.errors import ConfigError, Problem


def describe_strange(elements: Sequence[str], type_map: Sequence[str]) -> str:
    """Say which elements a ``type_map`` lacks, and what to do."""
    return f"has {', '.join(elements)}, which type_map {list(type_map)} lacks; add it there, or name another file"


def check_system(system: Path, type_map: Sequence[str]) -> int:
    """Return the number of labelled frames of one deepmd/npy system.

    Raises
    ------
    ConfigError
        If a file is missing or cannot be read, shapes disagree, or an element is not in ``type_map``.
    """
    try:
        n_atoms = len((system / "type.raw").read_text().split())
        strange = sorted(set(system_elements(system)) - set(type_map))
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(
            Problem(f"type.raw and type_map.raw do not name its atoms ({_reason(error)})", file=system)
        ) from error
    if strange:
        raise ConfigError(Problem(describe_strange(strange, type_map), file=system, once=True))
    sets = sorted(system.glob("set.*"))
    if not sets:
        raise ConfigError(Problem("holds no set.* folder", file=system))
    return sum(_check_set(folder, n_atoms, periodic=not (system / "nopbc").exists()) for folder in sets)


def _check_set(folder: Path, n_atoms: int, *, periodic: bool) -> int:
    widths = {"coord": 3 * n_atoms, "force": 3 * n_atoms, "energy": 1}
    widths |= {"box": 9} if periodic else {}
    widths |= {"virial": 9} if (folder / "virial.npy").exists() else {}
    counts: dict[str, int] = {}
    for name, width in widths.items():
        file = folder / f"{name}.npy"
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ConfigError(Problem(f"cannot be read ({_reason(error)})", file=file)) from error
        if array.ndim == 0 or array.size != len(array) * width:
            raise ConfigError(Problem(f"has shape {array.shape}; expected (frames, {width})", file=file))
        counts[name] = len(array)
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ConfigError(Problem(f"the numbers of frames disagree: {told}", file=folder))
    return counts["coord"]


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200]
