"""Packed steps: one archive in place of a step's task folders, and nothing lost, whenever somebody is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ase.build import bulk
from small_run import INIT, RESOURCE, call_al

from al_driver.data.frames import read_frames
from al_driver.errors import ConfigError, StateMismatch
from al_driver.files import hash_path, read_json
from al_driver.schema.load import load_params
from al_driver.schema.resource import Resources
from al_driver.workflow.pack import Archive, pack, pack_step, packed_folders, unpack


class Killed(BaseException):
    """The process is gone; nothing tidies up."""


def make_step(folder: Path, n_tasks: int = 3) -> dict[str, bytes]:
    """Make the task folders of a step; return what must never be lost."""
    for index in range(n_tasks):
        for name in ("input", "output", "deep/er"):
            path = folder / f"task.{index:06d}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{index} {name} ".encode() * 50)
    (folder / "task.000001.try-1").mkdir()
    (folder / "task.000001.try-1/failed.json").write_text("{}")
    (folder / "jobs/0000").mkdir(parents=True)
    (folder / "jobs/0000/empty").touch()
    (folder / "step.json").write_text("{}")
    (folder / "dataset").mkdir()
    (folder / "dataset/type.raw").write_text("0\n")
    return read_all(folder)


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_packed(folder: Path) -> dict[str, bytes]:
    """Return what a step holds, on the disk and in its archive, which any program can read."""
    found = {name: data for name, data in read_all(folder).items() if ".tmp" not in name and name != "tasks.zip"}
    if (folder / "tasks.zip").exists():
        with zipfile.ZipFile(folder / "tasks.zip") as archive:
            for name in archive.namelist():
                assert found.setdefault(name, archive.read(name)) == archive.read(name)
    return found


def test_task_folders_become_one_file_and_come_back(tmp_path: Path) -> None:
    content = make_step(tmp_path)
    os.utime(tmp_path / "task.000000/output", (1e9, 1e9))
    assert pack(tmp_path) == 11
    assert {path.name for path in tmp_path.iterdir()} == {"tasks.zip", "step.json", "dataset"}
    assert packed_folders(tmp_path) == {"task.000000", "task.000001", "task.000001.try-1", "task.000002", "jobs"}
    assert read_packed(tmp_path) == content
    listed = subprocess.run([sys.executable, "-m", "zipfile", "-l", "tasks.zip"], cwd=tmp_path, capture_output=True)
    assert b"task.000002/deep/er" in listed.stdout
    assert pack(tmp_path) == 0
    unpack(tmp_path)
    assert read_all(tmp_path) == content
    assert abs((tmp_path / "task.000000/output").stat().st_mtime - 1e9) <= 2


def test_one_task_is_read_from_the_archive(tmp_path: Path) -> None:
    content = make_step(tmp_path / "step")
    pack(tmp_path / "step")
    with Archive(tmp_path / "step") as archive:
        archive.extract("task.000001", tmp_path / "copy")
    assert read_all(tmp_path / "copy") == {
        name.removeprefix("task.000001/"): data for name, data in content.items() if name.startswith("task.000001/")
    }


def test_potcars_and_links_are_never_packed(tmp_path: Path) -> None:
    make_step(tmp_path)
    (tmp_path / "secret").write_text("licensed")
    (tmp_path / "task.000000/POTCAR").symlink_to(tmp_path / "secret")
    (tmp_path / "task.000001/POTCAR").write_text("licensed")
    (tmp_path / "task.000002/.potcar").mkdir()
    (tmp_path / "task.000002/.potcar/Si").write_text("licensed")
    pack(tmp_path)
    with zipfile.ZipFile(tmp_path / "tasks.zip") as archive:
        assert not any("potcar" in name.lower() for name in archive.namelist())
        assert not any(b"licensed" in archive.read(name) for name in archive.namelist())
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("task*/**/*") if path.is_file()}
    assert left == {"task.000001/POTCAR", "task.000002/.potcar/Si"}
    assert not (tmp_path / "task.000000").exists() and (tmp_path / "secret").exists()
    assert pack(tmp_path) == 0


@pytest.fixture
def count_down(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Return a function that sets after how many changes of the disk the process is killed."""
    left = [10**9]

    def dying(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*arguments: Any, **keys: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*arguments, **keys)

        monkeypatch.setattr(owner, name, call)

    for owner, name in (
        (Path, "unlink"), (Path, "rmdir"), (Path, "replace"), (Path, "mkdir"), (zipfile.ZipFile, "write"),
        (zipfile.ZipFile, "testzip"), (shutil, "copyfileobj"), (os, "fsync"),
    ):  # fmt: skip
        dying(owner, name)

    def set_left(number: int) -> None:
        left[0] = number

    yield set_left
    left[0] = 10**9


@pytest.mark.parametrize("then", ["pack", "unpack"])
@pytest.mark.parametrize("begun", ["pack", "unpack"])
def test_nothing_is_lost_wherever_it_is_killed(
    tmp_path: Path, count_down: Callable[[int], None], begun: str, then: str
) -> None:
    verbs = {"pack": pack, "unpack": unpack}
    content = make_step(tmp_path / "whole")
    n_killed = 0
    for number in range(200):
        step = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", step)
        if begun == "unpack":
            pack(step)
        count_down(number)
        try:
            verbs[begun](step)
        except Killed:
            n_killed += 1
        count_down(10**9)
        assert read_packed(step) == content, f"killed before change {number}"
        verbs[then](step)
        assert read_packed(step) == content, f"killed before change {number}, then {then}"
        assert (step / "tasks.zip").exists() == (then == "pack")
        assert bool(list(step.glob("task.*"))) == (then == "unpack")
        if n_killed < number + 1:
            break
    assert n_killed > 20


PACK = "import sys, pathlib, al_driver.workflow.pack as p; print(1, flush=True); p.pack(pathlib.Path(sys.argv[1]))"


@pytest.mark.parametrize("seconds", [0.01, 0.05, 0.12])
def test_nothing_is_lost_by_a_kill_at_any_moment(tmp_path: Path, seconds: float) -> None:
    content = make_step(tmp_path, 150)
    child = subprocess.Popen([sys.executable, "-c", PACK, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"1\n"
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert read_packed(tmp_path) == content
    pack(tmp_path)
    assert read_packed(tmp_path) == content and not list(tmp_path.glob("task.*"))


def test_what_changed_since_is_kept_as_it_is_now(tmp_path: Path) -> None:
    content = make_step(tmp_path)
    pack(tmp_path)
    (tmp_path / "jobs/0000").mkdir(parents=True)
    (tmp_path / "jobs/0000/late").write_text("told after the end")
    (tmp_path / "task.000000").mkdir()
    (tmp_path / "task.000000/output").write_text("newer")
    pack(tmp_path)
    assert read_packed(tmp_path) == content | {
        "jobs/0000/late": b"told after the end", "task.000000/output": b"newer",
    }  # fmt: skip


def test_a_file_that_grows_while_it_is_packed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_step(tmp_path)
    real = zipfile.ZipFile.testzip

    def grow(archive: zipfile.ZipFile) -> str | None:
        with (tmp_path / "jobs/0000/empty").open("a") as stream:
            stream.write("finished")
        return real(archive)

    monkeypatch.setattr(zipfile.ZipFile, "testzip", grow)
    pack(tmp_path)
    assert (tmp_path / "jobs/0000/empty").read_text() == "finished"
    monkeypatch.undo()
    pack(tmp_path)
    assert read_packed(tmp_path)["jobs/0000/empty"] == b"finished" and not (tmp_path / "jobs").exists()


def test_a_full_disk_is_a_warning_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    content = make_step(tmp_path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "write", full)
    pack_step(tmp_path)
    assert "is not packed ([Errno 28] No space left on device); the next start tries again" in caplog.text
    assert read_all(tmp_path) == content


@pytest.mark.parametrize("damage", ["cut", "flipped", "outside"])
def test_a_damaged_archive_is_named_and_kept(tmp_path: Path, damage: str) -> None:
    make_step(tmp_path)
    pack(tmp_path)
    path = tmp_path / "tasks.zip"
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        middle = data.index(b"task.000000/deep/er") + 30
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :])
    else:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("task.000000/../../stolen", "x")
    with pytest.raises(StateMismatch, match=r"tasks.zip cannot be read .*\n.*Bring the file back"):
        unpack(tmp_path)
    assert path.exists() and not (tmp_path.parent / "stolen").exists()


def test_what_has_nothing_to_pack_is_refused(tmp_path: Path) -> None:
    (tmp_path / "resource.json").write_text(json.dumps({"query": {"pack": True}}))
    with pytest.raises(ConfigError, match=r"query.pack.*nothing to pack"):
        load_params(tmp_path / "resource.json", Resources)


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    """A folder whose `init_bulk` relaxes, runs dynamics and labels, and is to be packed."""
    bulk("Si", cubic=True, a=5.431).write(tmp_path / "POSCAR", format="vasp")
    structure = {
        "path": "POSCAR", "name": "si", "relax": {"what": "positions"}, "perturb": {"copies": 3, "temperature": 300},
        "aimd": {"temperature": 300, "n_steps": 2, "every": 2, "starts": 1},
    }  # fmt: skip
    (tmp_path / "init.json").write_text(json.dumps({**INIT, "structures": [structure]}))
    packed = {"default": RESOURCE["default"] | {"pack": True}}
    (tmp_path / "resource.json").write_text(json.dumps(packed))
    return tmp_path


@pytest.mark.needs("lmp")
def test_a_packed_init_bulk_goes_on_and_finds_its_calculations_again(staged: Path) -> None:
    init = staged / "init"

    def call(*request: str) -> str:
        done = call_al(staged, "init_bulk", "init.json", "resource.json", *request)
        assert done.returncode == 0, done.stderr
        return done.stdout

    call()
    dataset = hash_path(init / "dataset")
    for stage in ("relax", "aimd", "label"):
        assert not list((init / stage).glob("task.*")) and (init / stage / "tasks.zip").exists()
    finished = (init / "label/step.json").stat().st_mtime_ns
    call()
    assert (init / "label/step.json").stat().st_mtime_ns == finished and (init / "label/tasks.zip").exists()
    (init / "label/labelled.extxyz").unlink()  # the step runs again, and its tasks are there
    assert "labelled 4 (0 found again)" in call() and (init / "label/tasks.zip").exists()
    assert "labelled 4 (3 found again)" in call("--redo", "relax")
    assert hash_path(init / "dataset") == dataset
    rows = [json.loads(line) for line in (init / "label/frames.jsonl").read_text().splitlines()]
    assert sum(str(row.get("reused", "")).startswith("label.bak.1/task.") for row in rows) == 3


@pytest.mark.long
@pytest.mark.needs("dp", "lmp")
def test_a_packed_run_is_read_by_everything_that_reads_a_run(packed_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(packed_run, folder)

    def call(*request: str) -> str:
        done = call_al(folder, "run", "param.json", "resource.json", *request)
        assert done.returncode == 0, done.stderr
        return done.stdout

    step = folder / "work/iter.0000"
    finished = {name: (step / name / "step.json").stat().st_mtime_ns for name in ("explore", "query", "label")}
    chosen = (step / "query/selected.extxyz").read_bytes()
    n_labelled = len(read_frames(step / "label/labelled.extxyz"))
    for name in ("explore", "label"):
        assert not list((step / name).glob("task.*")) and (step / name / "tasks.zip").exists()
    call()  # nothing to do
    assert finished == {name: (step / name / "step.json").stat().st_mtime_ns for name in finished}
    state = json.loads(call_al(folder, "status", "work", "--json", "--plots").stdout)
    assert state["state"] == "done"
    on_disk = sum(1 for path in (folder / "work").rglob("*") if not path.is_dir())
    assert abs(state["files"]["total"] - on_disk) <= 5  # pictures that were drawn since
    told = call("--redo", "0/query")  # reads the trajectories, and finds the labels again
    assert f"labelled {n_labelled} ({n_labelled} found again)" in told
    assert (step / "query/selected.extxyz").read_bytes() == chosen
    assert not list((step / "explore").glob("task.*")) and read_json(step / "explore/tasks.json")
