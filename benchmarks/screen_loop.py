"""How many labels the loop over a property needs to find the best crystals, against random choice.

Of a pool drawn from a table, the crystals with the lowest 5 % of a property are to be found. Every way begins with the
same random labels, then takes a batch a round: at random, or by an ensemble that is fitted to what is known, begun from
the published weights for formation energies: by its mean, its lower confidence bound, the improvement expected over the
best known, or its uncertainty alone. It is the loop of ``al screen`` with ``label``, in one process. Printed are the
share of the wanted crystals that was found against the number of labels, the mean over seeds with its 90 % interval
(Student's t), and the labels after which half of them were found.

The table is val.csv of perov_5 (https://github.com/txie-93/cdvae, data/perov_5; Castelli et al., Energy Environ. Sci.
5, 9034 (2012)): ``OMP_NUM_THREADS=1 python benchmarks/screen_loop.py val.csv``; three minutes of one core.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student
from screen_fit import read_known

from al_driver.data.frames import Array
from al_driver.screen.acquisition import Acquisition, choose
from al_driver.screen.job import FitSettings
from al_driver.screen.surrogate.fitting import Split, continue_members, fit
from al_driver.screen.surrogate.model import Surrogate, load_surrogate
from al_driver.screen.surrogate.training import Known
from al_driver.seeds import make_rng, make_seed

BEST = 0.05
RANDOM = "random"
WAYS = (RANDOM, "mean", "lower_bound", "expected_improvement", "uncertainty")


def learn(pool: Known, labelled: list[int], start: Surrogate, settings: FitSettings) -> Surrogate:
    known = pool.take(labelled)
    split = Split.draw(len(known), settings)
    members = continue_members(start, settings, known.take(split.train), "property", "")
    return fit(known, split, settings, members)[0]


def run(pool: Known, way: str, seed: int, start: Surrogate, options: argparse.Namespace) -> Array:
    """Return the share of the wanted crystals that is found after each round."""
    n_wanted = round(BEST * len(pool))
    wanted = set(np.argsort(pool.values)[:n_wanted].tolist())
    order = make_rng(seed, "order").permutation(len(pool)).tolist()
    labelled, found = order[: options.first], []
    for number in range(1 + (options.labels - options.first) // options.batch):
        if number:
            left = [index for index in order if index not in set(labelled)]
            if way == RANDOM:
                labelled = labelled + left[: options.batch]
            else:
                settings = FitSettings(
                    members=options.members, epochs=options.epochs, learning_rate=2e-3,
                    seed=make_seed(seed, "round", number),
                )  # fmt: skip
                said = learn(pool, labelled, start, settings).predict([pool.graphs[index] for index in left])
                acquisition = Acquisition(property="property", by=way)  # type: ignore[arg-type]
                scores = acquisition.score(said.mean, said.std, pool.values[labelled])
                labelled = labelled + [left[place] for place in choose(scores, said.vectors, options.batch, 1)]
        found.append(len(wanted & set(labelled)) / n_wanted)
    return np.array(found)


def half_width(values: Array) -> Array:
    """Return that of the 90 % interval of the mean over seeds, the first axis."""
    n = len(values)
    return np.asarray(student.ppf(0.95, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n))


def print_curves(curves: dict[str, Array], labels: Array, n_pool: int) -> None:
    table = Table(title=f"share found of the lowest {BEST:.0%} of {n_pool}, mean over seeds ± 90 % interval")
    for heading in ("labels", *curves):
        table.add_column(heading, justify="right")
    for place, n_labels in enumerate(labels):
        cells = (f"{own[:, place].mean():.0%} ± {half_width(own)[place]:.0%}" for own in curves.values())
        table.add_row(str(n_labels), *cells)
    halves = []
    for own in curves.values():
        reached = [int(labels[np.argmax(one >= 0.5)]) if (one >= 0.5).any() else None for one in own]
        halves.append(" ".join("–" if one is None else str(one) for one in reached))
    table.add_section()
    table.add_row("half found", *halves)
    Console(width=140).print(table)


def draw(curves: dict[str, Array], labels: Array, file: Path) -> None:
    from al_driver.plots.style import make_figure

    figure = make_figure(f"lowest {BEST:.0%}: found after so many labels", width=6.0, height=4.2)
    axes = figure.subplots()
    for way, own in curves.items():
        mean, width = own.mean(axis=0), half_width(own)
        axes.plot(labels, mean, marker="o", markersize=3, label=way)
        axes.fill_between(labels, mean - width, mean + width, alpha=0.15)
    axes.set(xlabel="labels", ylabel="share found", ylim=(0, 1))
    axes.legend()
    figure.savefig(file, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--target", default="heat_all")
    parser.add_argument("--pool", type=int, default=400)
    parser.add_argument("--first", type=int, default=30, help="random labels that every way begins with")
    parser.add_argument("--batch", type=int, default=30)
    parser.add_argument("--labels", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--cache", type=Path, help="a folder where graphs are kept")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = read_known(options.table, options.target, options.cache)
    start = load_surrogate("formation-energy-per-atom")
    curves, begin = dict[str, list[Array]](), time.process_time()
    for seed in range(options.seeds):
        pool = known.take(make_rng(seed, "pool").permutation(len(known))[: options.pool].tolist())
        for way in options.ways:
            curves.setdefault(way, []).append(run(pool, way, seed, start, options))
            print(f"seed {seed} {way}: {curves[way][-1][-1]:.0%} found", flush=True)
    labels = np.arange(options.first, options.labels + 1, options.batch)
    arrays = {way: np.array(own) for way, own in curves.items()}
    print_curves(arrays, labels, options.pool)
    print(f"{options.seeds} seeds, {time.process_time() - begin:.0f} s of CPU time")
    if options.plot:
        draw(arrays, labels, options.plot)


if __name__ == "__main__":
    main()
