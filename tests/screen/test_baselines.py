"""What ranks candidates without a network: Ewald sums, a fit to pairs; against numbers known otherwise."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write
from ase.units import _e, _eps0

from al_driver.errors import ConfigError
from al_driver.screen.baselines.clusters import ClusterModel
from al_driver.screen.baselines.ewald import EwaldModel
from al_driver.screen.baselines.pairs import LinearFit, PairCounts, describe_pairs

pytestmark = pytest.mark.needs("module:pymatgen")
COULOMB = _e / (4 * np.pi * _eps0) * 1e10  # e² / 4πε₀, eV Å
MADELUNG = 1.747564594633  # of rock salt


def orderings(n: int, seed: int = 0) -> list[Atoms]:
    """Return orderings of Cu and Au on 32 sites of one fcc lattice."""
    rng, crystals = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk("Cu", cubic=True).repeat(2)
        atoms.numbers[rng.choice(32, 16, replace=False)] = 79
        crystals.append(atoms)
    return crystals


def count_bonds(atoms: Atoms) -> float:
    """Return Cu–Au pairs of nearest neighbours per atom, plainly."""
    distances = atoms.get_all_distances(mic=True)
    near = (distances > 0.1) & (distances < 2.7)
    unlike = atoms.numbers[:, None] != atoms.numbers
    return float((near & unlike).sum()) / 2 / len(atoms)


def test_rock_salt_has_the_energy_of_its_madelung_constant():
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    (energy,) = EwaldModel(model="ewald", charges={"Na": 1, "Cl": -1}).predict([atoms])
    assert energy == pytest.approx(-MADELUNG * COULOMB / (5.64 / 2) / 2, rel=1e-5)


def test_one_element_takes_what_makes_a_crystal_neutral():
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    del atoms[next(atom.index for atom in atoms if atom.symbol == "Na")]
    model = EwaldModel(model="ewald", charges={"Cl": -1}, balance="Na")
    charges = model.share_charges(atoms)
    assert charges[atoms.symbols == "Na"] == pytest.approx([4 / 3] * 3)
    assert charges.sum() == pytest.approx(0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"charges": {"Na": 1}}, "charges: says nothing of Cl"),
        ({"charges": {"Na": 2, "Cl": -1}}, "ClNa has a charge of \\+1; name an element in `balance`"),
        ({"charges": {"Na": 2, "Cl": -1}, "balance": "K"}, "a charge of \\+1, and no K to balance it"),
    ],
)
def test_charges_that_do_not_fit_are_refused(keys, message):
    with pytest.raises(ConfigError, match=message):
        EwaldModel.model_validate({"model": "ewald"} | keys).predict([bulk("NaCl", "rocksalt", a=5.64)])


def test_pairs_are_counted_in_shells_each_once():
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    counts = PairCounts.of([atoms], 5.0)
    assert len(counts.edges) == 4  # Na–Cl at 2.82 Å, Na–Na and Cl–Cl at 3.99 Å, Na–Cl at 4.88 Å
    na, cl, *pairs = counts.count([atoms])[0]
    assert (na, cl) == (0.5, 0.5)
    assert pairs == pytest.approx([0, 3, 0, 3, 0, 4, 0, 3, 0])  # NaNa, NaCl, ClCl: neighbours 6, 12 and 8, per atom


def test_a_fit_to_few_orderings_finds_the_energy_of_their_bonds():
    crystals = orderings(60)
    energies = np.array([-0.3 * count_bonds(atoms) for atoms in crystals])
    features = PairCounts.of(crystals, 4.0).count(crystals)
    fitted = LinearFit.fit(features[:20], energies[:20])
    assert fitted.error < 0.05 * energies.std()
    assert np.abs(fitted.predict(features[20:]) - energies[20:]).max() < 0.1 * energies.std()


def test_what_does_not_follow_from_pairs_is_not_followed():
    crystals = orderings(60, seed=1)
    noise = np.random.default_rng(2).normal(size=60)
    features = PairCounts.of(crystals, 4.0).count(crystals)
    fitted = LinearFit.fit(features[:30], noise[:30])
    assert fitted.predict(features[30:]).std() < 0.6 * noise.std()
    assert fitted.error > 0.7 * noise.std()


def test_leave_one_out_errors_are_those_of_fits_without_each():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(12, 3))
    values = features @ [1.0, -2.0, 0.5] + 3.0 + 0.01 * rng.normal(size=12)
    found = LinearFit.fit(features, values)
    errors = []
    for left_out in range(12):
        rest = np.arange(12) != left_out
        matrix = np.column_stack([np.ones(11), features[rest]])
        weights = np.linalg.lstsq(matrix, values[rest], rcond=None)[0]
        errors.append(values[left_out] - np.array([1.0, *features[left_out]]) @ weights)
    assert found.error == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=0.05)  # but for the small ridge


def test_the_model_learns_from_frames_with_the_value(tmp_path):
    crystals = orderings(40)
    for atoms in crystals[:25]:
        atoms.info["heat"] = -0.3 * count_bonds(atoms)
    write(tmp_path / "known.extxyz", crystals[:30])
    model = ClusterModel(model="clusters", data=(tmp_path / "known.extxyz",), target="heat", cutoff=4.0)
    found = model.predict(crystals[30:])
    assert found == pytest.approx([-0.3 * count_bonds(atoms) for atoms in crystals[30:]], abs=0.01)
    with pytest.raises(ConfigError, match="0 of 30 crystals have a number 'hat'; needs at least 4"):
        model.model_copy(update={"target": "hat"}).predict(crystals)


def test_crystals_of_other_pairs_lie_apart():
    one, same, other = orderings(1)[0], orderings(1)[0], orderings(2)[1]
    vectors = describe_pairs([one, same, other])
    assert np.linalg.norm(vectors[0] - vectors[1]) == 0 < np.linalg.norm(vectors[0] - vectors[2])
