"""The kernel of the look-ahead choice is what gradients and covariance give frame by frame."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from kalman_trainings import alloy

pytestmark = pytest.mark.needs("dp")
TASKS = Path(__file__).parents[2] / "al_driver" / "tasks"
TYPE_MAP = ("Cu", "Al")  # the models number them the other way round
WORST = np.array([[3, 0], [5, -1], [1, 2]])


@pytest.fixture
def gradients(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as programs of its folder see it."""
    monkeypatch.syspath_prepend(str(TASKS))
    import deepmd_gradients

    return deepmd_gradients


@pytest.fixture
def candidates() -> list[Atoms]:
    """Frames of two sizes, one without a cell."""
    frames = [alloy(1), alloy(2), alloy(3)[[0, 1, 2, 4, 6]]]
    frames[2].pbc, frames[2].cell = False, None
    return frames


def make_shortlist(frames: list[Atoms]) -> dict[str, Any]:
    return {
        "n_atoms": np.array([len(atoms) for atoms in frames]),
        "periodic": np.array([atoms.pbc.all() for atoms in frames]),
        "cells": np.array([atoms.cell.array for atoms in frames]),
        "kinds": np.array([TYPE_MAP.index(symbol) for atoms in frames for symbol in atoms.symbols]),
        "positions": np.concatenate([atoms.positions for atoms in frames]),
    }


@pytest.mark.parametrize("name", ["alloy", "attention"])
def test_blocks_are_those_of_plain_gradients(
    name: str, checkpoints: dict[str, Path], gradients: ModuleType, candidates: list[Atoms]
) -> None:
    spec = {"covariance": str(checkpoints[name]), "type_map": TYPE_MAP, "force_factor": 2.0}
    found = gradients.make_kernel(make_shortlist(candidates), WORST, spec)
    model = sys.modules["kpu_model"].KalmanModel(checkpoints[name])
    covariance = _join([block.numpy() for block in model.covariance])
    rows = np.zeros((3, 2, 3, model.n_weights))
    for place, (atoms, worst) in enumerate(zip(candidates, WORST, strict=True)):
        frame = model.make_frame(atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_chemical_symbols())
        for group, values in model.force_gradients(frame, worst[worst >= 0]):
            for atom, value in zip(group, values, strict=True):
                rows[place, worst.tolist().index(atom)] = value.numpy()
        variance = found["kernel"].diagonal().reshape(3, 2, 3)[place].sum(axis=1)[worst >= 0]
        assert np.sqrt(variance) == pytest.approx(model.force_uncertainty(frame, worst[worst >= 0]), rel=1e-5)
    flat = rows.reshape(-1, model.n_weights)
    expected = flat @ covariance @ flat.T
    assert np.abs(found["kernel"] - expected).max() < 1e-6 * np.abs(expected).max()
    assert found["noise"].tolist() == [18 * len(model.covariance) * (len(atoms) / 2) ** 2 for atoms in candidates]


def test_what_does_not_fit_on_the_disk_are_atoms_not_frames(
    checkpoints: dict[str, Path], gradients: ModuleType, candidates: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {"covariance": str(checkpoints["alloy"]), "type_map": TYPE_MAP, "force_factor": 2.0}
    whole = gradients.make_kernel(make_shortlist(candidates), WORST, spec)["kernel"].reshape(3, 2, 3, 3, 2, 3)
    monkeypatch.setattr(gradients, "MOST_DISK", 1e-12)
    small = gradients.make_kernel(make_shortlist(candidates), WORST, spec)["kernel"]
    assert small.reshape(3, 3, 3, 3) == pytest.approx(whole[:, 0, :, :, 0])


def _join(blocks: list[np.ndarray]) -> np.ndarray:
    size = sum(map(len, blocks))
    joined, start = np.zeros((size, size)), 0
    for block in blocks:
        joined[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return joined
