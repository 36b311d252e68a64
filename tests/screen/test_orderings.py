"""Orderings: one of each class, none missing."""

from itertools import permutations as arrangements
from math import comb

import numpy as np
import pytest
from ase.build import bulk

from al_driver.errors import ConfigError
from al_driver.screen.orderings import Choice, enumerate_orderings, make_canonical, sample_orderings
from al_driver.screen.symmetry import find_symmetry

pytestmark = pytest.mark.needs("module:spglib", "module:pymatgen.core")


def crystal(name="fcc"):
    atoms = {
        "fcc": lambda: bulk("Cu", "fcc", a=3.6, cubic=True) * (2, 1, 1),
        "hcp": lambda: bulk("Mg", "hcp", a=3.2, c=5.2) * (2, 2, 1),
        "short": lambda: bulk("Mg", "hcp", a=3.2, c=5.2) * (3, 1, 1),
        "simple": lambda: bulk("Po", "sc", a=3.3) * (2, 2, 2),
    }[name]()
    return atoms, find_symmetry(atoms, np.zeros(len(atoms), dtype=int), 1e-3)


def burnside(permutations, n_sites, n_chosen):
    """Classes of subsets of that size: the mean number of subsets that an operation leaves as they are."""
    total = 0
    for permutation in permutations:
        left, lengths = set(range(n_sites)), []
        while left:
            site, length = left.pop(), 1
            while (site := permutation[site]) in left:
                left.remove(site)
                length += 1
            lengths.append(length)
        ways = np.zeros(n_chosen + 1, dtype=int)
        ways[0] = 1
        for length in lengths:
            ways[length:] = ways[length:] + ways[:-length] if length <= n_chosen else ways[length:]
        total += ways[n_chosen]
    assert total % len(permutations) == 0
    return total // len(permutations)


@pytest.mark.parametrize("name", ["fcc", "hcp", "simple"])
def test_operations_are_a_group_of_permutations(name):
    _, symmetry = crystal(name)
    found = {tuple(row) for row in symmetry.permutations}
    assert tuple(range(8)) in found
    assert all(tuple(one[other]) in found for one in symmetry.permutations for other in symmetry.permutations)


@pytest.mark.parametrize("name", ["fcc", "hcp", "simple"])
def test_rotations_move_sites_as_the_permutations_say(name):
    atoms, symmetry = crystal(name)
    for permutation, rotation in zip(symmetry.permutations, symmetry.rotations, strict=True):
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-8)
        offsets = (
            atoms.get_scaled_positions()[permutation]
            - np.linalg.solve(atoms.cell.array.T, rotation @ atoms.positions.T).T
        )
        offsets -= offsets[0]
        np.testing.assert_allclose(offsets, np.round(offsets), atol=1e-6)  # one translation for all


@pytest.mark.parametrize("name", ["fcc", "hcp", "simple"])
@pytest.mark.parametrize("n_chosen", range(9))
def test_there_are_as_many_as_burnside_counts(name, n_chosen):
    _, symmetry = crystal(name)
    start = np.full(8, 2, dtype=np.uint8)
    found = enumerate_orderings(start, [Choice(2, 1, n_chosen)], symmetry.permutations)
    assert len(found) == burnside(symmetry.permutations, 8, n_chosen)
    assert ((found == 1).sum(axis=1) == n_chosen).all()


def test_they_are_those_that_comparing_all_crystals_finds():
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.io.ase import AseAtomsAdaptor

    atoms, symmetry = crystal("short")
    choices = [Choice(2, 3, 1), Choice(2, 1, 2)]
    found = enumerate_orderings(np.full(6, 2, dtype=np.uint8), choices, symmetry.permutations)
    classes = []
    matcher = StructureMatcher(primitive_cell=False, scale=False)
    for codes in sorted(set(arrangements([1, 1, 2, 2, 2, 3]))):
        other = atoms.copy()
        other.numbers = np.array([0, 3, 9, 17])[list(codes)]
        structure = AseAtomsAdaptor.get_structure(other)
        if not any(matcher.fit(structure, one) for one in classes):
            classes.append(structure)
    assert len(found) == len(classes)


def test_shared_steps_do_not_depend_on_their_order():
    _, symmetry = crystal("hcp")
    start = np.full(8, 3, dtype=np.uint8)
    one = enumerate_orderings(start, [Choice(3, 1, 2), Choice(3, 2, 3)], symmetry.permutations)
    other = enumerate_orderings(start, [Choice(3, 2, 3), Choice(3, 1, 2)], symmetry.permutations)
    np.testing.assert_array_equal(one, other)


def test_too_many_are_not_begun_and_drawn_ones_are_distinct():
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True) * (3, 3, 2)
    symmetry = find_symmetry(atoms, np.zeros(len(atoms), dtype=int), 1e-3)
    start, choices = np.full(len(atoms), 2, dtype=np.uint8), [Choice(2, 1, 20)]
    assert comb(72, 20) > 1e15
    assert enumerate_orderings(start, choices, symmetry.permutations) is None
    drawn = sample_orderings(start, choices, symmetry.permutations, 12, np.random.default_rng(0))
    assert len(np.unique(make_canonical(drawn, symmetry.permutations), axis=0)) == len(drawn) == 12
    again = sample_orderings(start, choices, symmetry.permutations, 12, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, again)


def test_fewer_classes_than_asked_for_end_the_draws():
    _, symmetry = crystal("simple")
    start = np.full(8, 2, dtype=np.uint8)
    drawn = sample_orderings(start, [Choice(2, 1, 2)], symmetry.permutations, 50, np.random.default_rng(0))
    assert len(drawn) == burnside(symmetry.permutations, 8, 2) == 3


def test_a_tolerance_that_mixes_sites_up_is_refused():
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.positions[0] += 0.02
    with pytest.raises(ConfigError, match="symprec"):
        find_symmetry(atoms, np.zeros(4, dtype=int), 3.0)
