"""The look-ahead choice against plain updates of the covariance of the weights."""

from pathlib import Path

import numpy as np
import pytest

from al_driver.errors import StateMismatch
from al_driver.query.features import Features
from al_driver.query.lookahead import Lookahead, LookaheadOrders, Posterior
from al_driver.query.selection import ENTRY

N_FRAMES, N_COMPONENTS, SIZES = 12, 6, (20, 13)


def make_problem(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return gradients (frames, components, weights), a covariance of two blocks, and the noise of each frame."""
    rng = np.random.default_rng(seed)
    gradients = rng.normal(size=(N_FRAMES, N_COMPONENTS, sum(SIZES)))
    covariance = np.zeros((sum(SIZES), sum(SIZES)))
    start = 0
    for size in SIZES:
        root = rng.normal(size=(size, size)) * np.exp(rng.normal(size=size))
        covariance[start : start + size, start : start + size] = root @ root.T
        start += size
    return gradients, covariance, rng.uniform(0.5, 2.0, N_FRAMES)


def make_kernel(gradients: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    flat = gradients.reshape(-1, gradients.shape[-1])
    return flat @ covariance @ flat.T


def choose_plainly(gradients: np.ndarray, covariance: np.ndarray, noise: np.ndarray, n: int) -> list[int]:
    """Update P itself, one force component after another, and measure every frame anew."""
    chosen: list[int] = []
    while len(chosen) < n:
        left = np.array([np.trace(own @ covariance @ own.T) for own in gradients])
        left[chosen] = -1.0
        chosen.append(int(np.argmax(left)))
        for g in gradients[chosen[-1]]:
            gain = covariance @ g
            covariance = covariance - np.outer(gain, gain) / (noise[chosen[-1]] + g @ gain)
    return chosen


def choose(gradients: np.ndarray, covariance: np.ndarray, noise: np.ndarray, n: int) -> list[int]:
    order, chosen = Lookahead(np.arange(len(noise)), Posterior(make_kernel(gradients, covariance), noise)), []
    for _ in range(n):
        best = order.best()
        assert best is not None
        chosen.append(best)
        order.take(best)
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_greedy_choice_by_plain_updates_of_the_covariance(seed: int) -> None:
    assert choose(*make_problem(seed), 8) == choose_plainly(*make_problem(seed), 8)


def test_what_is_left_is_the_variance_after_plain_updates() -> None:
    gradients, covariance, noise = make_problem(7)
    posterior = Posterior(make_kernel(gradients, covariance), noise)
    for frame in (3, 0, 5):
        posterior.learn(frame)
        for g in gradients[frame]:
            gain = covariance @ g
            covariance = covariance - np.outer(gain, gain) / (noise[frame] + g @ gain)
        expected = [np.trace(own @ covariance @ own.T) for own in gradients]
        assert np.allclose(posterior.variance, expected, rtol=1e-9)


def test_neighbours_exclude_each_other() -> None:
    """The two frames of largest variance are nearly one; the second is not taken."""
    gradients, covariance, noise = make_problem(2)
    gradients[4] = 100.0 * gradients[4]
    gradients[5] = gradients[4] * 1.0001
    by_variance = np.argsort(-Posterior(make_kernel(gradients, covariance), noise).variance)[:2].tolist()
    assert sorted(by_variance) == [4, 5]
    chosen = choose(gradients, covariance, noise, 6)
    assert chosen[0] == 5
    assert 4 not in chosen


def test_a_frame_with_fewer_atoms_has_components_without_variance() -> None:
    gradients, covariance, noise = make_problem(3)
    gradients[::3, 3:] = 0.0
    assert choose(gradients, covariance, noise, 8) == choose_plainly(gradients, covariance, noise, 8)


def test_what_is_dropped_teaches_nothing_and_what_is_taken_counts_for_the_next_line(tmp_path: Path) -> None:
    gradients, covariance, noise = make_problem(4)
    steps, path = 10 * np.arange(N_FRAMES), tmp_path / "features.npz"
    np.savez(path, task=0 * steps, step=steps, kernel=make_kernel(gradients, covariance), noise=noise)
    orders = LookaheadOrders(Features(path))
    line = np.zeros(6, dtype=ENTRY)
    line["step"] = [50, 40, 30, 20, 10, 999]
    described, order = orders.start(line)
    assert described["step"].tolist() == [50, 40, 30, 20, 10]
    first = order.best()
    assert first is not None
    order.drop(first)
    second = order.best()
    assert second is not None and second != first
    order.take(second)
    after = Posterior(make_kernel(gradients, covariance), noise)
    after.learn(int(described["step"][second]) // 10)
    line["step"] = [60, 70, 80, 90, 100, 110]
    assert orders.start(line)[1].best() == int(np.argmax(after.variance[6:]))


def test_features_of_another_choice_are_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "features.npz", task=np.zeros(0), step=np.zeros(0))
    with pytest.raises(StateMismatch, match="no array 'kernel'"):
        LookaheadOrders(Features(tmp_path / "features.npz"))
