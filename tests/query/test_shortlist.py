"""The best frame of each stretch of each trajectory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from al_driver.query.selection import ENTRY, Entries
from al_driver.query.shortlist import Stretches

frames = st.dictionaries(
    st.tuples(st.integers(0, 3), st.integers(1, 70)), st.sampled_from([0.1, 0.15, 0.2, 0.25]), max_size=80
)


def make_entries(scores: dict[tuple[int, int], float]) -> Entries:
    """Return entries from (task, step) → score, the largest score first in rank."""
    entries = np.zeros(len(scores), dtype=ENTRY)
    entries["task"], entries["step"] = np.array(list(scores), dtype=np.int64).reshape(-1, 2).T
    entries["score"] = list(scores.values())
    entries["rank"] = -entries["score"]
    return entries


def places(entries: Entries) -> list[tuple[int, int]]:
    return list(zip(entries["task"].tolist(), entries["step"].tolist(), strict=True))


def keep_plainly(scores: dict[tuple[int, int], float], length: int) -> list[tuple[int, int]]:
    """Cut trajectories into longer and longer stretches until few enough are left."""
    for power in range(63):
        best: dict[tuple[int, int], tuple[float, int, int]] = {}
        for (task, step), score in scores.items():
            stretch = (task, step // 2**power)
            best[stretch] = min(best.get(stretch, (np.inf, 0, 0)), (-score, task, step))
        if len(best) <= length:
            break
    return [(task, step) for _, task, step in sorted(best.values())][:length]


@given(frames, st.integers(1, 40))
def test_the_best_of_each_stretch_is_kept(scores: dict[tuple[int, int], float], length: int) -> None:
    stretches = Stretches(length)
    stretches.add(make_entries(scores))
    assert places(stretches.ranked()) == keep_plainly(scores, length)


@pytest.mark.parametrize("length", [7, 400])
def test_neither_order_nor_blocks_matter_and_memory_is_bounded(length: int) -> None:
    rng = np.random.default_rng(1)
    scores = {(task, 10 * step): float(rng.choice(50)) for task in range(3) for step in range(1, 15_000)}
    entries, kept = make_entries(scores), []
    for order in (np.arange(len(entries)), rng.permutation(len(entries))):
        stretches = Stretches(length)
        for block in np.array_split(order, 23):
            stretches.add(entries[block])
            assert sum(len(part) for part in stretches._parts) <= 10_000 + length
        kept.append(places(stretches.ranked()))
    assert kept[0] == kept[1] == keep_plainly(scores, length)
    assert length / 2 <= len(kept[0]) <= length


def test_a_burst_does_not_fill_the_shortlist_and_a_peak_is_not_lost() -> None:
    """One moment of one run has the thousand highest scores, and a rare peak stands alone in another."""
    scores = {(task, step): 0.1 + 1e-6 * step for task in range(4) for step in range(1, 5001)}
    scores |= {(0, step): 0.2 for step in range(1000, 2000)} | {(3, 777): 0.9}
    stretches = Stretches(40)
    stretches.add(make_entries(scores))
    kept = places(stretches.ranked())
    assert kept[0] == (3, 777)
    assert {task for task, _ in kept} == {0, 1, 2, 3}
    assert sum(task == 0 and 1000 <= step < 2000 for task, step in kept) <= 5


def test_more_trajectories_than_places() -> None:
    stretches = Stretches(2)
    stretches.add(make_entries({(task, step): 0.1 * task + 0.01 * step for task in range(5) for step in range(1, 4)}))
    assert places(stretches.ranked()) == [(4, 3), (3, 3)]
    assert len(Stretches(3).ranked()) == 0
