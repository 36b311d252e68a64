"""What candidates are compared by, from real models of DeePMD-kit."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from tiny_trainings import make_trainer, silicon_frames, train, write_systems

from al_driver.data.dataset import read_system
from al_driver.trainers.base import Description
from al_driver.trainers.deepmd import DESCRIBE_PROGRAM

pytestmark = pytest.mark.needs("dp")
TYPE_MAP = ("Ge", "Si")  # the models number them the other way round
Models = tuple[list[Path], list[Path]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Two frozen models, and the systems they were trained on: periodic frames and a molecule, of two elements."""
    folder = tmp_path_factory.mktemp("models")
    frames = [mix(atoms) for atoms in silicon_frames(4, seed=1)]
    molecule = frames[0][[0, 1, 2]]
    molecule.pbc, molecule.cell = False, None
    del molecule.info["virial"]
    systems = write_systems(folder / "data", [*frames, molecule], TYPE_MAP)
    for member in (1, 2):
        done = train(make_trainer(), folder / f"model.{member}", systems, seed=member, type_map=("Si", "Ge"), damage={})
        assert done.returncode == 0, done.stderr
    return [folder / f"model.{member}/frozen_model.pth" for member in (1, 2)], systems


def mix(atoms: Atoms) -> Atoms:
    atoms = atoms.copy()
    atoms.symbols[1] = atoms.symbols[6] = "Ge"
    return atoms


def make_shortlist(frames: list[Atoms]) -> dict[str, Any]:
    return {
        "task": np.arange(len(frames)),
        "step": 10 * np.arange(len(frames)),
        "n_atoms": np.array([len(atoms) for atoms in frames]),
        "periodic": np.array([atoms.pbc.all() for atoms in frames]),
        "cells": np.array([atoms.cell.array for atoms in frames]).reshape(-1, 3, 3),
        "kinds": np.array([TYPE_MAP.index(symbol) for atoms in frames for symbol in atoms.symbols], dtype=int),
        "positions": np.concatenate([np.empty((0, 3)), *(atoms.positions for atoms in frames)]),
    }


def load_program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deepmd_describe", DESCRIBE_PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.append(str(DESCRIBE_PROGRAM.parent))
    importlib.import_module("deepmd_evaluate")  # its neighbour
    sys.path.remove(str(DESCRIBE_PROGRAM.parent))
    return module


def describe(models: Models, frames: list[Atoms], n_worst: int = 3, **limits: int) -> dict[str, Any]:
    program = load_program()
    for name, value in limits.items():
        setattr(program, name, value)
    spec = {
        "models": [str(path) for path in models[0]], "systems": [str(path) for path in models[1]],
        "type_map": TYPE_MAP, "worst_atoms": n_worst, "relative_epsilon": None,
    }  # fmt: skip
    return dict(program.describe(make_shortlist(frames), spec))


@pytest.fixture(scope="module")
def candidates() -> list[Atoms]:
    """Frames of several sizes, a molecule among them."""
    frames = [mix(atoms) for atoms in silicon_frames(3, seed=8)]
    molecule = frames[0][[0, 1]]
    molecule.pbc, molecule.cell = False, None
    return [*frames, molecule, frames[1] * (2, 1, 1), frames[2]]


@pytest.fixture(scope="module")
def described(models: Models, candidates: list[Atoms]) -> dict[str, Any]:
    return describe(models, candidates)


@functools.cache
def load_model(path: Path) -> Any:
    from deepmd.infer import DeepPot

    return DeepPot(str(path))


def evaluate(path: Path, atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Return forces and descriptors as DeePMD-kit gives them for one frame."""
    model = load_model(path)
    kinds = [model.get_type_map().index(symbol) for symbol in atoms.symbols]
    coords, cell = atoms.positions.reshape(1, -1), atoms.cell.array.reshape(1, 9) if atoms.pbc.all() else None
    return model.eval(coords, cell, kinds)[1][0], model.eval_descriptor(coords, cell, kinds)[0]


def test_the_worst_atoms_and_how_far_they_are(
    models: Models, candidates: list[Atoms], described: dict[str, Any]
) -> None:
    found = described
    known: dict[str, list[np.ndarray]] = {"Si": [], "Ge": []}
    for system in models[1]:
        for atoms in read_system(system):
            for symbol, descriptor in zip(atoms.symbols, evaluate(models[0][0], atoms)[1], strict=True):
                known[symbol].append(descriptor)
    assert found["atoms"].shape == found["kinds"].shape == found["known"].shape == (6, 3)
    for frame, atoms in enumerate(candidates):
        forces = np.array([evaluate(path, atoms)[0] for path in models[0]])
        deviation = np.sqrt(((forces - forces.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0))
        n_worst = min(3, len(atoms))
        worst = found["atoms"][frame, :n_worst]
        assert np.allclose(deviation[worst], np.sort(deviation)[::-1][:n_worst], rtol=1e-9)
        assert [TYPE_MAP[kind] for kind in found["kinds"][frame, :n_worst]] == [atoms.symbols[i] for i in worst]
        assert (found["atoms"][frame, n_worst:] == -1).all() and (found["kinds"][frame, n_worst:] == -1).all()
        descriptors = evaluate(models[0][0], atoms)[1]
        for place, atom in enumerate(worst):
            own = np.array(known[atoms.symbols[atom]])
            spread = np.sqrt(((own - own.mean(axis=0)) ** 2).sum(axis=1).mean())
            assert np.allclose(found["descriptors"][frame, place], descriptors[atom] / spread, rtol=1e-5)
            nearest = np.linalg.norm(own - descriptors[atom], axis=1).min() / spread
            assert found["known"][frame, place] == pytest.approx(nearest, rel=1e-6, abs=1e-6)


def test_what_is_trained_on_is_no_distance_away(models: Models) -> None:
    trained = [atoms for system in models[1] for atoms in read_system(system)]
    found = describe(models, trained)
    assert found["known"].max() < 1e-6


def test_neither_batches_nor_order_matter(models: Models, candidates: list[Atoms], described: dict[str, Any]) -> None:
    turned = describe(models, candidates[::-1], BATCH_ATOMS=9, BLOCK_ROWS=2)
    for name in ("atoms", "kinds"):
        assert np.array_equal(described[name], turned[name][::-1])
    for name in ("known", "descriptors"):
        assert np.allclose(described[name], turned[name][::-1], rtol=1e-6, atol=1e-9)


def test_no_more_of_the_training_set_is_looked_at_than_allowed(models: Models) -> None:
    program = load_program()
    systems = [str(system) for system in models[1]]
    for limit, expected in ((100, 35), (35, 35), (20, 19), (16, 16), (1, 8)):
        program.MAX_TRAINING_ATOMS = limit
        sizes = [types.size for _, _, types in program.training_batches(systems, TYPE_MAP)]
        assert sum(sizes) <= expected
        assert sum(sizes) >= min(limit, 35) - 8


def test_as_the_task_runs_it(models: Models, candidates: list[Atoms], tmp_path: Path) -> None:
    trainer = make_trainer()
    np.savez(tmp_path / "shortlist.npz", **make_shortlist(candidates))
    names = [[os.path.relpath(path, tmp_path) for path in paths] for paths in models]
    description = Description("shortlist.npz", tuple(names[0]), tuple(names[1]), TYPE_MAP, 2, 0.5)
    trainer.write_description(description, tmp_path)
    command = trainer.describe_command(("dp",))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "features.npz", allow_pickle=False) as arrays:
        assert arrays["descriptors"].shape[:2] == (6, 2)
    assert json.loads((tmp_path / "describe.json").read_text())["relative_epsilon"] == 0.5


def test_no_candidates(models: Models) -> None:
    found = describe(models, [])
    assert found["descriptors"].shape == (0, 3, 0)
