"""What the rounds of `learning_curve.py` say: labels to an error, the share of the gap closed, and what it cost.

A curve is the geometric mean over seeds of the force RMSE, interpolated in labels (the logarithm of the error). Of a
way are told the labels it takes to the error at which random choice ends, and the share of the gap from random choice
to the oracle it closes: of these labels, and of the logarithm of the error, mean over the curve. Intervals (90 %) are
bootstrapped: seeds are drawn, for all ways together, since they are paired. Two or three seeds give a rough idea only,
and one gives none.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from learning_arms import ARMS
from learning_pool import HARD
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

Floats = NDArray[np.float64]
DRAWS = 1000
RANDOM, ORACLES = "random", ("oracle", "oracle+diverse")


@dataclass(frozen=True)
class Curves:
    """The curves of one system.

    Attributes
    ----------
    labels, rmse
        Of each way, shape (n_seeds, n_rounds); eV/Å.
    """

    labels: dict[str, Floats]
    rmse: dict[str, Floats]

    @property
    def n_seeds(self) -> int:
        return len(next(iter(self.rmse.values())))

    def grid(self) -> Floats:
        """Return every number of labels from the first to the last of random choice."""
        some = self.labels.get(RANDOM, next(iter(self.labels.values())))
        return np.arange(some.min(), some.max() + 1)

    def mean(self, arm: str, seeds: NDArray[np.int64]) -> Floats:
        """Return the logarithm of the error on the grid, mean over some seeds."""
        grid = self.grid()
        pairs = zip(self.labels[arm][seeds], np.log(self.rmse[arm][seeds]), strict=True)
        found: Floats = np.mean([np.interp(grid, labels, errors) for labels, errors in pairs], axis=0)
        return found


def labels_to_reach(labels: Floats, errors: Floats, target: float) -> float:
    """Return the number of labels at which a curve first comes to a value, interpolated; infinity where it does not.

    >>> labels_to_reach(np.array([10.0, 20.0]), np.array([3.0, 1.0]), 2.0)
    15.0
    """
    there = np.flatnonzero(errors <= target)
    if not len(there):
        return float("inf")
    if there[0] == 0:
        return float(labels[0])
    before, after = there[0] - 1, there[0]
    share = (errors[before] - target) / (errors[before] - errors[after])
    return float(labels[before] + share * (labels[after] - labels[before]))


def closed_share(random: float, own: float, oracle: float) -> float:
    """Return which share of the gap from random choice to the oracle a way closes; NaN where there is no gap.

    >>> closed_share(100.0, 70.0, 50.0)
    0.6
    """
    if not np.isfinite([random, oracle]).all() or random <= oracle:
        return float("nan")
    return (random - own) / (random - oracle)


def compare(curves: Curves, target: float | None = None) -> tuple[float, dict[str, dict[str, Any]]]:
    """Return the target, and of each way the labels to it and both shares, each with its interval.

    Parameters
    ----------
    target
        eV/Å; where random choice ends, in each draw of seeds anew, when None.
    """
    everyone = np.arange(curves.n_seeds)
    log_target = None if target is None else float(np.log(target))
    oracle = min((arm for arm in ORACLES if arm in curves.rmse), key=lambda arm: curves.mean(arm, everyone).mean())
    whole = _measures(curves, everyone, log_target, oracle)
    rng = np.random.default_rng(0)
    drawn = [
        _measures(curves, rng.integers(0, curves.n_seeds, curves.n_seeds), log_target, oracle)
        for _ in range(DRAWS if curves.n_seeds > 1 else 0)
    ]
    found: dict[str, dict[str, Any]] = {arm: {"is_oracle": arm == oracle} for arm in whole}
    for arm, own in whole.items():
        for name, value in own.items():
            values = (value, *interval(np.array([one[arm][name] for one in drawn])))
            found[arm][name] = [number if np.isfinite(number) else None for number in values]
    return target or float(np.exp(curves.mean(RANDOM, everyone)[-1])), found


def _measures(
    curves: Curves, seeds: NDArray[np.int64], log_target: float | None, oracle: str
) -> dict[str, dict[str, float]]:
    grid = curves.grid()
    means = {arm: curves.mean(arm, seeds) for arm in curves.rmse}
    wanted = float(means[RANDOM][-1]) if log_target is None else log_target
    labels = {arm: labels_to_reach(grid, mean, wanted) for arm, mean in means.items()}
    return {
        arm: {
            "labels": labels[arm],
            "share_of_labels": closed_share(labels[RANDOM], labels[arm], labels[oracle]),
            "share_of_error": closed_share(means[RANDOM].mean(), mean.mean(), means[oracle].mean()),
        }
        for arm, mean in means.items()
    }


def interval(drawn: Floats) -> tuple[float, float]:
    """Return the 5 and 95 % quantiles of what is defined, each a value that was drawn: some may be infinite."""
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.05, 0.95], method="inverted_cdf")
    return float(low), float(high)


def gather(results: dict[int, dict[str, list[Any]]], condition: str) -> tuple[Curves, list[int]]:
    """Return the curves that all ways have in common, and their seeds.

    Parameters
    ----------
    results
        By seed and way, the rounds that are done.
    condition
        "all", or the name of one.
    """
    reached = {seed: min(map(len, arms.values())) for seed, arms in results.items()}
    n_rounds = max(reached.values(), default=0)
    seeds = [seed for seed, n in reached.items() if n == n_rounds and n_rounds > 1]
    arms = results[seeds[0]] if seeds else {}
    labels, rmse = {}, {}
    for arm in arms:
        rounds = [results[seed][arm][:n_rounds] for seed in seeds]
        labels[arm] = np.array([[one["labels"] for one in own] for own in rounds], dtype=float)
        rmse[arm] = np.array([[one["rmse"][condition] for one in own] for own in rounds])
    return Curves(labels, rmse), seeds


def costs(results: dict[int, dict[str, list[Any]]]) -> dict[str, dict[str, float]]:
    """Return CPU seconds of the trainings a choice takes and of the choice itself, means over rounds.

    The first round, whose models all ways share, and the last, after which nothing is chosen, do not count.
    """
    found = {}
    for arm in next(iter(results.values()), {}):
        rounds = [one for own in results.values() for one in own[arm][1:] if one["chosen"] is not None]
        if rounds:
            found[arm] = {
                "train": float(np.mean([sum(one["train_seconds"]) for one in rounds])),
                "choose": float(np.mean([one["choose_seconds"] for one in rounds])),
            }
    return found


def summarise(results: dict[int, dict[str, list[Any]]], target: float | None) -> dict[str, Any] | None:
    """Return, as JSON, all that is told of a system; None where no two rounds of all ways are done."""
    curves, seeds = gather(results, "all")
    if not seeds:
        return None
    found: dict[str, Any] = {"seeds": seeds, "rounds": curves.rmse[RANDOM].shape[1] - 1, "ways": {}}
    conditions = ("all", *HARD)
    for condition in conditions:
        curves, _ = gather(results, condition)
        reached, measures = compare(curves, target if condition == "all" else None)
        found[f"target_{condition}"] = reached
        for arm, own in measures.items():
            last = float(np.exp(np.log(curves.rmse[arm][:, -1]).mean()))
            found["ways"].setdefault(arm, {})[condition] = own | {
                "last_rmse": last, "n_labels": curves.labels[arm].tolist(), "rmse": curves.rmse[arm].tolist()
            }  # fmt: skip
    for arm, own in costs(results).items():
        found["ways"][arm]["seconds"] = own
    return found


def print_table(name: str, found: dict[str, Any]) -> None:
    seeds, rounds = len(found["seeds"]), found["rounds"]
    for condition in ("all", *HARD):
        target = found[f"target_{condition}"]
        table = Table(title=f"{name}, test frames: {condition}; seeds: {seeds}, rounds: {rounds}; [90 % interval]")
        for heading in ("way", f"labels to {target:.3f} eV/Å", "gap closed: labels", "error", "RMSE at the end",
                        "CPU s: trainings", "choice"):  # fmt: skip
            table.add_column(heading, justify="left" if heading == "way" else "right")
        for arm, ways in found["ways"].items():
            own, spent = ways[condition], ways.get("seconds")
            words = ARMS[arm].words + (" (the oracle)" if own["is_oracle"] else "")
            shares = (_percent(own[key]) for key in ("share_of_labels", "share_of_error"))
            cost = (f"{spent[key]:.0f}" for key in ("train", "choose")) if spent else ("", "")
            table.add_row(words, _number(own["labels"]), *shares, f"{own['last_rmse']:.4f}", *cost)
        Console(width=170).print(table)


def print_cost(found: dict[str, Any]) -> None:
    """Print what KPU's trainings cost beside the committee's."""
    spent = {arm: ways["seconds"]["train"] for arm, ways in found["ways"].items() if "seconds" in ways}
    one = [seconds for arm, seconds in spent.items() if ARMS[arm].trains == "kpu"]
    four = [seconds for arm, seconds in spent.items() if ARMS[arm].trains == "committee"]
    if one and four:
        ratio = float(np.mean(one) / np.mean(four))
        print(f"trainings of a choice, KPU / committee of four: {ratio:.2f} of the CPU seconds, imports left out")


def _number(values: list[float | None]) -> str:
    own, low, high = ("–" if value is None else f"{value:.0f}" for value in values)
    return f"{own} [{low}, {high}]"


def _percent(values: list[float | None]) -> str:
    own, low, high = ("–" if value is None else f"{100 * value:+.0f} %" for value in values)
    return f"{own} [{low}, {high}]"
