"""Which score tells frames with large force errors from those with small ones?

For frames of reference dynamics at each temperature (`scored_frames.py`): the rank correlation (Spearman) of score and
error, each an atom's largest, and the area under the ROC curve for "error above the target", where the target is the
median error of the model at that temperature; for KPU by the virtual committee and exact, a committee of four, the
largest force, and the distance of descriptors. Errors are those of the model that drives: another one for KPU than for
the rest. Measures are means over the seeds. Intervals (90 %), and that of KPU's advantage over each other score, are
bootstrapped: seeds are drawn, and trajectories. And the error against the prediction, in bins. A
correlation over all temperatures is a difference between conditions: not shown.

Run: ``OMP_NUM_THREADS=1 python benchmarks/ranking.py``; some minutes a seed on an idle core.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from scored_frames import NAMES, SYSTEMS, TEMPERATURES, TRAINED_AT, TRAJECTORIES, Floats, Scored, score_all

DRAWS, BINS = 400, 5
Measure = Callable[[Scored, str, NDArray[np.int64]], float]


def spearman(score: Floats, error: Floats) -> float:
    return float(np.corrcoef(rankdata(score), rankdata(error))[0, 1])


def auroc(score: Floats, is_bad: NDArray[np.bool_]) -> float:
    """Return the chance that a bad frame has a larger score than a good one; NaN where all are alike."""
    n_bad, n_good = int(is_bad.sum()), int((~is_bad).sum())
    if not n_bad or not n_good:
        return float("nan")
    return float((rankdata(score)[is_bad].sum() - n_bad * (n_bad + 1) / 2) / (n_bad * n_good))


def draw(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a bootstrap draw of whole trajectories."""
    drawn: NDArray[np.int64] = rng.choice(np.arange(n).reshape(TRAJECTORIES, -1), TRAJECTORIES).reshape(-1)
    return drawn


def compare(found: list[Scored], measure: Measure) -> str:
    """Return a measure of each score, the mean of all seeds, and KPU's advantage, as words."""
    rng = np.random.default_rng(0)
    n = len(found[0].scores["kpu"])
    whole = {name: np.mean([measure(one, name, np.arange(n)) for one in found]) for name in NAMES}
    drawn: dict[str, list[float]] = {name: [] for name in NAMES}
    for _ in range(DRAWS):
        places = draw(n, rng)
        seeds = [found[number] for number in rng.integers(0, len(found), len(found))]
        for name in NAMES:
            drawn[name].append(float(np.mean([measure(one, name, places) for one in seeds])))
    words = []
    for name in NAMES:
        text = f"    {name:10} {whole[name]:5.2f} {interval(drawn[name])}"
        if name != "kpu":
            ahead = np.array(drawn["kpu"]) - drawn[name]
            text += f"   kpu is ahead by {whole['kpu'] - whole[name]:+.2f} {interval(ahead)}"
        words.append(text)
    return "\n".join(words)


def interval(drawn: Floats | list[float]) -> str:
    low, high = np.quantile(drawn, [0.05, 0.95])
    return f"[{low:+.2f}, {high:+.2f}]"


def correlates(scored: Scored, name: str, places: NDArray[np.int64]) -> float:
    return spearman(scored.scores[name][places], scored.error_of(name)[places])


def separates(scored: Scored, name: str, places: NDArray[np.int64]) -> float:
    error = scored.error_of(name)
    return auroc(scored.scores[name][places], error[places] > np.median(error))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", choices=SYSTEMS, default="Si")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=200, help="at each temperature")
    parser.add_argument("--folder", type=Path, help="keep everything here, and take what is there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (asked.folder or Path(temporary)).absolute()
        seeds = [score_all(folder, asked.system, seed, asked.frames, "test") for seed in range(1, asked.seeds + 1)]
    print(f"{asked.system}, {asked.seeds} seeds, {asked.frames} frames a temperature; learnt at {TRAINED_AT} K")
    for temperature in TEMPERATURES:
        found = [one[temperature] for one in seeds]
        errors = {kind: np.median([one.errors[kind] for one in found]) for kind in ("kpu", "committee")}
        print(f"{temperature} K, median error (eV/Å): " + ", ".join(f"{k} {e:.3f}" for k, e in errors.items()))
        print("  rank correlation of score and error\n" + compare(found, correlates))
        print("  area under the ROC curve, error above its median\n" + compare(found, separates))
        for name in ("kpu", "committee"):
            score = np.concatenate([one.scores[name] for one in found])
            error = np.concatenate([one.error_of(name) for one in found])
            parts = np.array_split(np.argsort(score), BINS)
            pairs = ", ".join(f"{score[part].mean():.3f} → {error[part].mean():.3f}" for part in parts)
            print(f"  {name}: mean score → mean error, by fifths of the score: {pairs}")


if __name__ == "__main__":
    main()
