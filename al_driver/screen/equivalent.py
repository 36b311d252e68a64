"""Candidates that are one crystal, though they were made from different ones (pymatgen's StructureMatcher)."""

from collections import defaultdict
from collections.abc import Sequence

from al_driver.errors import ConfigError, Problem
from al_driver.screen.candidates import Candidate

LENGTHS, ANGLES = 1e-3, 0.1  # relative difference of lengths, and degrees, below which crystals are one
VOLUMES = 0.003  # the same of their volumes an atom


def drop_equivalent(candidates: Sequence[Candidate]) -> tuple[list[Candidate], dict[str, str]]:
    """Leave out every candidate that is the same crystal as an earlier one of another parent.

    Candidates of one parent are told apart by its symmetry when they are made. A supercell is the same crystal as its
    cell.

    Returns
    -------
    tuple
        What is left, in order, and for each one left out the id of the earlier one.

    Raises
    ------
    ConfigError
        If pymatgen is not installed.
    """
    if len({_parent(candidate) for candidate in candidates}) < 2:
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
                if _parent(earlier) != _parent(candidate)
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
    return kept, same


def _parent(candidate: Candidate) -> tuple[str, str, str]:
    provenance = candidate.provenance
    return provenance["parent"], provenance["file"], str(provenance["crystal"])


def _volume(candidate: Candidate) -> float:
    return float(candidate.atoms.get_volume()) / len(candidate.atoms)
