"""Training with a Kalman filter that keeps its covariance: what is set, what is refused, and how it goes on."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_trainings import make_trainer, silicon_frames, tiny_input, train, write_systems

from al_driver.errors import EngineError
from al_driver.tasks.deepmd_kalman import FIRST_LAMBDA, NUE, count_updates, log_inflation
from al_driver.trainers.base import Training
from al_driver.trainers.deepmd import DeepmdTrainer
from al_driver.trainers.deepmd_kalman import LARGEST_BLOCK, block_size, count_weights, set_filter

MEMORY = 2e-4  # GB: blocks of 91 weights
N_WEIGHTS = 273


def make_filter(**keys: Any) -> DeepmdTrainer:
    defaults = {"steps": {"first": 6}, "warm_start": {"steps": 4}, "kalman_memory": MEMORY}
    return make_trainer(**(defaults | keys)).with_covariance()


def messages(trainer: DeepmdTrainer) -> list[str]:
    return [str(problem) for problem in trainer.check(("Si",))]


def test_blocks_fit_into_the_memory() -> None:
    assert block_size(500_000, 1.0) == 250
    assert block_size(100_000, 1.0) == LARGEST_BLOCK
    assert block_size(N_WEIGHTS, 1.0) == N_WEIGHTS
    assert block_size(N_WEIGHTS, MEMORY) == 91


@pytest.mark.needs("dp")
def test_weights_are_counted_without_torch() -> None:
    code = (
        "import json, sys; from al_driver.trainers.deepmd_kalman import count_weights\n"
        "print(count_weights(json.loads(sys.argv[1]), ['Si']), 'torch' in sys.modules)"
    )
    argv = [sys.executable, "-c", code, json.dumps(tiny_input())]
    assert subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split() == ["273", "False"]
    assert count_weights(tiny_input(), ["Si", "C"]) == 4 * 48 + 2 * 225
    assert count_weights({"model": {"descriptor": {"type": "no_such"}}, "training": {}}, ["Si"]) is None


def test_it_trains_one_model_with_lkf(tmp_path: Path) -> None:
    trainer = make_filter(models=1)
    training = Training("first", 5, ("Si",), (tmp_path / "data",))
    trainer.write_inputs(training, tmp_path)
    assert json.loads((tmp_path / "input.json").read_text())["optimizer"] == {"type": "LKF"}
    assert json.loads((tmp_path / "train.json").read_text())["kalman"] == {"memory": MEMORY, "largest_block": 1024}
    assert messages(trainer) == []
    assert trainer.models == 1
    make_trainer(models=1).write_inputs(training, tmp_path)
    assert "kalman" not in json.loads((tmp_path / "train.json").read_text())


@pytest.mark.parametrize("preset", ["small", "standard"])
def test_presets_learn_from_energies_and_forces_in_steps_of_a_filter(preset: str, tmp_path: Path) -> None:
    trainer = make_filter(preset=preset, steps={}, kalman_memory=1.0)
    assert messages(trainer) == []
    trainer.write_inputs(Training("first", 5, ("Si",), (tmp_path / "data",)), tmp_path)
    config = json.loads((tmp_path / "input.json").read_text())
    assert config["training"]["numb_steps"] == {"small": 200, "standard": 5000}[preset]
    assert config["loss"]["start_pref_v"] == 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"optimizer": {"type": "Adam"}}, 'optimizer.type: is \'Adam\', but query.uncertainty "kpu" needs "LKF"'),
        ({"optimizer": {"type": "LKF", "kf_blocksize": 512}}, "optimizer.kf_blocksize: leave it out"),
        ({"loss": {"type": "dos"}}, "loss.type: is 'dos'; LKF trains the loss 'ener' alone"),
        ({"loss": {"start_pref_v": 0.1, "limit_pref_v": 1}}, "loss.start_pref_v: is 0.1, but LKF learns from energies"),
        ({"loss": {"use_huber": True}}, "loss.use_huber: is true, which LKF would ignore"),
        ({"training": {"numb_steps": 5, "zero_stage": 1}}, "training.zero_stage: is not possible with LKF"),
    ],
)
def test_what_a_filter_contradicts_or_ignores_is_refused(changes: dict[str, Any], text: str) -> None:
    (message,) = messages(make_filter(input=tiny_input(**changes)))
    assert message.startswith(f"input.{text}")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"warm_start": {"steps": 4, "start_lr": 1e-3}}, "warm_start.start_lr: has no meaning for a Kalman filter"),
        ({"kalman_memory": 1e-5}, "kalman_memory: 1e-05 GB is too little for 273 weights; give 0.00014 or more"),
    ],
)
@pytest.mark.needs("dp")
def test_keys_that_do_not_suit_a_filter_are_refused(keys: dict[str, Any], text: str) -> None:
    (message,) = messages(make_filter(**keys))
    assert message.startswith(text)


@pytest.mark.needs("dp")
def test_what_is_set_is_told_with_block_and_memory() -> None:
    told = make_filter().set_by_driver(("Si",))
    assert "optimizer.kf_blocksize: 91; a covariance of 273 weights in at most 0.0002 GB" in told
    assert "kf_blocksize" not in "".join(make_trainer().set_by_driver(("Si",)))


def test_the_memory_is_known_by_a_step_that_needs_it() -> None:
    memories = [make_filter(kalman_memory=memory).phase_identity("first") for memory in (0.1, 0.2)]
    assert memories[0] != memories[1]
    memories = [make_trainer(kalman_memory=memory).phase_identity("first") for memory in (0.1, 0.2)]
    assert memories[0] == memories[1]


def test_an_input_is_not_changed() -> None:
    config = tiny_input()
    set_filter(config, None)
    assert config == tiny_input()


def test_inflation_follows_from_lambda() -> None:
    forgetting, product = FIRST_LAMBDA, 1.0
    for _ in range(1000):
        product /= forgetting
        forgetting = NUE * forgetting + 1 - NUE
    assert count_updates(forgetting) == 1000
    assert log_inflation(forgetting) == pytest.approx(math.log(product))
    assert product == pytest.approx(7.8e4, rel=0.01)


LOOK = """
import json, sys, torch
one, other, child = (torch.load(path, map_location="cpu", weights_only=True) for path in sys.argv[1:])
blocks = [checkpoint["optimizer"]["state"][0]["P"] for checkpoint in (one, other, child)]
weights = [{k: v for k, v in checkpoint["model"].items() if k != "_extra_state"} for checkpoint in (one, other, child)]
same = lambda first, second: all(map(torch.equal, first, second))
print(json.dumps([
    same(blocks[0], blocks[1]) and same(weights[0].values(), weights[1].values()),
    same(blocks[0], blocks[2]),
    max(float(torch.linalg.eigvalsh(block).max()) for block in blocks[0]),
    max(float(torch.linalg.eigvalsh(block).max()) for block in blocks[2]),
]))
"""


@pytest.mark.needs("dp")
def test_a_filter_is_seeded_and_goes_on_with_its_covariance(silicon: list[Path], tmp_path: Path) -> None:
    trainer = make_filter()
    for name in ("one", "same"):
        train(trainer, tmp_path / name, silicon)
        trainer.verify(tmp_path / name)
    new = write_systems(tmp_path / "new", silicon_frames(4, seed=2), ["Si"])
    train(trainer, tmp_path / "child", [*silicon, *new], phase="next", parent=tmp_path / "one")
    trainer.verify(tmp_path / "child")

    first, child = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("one", "child"))
    assert first["kalman"] | {"memory": 0, "log_inflation": 0} == {
        "n_weights": N_WEIGHTS, "block": 91, "updates": 30, "memory": 0, "log_inflation": 0,
    }  # fmt: skip
    assert 0 < first["kalman"]["memory"] <= MEMORY
    assert (child["steps"], child["kalman"]["updates"]) == (4, 50)
    argv = [sys.executable, "-c", LOOK, *(str(tmp_path / name / "model.ckpt.pt") for name in ("one", "same", "child"))]
    printed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    is_equal, is_frozen, first_largest, child_largest = json.loads(printed)
    assert is_equal, "the same seed gives the same weights and the same covariance"
    assert not is_frozen
    assert math.log(first_largest) == pytest.approx(first["kalman"]["log_inflation"])  # a direction no datum has seen
    assert math.log(child_largest) == pytest.approx(child["kalman"]["log_inflation"]), "the child began with it"

    other = make_filter(kalman_memory=1.0)
    train(other, tmp_path / "other", silicon, phase="next", parent=tmp_path / "one")
    with pytest.raises(EngineError, match="the filter had blocks of up to 91 weights, and would now have 273"):
        other.verify(tmp_path / "other")
