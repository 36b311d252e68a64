"""Equal frames of several files, or of one: the first is taken, so that none is in training and validation both."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from al_driver.data.blocks import take
from al_driver.data.formats.load import Loaded


def drop_duplicates(files: Sequence[Loaded]) -> None:
    """Leave out, with the reason ``duplicate``, each frame that equals one before it; labels are not compared."""
    seen: dict[bytes, str] = {}
    for loaded in files:
        kept = []
        for index, key in enumerate(key for block in loaded.blocks for key in block.frame_keys()):
            place = f"step {loaded.moments[index] + 1}"
            if key in seen:
                loaded.left_out.append(("duplicate", f"{place}: equals {seen[key]}"))
            else:
                seen[key] = f"{place} of {loaded.source.path}"
                kept.append(index)
        if len(kept) < len(loaded.moments):
            loaded.blocks = take(loaded.blocks, kept)
            loaded.moments = [loaded.moments[index] for index in kept]


def count_duplicates(files: Sequence[Loaded]) -> int:
    """Return how many frames equal one before them."""
    keys = [key for loaded in files for block in loaded.blocks for key in block.frame_keys()]
    return len(keys) - len(set(keys))


def drop_twins(files: Sequence[Loaded]) -> tuple[list[Loaded], list[tuple[Path, str]]]:
    """Leave aside one of an OUTCAR and a vasprun.xml in one folder that tell of the same run; return those, and why.

    The one with less; of equal ones the vasprun.xml (as `engines.vasp.result`), and where the OUTCAR shows that steps
    did not converge: it alone prints how far eigenvalues still moved.
    """
    dropped: set[int] = set()
    aside: list[tuple[Path, str]] = []
    outcars = [loaded for loaded in files if loaded.source.format == "vasp/outcar"]
    xmls = [loaded for loaded in files if loaded.source.format == "vasp/xml"]
    for outcar, xml in product(outcars, xmls):
        if outcar.source.path.parent == xml.source.path.parent and _is_same_run(outcar, xml):
            is_judge = any(reason == "scf_unconverged" for reason, _ in outcar.left_out)
            less, more = (xml, outcar) if is_judge or len(xml.moments) <= len(outcar.moments) else (outcar, xml)
            dropped.add(id(less))
            aside.append((less.source.path, f"the same run as {more.source.path.name}, counted once"))
    return [loaded for loaded in files if id(loaded) not in dropped], aside


def _is_same_run(one: Loaded, other: Loaded) -> bool:
    """Say whether the steps that two files share have equal species and energies; OUTCAR prints eight decimals."""
    first, second = _energies(one), _energies(other)
    shared = first.keys() & second.keys()
    return bool(shared) and all(
        first[moment][0] == second[moment][0] and abs(first[moment][1] - second[moment][1]) < 1e-6 for moment in shared
    )


def _energies(loaded: Loaded) -> dict[int, tuple[bytes, float]]:
    """Return species and energy of each step."""
    found = [
        (block.numbers.tobytes(), float(energy))
        for block in loaded.blocks
        if block.energies is not None
        for energy in block.energies
    ]
    return dict(zip(loaded.moments, found, strict=True))
