"""What ``al init_bulk`` will make, before it makes it: counts of each stage, and whether they can be split."""

from collections.abc import Iterator, Mapping
from typing import Any

from ase import Atoms

from al_driver.schema.init_bulk import InitBulkParams, InitStructure
from al_driver.structures.perturb import displacement
from al_driver.words import many
from al_driver.workflow.split import describe_held_back, split_frames
from al_driver.workflow.stages import keeps_labels, read_entries


def expected_counts(params: InitBulkParams) -> list[str]:
    """Foretell, a line for each entry, how many structures each of its stages gives, and how far atoms are moved.

    Raises
    ------
    ConfigError
        If a structure cannot be read.
    """
    lines, total, to_label = [], 0, 0
    for entry, frames in _read(params):
        n_shapes = len(frames) * len(entry.scale)
        n_copies = len(_copies(entry, frames))
        n_frames = len(_with_dynamics(entry, frames))
        counts = {"relax": len(frames), "supercell": len(frames), "scale": n_shapes, "perturb": n_copies}
        counts["aimd"] = n_frames
        total += n_frames
        to_label += n_copies if entry.aimd is not None and keeps_labels(params, entry.aimd) else n_frames
        stages = (f" → {stage} {count}" for stage, count in counts.items() if stage in entry.stages)
        lines.append(f"{entry.name or entry.path.name}: read {len(frames)}{''.join(stages)}")
        lines += [f"  {line}" for line in _describe(entry, frames[0])]
    own = f" ({total - to_label} of them by their AIMD)" if total > to_label else ""
    labelled = "" if params.label is False else f" to label{own}"
    lines.append(f"at most {many(total, 'structure')}{labelled}; what is too close or there already is dropped")
    return lines


def expected_split(params: InitBulkParams) -> str:
    """Foretell, in words, how the frames are split, were every structure labelled.

    Raises
    ------
    ConfigError
        If nothing would be left to train on, or a structure cannot be read.
    """
    entries = list(_read(params))
    infos = [info for entry, frames in entries for info in _with_dynamics(entry, frames)]
    holds = {_source(atoms.info): frozenset(atoms.symbols) for _, frames in entries for atoms in frames}
    elements = [holds[_source(info)] for info in infos]
    split = split_frames(infos, params.valid_fraction, params.seed, elements)
    return f"{len(split.train)} of them to train on, {describe_held_back(len(split.valid), len(split.left_out))}"


def _read(params: InitBulkParams) -> Iterator[tuple[InitStructure, list[Atoms]]]:
    frames = read_entries(params)
    for number, entry in enumerate(params.structures):
        yield entry, [atoms for atoms in frames if atoms.info["entry"] == number]


def _source(info: Mapping[str, Any]) -> tuple[int, ...]:
    """Return which frame of which file of which entry a structure was made from."""
    return tuple(int(info[key]) for key in ("entry", "file", "moment"))


def _copies(entry: InitStructure, frames: list[Atoms]) -> list[dict[str, Any]]:
    """Return where each structure that leaves the stage perturb comes from."""
    n_copies = len(entry.scale) * (entry.perturb.copies if entry.perturb else 1)
    return [dict(atoms.info) for atoms in frames for _ in range(n_copies)]


def _with_dynamics(entry: InitStructure, frames: list[Atoms]) -> list[dict[str, Any]]:
    """Return where each structure that is labelled comes from."""
    infos = _copies(entry, frames)
    if entry.aimd is None:
        return infos
    steps = entry.aimd.dynamics(seed=0).steps
    for start in entry.aimd.choose_starts(len(infos)):
        infos[start] |= {"aimd": start, "aimd_step": 0}
    return infos + [info | {"aimd_step": step} for info in infos if "aimd" in info for step in steps]


def _describe(entry: InitStructure, atoms: Atoms) -> Iterator[str]:
    if entry.perturb is not None:
        for symbol, (sigma, temperature) in displacement(entry.perturb, atoms.get_chemical_symbols()).items():
            yield f"{symbol}: moved by {sigma:.3f} Å per axis (σ), as in a Debye solid at {temperature:.0f} K"
    if entry.aimd is not None:
        length, n_frames = entry.aimd.n_steps * entry.aimd.timestep, len(entry.aimd.dynamics(seed=0).steps)
        yield f"aimd: {entry.aimd.temperature:g} K, {length:g} ps, {many(n_frames, 'frame')} from each start"
