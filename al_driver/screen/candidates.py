"""Candidate crystals: what could be made of a crystal by orderings, substitutions, vacancies and strains.

A partly occupied site is ordered first, then atoms are substituted, then taken away. Of all orderings that symmetry
turns into each other one is kept, and of a list of strains those that the ordering's own symmetry tells apart. Every
candidate knows what it was made from.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from ase import Atoms
from pydantic import BeforeValidator, Field

from al_driver.data.frames import Array
from al_driver.errors import ConfigError, Problem
from al_driver.schema.base import (
    CrossError,
    Float,
    Fraction,
    Name,
    Params,
    PositiveFloat,
    PositiveInt,
    UserPath,
    as_list,
    cross_check,
)
from al_driver.schema.elements import Element
from al_driver.screen.compositions import Amounts, Charges, Composition, can_be_neutral, find_compositions
from al_driver.screen.lattice import Lattice
from al_driver.screen.orderings import Codes, enumerate_orderings, find_stabiliser, sample_orderings
from al_driver.screen.parents import Parent, read_parents
from al_driver.screen.symmetry import Sites, find_symmetry
from al_driver.seeds import make_rng
from al_driver.structures.scale import deform
from al_driver.structures.supercell import Supercell
from al_driver.units import Unit
from al_driver.words import many

SmallStrain = Annotated[Float, Field(gt=-0.5, lt=0.5)]
Strain = SmallStrain | tuple[SmallStrain, SmallStrain, SmallStrain, SmallStrain, SmallStrain, SmallStrain]
"""One number strains all directions alike; six are the tensor's xx, yy, zz, yz, xz and xy."""


class CandidateEntry(Params):
    """An entry of ``candidates``: a crystal, and what is made of it."""

    path: UserPath
    """A structure file, or a glob; every frame of every file is taken. A CIF's sites may be shared."""
    name: Name | None = None
    """How candidates of this entry are called; the file's name otherwise."""
    supercell: Supercell = (1, 1, 1)
    """Repeats along the three cell vectors, or a 3×3 matrix."""
    substitute: dict[Element, dict[Element, Amounts]] = Field(default={})
    """Atoms of one element that become another: how many, or which share; every amount of a list is taken."""
    vacancies: dict[Element, Amounts] = Field(default={})
    """Atoms that are taken away, after that: how many, or which share of those there were at first."""
    charges: dict[Element, Charges] = Field(default={})
    """Oxidation states; only what they can make neutral is kept. All compositions are when left out."""
    max_orderings: PositiveInt | None = None
    """The most orderings of a composition, drawn at random; every one when left out."""
    strains: Annotated[
        tuple[Strain, ...], BeforeValidator(as_list, json_schema_input_type=Strain | list[Strain]), Field(min_length=1)
    ] = (0.0,)
    """Strains of the cell; each makes a candidate."""
    symprec: Annotated[PositiveFloat, Unit("Å")] = 1e-3
    """How far a site may lie from where symmetry puts it."""
    occupancy_tolerance: Fraction = 0.05
    """The largest difference between the share of a species on a shared site and the share it gets."""

    @property
    def called(self) -> str:
        """The entry's name, or its file's where it has none, in letters that fit into ids and file names."""
        return self.name or re.sub(r"[^\w.+-]", "_", self.path.stem)

    @cross_check
    def _check_chain(self) -> "CandidateEntry":
        for source, targets in self.substitute.items():
            for target in targets:
                if target in self.substitute:
                    message = f"{target} is substituted itself; give what {source} becomes in the end"
                    raise CrossError([(("substitute", source, target), message)])
        return self

    def strain_tensors(self) -> list[Array]:
        """Return the strains, shape (3, 3) each."""
        return [
            strain * np.eye(3)
            if isinstance(strain, float)
            else np.array([strain[i] for i in (0, 5, 4, 5, 1, 3, 4, 3, 2)]).reshape(3, 3)
            for strain in self.strains
        ]


@dataclass(frozen=True)
class Candidate:
    """A crystal, and what it was made from.

    Attributes
    ----------
    provenance
        ``parent`` (entry), ``file``, ``crystal`` (its number in the entry), ``supercell``; ``composition`` in words;
        ``multiplicity``, how many orderings are equivalent to this one; ``complete``, whether the composition's
        orderings are all there; ``strain``.
    repeats
        Whether its own period is smaller than the cell it was made in: then operations that do not keep that cell may
        turn it into another ordering.
    """

    id: str
    atoms: Atoms
    provenance: dict[str, Any]
    repeats: bool = False


@dataclass
class Counts:
    """How many candidates an entry came to, and by what way."""

    crystals: int = 0
    compositions: int = 0
    charged: int = 0
    sampled: int = 0
    orderings: int = 0
    candidates: int = 0

    def describe(self) -> str:
        """Return it in one line."""
        charged = f" (and {self.charged} that cannot be neutral)" if self.charged else ""
        sampled = f" ({self.sampled} of the compositions by random draws)" if self.sampled else ""
        return (
            f"{many(self.crystals, 'crystal')} → {many(self.compositions, 'composition')}{charged} → "
            f"{many(self.orderings, 'ordering')}{sampled} → {many(self.candidates, 'candidate')}"
        )


def make_candidates(entry: CandidateEntry, seed: int) -> tuple[list[Candidate], Counts]:
    """Make every candidate of an entry; the same seed gives the same ones.

    Raises
    ------
    ConfigError
        If a file cannot be used, an element is missing, a share is no whole number of atoms, no composition is neutral,
        or a composition has more orderings than can be compared and ``max_orderings`` is not given.
    """
    counts, candidates, per_formula = Counts(), list[Candidate](), Counter[str]()
    for number, (file, parent) in enumerate(read_parents(entry.path, entry.supercell)):
        counts.crystals += 1
        rng = make_rng(seed, "candidates", entry.called, number)
        for atoms, provenance, repeats in _vary(parent, entry, rng, counts):
            formula = str(atoms.get_chemical_formula())
            where = {"parent": entry.called, "file": file.name, "crystal": number, "supercell": entry.supercell}
            candidates.append(
                Candidate(f"{entry.called}-{formula}-{per_formula[formula]:04d}", atoms, where | provenance, repeats)
            )
            per_formula[formula] += 1
    counts.candidates = len(candidates)
    if not candidates:
        message = f"none of {many(counts.charged, 'composition')} can be neutral with these oxidation states"
        raise ConfigError(Problem(message, "charges"))
    return candidates, counts


def _vary(
    parent: Parent, entry: CandidateEntry, rng: np.random.Generator, counts: Counts
) -> Iterator[tuple[Atoms, dict[str, Any], bool]]:
    """Yield what is made of one crystal, each with its provenance, and whether it repeats within the cell."""
    lattice = Lattice.make(parent, entry.occupancy_tolerance)
    _check_charges(entry, lattice.present)
    sources = {*entry.substitute, *entry.vacancies}
    symmetry = find_symmetry(parent.atoms, parent.kinds, entry.symprec)
    active = lattice.find_active(sources)
    symmetry = symmetry.restrict(active)
    seen = set[bytes]()
    for composition in find_compositions(lattice.present, entry.substitute, entry.vacancies):
        left = {element: n for element, n in composition.count(lattice.present).items() if n}
        if entry.charges and not can_be_neutral(left, entry.charges):
            counts.charged += 1
            continue
        rows, complete = _order(lattice, composition, active, symmetry.permutations, entry, rng)
        rows = np.array([row for row in rows if row.tobytes() not in seen], dtype=np.uint8)
        seen.update(row.tobytes() for row in rows)
        counts.compositions += 1
        counts.sampled += not complete
        counts.orderings += len(rows)
        for row in rows:
            stable = find_stabiliser(row, symmetry.permutations)
            provenance = {
                "composition": composition.describe() or "as it is",
                "multiplicity": len(stable) // int(stable.sum()),
                "complete": complete,
            }
            atoms = lattice.make_atoms(row, active)
            repeats = int(np.isclose(symmetry.rotations[stable], np.eye(3)).all(axis=(1, 2)).sum()) > 1
            for strain, tensor in _distinct_strains(entry, symmetry.rotations[stable]):
                yield deform(atoms, tensor), provenance | {"strain": strain}, repeats


def _check_charges(entry: CandidateEntry, present: Iterable[str]) -> None:
    """Refuse oxidation states that leave out an element."""
    elements = {*present, *(target for targets in entry.substitute.values() for target in targets)}
    if entry.charges and (missing := sorted(elements - set(entry.charges))):
        raise ConfigError(Problem(f"says nothing of {', '.join(missing)}", "charges"))


def _order(
    lattice: Lattice,
    composition: Composition,
    active: Sites,
    permutations: Sites,
    entry: CandidateEntry,
    rng: np.random.Generator,
) -> tuple[Codes, bool]:
    """Return the orderings of a composition, of the active sites alone, and whether they are all there are."""
    start, choices = lattice.start[active], lattice.choose(composition)
    if not len(active):
        return start[None], True
    rows = enumerate_orderings(start, choices, permutations)
    most = entry.max_orderings
    if rows is None and most is None:
        what = composition.describe() or "the order of the shared sites"
        message = f"has more orderings than can be compared ({what}); give max_orderings, or a smaller supercell"
        raise ConfigError(Problem(message, "supercell"))
    if rows is None:
        assert most is not None  # noqa: S101  (just refused)
        return sample_orderings(start, choices, permutations, most, rng), False
    if most is None or len(rows) <= most:
        return rows, True
    return rows[np.sort(rng.choice(len(rows), most, replace=False))], False


def _distinct_strains(entry: CandidateEntry, rotations: Array) -> Iterator[tuple[Strain, Array]]:
    """Yield the strains that a crystal's own rotations, shape (n, 3, 3), do not turn into each other."""
    seen = set[bytes]()
    for strain, tensor in zip(entry.strains, entry.strain_tensors(), strict=True):
        turned = np.round(rotations @ tensor @ rotations.transpose(0, 2, 1), 9) + 0.0
        smallest = min(turned.reshape(-1, 9).tolist())
        if (key := np.array(smallest).tobytes()) not in seen:
            seen.add(key)
            yield strain, tensor
