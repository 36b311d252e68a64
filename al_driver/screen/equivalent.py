"""Candidates that are one crystal, though they were made from different ones (pymatgen's StructureMatcher)."""

from collections import defaultdict
from collections.abc import Sequence

from al_driver.errors import ConfigError, Problem
from al_driver.screen.candidates import Candidate

LENGTHS, ANGLES = 1e-3, 0.1  # relative difference of lengths, and degrees, below which crystals are one
VOLUMES = 0.003  # the same of their volumes an atom


def drop_equivalent(candidates: Sequence[Candidate]) -> tuple[list[Candidate], dict[str, str]]:
    """Leave out every candidate that is the same crystal as an earlier one.

    Candidates of one parent are told apart by the symmetry of its supercell when they are made. Compared here are those
    of different parents, and those of one parent whose period is smaller than its supercell: stripes along a and along
    b are one crystal though a cell of 2 × 4 is not kept by the rotation. The one that stays takes over the
    ``multiplicity`` of an equal one of its parent. A supercell is the same crystal as its cell.

    Returns
    -------
    tuple
        What is left, in order, and for each one left out the id of the earlier one.

    Raises
    ------
    ConfigError
        If pymatgen is not installed.
    """
    if len({_parent(candidate) for candidate in candidates}) < 2 and not any(one.repeats for one in candidates):
        return list(candidates), {}
    try:
        from pymatgen.analysis.structure_matcher import StructureMatcher
        from pymatgen.io.ase import AseAtomsAdaptor
    except ImportError:
        message = "comparing crystals needs pymatgen: pip install -c constraints.txt -e '.[screen]'"
        raise ConfigError(Problem(message, "candidates")) from None
    matcher = StructureMatcher(ltol=LENGTHS, stol=LENGTHS, angle_tol=ANGLES, primitive_cell=True, scale=False)
    groups, kept, same = defaultdict[str, list[Candidate]](list), list[Candidate](), dict[str, str]()
    for candidate in candidates:
        group = groups[candidate.atoms.symbols.formula.reduce()[0].format("hill")]
        structure = AseAtomsAdaptor.get_structure(candidate.atoms)
        twin = next(
            (
                earlier
                for earlier in group
                if (_parent(earlier) != _parent(candidate) or (earlier.repeats and candidate.repeats))
                and abs(_volume(earlier) / _volume(candidate) - 1) < VOLUMES
                and matcher.fit(AseAtomsAdaptor.get_structure(earlier.atoms), structure)
            ),
            None,
        )
        if twin is None:
            group.append(candidate)
            kept.append(candidate)
        else:
            same[candidate.id] = twin.id
            if all(twin.provenance[name] == candidate.provenance[name] for name in ("parent", "crystal", "strain")):
                twin.provenance["multiplicity"] += candidate.provenance["multiplicity"]
    return kept, same


def _parent(candidate: Candidate) -> tuple[str, str, str]:
    provenance = candidate.provenance
    return provenance["parent"], provenance["file"], str(provenance["crystal"])


def _volume(candidate: Candidate) -> float:
    return float(candidate.atoms.get_volume()) / len(candidate.atoms)
