"""How fast candidates are compared, and how much memory that takes.

Makes 100,000 candidates in ten trajectories, and in processes of their own

- keeps a shortlist of them (the best of each stretch), as the query does before it looks at any frame: time, memory,
  and the same for ten times as many;
- chooses 20 of the shortlist by ``"diverse"`` and by ``"lookahead"``: what the query adds to describing them;
- chooses 20 of all 100,000 by ``"diverse"``, as if every candidate were described, against the plain way, which
  calculates every distance between two candidates first: the plain way is timed on fewer, whose number n is doubled
  until it takes a second, and scaled by n²;
- chooses 20 of 400 by ``"lookahead"`` against plain updates of the covariance of 2,000 weights, in the same run.

Run: ``python benchmarks/choose.py``; one process at a time, one thread; CPU seconds.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from al_driver.query.diversity import Diverse, Environments
from al_driver.query.lines import ENTRY, Entries, Order
from al_driver.query.lookahead import Lookahead, Posterior
from al_driver.query.shortlist import Stretches

N_CANDIDATES, N_TRAJECTORIES, N_CHOSEN, SHORTLIST = 100_000, 10, 20, 20
N_WORST, N_FEATURES, N_WEIGHTS = 3, 64, 2_000


def make_shortlist(n_candidates: int) -> Entries:
    """Put candidates in line, trajectory by trajectory, in blocks as they are read."""
    stretches = Stretches(SHORTLIST * N_CHOSEN)
    per_task = n_candidates // N_TRAJECTORIES
    for task in range(N_TRAJECTORIES):
        rng = np.random.default_rng(task)
        for start in range(0, per_task, 20_000):
            entries = np.zeros(min(20_000, per_task - start), dtype=ENTRY)
            entries["task"], entries["step"] = task, 10 * (1 + start + np.arange(len(entries)))
            entries["score"] = rng.uniform(0.1, 0.3, len(entries))
            entries["rank"] = -entries["score"]
            stretches.add(entries)
    return stretches.ranked()


def make_environments(n_frames: int) -> tuple[np.ndarray, Environments]:
    """Return scores and worst atoms of made-up frames, without a second copy of them."""
    rng = np.random.default_rng(0)
    descriptors = np.empty((n_frames, N_WORST, N_FEATURES), dtype=np.float32)
    rng.standard_normal(out=descriptors, dtype=np.float32)
    kinds = np.zeros((n_frames, N_WORST), dtype=np.int64)
    return rng.uniform(0.1, 0.3, n_frames), Environments(kinds, descriptors, rng.uniform(5, 9, kinds.shape))


def take_all(order: Order, n: int = N_CHOSEN) -> list[int]:
    chosen = []
    for _ in range(n):
        best = order.best()
        assert best is not None
        order.take(best)
        chosen.append(best)
    return chosen


def choose_plainly(scores: np.ndarray, own: Environments) -> list[int]:
    """Calculate the distance of every two atoms first."""
    flat = own.descriptors.reshape(-1, N_FEATURES).astype(np.float64)
    squares = (flat**2).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * flat @ flat.T, 0.0))
    nearest, chosen = own.known.reshape(-1).copy(), []
    for _ in range(N_CHOSEN):
        value = scores * nearest.reshape(-1, N_WORST).mean(axis=1)
        value[chosen] = -1.0
        chosen.append(int(np.argmax(value)))
        taken = N_WORST * chosen[-1] + np.arange(N_WORST)
        nearest = np.minimum(nearest, distances[taken].min(axis=0))
    return chosen


def make_gradients(n_frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    root = rng.normal(size=(N_WEIGHTS, N_WEIGHTS)) / np.sqrt(N_WEIGHTS)
    return rng.normal(size=(n_frames, 3 * N_WORST, N_WEIGHTS)), root @ root.T, np.full(n_frames, 10.0)


def look_ahead_plainly(gradients: np.ndarray, covariance: np.ndarray, noise: np.ndarray, n: int) -> list[int]:
    """Update the covariance of the weights itself, and measure every frame anew."""
    chosen: list[int] = []
    while len(chosen) < n:
        left = np.einsum("fcw,fcw->f", gradients @ covariance, gradients)
        left[chosen] = -1.0
        chosen.append(int(np.argmax(left)))
        own = gradients[chosen[-1]]
        gain = covariance @ own.T
        covariance = covariance - gain @ np.linalg.solve(own @ gain + noise[chosen[-1]] * np.eye(len(own)), gain.T)
    return chosen


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def compare_diverse() -> None:
    scores, own = make_environments(N_CANDIDATES)
    fast = seconds(lambda: take_all(Diverse(scores, own, 1.0)))
    memory = peak_memory()
    n, slow = 250, 0.0
    while slow < 1.0:
        n *= 2
        few = own.take(np.arange(n))
        start = time.process_time()
        plain = choose_plainly(scores[:n], few)
        slow = time.process_time() - start
        assert plain == take_all(Diverse(scores[:n], few, 1.0))
    scaled = slow * (N_CANDIDATES / n) ** 2
    print(f"diverse, 20 of 100,000 described  {fast:8.2f} s, peak memory {memory:.0f} MB")
    print(f"every distance first              {scaled:8.0f} s (measured on {n}: {slow:.2f} s; equal choice)")
    print(f"                                  {scaled / fast:8.0f} times as fast")


def compare_lookahead() -> None:
    gradients, covariance, noise = make_gradients(SHORTLIST * N_CHOSEN)
    start = time.process_time()
    flat = gradients.reshape(-1, N_WEIGHTS)
    kernel = flat @ covariance @ flat.T
    chosen = take_all(Lookahead(np.arange(len(noise)), Posterior(kernel, noise)))
    fast = time.process_time() - start
    slow = seconds(lambda: look_ahead_plainly(gradients, covariance, noise, 5)) * N_CHOSEN / 5
    assert chosen[:5] == look_ahead_plainly(gradients, covariance, noise, 5)
    print(f"look-ahead, 20 of 400             {fast:8.2f} s with the kernel; {N_WEIGHTS} weights")
    print(f"plain updates of P                {slow:8.2f} s (5 of 20 measured; equal choice)")
    print(f"                                  {slow / fast:8.1f} times as fast")


def shorten(n_candidates: int) -> None:
    taken = seconds(lambda: make_shortlist(n_candidates))
    line = make_shortlist(n_candidates)
    print(f"shortlist of {n_candidates:>9,} candidates  {taken:8.2f} s: {len(line)} are left, "
          f"peak memory {peak_memory():.0f} MB")  # fmt: skip


def choose_of_shortlist() -> None:
    scores, own = make_environments(SHORTLIST * N_CHOSEN)
    diverse = seconds(lambda: take_all(Diverse(scores, own, 1.0)))
    rows = np.random.default_rng(2).normal(size=(3 * N_WORST * SHORTLIST * N_CHOSEN, 500))
    kernel, noise = rows @ rows.T, np.full(SHORTLIST * N_CHOSEN, 10.0)
    ahead = seconds(lambda: take_all(Lookahead(np.arange(len(noise)), Posterior(kernel, noise))))
    print(f"20 of the 400 on a shortlist      {diverse:8.2f} s diverse, {ahead:.2f} s look-ahead, "
          f"peak memory {peak_memory():.0f} MB")  # fmt: skip


def peak_memory() -> float:
    """Return the peak memory of this process, MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


PARTS: dict[str, Callable[[], None]] = {
    "shortlist": lambda: shorten(N_CANDIDATES),
    "longer": lambda: shorten(10 * N_CANDIDATES),
    "choose": choose_of_shortlist,
    "diverse": compare_diverse,
    "lookahead": compare_lookahead,
}

if __name__ == "__main__":
    if len(sys.argv) > 1:
        PARTS[sys.argv[1]]()
    else:
        for part in PARTS:
            subprocess.run([sys.executable, __file__, part], check=True)
