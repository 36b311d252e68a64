"""A virtual committee: its deviation is the Kalman uncertainty, and the step is small enough."""

import math
from collections.abc import Callable

import pytest

from al_driver.tasks.deepmd_virtual import (
    FIRST_STEP,
    factorise,
    find_directions,
    find_step,
    measure_unit,
    mix_directions,
    moved,
)

torch = pytest.importorskip("torch")


class Refused(Exception):
    pass


def covariance(*sizes: int) -> list["torch.Tensor"]:
    generator = torch.Generator().manual_seed(3)
    factors = [torch.randn(size, size, generator=generator, dtype=torch.float64) for size in sizes]
    return [factor @ factor.T + 0.1 * torch.eye(len(factor)) for factor in factors]


def deviation(forces: "torch.Tensor") -> "torch.Tensor":
    """Return σ of a committee as LAMMPS computes it, from forces of shape (n_members, n_atoms, 3)."""
    return ((forces - forces.mean(dim=0)) ** 2).sum(dim=2).mean(dim=0).sqrt()


@pytest.mark.parametrize("n_models", [1, 2, 5])
def test_the_deviation_of_the_members_is_the_sum_over_the_directions(n_models: int) -> None:
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(n_models, 7, generator=generator, dtype=torch.float64)
    jacobian = torch.randn(5, 3, 7, generator=generator, dtype=torch.float64)
    moves = torch.cat([torch.zeros(1, 7, dtype=torch.float64), mix_directions(directions)])
    forces = torch.einsum("acw,mw->mac", jacobian, moves)  # the first member is the model that was trained
    expected = torch.einsum("acw,kw->kac", jacobian, directions).square().sum(dim=(0, 2)).sqrt()
    assert torch.allclose(deviation(forces), expected, rtol=1e-12)


def test_as_many_directions_as_weights_are_the_covariance_and_fewer_the_largest_part() -> None:
    blocks = covariance(4, 3)
    gradients = torch.randn(40, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    whole = torch.block_diag(*blocks)
    directions, captured = find_directions(factorise(blocks, Refused), gradients, 7)
    assert torch.allclose(directions.T @ directions, whole, atol=1e-12)
    assert captured == pytest.approx(1)
    few, captured = find_directions(factorise(blocks, Refused), gradients, 2)
    share = (gradients @ few.T).square().sum() / torch.einsum("iw,wv,iv->", gradients, whole, gradients)
    assert float(share) == pytest.approx(captured)
    assert 2 / 7 < captured < 1
    scaled, _ = find_directions(factorise([10 * block for block in blocks], Refused), gradients, 2)
    assert torch.allclose(scaled, math.sqrt(10) * few)


def test_a_covariance_that_is_none_is_refused() -> None:
    with pytest.raises(Refused, match="not positive definite"):
        factorise([-torch.eye(3, dtype=torch.float64)], Refused)


def test_weights_are_moved_in_the_order_of_the_optimizer_and_put_back() -> None:
    matrix, vector = torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    with moved([matrix, vector], torch.arange(8.0, dtype=torch.float64)):
        assert matrix.T.reshape(-1).tolist() == [0, 1, 2, 3, 4, 5]
        assert vector.tolist() == [6, 7]
    assert not matrix.any()
    assert not vector.any()


def bent(curvature: float) -> Callable[[float], float]:
    return lambda step: step + curvature * step**2


def test_a_step_is_halved_until_the_models_answer_linearly() -> None:
    assert find_step(bent(0), None, Refused) == (FIRST_STEP, 0)
    step, change = find_step(bent(1e4), None, Refused)
    assert FIRST_STEP / 1024 < step < FIRST_STEP / 128
    assert 0.01 < change < 0.02
    assert find_step(bent(1), 1e-4, Refused)[0] == 1e-4
    with pytest.raises(Refused, match=r"virtual_step, 0\.1, does not suit: half of it changes û by 25\.0%"):
        find_step(bent(10), 0.1, Refused)


def test_scores_have_the_unit_of_the_errors_of_training_frames() -> None:
    weight = torch.tensor([1.0], dtype=torch.float64)
    frames = [(torch.tensor([[x, 0, 0], [0, 1, 0]], dtype=torch.float64), None, None) for x in (2.0, 5.0, 3.0)]
    labels = [0.4 * coordinates for coordinates, *_ in frames]  # so that the largest errors are 1.2, 3 and 1.8
    moves = torch.tensor([[0.1], [-0.1]], dtype=torch.float64)
    deviation = 3 * 0.1 * math.sqrt(2 / 3)

    def model(coordinates: "torch.Tensor", *_: None) -> dict[str, "torch.Tensor"]:
        return {"force": weight * coordinates}

    assert measure_unit(model, [weight], moves, frames, labels) == pytest.approx(1.8 / deviation)
    exact = [coordinates.clone() for coordinates, *_ in frames]
    assert measure_unit(model, [weight], moves, frames, exact) is None
