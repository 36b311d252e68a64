"""Shares, lines and choices."""

from collections.abc import Collection, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st

from al_driver.data.dataset import read_system, stored_key, write_dataset
from al_driver.data.frames import frame_key
from al_driver.query.budget import share_out
from al_driver.query.deviation import Rows
from al_driver.query.selection import (
    ENTRY,
    LINE_LENGTH,
    Census,
    Choice,
    Chooser,
    Line,
    are_duplicates,
    choose_frames,
)
from al_driver.query.window import Scored, Window
from al_driver.seeds import make_rng

WINDOW = Window("max_force", lower=0.1, upper=0.3, max_force=50.0, stop_after=10**6)
Trajectories = dict[str, list[float]]
"""Task name → score of the frames at steps 10, 20 …"""


def make_frame(task: int, step: int) -> Atoms:
    """Return a frame 0.011 Å from that ten steps before."""
    height, shift = 2.2 + 0.02 * task + 1e-5 * step, 1.1e-3 * step
    return Atoms("Si2", [[shift, 0, 0], [shift, 0, height]], cell=[9, 9, 9], pbc=True)


def read_frames(task: int, steps: set[int]) -> Iterator[tuple[int, Atoms]]:
    yield from ((step, make_frame(task, step)) for step in sorted(steps, reverse=True))


def take_census(scores: Trajectories, cap: int = 5, choose: str = "random", *, seed: int = 1, first: int = 0) -> Census:
    """Add trajectories in the order given; a task's index is its name's place in the alphabet."""
    seen = Census(cap)
    for name, values in scores.items():
        score = np.array(values)
        rows = Rows(10 + 10 * np.arange(len(score)), {"max_devi_f": score}, {})
        scored = Scored(rows, score, WINDOW.classify(rows), np.isfinite(score))
        rng = make_rng(seed, 0, "query", "si", name) if choose == "random" else None
        seen.add(scored, first + sorted(scores).index(name), np.arange(len(score)), rng)
    return seen


def choose(
    census: dict[str, Census], *, budget: int | None = None, labelled: Iterable[str] = (), close: Collection[int] = ()
) -> Choice:
    def is_too_close(atoms: Atoms) -> bool:
        return round((atoms.positions[1, 2] - 2.2) * 1e5) % 100 in close

    return choose_frames(census, budget=budget, chooser=Chooser(read_frames, is_too_close, ["Si"], set(labelled)))


def names(choice: Choice) -> list[tuple[str, int, int]]:
    return [(frame.structure, frame.task, frame.step) for frame in choice.frames]


counts = st.integers(0, 40)
trajectories = st.lists(st.sampled_from([0.05, 0.15, 0.2, 0.25, 0.3, np.nan]), max_size=9)


@given(st.lists(st.tuples(st.fractions(0, 1, max_denominator=50), counts), min_size=1, max_size=6), st.none() | counts)
def test_shares_keep_every_limit(parts: list[tuple[Fraction, int]], budget: int | None) -> None:
    weights, most = zip(*parts, strict=True)
    most = tuple(limit if weight else 0 for weight, limit in parts)
    shares = share_out(budget, weights, most)
    assert all(0 <= share <= limit for share, limit in zip(shares, most, strict=True))
    assert sum(shares) == (sum(most) if budget is None else min(budget, sum(most)))


@pytest.mark.parametrize(
    ("budget", "weights", "most", "expected"),
    [
        (None, [1, 1], [3, 4], [3, 4]),
        (0, [1, 1], [3, 4], [0, 0]),
        (6, [2, 1], [9, 9], [4, 2]),
        (4, [1, 1, 1], [9, 9, 9], [2, 1, 1]),
        (5, [3, 1, 1], [1, 9, 9], [1, 2, 2]),
        (3, [1, 5], [9, 1], [2, 1]),
        (1, [0, 0], [0, 0], [0, 0]),
    ],
)
def test_shares(budget: int | None, weights: list[int], most: list[int], expected: list[int]) -> None:
    assert share_out(budget, [Fraction(weight) for weight in weights], most) == expected


def test_a_line_keeps_the_first_and_its_memory_is_bounded() -> None:
    line, ranks = Line(50), np.random.default_rng(0).random(5000)
    for block in np.array_split(np.arange(5000), 77):
        entries = np.zeros(len(block), dtype=ENTRY)
        entries["rank"], entries["step"] = ranks[block], block
        line.add(entries)
        assert sum(len(part) for part in line._parts) <= 50 + 66
    assert line.ranked()["step"].tolist() == np.argsort(ranks)[:50].tolist()


def test_only_candidates_are_chosen_and_largest_takes_the_largest() -> None:
    census = {"si": take_census({"a": [0.05, 0.2, 0.29, 0.3, np.nan], "b": [0.1, 0.25]}, 3, "largest")}
    choice = choose(census)
    assert names(choice) == [("si", 0, 20), ("si", 0, 30), ("si", 1, 20)]
    assert census["si"].counts.tolist() == [1, 4, 2]
    assert not choice.fallback


def test_ties_of_largest_are_broken_by_task_then_step() -> None:
    assert names(choose({"si": take_census({"b": [0.2, 0.2], "a": [0.2, 0.2]}, 3, "largest")})) == [
        ("si", 0, 10), ("si", 0, 20), ("si", 1, 10),
    ]  # fmt: skip


@given(
    st.dictionaries(st.sampled_from("abcdef"), trajectories),
    st.randoms(use_true_random=False),
    st.sampled_from(["random", "largest"]),
    st.integers(1, 8),
)  # fmt: skip
def test_the_order_of_tasks_does_not_matter(scores: Trajectories, shuffle: object, how: str, cap: int) -> None:
    order = list(scores)
    shuffle.shuffle(order)  # type: ignore[attr-defined]
    first = choose({"si": take_census(scores, cap, how)})
    second = choose({"si": take_census({name: scores[name] for name in order}, cap, how)})
    assert names(first) == names(second)
    n_candidates = sum(0.1 <= value < 0.3 for values in scores.values() for value in values)
    if n_candidates:
        assert len(first.frames) == min(cap, n_candidates)
    assert len(set(names(first))) == len(first.frames)


def test_random_follows_the_seed() -> None:
    scores = {"a": [0.2] * 60}
    picks = [names(choose({"si": take_census(scores, seed=seed)})) for seed in (1, 1, 2)]
    assert picks[0] == picks[1] != picks[2]


def test_random_is_uniform() -> None:
    hits = np.zeros(20)
    for seed in range(400):
        for _, task, step in names(choose({"si": take_census({"a": [0.2] * 10, "b": [0.29] * 10}, seed=seed)})):
            hits[10 * task + step // 10 - 1] += 1
    assert np.all(np.abs(hits - 100) < 5 * np.sqrt(75))


def test_caps_belong_to_names_even_where_one_structure_has_no_frames() -> None:
    census = {
        "a": take_census({}, cap=1),
        "b": take_census({"x": [0.2] * 9}, cap=4),
        "c": take_census({"y": [0.2] * 9}, cap=2, first=1),
    }
    chosen = [structure for structure, *_ in names(choose(census))]
    assert chosen == ["b"] * 4 + ["c"] * 2


def test_a_budget_is_shared_by_the_fraction_of_bad_frames() -> None:
    census = {
        "good": take_census({"x": [0.2] * 25 + [0.05] * 75}, cap=20),
        "bad": take_census({"y": [0.2] * 10 + [0.4] * 5 + [0.05] * 5}, cap=20, first=1),
    }
    chosen = [structure for structure, *_ in names(choose(census, budget=8))]
    assert chosen == ["good"] * 2 + ["bad"] * 6


def test_nothing_is_left_of_the_budget() -> None:
    assert names(choose({"si": take_census({"a": [0.2]})}, budget=0)) == []


def test_the_next_in_line_replaces_what_must_not_be_labelled() -> None:
    census = {"si": take_census({"a": [0.29, 0.28, 0.27, 0.26, 0.25]}, 2, "largest")}
    choice = choose(census, labelled={frame_key(make_frame(0, 10))}, close={20, 40})
    assert names(choice) == [("si", 0, 30), ("si", 0, 50)]
    assert choice.skipped == {"labelled": 1, "too_close": 2}


def test_fewer_are_chosen_where_the_line_ends() -> None:
    choice = choose({"si": take_census({"a": [0.2] * 5}, 4)}, close={10, 20})
    assert len(choice.frames) == 3


@pytest.mark.parametrize("same_structure", [True, False])
def test_two_equal_frames_are_one(same_structure: bool) -> None:
    def read_equal(task: int, steps: set[int]) -> Iterator[tuple[int, Atoms]]:
        yield from ((step, make_frame(0, 0)) for step in steps)

    census = {"a": take_census({"x": [0.2] * 3})}
    if not same_structure:
        census["b"] = take_census({"y": [0.2] * 3}, first=1)
    choice = choose_frames(census, budget=None, chooser=Chooser(read_equal, lambda _: False, ["Si"], set()))
    assert len(choice.frames) == 1
    assert choice.skipped["duplicate"] == 3 * len(census) - 1


def turn(atoms: Atoms, pbc: tuple[bool, bool, bool]) -> tuple[Atoms, Atoms]:
    """Return a frame in a skewed cell, and the same one atom of which was moved and wrapped through each face."""
    frame = atoms.copy()
    frame.cell, frame.pbc = [[9, 0, 0], [4, 8, 0], [3, -4, 7]], pbc
    image = frame.copy()
    image.positions[0] += np.array(pbc) * [2, -1, 3] @ frame.cell.array
    return frame, image


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, False)])
@pytest.mark.parametrize(("size", "same"), [(0.0, True), (0.0099, True), (0.0101, False), (4.0, False)])
def test_duplicates_are_frames_closer_than_a_hundredth_of_an_angstrom(
    pbc: tuple[bool, bool, bool], size: float, same: bool
) -> None:
    frame, image = turn(make_frame(0, 0), pbc)
    image.positions[1] += size * np.array([0.6, 0.0, 0.8])
    assert are_duplicates(frame, image) == are_duplicates(image, frame) == same


def test_frames_of_other_cells_are_no_duplicates_but_the_vacuum_is_no_cell() -> None:
    frame, other = turn(make_frame(0, 0), (True, True, False))
    other.cell[2] += 5.0
    assert are_duplicates(frame, other)
    other.cell[1, 0] += 0.02
    assert not are_duplicates(frame, other)
    other.cell, other.pbc = frame.cell, True
    assert not are_duplicates(frame, other)


def test_frames_that_nearly_repeat_are_passed_over() -> None:
    """Two trajectories visit the same places, out of order of types, and slowly."""

    def read_slow(task: int, steps: set[int]) -> Iterator[tuple[int, Atoms]]:
        for step in steps:
            slow = Atoms("SiGe", [[0, 0, 0], [0, 0, 2.2 + 4e-4 * step]], cell=[9, 9, 9], pbc=True)
            yield step, slow if task else slow[[1, 0]]

    census = {"a": take_census({"x": [0.2] * 6, "y": [0.2] * 6}, 12, "largest")}
    choice = choose_frames(census, budget=None, chooser=Chooser(read_slow, lambda _: False, ["Ge", "Si"], set()))
    assert names(choice) == [("a", 0, 10), ("a", 0, 40)]
    assert choice.skipped == {"duplicate": 10}


def test_a_slab_is_known_again_from_the_dataset_it_was_written_to(tmp_path: Path) -> None:
    def read_slab(task: int, steps: set[int]) -> Iterator[tuple[int, Atoms]]:
        for step in steps:
            frame = make_frame(task, step)
            frame.positions[:, 2] -= 7.0  # outside the cell, along the vacuum
            frame.cell[2], frame.pbc = 0.0, (True, True, False)
            yield step, frame

    (_, labelled), *_ = read_slab(0, {20})
    labelled.info["energy"], labelled.arrays["forces"] = 0.0, np.zeros((2, 3))
    write_dataset(tmp_path / "dataset", [labelled], ["Si"])
    (stored,) = read_system(tmp_path / "dataset/Si2_novirial")
    census = {"a": take_census({"x": [0.2] * 3})}
    chooser = Chooser(read_slab, lambda _: False, ["Si"], {stored_key(stored, ["Si"])})
    assert names(choose_frames(census, budget=None, chooser=chooser)) == [("a", 0, 10), ("a", 0, 30)]
    assert chooser.skipped == {"labelled": 1}


def test_a_frame_that_is_not_there_or_not_finite_is_passed_over() -> None:
    def read_some(task: int, steps: set[int]) -> Iterator[tuple[int, Atoms]]:
        for step in steps - {10}:
            atoms = make_frame(task, step)
            atoms.positions[0, 0] = np.nan if step == 20 else 0.0
            yield step, atoms

    census = {"a": take_census({"x": [0.29, 0.28, 0.27]}, 1, "largest")}
    choice = choose_frames(census, budget=None, chooser=Chooser(read_some, lambda _: False, ["Si"], set()))
    assert names(choice) == [("a", 0, 30)]
    assert choice.skipped == {"no_coordinates": 1, "not_finite": 1}


def test_audits_that_are_passed_over_for_what_they_are_do_not_vanish() -> None:
    """Frames with atoms too close, or forces that are no numbers, show where the model fails."""

    def read_some(task: int, steps: set[int]) -> Iterator[tuple[int, Atoms]]:
        for step, atoms in read_frames(task, steps):
            atoms.arrays["forces"] = np.full((2, 3), np.nan if step == 40 else 1.0)
            yield step, atoms

    seen = take_census({"x": [0.2] * 6}, 1)
    seen.n_audits = 4
    seen.audits.add(seen.candidates.ranked())
    chooser = Chooser(read_some, lambda atoms: atoms.positions[0, 0] == 1.1e-3 * 20, ["Si"], set())
    choice = choose_frames({"a": seen}, budget=None, chooser=chooser)
    assert [frame.step for frame in choice.frames if frame.audit] == [10, 30, 50, 60]
    assert choice.unsound == {"a": 2}


def test_the_soundest_are_chosen_where_all_failed() -> None:
    census = {
        "a": take_census({"x": [9.0, 0.4, np.nan, np.inf, 0.3, 0.5]}, cap=2),
        "b": take_census({"y": [np.nan]}, cap=2, first=1),
    }
    choice = choose(census)
    assert choice.fallback
    assert names(choice) == [("a", 0, 20), ("a", 0, 50)]
    assert names(choose(census, budget=1)) == [("a", 0, 50)]


def test_the_soundest_are_not_chosen_where_one_frame_is_fine() -> None:
    census = {"a": take_census({"x": [0.4, 0.5]}), "b": take_census({"y": [0.05]}, first=1)}
    choice = choose(census)
    assert (names(choice), choice.fallback) == ([], False)


def test_each_file_is_read_once_for_a_structure() -> None:
    reads: list[int] = []

    def read_counted(task: int, steps: set[int]) -> Iterator[tuple[int, Atoms]]:
        reads.append(task)
        return read_frames(task, steps)

    census = {"a": take_census({"x": [0.2] * 50, "y": [0.2] * 50}, cap=20)}
    choice = choose_frames(census, budget=None, chooser=Chooser(read_counted, lambda _: False, ["Si"], set()))
    assert len(choice.frames) == 20
    assert sorted(reads) == [0, 1]


def test_a_cap_above_the_length_of_a_line_is_kept() -> None:
    cap = LINE_LENGTH + 5
    seen = take_census({"a": [0.2] * (cap + 10)}, cap=cap)
    assert len(seen.candidates.ranked()) >= cap
