"""The greedy choice of frames that differ."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from al_driver.data.frames import frame_key
from al_driver.errors import StateMismatch
from al_driver.query import diversity
from al_driver.query.deviation import Rows
from al_driver.query.diversity import Diverse, DiverseOrders, Environments
from al_driver.query.features import Features
from al_driver.query.selection import Census, Chooser, choose_frames
from al_driver.query.shortlist import Stretches
from al_driver.query.window import Scored, Window

WINDOW = Window("max_force", lower=0.1, upper=0.3, max_force=50.0, stop_after=10**6)


def make_environments(n_frames: int, n_worst: int = 3, seed: int = 0) -> Environments:
    """Return made-up environments of two elements; some frames have fewer atoms."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 2, (n_frames, n_worst))
    kinds[::7, n_worst - 1] = -1
    known = np.where(kinds >= 0, rng.uniform(0.5, 2.0, kinds.shape), 0.0)
    return Environments(kinds, rng.normal(size=(n_frames, n_worst, 4)).astype(np.float32), known)


def choose_plainly(scores: np.ndarray, own: Environments, power: float, n: int) -> list[int]:
    """Choose by the definition, atom by atom."""
    chosen: list[int] = []
    while len(chosen) < n:
        values = []
        for frame in range(len(scores)):
            total, count = 0.0, 0
            for atom, kind in enumerate(own.kinds[frame]):
                if kind < 0:
                    continue
                nearest = own.known[frame, atom]
                for other in chosen:
                    for other_atom in np.flatnonzero(own.kinds[other] == kind):
                        difference = own.descriptors[frame, atom] - own.descriptors[other, other_atom]
                        nearest = min(nearest, float(np.linalg.norm(difference.astype(float))))
                total, count = total + nearest, count + 1
            values.append(-1.0 if frame in chosen else scores[frame] ** power * total / count)
        chosen.append(int(np.argmax(values)))
    return chosen


def choose(scores: np.ndarray, own: Environments, power: float, n: int) -> list[int]:
    order, chosen = Diverse(scores, own, power), []
    for _ in range(n):
        best = order.best()
        assert best is not None
        chosen.append(best)
        order.take(best)
    return chosen


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_it_is_the_greedy_argmax_of_score_and_distance(monkeypatch: pytest.MonkeyPatch, power: float) -> None:
    scores, own = np.random.default_rng(3).uniform(0.1, 0.3, 40), make_environments(40)
    expected = choose_plainly(scores, own, power, 15)
    assert choose(scores, own, power, 15) == expected
    monkeypatch.setattr(diversity, "BLOCK_ROWS", 7)
    assert choose(scores, own, power, 15) == expected


def test_a_frame_is_as_far_as_its_worst_atoms_are_from_what_is_trained_on() -> None:
    own = make_environments(5)
    own.known[3] = 9.0
    assert Diverse(np.ones(5), own, 1.0).best() == 3
    own.known[:] = np.where(own.kinds >= 0, np.inf, 0.0)  # nothing of these elements is trained on
    assert sorted(choose(np.array([0.1, 0.2, 0.3, 0.2, 0.1]), own, 1.0, 5)) == [0, 1, 2, 3, 4]


def test_what_must_not_be_labelled_teaches_nothing() -> None:
    own = make_environments(6, seed=4)
    order = Diverse(np.ones(6), own, 1.0)
    before = order.distances()
    order.drop(2)
    assert np.array_equal(order.distances(), before)
    left = []
    while (best := order.best()) is not None:
        left.append(best)
        order.take(best)
    assert sorted(left) == [0, 1, 3, 4, 5]


def test_none_left() -> None:
    assert Diverse(np.empty(0), make_environments(0), 1.0).best() is None


def write_features(path: Path, places: list[tuple[int, int]], own: Environments) -> Path:
    task, step = np.array(places).reshape(-1, 2).T
    arrays: dict[str, Any] = {"kinds": own.kinds, "descriptors": own.descriptors, "known": own.known}
    np.savez(path, task=task, step=step, **arrays)
    return path


def make_frame(task: int, step: int) -> Atoms:
    """Return a frame that differs from every other, but step 40 of task 1, which repeats step 40 of task 0."""
    task = 0 if step == 40 else task
    return Atoms("Si2", [[0, 0, 0], [1.1e-3 * step, 0.5 * task, 2.2]], cell=[9, 9, 9], pbc=True)


def read_frames(task: int, steps: set[int]) -> Iterator[tuple[int, Atoms]]:
    yield from ((step, make_frame(task, step)) for step in sorted(steps))


def take_census(n_frames: int, task: int, cap: int) -> Census:
    seen = Census(cap, candidates=Stretches(1000))
    score = np.linspace(0.1, 0.29, n_frames)
    rows = Rows(10 + 10 * np.arange(n_frames), {"max_devi_f": score}, {})
    scored = Scored(rows, score, WINDOW.classify(rows), np.ones(n_frames, dtype=bool))
    seen.add(scored, task, np.arange(n_frames), None)
    return seen


def pick(path: Path, labelled: set[str], *, close: int = -1) -> tuple[list[tuple[int, int]], dict[str, int]]:
    """Choose of two structures, a trajectory of 20 frames each."""
    census = {"a": take_census(20, 0, 6), "b": take_census(20, 1, 6)}
    chooser = Chooser(read_frames, lambda atoms: atoms.positions[1, 0] == 1.1e-3 * close, ["Si"], labelled)
    choice = choose_frames(census, budget=None, chooser=chooser, orders=DiverseOrders(Features(path), 1.0))
    return [(frame.task, frame.step) for frame in choice.frames], choice.skipped


PLACES = [(task, 10 * step) for task in range(2) for step in range(1, 21)]


def test_labelled_close_and_double_frames_make_way_for_the_next(tmp_path: Path) -> None:
    own = make_environments(40, seed=5)
    own.known[[3, 23, 9, 19]] = [[50.0], [50.0], [40.0], [30.0]]  # steps 40, 40, 100 and 200 are wanted most
    own.descriptors[[3, 23, 9, 19]] += np.array([1e3, 2e3, 3e3, 4e3], dtype=np.float32)[:, None, None]
    path = write_features(tmp_path / "features.npz", PLACES, own)
    chosen, skipped = pick(path, {frame_key(make_frame(0, 100))}, close=200)
    assert len(chosen) == 12
    assert (0, 40) in chosen
    assert not {(1, 40), (0, 100), (0, 200)} & set(chosen)
    assert skipped == {"labelled": 1, "too_close": 1, "duplicate": 1}


def test_what_one_structure_takes_is_known_for_the_next(tmp_path: Path) -> None:
    """Both structures show the same environments: the second takes others than it would alone."""
    own = make_environments(20, seed=6)
    both = Environments(np.tile(own.kinds, (2, 1)), np.tile(own.descriptors, (2, 1, 1)), np.tile(own.known, (2, 1)))
    both.known[:] = 100.0
    chosen, _ = pick(write_features(tmp_path / "features.npz", PLACES, both), set())
    first, second = ({step for task, step in chosen if task == number} for number in (0, 1))
    assert len(first) == len(second) == 6
    assert not first & second


def test_the_order_of_the_description_does_not_matter(tmp_path: Path) -> None:
    own, order = make_environments(40, seed=7), np.random.default_rng(0).permutation(40)
    first = pick(write_features(tmp_path / "a.npz", PLACES, own), set())
    second = pick(write_features(tmp_path / "b.npz", [PLACES[i] for i in order], own.take(order)), set())
    assert first == second


def test_a_frame_without_a_description_is_not_finite(tmp_path: Path) -> None:
    path = write_features(tmp_path / "features.npz", PLACES[:-3], make_environments(37))
    assert pick(path, set())[1]["not_finite"] == 3


def test_missing_and_damaged_features_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    with pytest.raises(StateMismatch, match=r"features.npz is missing or damaged.*\n  Redo the query"):
        Features(path)
    path.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(StateMismatch, match="is missing or damaged"):
        Features(path)
    np.savez(path, task=np.zeros(1))
    with pytest.raises(StateMismatch, match="is missing or damaged"):
        Features(path)
