"""What ``al status`` says of a folder, at whatever moment it looks."""

import json
from pathlib import Path
from typing import Any

import pytest
from small_run import call_al

from al_driver.errors import ConfigError
from al_driver.files import write_json
from al_driver.layout import INIT_STAGES
from al_driver.workflow import status as status_module
from al_driver.workflow.init_bulk import STAGES
from al_driver.workflow.lock import Holder
from al_driver.workflow.status import is_held, status


def write_history(folder: Path, **keys: Any) -> None:
    folder.mkdir(exist_ok=True)
    write_json(folder / "history.json", {"kind": "run", "state": "running", "events": [], **keys})


def write_step(folder: Path, **result: Any) -> None:
    folder.mkdir(parents=True)
    record = {"fingerprint": folder.name, "inputs": {}, "result": result, "outputs": [], "finished": "now"}
    write_json(folder / "step.json", record)


def trained(version: str) -> dict[str, Any]:
    members = [{"energy_rmse": 0.1, "force_rmse": 0.2, "versions": {"deepmd-kit": version, "torch": "2.11.0"}}] * 2
    return {"energy_rmse": 0.1, "force_rmse": 0.2, "on": "train", "members": members}


def test_a_folder_just_begun_has_a_status(tmp_path: Path) -> None:
    write_history(tmp_path)
    state = status(tmp_path)
    assert (state["state"], state["step"], state["iteration"]) == ("stopped", "", 0)
    assert state["tasks"] == {"total": 0, "done": 0, "running": 0, "failed": 0}
    assert (state["iterations"], state["warnings"], state["stages"]) == ([], [], [])
    shown = call_al(tmp_path, "status")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert ": stopped" in shown.stdout


def test_tasks_are_those_of_the_step_that_runs(tmp_path: Path) -> None:
    progress = {"step": "0/train", "total": 4, "done": 1, "running": 2, "failed": 0}
    write_history(tmp_path, step="0/train")
    write_json(tmp_path / "progress.json", progress)
    assert status(tmp_path)["tasks"] == {"total": 4, "done": 1, "running": 2, "failed": 0}
    write_history(tmp_path, step="0/explore")
    assert status(tmp_path)["tasks"]["total"] == 0


def test_an_init_bulk_shows_its_stages(tmp_path: Path) -> None:
    write_history(tmp_path, kind="init_bulk", state="done")
    write_step(tmp_path / "scale", structures=3, dropped=0)
    write_step(tmp_path / "supercell", structures=1, dropped=0)
    write_step(tmp_path / "perturb", structures=24, dropped=2)
    write_step(tmp_path / "label", labelled=21, rejected=1, versions=["pw.x 6.7"])
    shown = call_al(tmp_path, "status").stdout
    rows = [line.replace("│", " ").split() for line in shown.splitlines() if "│" in line]
    assert rows == [
        ["supercell", "1", "0"], ["scale", "3", "0"], ["perturb", "24", "2"], ["label", "21", "1"],
    ]  # fmt: skip
    assert "Verdict" not in shown
    state = json.loads(call_al(tmp_path, "status", "--json").stdout)
    assert state["stages"][2] == {"name": "perturb", "structures": 24, "dropped": 2}
    assert state["iterations"] == []


def test_every_stage_is_one_that_status_knows() -> None:
    assert [*STAGES, "label"] == [name for name in INIT_STAGES if name in {*STAGES, "label"}]


def test_a_version_that_changes_within_a_run_is_a_warning(tmp_path: Path) -> None:
    write_history(tmp_path)
    write_step(tmp_path / "iter.0000/train", **trained("3.1.0"))
    write_step(tmp_path / "iter.0000/explore", versions=["LAMMPS 29 Aug 2024"], trajectories=1, failed=0)
    write_step(tmp_path / "iter.0000/label", labelled=3, rejected=0, versions=["pw.x 7.3"])
    assert status(tmp_path)["warnings"] == []
    write_step(tmp_path / "iter.0001/train", **trained("3.2.0"))
    write_step(tmp_path / "iter.0001/explore", versions=["LAMMPS 29 Aug 2024"], trajectories=1, failed=0)
    write_step(tmp_path / "iter.0001/label", labelled=3, rejected=0, versions=["pw.x 7.3", "pw.x 7.4"])
    write_step(tmp_path / "iter.0002/train", **trained("3.2.0"))
    write_step(tmp_path / "final", **trained("3.1.0"))
    assert status(tmp_path)["warnings"] == [
        "1/train: deepmd-kit is 3.2.0; 0/train had 3.1.0. Results of both are in this run",
        "1/label: pw.x is 7.4; 0/label had 7.3. Results of both are in this run",
    ]
    assert "warning: 1/label: pw.x is 7.4; 0/label had 7.3." in " ".join(call_al(tmp_path, "status").stdout.split())


def test_a_lock_that_goes_while_it_is_looked_at_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "read_holder", lambda _: Holder("elsewhere", 1, "1@boot", None))
    assert not is_held(tmp_path / "al.lock")
    (tmp_path / "al.lock").touch()
    assert is_held(tmp_path / "al.lock")


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no work folder of `al run` or `al init_bulk`: it has no history\.json"):
        status(tmp_path)
    for name in ("one", "two"):
        write_history(tmp_path / name)
    with pytest.raises(ConfigError, match=r"holds several work folders: one, two\.\n  Name one: al status"):
        status(tmp_path)
