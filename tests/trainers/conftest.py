"""Data that several tests train on."""

from pathlib import Path

import pytest
from kalman_trainings import train_models
from tiny_trainings import silicon_frames, write_systems


@pytest.fixture(scope="session")
def silicon(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Ten periodic frames of eight atoms."""
    return write_systems(tmp_path_factory.mktemp("data") / "si", silicon_frames(10, seed=1), ["Si"])


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint for each model of `kalman_trainings.MODELS`."""
    return train_models(tmp_path_factory.mktemp("kalman"))
