"""A real training that a time limit ended goes on from the last checkpoint that loads."""

import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_trainings import make_trainer, silicon_frames, tiny_input, write_systems

from al_driver.files import read_json
from al_driver.jobs.attempts import Attempt, Ending, judge, prepare, write_failure
from al_driver.jobs.task import Task
from al_driver.trainers.base import Training
from al_driver.trainers.deepmd_input import take_checkpoints

STEPS = 400


@pytest.mark.needs("dp")
def test_a_training_goes_on_from_the_last_checkpoint_that_loads(tmp_path: Path) -> None:
    systems = write_systems(tmp_path / "data", silicon_frames(2, seed=1), ["Si"])
    section = {"training_data": {"batch_size": 1}, "numb_steps": STEPS, "save_freq": 10, "disp_freq": 10}
    trainer = make_trainer(input=tiny_input(training=section))
    training = Training("first", 3, ("Si",), tuple(systems))
    task = Task(
        tmp_path / "model.000", trainer.command(["dp"]), lambda folder: trainer.write_inputs(training, folder),
        trainer.verify, trainer.output_name, go_on=trainer.go_on,
    )  # fmt: skip
    first, second = Attempt(task, 1), Attempt(task, 2)
    first.folder.mkdir()
    prepare(first)
    with start(first) as child:
        while child.poll() is None and not list(first.folder.glob("model.ckpt-*0.pt")):
            time.sleep(0.01)
        time.sleep(0.1)
        child.kill()
    write_failure(judge(first, Ending(code=-9, timed_out=60.0)))
    (checkpoint,) = first.folder.glob("model.ckpt-*.pt")
    step = int(checkpoint.stem.rpartition("-")[2])
    assert 0 < step < STEPS
    (first.folder / f"model.ckpt-{STEPS - 1}.pt").write_bytes(checkpoint.read_bytes()[:5000])  # the disk ended there

    second.folder.mkdir()
    prepare(second)
    with start(second) as child:
        code = child.wait()
    failure = judge(second, Ending(code=code))
    assert failure is None, (second.folder / "output").read_text()[-2000:]
    evaluation = read_json(task.folder / "evaluation.json")
    assert evaluation["continued_from_step"] == step and evaluation["steps"] == STEPS
    assert read_json(task.folder / "continued.json")["from"] == "model.000.try-1"
    assert f"restart-{STEPS - 1}.pt cannot be read" in (task.folder / "output").read_text()
    curve = np.loadtxt(task.folder / "lcurve.out")[:, 0]
    assert (np.diff(curve) > 0).all() and curve[-1] == STEPS
    assert not list(task.folder.glob("restart-*.pt")) and (task.folder / "model.ckpt.pt").is_file()


def start(attempt: Attempt) -> "subprocess.Popen[bytes]":
    with (attempt.folder / "output").open("wb") as output:
        return subprocess.Popen(
            attempt.task.argv, cwd=attempt.folder, stdout=output, stderr=output,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    before, directory = tmp_path / "model.000.try-1", tmp_path / "model.000.try-2"
    before.mkdir()
    directory.mkdir()
    (before / "model.ckpt.pt").touch()  # a link to a checkpoint has no step in its name
    assert not take_checkpoints(before, directory) and not list(directory.iterdir())
    (before / "model.ckpt-30.pt").write_text("weights")
    (before / "restart-20.pt").write_text("older")
    assert take_checkpoints(before, directory)
    assert sorted(path.name for path in directory.iterdir()) == ["continued.json", "restart-20.pt", "restart-30.pt"]
    assert json.loads((directory / "continued.json").read_text()) == {"from": "model.000.try-1", "step": 30}
