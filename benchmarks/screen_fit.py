"""What a surrogate learns from 1,200 crystals, and whether its uncertainty means something.

1,200 crystals of a table train (with the shares for stopping and calibrating among them), 400 others test: an ensemble
from scratch, and one that begins with the published weights for formation energies. Printed are the errors of members
and ensemble, and of each uncertainty on the test crystals: how often its intervals of 90 % hold, how wide they are, its
rank correlation with the error, beside plain distance and beside one number for all.

The table is val.csv of perov_5 (https://github.com/txie-93/cdvae, data/perov_5; Castelli et al., Energy Environ. Sci.
5, 9034 (2012)): ``OMP_NUM_THREADS=1 python benchmarks/screen_fit.py val.csv``; ten minutes of one core.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from al_driver.live_screen import evaluation_table
from al_driver.screen.graph_cache import GraphCache
from al_driver.screen.job import FitSettings
from al_driver.screen.properties import find_elements
from al_driver.screen.reading import Reader
from al_driver.screen.surrogate.checkpoint import read_elements
from al_driver.screen.surrogate.fitting import Split, continue_members, evaluate, fit, make_members
from al_driver.screen.surrogate.member import Member
from al_driver.screen.surrogate.model import load_surrogate
from al_driver.screen.surrogate.training import Known
from al_driver.seeds import make_rng

N_TRAIN, N_TEST = 1200, 400


def read_known(table: Path, target: str, cache: Path | None) -> Known:
    kept = GraphCache(cache)
    reading = Reader(kept).read([table])
    reading.raise_problems()
    kept.save()
    return Known([one.graph for one in reading.samples], np.array([one.targets[target] for one in reading.samples]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--target", default="heat_all")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=8e-3, help="the learning rate from scratch")
    parser.add_argument("--way", choices=["scratch", "published", "both"], default="both")
    parser.add_argument("--cache", type=Path, help="a folder where graphs are kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = read_known(options.table, options.target, options.cache)
    order = make_rng(options.seed, "benchmark").permutation(len(known)).tolist()
    learn, test = known.take(order[:N_TRAIN]), known.take(order[N_TRAIN : N_TRAIN + N_TEST])
    deviation = np.abs(test.values - learn.values.mean()).mean()
    print(f"{len(learn)} crystals to learn from, {len(test)} to test; the mean alone has an MAE of {deviation:.3f}")
    for way in ("scratch", "published") if options.way == "both" else (options.way,):
        rate = options.rate if way == "scratch" else 2e-3
        settings = FitSettings(members=options.members, epochs=options.epochs, seed=options.seed, learning_rate=rate)
        split = Split.draw(len(learn), settings)
        train = learn.take(split.train)
        members: list[Member]
        if way == "scratch":
            elements = read_elements(find_elements())
            members = make_members(settings, elements, train, options.target, "eV/atom", classify=False)
        else:
            start = load_surrogate("formation-energy-per-atom")
            members = continue_members(start, settings, train, options.target, "eV/atom")
        begin = time.process_time()
        surrogate, curves = fit(learn, split, settings, members)
        taken = time.process_time() - begin
        found, _, _ = evaluate(surrogate, test)
        print(f"\n{way}: {len(members)} members, {len(curves)} epochs, {taken:.0f} s of CPU time")
        Console(width=120).print(evaluation_table(found | {"unit": "eV/atom"}))
        best = min(found["mae_by_member"])
        print(f"the ensemble is {'better' if found['mae'] < best else 'worse'} than its best member ({best:.4f})")


if __name__ == "__main__":
    main()
