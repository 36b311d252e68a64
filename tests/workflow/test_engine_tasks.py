"""Calculations of a step: what went wrong with one is told, whatever else goes wrong."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from al_driver.errors import EngineError
from al_driver.workflow.engine_tasks import EngineTask, EngineTasks


def test_files_that_cannot_be_removed_do_not_hide_a_refusal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def find_scratch(directory: Path) -> list[Path]:
        raise PermissionError(13, "Permission denied", str(directory / "OUTCAR"))

    def read(directory: Path) -> Any:
        raise EngineError("scf_unconverged", directory, "60 electronic steps")

    engine: Any = SimpleNamespace(find_scratch=find_scratch)
    tasks = EngineTasks({"task.000000": EngineTask("key", engine, lambda directory: None, read)}, tmp_path)
    with pytest.raises(EngineError, match="scf_unconverged: 60 electronic steps"):
        tasks.result("task.000000")
    assert "files that nobody reads stay there ([Errno 13] Permission denied" in caplog.text
