"""The ways of choosing frames that `learning_curve.py` compares, each by what the driver itself chooses with.

Frames of a pool are scored by the models; the driver's census, windows, shortlists, audits and orders choose. Where a
window belongs to the way, frames are candidates within it; elsewhere all are, since a pool has no frame that must not
be labelled. eV/Å.
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms
from learning_pool import Frames, System
from numpy.typing import NDArray
from scored_frames import deviation, evaluate

import al_driver
from al_driver.data.dataset import stored_key
from al_driver.data.gate import too_close
from al_driver.explorers.base import Guard
from al_driver.query.audit import Course
from al_driver.query.deviation import Rows
from al_driver.query.diversity import DiverseOrders
from al_driver.query.features import Features
from al_driver.query.job import MOST_LOOKED_AT
from al_driver.query.lines import Orders
from al_driver.query.lookahead import LookaheadOrders
from al_driver.query.params import QueryParams
from al_driver.query.selection import Census, Chooser, choose_frames
from al_driver.query.shortlist import Stretches
from al_driver.query.window import CANDIDATE, Scored, Window
from al_driver.seeds import make_rng
from al_driver.trainers.base import Description
from al_driver.trainers.deepmd import INPUT_FILE, DeepmdTrainer
from al_driver.trainers.deepmd_kalman import force_factor

TASKS = Path(al_driver.__file__).parent / "tasks"
Floats = NDArray[np.float64]
Places = NDArray[np.int64]
DEFAULTS = QueryParams(lower=0.1, upper=0.2)
EVERYTHING = (0.0, float("inf"))


@dataclass(frozen=True)
class Arm:
    """A way of choosing."""

    words: str
    trains: Literal["one", "kpu", "committee"]
    """One model; one with the virtual committee that its covariance gives; or four."""
    score: Literal["none", "virtual", "deviation", "half", "error"]
    choose: Literal["random", "largest", "diverse", "lookahead"]
    has_window: bool = False
    has_audits: bool = False


ARMS = {
    "random": Arm("drawn at random", "one", "none", "random"),
    "window": Arm("four models, a window, shuffled: dpgen's rule", "committee", "deviation", "random", has_window=True),
    "committee+diverse": Arm("four models, diverse", "committee", "deviation", "diverse", has_audits=True),
    "published": Arm("KPU as published: the largest mean over half the atoms", "kpu", "half", "largest"),
    "kpu": Arm("KPU, the largest", "kpu", "virtual", "largest", has_audits=True),
    "kpu+diverse": Arm("KPU, diverse", "kpu", "virtual", "diverse", has_audits=True),
    "kpu+lookahead": Arm("KPU, look-ahead", "kpu", "virtual", "lookahead", has_audits=True),
    "oracle": Arm("the largest true errors", "one", "error", "largest"),
    "oracle+diverse": Arm("true errors, diverse", "kpu", "error", "diverse"),
}
"""Those with audits spend part of each batch on frames drawn at random, as the driver does to know its errors."""


def score(arm: Arm, pool: Frames, trainer: DeepmdTrainer, members: list[Path], seed: int) -> Floats:
    """Return what the models say of each frame, shape (n_frames,)."""
    if arm.score == "none":
        return np.ones(len(pool.atoms))
    if arm.score == "half":
        return _half_mean(members[0] / str(trainer.covariance_name), pool.atoms, seed)
    if arm.score == "error":
        forces = evaluate(members[0] / trainer.model_name, pool.atoms)
        errors: Floats = np.linalg.norm(forces - pool.forces, axis=-1).max(axis=1)
        return errors
    files = committee(arm, trainer, members)
    factor = trainer.score_factor(members[0]) if arm.score == "virtual" else 1.0
    found: Floats = factor * deviation(np.array([evaluate(file, pool.atoms) for file in files])).max(axis=1)
    return found


def committee(arm: Arm, trainer: DeepmdTrainer, members: list[Path]) -> list[Path]:
    """Return the models whose deviations count, the one that drives first."""
    if arm.trains == "committee":
        return [member / trainer.model_name for member in members]
    return [members[0] / name for name in trainer.model_files(members[0])]


def _half_mean(checkpoint: Path, frames: list[Atoms], seed: int) -> Floats:
    """Return the exact uncertainty of each frame, the mean over ⌊N/2⌋ atoms that are drawn."""
    from kpu_model import KalmanModel

    model, draws, found = KalmanModel(checkpoint), make_rng(seed, "half"), []
    for atoms in frames:
        frame = model.make_frame(atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_chemical_symbols())
        half = draws.choice(len(atoms), len(atoms) // 2, replace=False)
        found.append(float(model.force_uncertainty(frame, np.sort(half)).mean()))
    return np.array(found)


@dataclass(frozen=True)
class Choosing:
    """What a choice starts from, besides the scores."""

    arm: Arm
    system: System
    pool: Frames
    labelled: list[int]
    """Places in the pool that have labels."""
    n_frames: int
    n_audits: int
    seed: int
    folder: Path
    """Where features are left."""


def choose(asked: Choosing, scores: Floats, trainer: DeepmdTrainer, members: list[Path], systems: list[Path]) -> Places:
    """Return the places in the pool of the frames to label next.

    Parameters
    ----------
    systems
        deepmd/npy systems that the models were trained on.
    """
    pool, arm = asked.pool, asked.arm
    census = take_census(asked, scores)
    orders = None
    if arm.choose in ("diverse", "lookahead"):
        orders = _describe(asked, census, committee(arm, trainer, members), systems)

    places = pool.places()

    def read_frames(task: int, steps: set[int]) -> Iterator[tuple[int, Atoms]]:
        yield from ((step, pool.atoms[places[task, step]]) for step in sorted(steps))

    chooser = Chooser(
        read_frames,
        lambda atoms: too_close(atoms, Guard().min_distance) is not None,
        asked.system.type_map,
        {stored_key(pool.atoms[place], asked.system.type_map) for place in asked.labelled},
    )
    choice = choose_frames({"pool": census}, budget=asked.n_frames, chooser=chooser, orders=orders)
    return np.array([places[frame.task, frame.step] for frame in choice.frames], dtype=np.int64)


def take_census(asked: Choosing, scores: Floats) -> Census:
    """Class the frames of each trajectory and put them in line, as the query does."""
    arm, pool = asked.arm, asked.pool
    cap, n_audits = asked.n_frames, asked.n_audits if arm.has_audits else 0
    length = DEFAULTS.shortlist * cap
    if arm.choose == "lookahead":
        length = min(length, max(MOST_LOOKED_AT, cap))
    seen = Census(cap, n_audits, Stretches(length) if arm.choose in ("diverse", "lookahead") else None)
    lower, upper = asked.system.window if arm.has_window else EVERYTHING
    window = Window("max_force", lower, upper, max_force=float("inf"), stop_after=len(scores))
    for task in np.unique(pool.tasks).tolist():
        own = np.flatnonzero(pool.tasks == task)
        rows = Rows(pool.steps[own], {window.column: scores[own]}, {})
        scored = Scored(rows, scores[own], window.classify(rows), np.isfinite(scores[own]))
        marks = np.zeros(len(own), dtype=np.int64)
        seen.add(scored, task, marks, make_rng(asked.seed, "query", task) if arm.choose == "random" else None)
        if n_audits:
            course = Course()
            course.add(scored, marks)
            seen.audits.add(course.stretches(task, make_rng(asked.seed, "audit", task)))
    return seen


def _describe(asked: Choosing, census: Census, models: list[Path], systems: list[Path]) -> Orders | None:
    """Return how candidates are picked, from what the driver's own program says of the shortlist."""
    if not census.counts[CANDIDATE]:
        return None
    if str(TASKS) not in sys.path:
        sys.path.append(str(TASKS))
    import deepmd_describe

    line = census.candidates.ranked()
    places = asked.pool.places()
    atoms = [asked.pool.atoms[places[task, step]] for task, step in zip(line["task"], line["step"], strict=True)]
    look_ahead = asked.arm.choose == "lookahead"
    spec = asdict(
        Description(
            shortlist="", models=tuple(map(str, models)), systems=tuple(map(str, systems)),
            type_map=asked.system.type_map, worst_atoms=DEFAULTS.worst_atoms, relative_epsilon=None,
            covariance=str(models[0].with_name(str(DeepmdTrainer.covariance_name))) if look_ahead else None,
        )
    )  # fmt: skip
    type_map = asked.system.type_map
    arrays = {
        "task": line["task"], "step": line["step"], "n_atoms": np.array([len(frame) for frame in atoms]),
        "periodic": np.ones(len(atoms), dtype=bool), "cells": np.array([frame.cell.array for frame in atoms]),
        "kinds": np.array([type_map.index(symbol) for frame in atoms for symbol in frame.symbols]),
        "positions": np.concatenate([frame.positions for frame in atoms]),
    }  # fmt: skip
    if look_ahead:
        spec["force_factor"] = force_factor(models[0].with_name(INPUT_FILE))
        found = deepmd_describe.look_ahead(arrays, spec)
    else:
        found = deepmd_describe.describe(arrays, spec)
    file = asked.folder / "features.npz"
    np.savez(file, **found)
    features = Features(file)
    return LookaheadOrders(features) if look_ahead else DiverseOrders(features, DEFAULTS.score_power)
