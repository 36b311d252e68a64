"""Full and read-only disks, files that are cut, clocks that jump, folders that move: a clear word, then the same data.

What is said is one to three lines and tells what to do; that done, the run ends as an undisturbed one does.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from fake_run import Tasks, make_folder, patch, read_result, run
from small_run import call_al

from al_driver.errors import StateMismatch
from al_driver.files import hash_path

FILES = ("POSCAR", "init.json", "resource.json")
JUMPING = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
static long jump(long seconds) { return seconds + (seconds % 2 ? 40000000 : -40000000); }
int clock_gettime(clockid_t clock, struct timespec *t) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(clock, t);
    if (clock == CLOCK_REALTIME) t->tv_sec = jump(t->tv_sec);
    return code;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec, t->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return t ? *t = now.tv_sec : now.tv_sec;
}
"""
"""For LD_PRELOAD: a clock that jumps by more than a year, back and forth, every second."""


def hash_data(folder: Path) -> list[str]:
    return [hash_path(folder / "init" / name, leave_out=("frames.jsonl",)) for name in ("dataset", "valid")]


def check_message(text: str, *parts: str) -> None:
    """Hold a message to what every message is: one to three lines, and no traceback."""
    assert 1 <= len(text.splitlines()) <= 3 and "Traceback" not in text, text
    for part in parts:
        assert part in text, text


@pytest.mark.needs("lmp")
@pytest.mark.parametrize("size", [100, 230], ids=lambda size: f"{size}k")
def test_on_a_full_disk_first_data_end_with_a_word_and_go_on_when_there_is_room(disk, silicon, size):
    for name in FILES:
        shutil.copy(silicon / name, disk.path)
    disk.remount(f"size={size}k")
    full = call_al(disk.path, "init_bulk", "init.json", "resource.json")
    assert full.returncode == 2
    check_message(full.stderr, f"al: nothing can be written in {disk.path}/init", "No space left on device", "again")
    disk.remount("size=50m")
    assert call_al(disk.path, "init_bulk", "init.json", "resource.json").returncode == 0
    assert hash_data(disk.path) == hash_data(silicon)
    assert not list(disk.path.rglob("failed.json")) and not list(disk.path.rglob(".*.tmp"))


def test_a_read_only_folder_is_named(disk, silicon):
    shutil.copytree(silicon, disk.path, dirs_exist_ok=True)
    disk.remount("ro")
    refused = call_al(disk.path, "init_bulk", "init.json", "resource.json")
    disk.remount("rw")
    assert refused.returncode == 2
    check_message(refused.stderr, f"work_dir {disk.path}/init cannot be written: it is read-only", "Mend that")
    assert call_al(disk.path, "init_bulk", "init.json", "resource.json").returncode == 0


@pytest.mark.needs("lmp", "gcc")
def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, silicon: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clock.c").write_text(JUMPING)
    library = tmp_path / "clock.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "clock.c", "-ldl"], check=True)
    told = {
        subprocess.check_output(["sh", "-c", f"sleep 0.{n}; date +%Y"], env=os.environ | {"LD_PRELOAD": str(library)})
        for n in (1, 9, 9, 9)
    }
    assert len(told) > 1  # it jumps
    for name in FILES:
        shutil.copy(silicon / name, tmp_path)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    done = call_al(tmp_path, "init_bulk", "init.json", "resource.json")
    assert done.returncode == 0, done.stderr
    assert hash_data(tmp_path) == hash_data(silicon)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        patch(monkeypatch)
        folder = make_folder(tmp_path_factory.mktemp("undisturbed") / "run")
        run(folder)
        return read_result(folder / "work")


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Tasks:
    return patch(monkeypatch)


def run_until(folder: Path, tasks: Tasks, stop_before: str) -> None:
    tasks.stop_before = stop_before
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    tasks.stop_before = None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("before", "file", "made_anew"),
    [
        ("1/query/scores", "iter.0001/explore/task.000000/traj.lammpstrj", "iter.0001/explore/task.000000"),
        ("1/query/scores", "iter.0001/explore/task.000000/model_devi.out", "iter.0001/explore/task.000000"),
        ("1/query/scores", "iter.0001/explore/tasks.json", "iter.0001/explore/tasks.json"),
        ("1/explore/task.000000", "iter.0001/train/model.001/frozen_model.pth", "iter.0001/train/model.001"),
        ("1/train/model.000", "iter.0000/label/dataset/Si8/set.000/energy.npy", "iter.0000/label/dataset"),
    ],
    ids=["trajectory", "deviations", "list", "model", "labels"],
)
def test_a_file_that_was_cut_is_named_and_what_is_moved_away_is_made_anew(
    tmp_path: Path, tasks: Tasks, undisturbed: dict[str, str], before: str, file: str, made_anew: str
) -> None:
    folder = make_folder(tmp_path / "run")
    run_until(folder, tasks, before)
    work = folder / "work"
    cut(work / file)
    for _ in range(2):
        with pytest.raises(StateMismatch) as caught:
            run(folder)
        check_message(str(caught.value), f"{work / file} has ", "it is damaged", f"move {work / made_anew} away")
    (work / made_anew).rename(tmp_path / "away")
    run(folder)
    assert read_result(work) == undisturbed


@pytest.mark.parametrize("name", ["iter.0001/query/begun.json", "iter.0000/train/step.json", "history.json"])
def test_a_marker_that_is_half_written_is_named_and_can_be_moved_away(
    tmp_path: Path, tasks: Tasks, undisturbed: dict[str, str], name: str
) -> None:
    folder = make_folder(tmp_path / "run")
    run_until(folder, tasks, "1/query/scores")
    path = folder / "work" / name
    cut(path)
    with pytest.raises(StateMismatch) as caught:
        run(folder)
    check_message(str(caught.value), f"{path} is damaged", "Move it away and start again")
    path.rename(tmp_path / "away")
    run(folder)
    assert read_result(folder / "work") == undisturbed


def test_a_folder_that_is_moved_elsewhere_goes_on(tmp_path: Path, tasks: Tasks, undisturbed: dict[str, str]) -> None:
    folder = make_folder(tmp_path / "run")
    for number, moment in enumerate(("0/label/task.000001", "1/train/model.001", "2/explore/task.000000")):
        run_until(folder, tasks, moment)
        elsewhere = tmp_path / f"deep/er.{number}/run"
        elsewhere.parent.mkdir(parents=True)
        folder = folder.rename(elsewhere)
    run(folder)
    assert read_result(folder / "work") == undisturbed
    assert len(tasks.run) == len(set(tasks.run))
