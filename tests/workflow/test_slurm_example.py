"""The example's own files on a cluster give the dataset that they give on this machine."""

import shutil
import signal
import sys
from pathlib import Path

import pytest
from killing import start_driver, wait_until
from small_run import call_al, read_datasets

from al_driver.files import hash_path

sys.path.append(str(Path(__file__).parents[1]))
from slurm_cluster import PROGRAMS, run_cluster

EXAMPLE = Path(__file__).parents[2] / "examples/si"
LENGTHS = {
    "param.json": {
        '"models": 4': '"models": 2',
        '"first": 1000,': '"first": 20,',
        '"n_steps": 1000': '"n_steps": 30',
        '"lower": 0.1, "upper": 0.5': '"lower": 1e-4, "upper": 50.0',  # models of twenty steps are unsure of everything
    },
    "valid_param.json": {'"n_steps": 3000': '"n_steps": 200'},
}
"""What is cut of the example: all that takes minutes."""

LEFT_OUT = ("frames.jsonl", "settings.json")


def copy_example(folder: Path) -> None:
    shutil.copytree(EXAMPLE, folder)
    for name, changes in LENGTHS.items():
        text = (folder / name).read_text()
        for before, after in changes.items():
            assert before in text, f"the example has changed: {before}"
            text = text.replace(before, after)
        (folder / name).write_text(text)


def run_first_iteration(folder: Path, resource: str) -> None:
    """Run what `al run` does until the labels of the first iteration are there, and end it."""
    driver = start_driver(folder, resource=resource)
    assert wait_until((folder / "work/iter.0000/label/step.json").exists, driver), (folder / "driver.out").read_text()
    driver.send_signal(signal.SIGTERM)
    assert driver.wait() in (0, 130)


@pytest.fixture(scope="module")
def on_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, run here: first data, data to validate on, the first iteration."""
    folder = tmp_path_factory.mktemp("example") / "si"
    copy_example(folder)
    for name in ("init_param.json", "valid_param.json"):
        done = call_al(folder, "init_bulk", name, "resource.json")
        assert done.returncode == 0, done.stderr
    run_first_iteration(folder, "resource.json")
    return folder


@pytest.mark.long
@pytest.mark.needs("dp", "lmp", *PROGRAMS)
@pytest.mark.parametrize("accounting", [False, True], ids=["squeue", "sacct"])
def test_the_example_gives_the_same_dataset_on_a_cluster(on_this_machine, tmp_path, monkeypatch, accounting):
    folder = tmp_path / "si"
    copy_example(folder)
    known = {"valid"} if accounting else {"valid", "init"}
    for name in known:
        shutil.copytree(on_this_machine / name, folder / name)
    with run_cluster(3, accounting=accounting) as cluster:
        monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
        if "init" not in known:
            done = call_al(folder, "init_bulk", "init_param.json", "resource.slurm.json")
            assert done.returncode == 0, done.stderr
        run_first_iteration(folder, "resource.slurm.json")
        ended = cluster.run("squeue", "-h", "-r", "-t", "all", "-o", "%T").split()
    assert ended.count("COMPLETED") >= (10 if accounting else 6)
    first, found = (hash_path(one / "init/dataset", leave_out=LEFT_OUT) for one in (on_this_machine, folder))
    assert first == found
    expected = read_datasets(on_this_machine / "work")
    assert len(expected) > 4 and read_datasets(folder / "work") == expected
