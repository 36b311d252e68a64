"""How many labels active learning needs for a force error, against random choice and an oracle that knows the errors.

From fixed pools of labelled frames (`learning_pool.py`: silicon, copper, an alloy, silicon carbide; crystals at three
temperatures, strained, molten) each way (`learning_arms.py`) begins with the same frames of the coolest crystal, and
adds a batch a round: at random, dpgen's rule, KPU as published, a committee or KPU with the driver's own choices, and
by the true errors. All train the same kind of model for as many steps, from scratch. Labels count with the first ones,
those that validate, and audits. Errors are force RMSE on other trajectories of the reference.

Printed are, with bootstrap intervals over paired seeds, the labels to the error at which random choice ends, the share
of the gap from random choice to the oracle that is closed, and the CPU seconds of trainings and choices; of all test
frames, of the strained crystal and of the melt. `results.json` and `curves.png` in the folder hold the same. What is
finished lies there too: give the same command again, and it goes on; `--report` only tells what there is.

Run: ``python benchmarks/learning_curve.py --size quick --folder FOLDER``; 20 minutes of an idle core, `small` some two
hours, `full` (pools of 20,000 frames, five seeds, four systems) days.
"""

import argparse
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from learning_arms import ARMS
from learning_pool import SYSTEMS
from learning_report import ORACLES, RANDOM, print_cost, print_table, summarise
from learning_rounds import SIZES, Run, Size

from al_driver.files import read_json, write_json
from al_driver.plots.style import INK, MEMBER_COLOURS, drawing, make_figure, use_log, write_figure

SETTINGS_FILE, RESULTS_FILE, PLOT_FILE = "settings.json", "results.json", "curves.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--folder", type=Path, required=True, help="keep everything here, and take what is there")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, help="in place of those of the size")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, help="in place of that of the size")
    parser.add_argument("--target", type=float, help="eV/Å, of all test frames; where random choice ends if left out")
    parser.add_argument("--report", action="store_true", help="tell what there is, and do nothing")
    asked = parser.parse_args()
    if RANDOM not in asked.arms or not set(ORACLES) & set(asked.arms):
        parser.error(f"--arms needs {RANDOM}, and one of {', '.join(ORACLES)}: shares are of the gap between them")
    size = SIZES[asked.size]
    size = replace(size, systems=tuple(asked.systems or size.systems), seeds=asked.seeds or size.seeds)
    folder = asked.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    _check_settings(parser, folder, size)
    arms = [arm for arm in ARMS if arm in asked.arms]
    runs = {name: [Run(folder, name, size, seed) for seed in range(1, size.seeds + 1)] for name in size.systems}
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that no training outlives this process
    try:
        for number in range(0 if asked.report else size.seeds):
            for own in runs.values():
                _go_on(own[number], arms)
    except KeyboardInterrupt:
        raise SystemExit("interrupted: the same command goes on, and with --report tells what there is") from None
    _report(folder, runs, arms, asked.target)


def _check_settings(parser: argparse.ArgumentParser, folder: Path, size: Size) -> None:
    """Refuse a folder with results of another size; systems and seeds may be added."""
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(size).items()}
    del settings["systems"], settings["seeds"]
    file = folder / SETTINGS_FILE
    if file.exists() and read_json(file) != settings:
        parser.error(f"{folder} holds results of another --size; name another folder")
    write_json(file, settings)


def _go_on(run: Run, arms: list[str]) -> None:
    """Do the rounds that are missing, round by round, so that the ways stay comparable when this is interrupted."""
    for number in range(run.size.rounds + 1):
        for arm in arms:
            if run.result(arm, number) is None:
                result = run.do_round(arm, number)
                print(
                    f"{run.name} seed {run.seed} round {number} {arm}: {result['labels']} labels, "
                    f"{result['rmse']['all']:.4f} eV/Å; CPU s: trainings {sum(result['train_seconds']):.0f}, "
                    f"choice {result['choose_seconds']:.0f}",
                    flush=True,
                )  # fmt: skip


def _report(folder: Path, runs: dict[str, list[Run]], arms: list[str], target: float | None) -> None:
    found = {}
    for name, own in runs.items():
        results = {run.seed: {arm: run.results(arm) for arm in arms} for run in own}
        summary = summarise(results, target)
        if summary is None:
            print(f"{name}: no two rounds of all ways are done yet")
            continue
        found[name] = summary
        print_table(name, summary)
        print_cost(summary)
    if found:
        write_json(folder / RESULTS_FILE, found)
        draw(found, folder / PLOT_FILE)


def draw(found: dict[str, Any], file: Path) -> None:
    """Draw force RMSE against labels, the geometric mean over seeds; bands reach from the best seed to the worst."""
    with drawing():
        figure = make_figure("force RMSE on reference dynamics", width=4.6 * len(found) + 1.4, height=4.4)
        panels = figure.subplots(1, len(found), squeeze=False)[0]
        for axes, (name, summary) in zip(panels, found.items(), strict=True):
            everything = []
            for number, (arm, ways) in enumerate(summary["ways"].items()):
                labels, rmse = np.array(ways["all"]["n_labels"]), np.array(ways["all"]["rmse"])
                colour = (INK, *MEMBER_COLOURS)[number]
                style = "--" if arm in (RANDOM, *ORACLES) else "-"
                at, mean = labels.mean(axis=0), np.exp(np.log(rmse).mean(axis=0))
                axes.plot(at, mean, style, color=colour, marker="o", markersize=3, label=arm)
                axes.fill_between(at, rmse.min(axis=0), rmse.max(axis=0), color=colour, alpha=0.08)
                everything += [rmse.min(), rmse.max()]
            use_log(axes, "y", min(everything), max(everything))
            axes.set(title=f"{name}, {len(summary['seeds'])} seeds", xlabel="labels", ylabel="force RMSE (eV/Å)")
        panels[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        write_figure(figure, file)


if __name__ == "__main__":
    main()
