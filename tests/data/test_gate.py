"""The gate: a frame on each bound, each reason, periodic images, and its speed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from al_driver.data.frames import Label
from al_driver.data.gate import GateLimits, check_label, check_same_frame, too_close
from al_driver.errors import EngineError

WHERE = Path("task.000000")
LIMITS = GateLimits(cell_tolerance=2.0**-13, position_tolerance=2.0**-10)  # bounds that floating point can stand on


def make_pair() -> Atoms:
    return Atoms("SiGe", [(1, 1, 1), (3, 2, 1)], cell=[[5, 0, 0], [1, 6, 0], [0, 1, 7]], pbc=True)


def make_label(atoms: Atoms, energy: float = -1.0, forces: object = None, virial: object = None) -> Label:
    return Label(atoms, energy, np.zeros((len(atoms), 3)) if forces is None else np.array(forces), virial)  # type: ignore[arg-type]


def reason_of(sent: Atoms, label: Label, limits: GateLimits = LIMITS) -> tuple[str, str] | None:
    try:
        check_label(sent, label, WHERE, limits)
    except EngineError as error:
        assert error.where == WHERE
        return error.reason, error.detail
    return None


def changed(change: Callable[[Atoms], None]) -> Label:
    atoms = make_pair()
    change(atoms)
    return make_label(atoms)


def shift_atom(amount: float) -> Callable[[Atoms], None]:
    def change(atoms: Atoms) -> None:
        # the rigid shift is the median of two: an atom of a pair is seen by half of what it moved
        atoms.positions[1, 0] += 2 * amount

    return change


def stretch_cell(amount: float) -> Callable[[Atoms], None]:
    def change(atoms: Atoms) -> None:
        atoms.cell[2, 2] += amount

    return change


def test_a_label_of_the_frame_passes() -> None:
    assert reason_of(make_pair(), make_label(make_pair(), virial=np.eye(3))) is None


def test_a_rigid_shift_and_wrapping_pass() -> None:
    atoms = make_pair()
    atoms.positions += (4.1, -3.3, 0.7)
    atoms.wrap()
    assert reason_of(make_pair(), make_label(atoms)) is None


def test_wrapping_across_a_boundary_with_noise_passes() -> None:
    sent = bulk("Si", cubic=True)
    found = sent.copy()
    found.positions += np.random.default_rng(0).normal(scale=1e-6, size=(8, 3))
    found.wrap()
    assert reason_of(sent, make_label(found)) is None


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (changed(shift_atom(LIMITS.position_tolerance)), "positions_changed"),  # on the bound: refused
        (changed(shift_atom(LIMITS.position_tolerance * 0.99)), None),
        (changed(stretch_cell(LIMITS.cell_tolerance)), "cell_changed"),  # on the bound: refused
        (changed(stretch_cell(LIMITS.cell_tolerance * 0.99)), None),
        (make_label(make_pair(), forces=[(100, 0, 0), (-100, 0, 0)]), "force_too_large"),  # on the bound: refused
        (make_label(make_pair(), forces=[(99.999, 0, 0), (-99.999, 0, 0)]), None),
    ],
)
def test_bounds(label: Label, reason: str | None) -> None:
    found = reason_of(make_pair(), label)
    assert (found and found[0]) == reason


def test_a_distance_on_the_bound_is_allowed() -> None:
    hydrogen = Atoms("H2", [(0, 0, 0), (0.31, 0, 0)])  # half the sum of two radii of 0.31 Å
    assert too_close(hydrogen, 0.5) is None
    hydrogen.positions[1, 0] = np.nextafter(0.31, 0)
    assert too_close(hydrogen, 0.5) == (0, 1, pytest.approx(0.31))


def test_defaults_are_those_of_the_documents() -> None:
    limits = GateLimits()
    assert (limits.max_label_force, limits.cell_tolerance, limits.position_tolerance) == (100.0, 1e-4, 1e-3)
    assert limits.min_distance == 0.5


@pytest.mark.parametrize(
    ("label", "reason", "words"),
    [
        (make_label(make_pair()[[1, 0]]), "species_mismatch", "atom 0 (Ge) came back where atom 0 (Si) was sent"),
        (make_label(make_pair()[:1]), "species_mismatch", "1 atom came back, 2 were sent"),
        (make_label(make_pair(), energy=np.nan), "not_finite", "1 of 1 numbers of the energy are not finite"),
        (make_label(make_pair(), forces=[(0, 0, np.inf), (0, 0, np.nan)]), "not_finite", "2 of 6 numbers of the"),
        (make_label(make_pair(), virial=np.full((3, 3), np.nan)), "not_finite", "9 of 9 numbers of the virial"),
        (make_label(make_pair(), forces=[(0, 0, 0)]), "engine_error", "the shape (1, 3), not (2, 3)"),
        (changed(shift_atom(np.nan)), "positions_changed", "came back inf Å"),
        (changed(shift_atom(0.5)), "positions_changed", "came back 5.00e-01 Å from where it was sent"),
        (changed(stretch_cell(0.25)), "cell_changed", "a cell vector came back 2.50e-01 Å"),
        (make_label(make_pair(), forces=[(0, 0, 0), (0, 300, 400)]), "force_too_large", "500.0 eV/Å on atom 1 (Ge)"),
        (make_label(make_pair(), forces=[(0, 0, 0), (0, 0, 100.00004)]), "force_too_large", "100.00004 eV/Å on atom 1"),
    ],
)  # fmt: skip
def test_reasons(label: Label, reason: str, words: str) -> None:
    found = reason_of(make_pair(), label)
    assert found is not None
    assert found[0] == reason
    assert words in found[1]


def test_one_atom_that_moved_is_named_with_all_it_moved() -> None:
    sent = bulk("Si", cubic=True)
    found = sent.copy()
    found.positions += 0.3
    found.positions[5] += (0, 0, 0.02)
    assert reason_of(sent, make_label(found)) == (
        "positions_changed",
        "atom 5 (Si) came back 2.00e-02 Å from where it was sent",
    )


def test_a_frame_that_is_not_periodic_may_come_back_in_a_box() -> None:
    water = molecule("H2O")
    boxed = water.copy()
    boxed.cell = [9, 9, 9]
    boxed.positions += 4.5
    check_same_frame(water, boxed, WHERE, GateLimits())
    slab = Atoms("Si", cell=[3, 3, 20], pbc=(True, True, False))
    other = slab.copy()
    other.cell[2, 2] = 25.0
    check_same_frame(slab, other, WHERE, GateLimits())
    other.cell[0, 0] = 3.1
    with pytest.raises(EngineError, match="cell_changed"):
        check_same_frame(slab, other, WHERE, GateLimits())


def test_a_frame_too_close_is_refused_with_the_pair() -> None:
    sent = make_pair()
    sent.positions[1] = sent.positions[0] + (0.6, 0, 0)
    assert reason_of(sent, make_label(sent)) == (
        "too_close",
        "atom 0 (Si) and atom 1 (Ge) are 0.600 Å apart, below 0.5 Σ r_cov",
    )


def test_periodic_images_are_too_close() -> None:
    across = Atoms("Si2", [(0.1, 2, 2), (4.9, 2, 2)], cell=[5, 5, 5], pbc=True)
    assert too_close(across, 0.5) == (0, 1, pytest.approx(0.2))
    across.pbc = (False, True, True)
    assert too_close(across, 0.5) is None
    own_image = Atoms("Si", cell=[1.0, 5, 5], pbc=True)
    assert too_close(own_image, 0.5) == (0, 0, pytest.approx(1.0))


def test_too_close_of_a_skewed_cell_equals_a_plain_search() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        atoms = Atoms(
            "SiOH", rng.uniform(-3, 6, (3, 3)), cell=np.eye(3) * 3.0 + rng.normal(scale=0.6, size=(3, 3)), pbc=True
        )
        radii = {"Si": 1.11, "O": 0.66, "H": 0.31}
        images = [
            np.array((i, j, k)) @ atoms.cell.array for i in range(-5, 6) for j in range(-5, 6) for k in range(-5, 6)
        ]
        plain = {
            (i, j): min(
                d
                for image in images
                if (d := float(np.linalg.norm(atoms.positions[j] + image - atoms.positions[i]))) > 0
            )
            for i in range(3)
            for j in range(i, 3)
        }
        ratio = {pair: d / sum(radii[atoms.symbols[i]] for i in pair) for pair, d in plain.items()}
        worst = min(ratio, key=ratio.__getitem__)
        for factor in (0.5, 0.9, 1.2):
            found = too_close(atoms, factor)
            assert (found is None) == (ratio[worst] >= factor)
            if found:
                assert (tuple(sorted(found[:2])), found[2]) == (worst, pytest.approx(plain[worst]))
