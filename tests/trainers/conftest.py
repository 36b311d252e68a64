"""Data that several tests train on."""

from pathlib import Path

import pytest
from tiny_trainings import silicon_frames, write_systems


@pytest.fixture(scope="session")
def silicon(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Ten periodic frames of eight atoms."""
    return write_systems(tmp_path_factory.mktemp("data") / "si", silicon_frames(10, seed=1), ["Si"])
