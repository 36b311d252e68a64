"""Rounds of `learning_curve.py`: train, measure, choose; what is finished is kept, and not done again.

Trainings are the driver's own program. It, and the scoring, run in processes forked from one that has imported
DeePMD-kit: importing it costs more than a short training, and CPU seconds are told without it. All ways train the same
kind of model for as many steps, by the Kalman filter: they differ by what they choose and by how many models it takes.
"""

import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from learning_arms import ARMS, TASKS, Choosing, choose, score
from learning_pool import POOL_EVERY, SYSTEMS, TEST_EVERY, Frames, make_frames
from scored_frames import evaluate

from al_driver.data.dataset import find_systems, write_dataset
from al_driver.files import read_json, write_json
from al_driver.seeds import make_rng, make_seed
from al_driver.trainers.base import Training
from al_driver.trainers.deepmd import DeepmdTrainer
from al_driver.trainers.deepmd_input import read_preset
from al_driver.trainers.deepmd_kalman import LARGEST_BLOCK, set_filter

N_MEMBERS = 4
SECONDS_FILE = "seconds.json"


@dataclass(frozen=True)
class Size:
    """How much is done. Labels are counted with the first and the validation ones."""

    systems: tuple[str, ...]
    seeds: int
    pool: tuple[int, int]
    """Trajectories of each of the five conditions, and frames of each."""
    test: tuple[int, int]
    first: int
    valid: int
    batch: int
    audits: int
    rounds: int
    steps: int


SIZES = {
    "tiny": Size(("Si",), 1, (1, 8), (1, 4), first=4, valid=1, batch=4, audits=1, rounds=2, steps=3),
    "quick": Size(("Si",), 2, (5, 40), (4, 10), first=10, valid=2, batch=10, audits=2, rounds=3, steps=50),
    "small": Size(("Si", "AlCu"), 3, (8, 40), (5, 20), first=10, valid=2, batch=15, audits=3, rounds=4, steps=80),
    "full": Size(tuple(SYSTEMS), 5, (20, 200), (10, 20), first=20, valid=4, batch=25, audits=5, rounds=6, steps=150),
}
"""On an idle core: two minutes, some 20 minutes, some two hours, days."""


class Run:
    """All rounds of one system with one seed, kept in a folder."""

    def __init__(self, folder: Path, name: str, size: Size, seed: int) -> None:
        self.name, self.size, self.seed = name, size, seed
        self.system = SYSTEMS[name]
        self.folder = folder / name / f"seed.{seed}"
        shape = (*size.pool, POOL_EVERY), (*size.test, TEST_EVERY)
        self.pool = make_frames(folder / name / "pool.npz", name, *shape[0], seed=1)
        self.test = make_frames(folder / name / "test.npz", name, *shape[1], seed=2)
        keys = {"trainer": "deepmd", "preset": "small", "steps": {"first": size.steps}}
        self.kalman = DeepmdTrainer.model_validate(keys).with_covariance()
        config = set_filter(read_preset("small"), "small")
        config["optimizer"]["kf_blocksize"] = LARGEST_BLOCK
        plain = {"trainer": "deepmd", "input": config, "models": N_MEMBERS, "steps": {"first": size.steps}}
        self.plain = DeepmdTrainer.model_validate(plain)

    def result(self, arm: str, number: int) -> Any:
        """Return what a round left; None where it is yet to be done."""
        file = self.folder / arm / f"round.{number}.json"
        return read_json(file) if file.exists() else None

    def results(self, arm: str) -> list[Any]:
        """Return the rounds that are done, from the first on without a gap."""
        found: list[Any] = []
        while len(found) <= self.size.rounds and (result := self.result(arm, len(found))) is not None:
            found.append(result)
        return found

    def first_frames(self) -> tuple[list[int], list[int]]:
        """Return the places of the first frames, of the coolest crystal, and of those that validate."""
        coolest = np.flatnonzero(self.pool.conditions == next(iter(self.system.conditions())))
        order = make_rng(self.seed, "first").permutation(coolest).tolist()
        return order[: self.size.first], order[self.size.first :][: self.size.valid]

    def do_round(self, arm: str, number: int) -> Any:
        """Train on what the rounds before chose, measure, and choose for the next unless this is the last."""
        first, valid = self.first_frames()
        chosen = [place for before in range(number) for place in self.result(arm, before)["chosen"]]
        is_last = number == self.size.rounds
        models = self.folder / "first" if number == 0 else self.folder / arm / f"models.{number}"
        trains = "one" if is_last else ARMS[arm].trains
        data, valid_data = models / "data", models / "valid"
        write_dataset(data, [self.pool.atoms[place] for place in first + chosen], self.system.type_map)
        write_dataset(valid_data, [self.pool.atoms[place] for place in valid], self.system.type_map)
        members = []
        for member in range(N_MEMBERS if trains == "committee" else 1):
            # all ways have the first models in common
            trainer = self.kalman if member == 0 and (number == 0 or trains == "kpu") else self.plain
            seed = make_seed(self.seed, number, member)
            systems = tuple(find_systems(data))
            training = Training("first", seed, self.system.type_map, systems, tuple(find_systems(valid_data)))
            members.append(_train(trainer, training, models / f"member.{member}"))
        file = self.folder / arm / f"round.{number}.json"
        file.parent.mkdir(exist_ok=True)
        found = {
            "labels": len(first + chosen + valid),
            "train_seconds": [read_json(member / SECONDS_FILE) for member in members],
        }

        def finish() -> None:
            begun = time.process_time()
            found["rmse"] = _measure(members[0] / self.kalman.model_name, self.test)
            measured = time.process_time()
            found["measure_seconds"] = measured - begun
            found["chosen"] = None if is_last else self._choose(arm, number, first + chosen + valid, members, data)
            found["choose_seconds"] = time.process_time() - measured
            write_json(file, found)

        fork(finish, models / f"{arm}.output")
        if number:
            shutil.rmtree(models)
        return read_json(file)

    def _choose(self, arm: str, number: int, labelled: list[int], members: list[Path], data: Path) -> list[int]:
        way, seed = ARMS[arm], make_seed(self.seed, "choose", number)
        asked = Choosing(
            way, self.system, self.pool, labelled, self.size.batch, self.size.audits, seed, members[0].parent
        )
        scores = score(way, self.pool, self.kalman, members, seed)
        places: list[int] = choose(asked, scores, self.kalman, members, find_systems(data)).tolist()
        return places


def _measure(model: Path, test: Frames) -> dict[str, float]:
    """Return the RMSE of force components, of all test frames and of each condition."""
    squares = ((evaluate(model, test.atoms) - test.forces) ** 2).mean(axis=(1, 2))
    parts = {name: squares[test.conditions == name] for name in dict.fromkeys(test.conditions.tolist())}
    return {name: float(np.sqrt(part.mean())) for name, part in ({"all": squares} | parts).items()}


def _train(trainer: DeepmdTrainer, training: Training, folder: Path) -> Path:
    """Train a member unless it is there; return its folder."""
    if (folder / SECONDS_FILE).exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)  # of a training that was interrupted
    folder.mkdir(parents=True)
    trainer.write_inputs(training, folder)

    def work() -> None:
        import deepmd_train

        begun = time.process_time()
        code = deepmd_train.main()
        if code:
            sys.exit(code)
        write_json(Path(SECONDS_FILE), time.process_time() - begun)

    fork(work, folder / trainer.output_name)
    trainer.verify(folder)
    return folder


def fork(work: Callable[[], None], output: Path) -> None:
    """Do some work in a process of its own, which has DeePMD-kit; end with a word where it fails."""
    os.environ["NUM_WORKERS"] = "0"
    if str(TASKS) not in sys.path:
        sys.path.append(str(TASKS))
    import deepmd.infer
    import deepmd.main
    import deepmd.pt.entrypoints.main
    import deepmd.pt.infer.deep_eval  # noqa: F401

    process = multiprocessing.get_context("fork").Process(target=_redirected, args=(work, output), daemon=True)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"a process ended with {process.exitcode}; {output} says why. What is finished is kept.")


def _redirected(work: Callable[[], None], output: Path) -> None:
    os.chdir(output.parent)  # what trainings write, and what look-ahead keeps while it runs, lies there
    with output.open("w") as stream:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        work()
