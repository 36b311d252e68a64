"""Which ranker finds the lowest orderings of a high-nickel cathode: CGCNN, Ewald sums, pairs, CHGNet, or chance.

The candidates are those of ``examples/ncm``. Their reference is a relaxation of the atoms by CHGNet, to forces below
0.1 eV/Å in the cell of the parent, at most 40 steps of BFGS: a line of ``relaxed.jsonl`` in FOLDER each, so that the
labelling goes on where it was left. That is 4 to 12 s of one core a candidate, half an hour of an idle one for all:

    OMP_NUM_THREADS=1 python benchmarks/ncm.py label FOLDER [--steps 0]
    OMP_NUM_THREADS=1 python benchmarks/ncm.py compare FOLDER [--labels 40] [--seeds 5]

Printed are Spearman's ρ with the reference within each composition, and how many of the ten best a ranker has found
after 40 labels: those lowest above the minimum of their composition, compositions of less than ten left aside. Rankers
that do not learn label their first ones; those that learn begin with 20 at random, then take ten at a time. Labels
are spread evenly over compositions. CHGNet unrelaxed is of the reference's own model, which is no comparison between
equals; with ``--steps 0`` it is the reference (three minutes of one core). Candidates that are not labelled yet are
left out, and counted.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms

from al_driver.data.frames import Array
from al_driver.schema.load import load_params
from al_driver.schema.screen import ScreenParams
from al_driver.screen.agreement import compare, find_best
from al_driver.screen.baselines.pairs import LinearFit, PairCounts
from al_driver.screen.candidates import make_candidates
from al_driver.screen.crystals import make_crystals
from al_driver.screen.graph import Graph
from al_driver.screen.graph_cache import make_graphs
from al_driver.screen.job import FitSettings
from al_driver.screen.surrogate.fitting import Split, continue_members, fit
from al_driver.screen.surrogate.model import load_surrogate
from al_driver.screen.surrogate.training import Known

EXAMPLE = Path(__file__).parents[1] / "examples/ncm/param.json"
PUBLISHED = "formation-energy-per-atom"
MAX_FORCE = 0.1  # eV/Å
FIRST, ROUND, N_BEST, FEWEST = 20, 10, 10, 10
Rank = Callable[[list[int], Array, int], Array]
"""From the indices that are labelled, the reference and a seed to a score of every candidate; low is good."""


def label(folder: Path, frames: Sequence[Atoms], max_steps: int) -> None:
    """Relax what has no line in ``relaxed.jsonl`` yet, in an order that mixes the compositions."""
    from ase.optimize import BFGS
    from chgnet.model.dynamics import CHGNetCalculator

    class Quick(CHGNetCalculator):  # neither stress nor moments, which take half of the time
        def calculate(self, *arguments: object, **keys: object) -> None:
            super().calculate(*arguments, **keys, task="ef")

    folder.mkdir(parents=True, exist_ok=True)
    calculator, done = Quick(use_device="cpu"), read_labels(folder)
    for index in np.random.default_rng(0).permutation(len(frames)).tolist():
        atoms = frames[index].copy()
        if atoms.info["id"] in done:
            continue
        atoms.calc = calculator
        first = float(atoms.get_potential_energy())
        optimiser = BFGS(atoms, logfile=None)
        optimiser.run(fmax=MAX_FORCE, steps=max_steps)
        line = {"id": atoms.info["id"], "first": first, "energy": float(atoms.get_potential_energy()),
                "steps": optimiser.nsteps}  # fmt: skip
        with (folder / "relaxed.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


def read_labels(folder: Path) -> dict[str, dict[str, float]]:
    path = folder / "relaxed.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {line["id"]: line for line in map(json.loads, lines)}


def learn_pairs(counts: Array) -> Rank:
    def rank(known: list[int], reference: Array, _seed: int) -> Array:
        return LinearFit.fit(counts[known], reference[known]).predict(counts)

    return rank


def finetune(graphs: Sequence[Graph], formulas: Sequence[str]) -> Rank:
    """Go on from the published weights, on what the energies are above the mean of their composition's labels."""
    start, names = load_surrogate(PUBLISHED), np.array(formulas)

    def rank(known: list[int], reference: Array, seed: int) -> Array:
        own = names[known]
        values = np.array([reference[i] - reference[known][own == names[i]].mean() for i in known])
        settings = FitSettings(members=2, epochs=40, learning_rate=2e-3, seed=seed)
        data = Known([graphs[i] for i in known], values)
        split = Split.draw(len(known), settings)
        members = continue_members(start, settings, data.take(split.train), "energy", "eV/atom")
        return np.asarray(fit(data, split, settings, members)[0].predict(graphs).mean)

    return rank


def choose(scores: Array, formulas: Sequence[str], taken: list[int], n: int) -> list[int]:
    """Take n more, of each composition in turn where the fewest are taken."""
    names, chosen = np.array(formulas), list(taken)
    for _ in range(min(n, len(names) - len(taken))):
        left = [i for i in range(len(names)) if i not in chosen]
        counts = {name: int((names[chosen] == name).sum()) for name in {names[i] for i in left}}
        chosen.append(min(left, key=lambda i: (counts[names[i]], scores[i])))
    return chosen


def find_labels(rank: Rank, learns: bool, reference: Array, formulas: Sequence[str], n: int, seed: int) -> list[int]:
    """Return which candidates a ranker has had labelled."""
    if not learns:
        return choose(rank([], reference, seed), formulas, [], n)
    known = choose(np.random.default_rng(seed).random(len(formulas)), formulas, [], min(FIRST, n))
    while len(known) < n:
        known = choose(rank(known, reference, seed), formulas, known, min(ROUND, n - len(known)))
    return known


def compare_rankers(folder: Path, frames: Sequence[Atoms], n_labels: int, n_seeds: int) -> None:
    labels = read_labels(folder)
    there = [atoms for atoms in frames if atoms.info["id"] in labels]
    formulas = [atoms.get_chemical_formula() for atoms in there]
    large = [atoms for atoms, name in zip(there, formulas, strict=True) if formulas.count(name) >= FEWEST]
    print(f"{len(there)} of {len(frames)} candidates are labelled, {len(large)} in compositions of {FEWEST} and more")
    if len(large) <= n_labels:
        raise SystemExit(f"too few to choose {n_labels} of them: label more")
    formulas = [atoms.get_chemical_formula() for atoms in large]
    reference, unrelaxed = (
        np.array([labels[atoms.info["id"]][key] / len(atoms) for atoms in large]) for key in ("energy", "first")
    )
    names = np.array(formulas)
    above = reference - np.array([reference[names == name].min() for name in formulas])
    best = find_best(above, N_BEST)
    print("lowest to highest, meV/atom: " + ", ".join(f"{n} {1e3 * np.ptp(reference[names == n]):.1f}"
                                                     for n in dict.fromkeys(formulas)))  # fmt: skip
    graphs = make_graphs(make_crystals(large))
    (ewald,) = [model for model in load_params(EXAMPLE, ScreenParams).baselines if model.model == "ewald"]
    fixed = {
        "CGCNN, published": load_surrogate(PUBLISHED).predict(graphs).mean,
        "Ewald": ewald.predict(large),
        "CHGNet, unrelaxed": unrelaxed,
    }
    if np.array_equal(unrelaxed, reference):
        del fixed["CHGNet, unrelaxed"]
    rankers: dict[str, tuple[Rank, bool]] = {
        name: (lambda _known, _reference, _seed, scores=scores: scores, False) for name, scores in fixed.items()
    }
    rankers["pairs, learning"] = (learn_pairs(PairCounts.of(large, 6.0).count(large)), True)
    rankers["CGCNN, fine-tuned"] = (finetune(graphs, formulas), True)
    rankers["random"] = (lambda _known, _reference, seed: np.random.default_rng([seed, 1]).random(len(large)), False)
    print(f"\n{'ranker':20} {'ρ':>6}  {f'of the {N_BEST} best after {n_labels} labels':>34}   ρ by composition")
    for name, (rank, learns) in rankers.items():
        seeds = range(n_seeds if learns or name == "random" else 1)
        runs = [find_labels(rank, learns, reference, formulas, n_labels, seed) for seed in seeds]
        found = [len(best & set(run)) for run in runs]
        rhos, by_name = [], list[dict[str, float]]()
        for seed, run in zip(seeds, runs, strict=True):
            scores = rank(run, reference, seed).copy()
            scores[run if learns else []] = np.nan  # what was learnt is no prediction
            agreement = compare(formulas, scores, reference)
            rhos.append(agreement.mean or 0.0)
            by_name.append({key: rho or 0.0 for key, (rho, _) in agreement.by_composition.items()})
        mean = {key: np.mean([one[key] for one in by_name if key in one]) for key in by_name[0]}
        spread = f"{np.mean(found):.1f} (" + ", ".join(map(str, found)) + ")"
        print(f"{name:20} {np.mean(rhos):6.2f}  {spread:>34}   " + " ".join(f"{rho:.2f}" for rho in mean.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["label", "compare"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=40, help="the most steps of a relaxation")
    parser.add_argument("--labels", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    params = load_params(EXAMPLE, ScreenParams)
    frames = []
    for entry in params.candidates:
        for candidate in make_candidates(entry, params.seed)[0]:
            candidate.atoms.info["id"] = candidate.id
            frames.append(candidate.atoms)
    if options.do == "label":
        label(options.folder, frames, options.steps)
    else:
        compare_rankers(options.folder, frames, options.labels, options.seeds)


if __name__ == "__main__":
    main()
