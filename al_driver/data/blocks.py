"""Many frames of one composition as arrays: what files are read into and sets are written from.

An `ase.Atoms` a frame costs more time than reading the frame does. eV, Å, eV/Å.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry.cell import complete_cell
from numpy.typing import NDArray

from al_driver.data.dataset import formula_name, kind_name, stored_frame
from al_driver.data.frames import Array, Label, labelled_frame

_DECIMALS = 6
_SAME = 10.0**-_DECIMALS


@dataclass
class Block:
    """Consecutive frames of equal species, periodicity and kind of label.

    Attributes
    ----------
    numbers, pbc
        Atomic numbers, shape (n_atoms,), and periodic directions, shape (3,).
    cells, positions
        Shapes (n_frames, 3, 3) and (n_frames, n_atoms, 3).
    energies, forces, virials
        Shapes (n_frames,), (n_frames, n_atoms, 3), (n_frames, 3, 3); None where there are none.
    infos
        What else is known of each frame.
    """

    numbers: NDArray[np.int64]
    pbc: NDArray[np.bool_]
    cells: Array
    positions: Array
    energies: Array | None
    forces: Array | None
    virials: Array | None
    infos: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def is_labelled(self) -> bool:
        return self.energies is not None

    def take(self, indices: Sequence[int]) -> "Block":
        """Return some of the frames."""
        arrays = (self.cells, self.positions, self.energies, self.forces, self.virials)
        chosen = (None if array is None else array[list(indices)] for array in arrays)
        cells, positions, energies, forces, virials = chosen
        assert cells is not None and positions is not None  # noqa: S101  (for mypy)
        infos = [self.infos[index] for index in indices]
        return Block(self.numbers, self.pbc, cells, positions, energies, forces, virials, infos)

    def frame_keys(self) -> list[bytes]:
        """Return what is equal for the frames that `data.frames.frame_key` finds equal, for all of them at once."""
        cells = np.array([complete_cell(cell) for cell in self.cells])
        inverse, shift = np.linalg.inv(cells), np.where(self.pbc, _SAME, 0.0)
        scaled = self.positions @ inverse + shift
        wrapped = (np.where(self.pbc, scaled % 1.0, scaled) - shift) @ cells
        head = self.numbers.astype(np.int64).tobytes() + self.pbc.tobytes()
        rounded = (np.round(array, _DECIMALS) + 0.0 for array in (self.cells, wrapped))
        return [sha256(head + cell.tobytes() + sites.tobytes()).digest() for cell, sites in zip(*rounded, strict=True)]

    def frames(self) -> list[Atoms]:
        """Return the frames, labelled as `labelled_frame` labels them."""
        frames = []
        for index, info in enumerate(self.infos):
            atoms = Atoms(self.numbers, positions=self.positions[index], cell=self.cells[index], pbc=self.pbc)
            if self.energies is None or self.forces is None:
                atoms.info = dict(info)
                frames.append(atoms)
                continue
            virial = None if self.virials is None else self.virials[index]
            frames.append(labelled_frame(Label(atoms, float(self.energies[index]), self.forces[index], virial), info))
        return frames


def pack(steps: Iterable[Label | Atoms], infos: Sequence[dict[str, Any]]) -> list[Block]:
    """Return frames as blocks, in their order."""
    runs: list[tuple[tuple[Any, ...], list[Label | Atoms], list[dict[str, Any]]]] = []
    for step, info in zip(steps, infos, strict=True):
        atoms = step.atoms if isinstance(step, Label) else step
        has_virial = isinstance(step, Label) and step.virial is not None
        key = (atoms.numbers.tobytes(), atoms.pbc.tobytes(), isinstance(step, Label), has_virial)
        if not runs or runs[-1][0] != key:
            runs.append((key, [], []))
        runs[-1][1].append(step)
        runs[-1][2].append(info)
    return [_pack_run(steps, infos) for _, steps, infos in runs]


def _pack_run(steps: list[Label | Atoms], infos: list[dict[str, Any]]) -> Block:
    structures = [step.atoms if isinstance(step, Label) else step for step in steps]
    labels = [step for step in steps if isinstance(step, Label)]
    virials = [label.virial for label in labels if label.virial is not None]
    return Block(
        numbers=structures[0].numbers,
        pbc=structures[0].pbc,
        cells=np.array([atoms.cell.array for atoms in structures]),
        positions=np.array([atoms.positions for atoms in structures]),
        energies=np.array([label.energy for label in labels]) if labels else None,
        forces=np.array([label.forces for label in labels]) if labels else None,
        virials=np.array(virials) if virials else None,
        infos=infos,
    )


def take(blocks: Sequence[Block], indices: Sequence[int]) -> list[Block]:
    """Return the frames with these numbers, rising, counted through all blocks."""
    starts = np.cumsum([0, *map(len, blocks)])
    cuts = np.searchsorted(indices, starts)
    chosen = (
        block.take([index - start for index in indices[low:high]])
        for block, start, low, high in zip(blocks, starts, cuts, cuts[1:], strict=False)
        if high > low
    )
    return list(chosen)


def write_blocks(directory: Path, blocks: Sequence[Block], type_map: Sequence[str]) -> list[tuple[str, int]]:
    """Write ``directory/<formula>/`` as deepmd/npy; return the system and the index in it of each frame.

    The same bytes as `data.dataset.write_systems` writes. Blocks are all labelled, or none is.
    """
    import dpdata  # imports deepmd where it is installed: 0.4 s that `al status` need not pay

    groups: dict[str, list[Block]] = {}
    counts: Counter[str] = Counter()
    places = []
    for stored in (stored for block in blocks for stored in _stored(block, type_map)):
        atoms = stored.take([0]).frames()[0]
        name = formula_name(atoms, type_map) + kind_name(atoms)
        groups.setdefault(name, []).append(stored)
        places += [(name, counts[name] + index) for index in range(len(stored))]
        counts[name] += len(stored)
    for name, group in groups.items():
        data = _dpdata_arrays(group, type_map)
        system = (dpdata.LabeledSystem if "energies" in data else dpdata.System)(data=data)
        system.to("deepmd/npy", directory / name, set_size=len(data["coords"]))
    return places


def _stored(block: Block, type_map: Sequence[str]) -> list[Block]:
    """Return a block as it can be stored; a slab's cell is made frame by frame."""
    if not block.pbc.all():
        frames = [stored_frame(atoms, type_map) for atoms in block.frames()]
        return pack([_label_of(atoms) for atoms in frames], block.infos)
    symbols = Atoms(block.numbers).get_chemical_symbols()
    types = np.array([type_map.index(symbol) for symbol in symbols])
    order = np.argsort(types, kind="stable")
    forces = None if block.forces is None else block.forces[:, order]
    positions, numbers = block.positions[:, order], block.numbers[order]
    return [Block(numbers, block.pbc, block.cells, positions, block.energies, forces, block.virials, block.infos)]


def _label_of(atoms: Atoms) -> Label | Atoms:
    if "energy" not in atoms.info:
        return atoms
    return Label(atoms, float(atoms.info["energy"]), atoms.arrays["forces"], atoms.info.get("virial"))


def _dpdata_arrays(blocks: Sequence[Block], type_map: Sequence[str]) -> dict[str, Any]:
    """Return the arrays of dpdata's systems: coords (n_frames, n_atoms, 3) and so on."""
    first = blocks[0]
    symbols = Atoms(first.numbers).get_chemical_symbols()
    data: dict[str, Any] = {
        "atom_names": list(type_map),
        "atom_numbs": [symbols.count(symbol) for symbol in type_map],
        "atom_types": np.array([type_map.index(symbol) for symbol in symbols]),
        "orig": np.zeros(3),
        "cells": np.concatenate([block.cells for block in blocks]),
        "coords": np.concatenate([block.positions for block in blocks]),
    }
    for name in ("energies", "forces", "virials"):
        arrays = [getattr(block, name) for block in blocks]
        if arrays[0] is not None:
            data[name] = np.concatenate(arrays)
    if not first.pbc.any():
        data["nopbc"] = True
    return data
