"""Training with a Kalman filter that keeps its covariance: what is set, what is refused, and how it goes on."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
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
    defaults = {"steps": {"first": 6}, "warm_start": {"steps": 4}, "kalman_memory": MEMORY, "virtual_models": 6}
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
    assert json.loads((tmp_path / "train.json").read_text())["kalman"] == {
        "memory": MEMORY, "largest_block": 1024, "virtual_models": 6, "virtual_step": None,
    }  # fmt: skip
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
    assert config["optimizer"] == {"type": "LKF", "kf_start_pref_f": 64, "kf_limit_pref_f": 64}


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
        ({"compress": True}, "compress: would blur what virtual models differ by"),
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


@pytest.mark.parametrize(
    ("keys", "steps"),
    [
        ({"preset": "small"}, 40),
        ({"steps": {"first": 50}}, 10),
        ({}, 4),
        ({"warm_start": {"steps": 7}}, 7),
        ({"warm_start": False}, None),
        ({"steps": {"next": 30}}, None),
        ({"input": "missing.json"}, None),
    ],
)
def test_a_filter_goes_on_unless_the_user_says_otherwise(keys: dict[str, Any], steps: int | None) -> None:
    warm_start = make_trainer(**keys).with_covariance().warm_start
    assert (warm_start.steps if warm_start else None) == steps
    assert make_trainer(**keys).warm_start is False or "warm_start" in keys


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


COMPARE = """
import json, sys
import numpy as np, torch
from deepmd.infer import DeepPot
folder, coord, box = sys.argv[1], *map(json.loads, sys.argv[2:])
types, names = [0] * (len(coord) // 3), ["frozen_model"] + [f"virtual.{k:03d}" for k in range(6)]
members = [DeepPot(f"{folder}/{name}.pth").eval(np.array([coord]), np.array([box]), types) for name in names]
forces = np.array([member[1][0] for member in members])
sigma = np.sqrt(((forces - forces.mean(axis=0)) ** 2).sum(axis=-1).mean(axis=0))
state = torch.load(f"{folder}/model.ckpt.pt", map_location="cpu", weights_only=True)["optimizer"]["state"][0]
model = DeepPot(f"{folder}/model.ckpt.pt").deep_eval.dp.model["Default"].train()
position = torch.tensor([coord], dtype=torch.float64).requires_grad_()
found = model(position, torch.tensor([types]), box=torch.tensor([box], dtype=torch.float64))
weights, u = list(model.parameters()), []
for force in found["force"][0].reshape(-1):
    target = force + 0 * found["energy"].sum()
    parts = torch.autograd.grad(target, weights, retain_graph=True, allow_unused=True)
    parts = [torch.zeros_like(w) if g is None else g for g, w in zip(parts, weights)]
    flat = torch.cat([g.T.reshape(-1) if g.ndim > 1 else g for g in parts])
    pieces = torch.split(flat, state["params_packed_index"])
    u.append(sum(float(h @ P @ h) for h, P in zip(pieces, state["P"])))
print(json.dumps({"sigma": sigma.tolist(), "u": np.sqrt(np.reshape(u, (-1, 3)).sum(axis=1)).tolist(),
                  "drives": float(abs(forces[0] - found["force"][0].detach().numpy()).max())}))
"""


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


@pytest.fixture(scope="module")
def first(silicon: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A member trained with the filter for six steps, and its virtual committee."""
    folder = tmp_path_factory.mktemp("first") / "model.000"
    train(make_filter(), folder, silicon)
    make_filter().verify(folder)
    return folder


@pytest.mark.needs("dp")
def test_a_filter_is_seeded_and_goes_on_with_its_covariance(first: Path, silicon: list[Path], tmp_path: Path) -> None:
    trainer = make_filter()
    train(trainer, tmp_path / "same", silicon)
    new = write_systems(tmp_path / "new", silicon_frames(4, seed=2), ["Si"])
    train(trainer, tmp_path / "child", [*silicon, *new], phase="next", parent=first)
    trainer.verify(tmp_path / "child")

    before, child = (json.loads((folder / "evaluation.json").read_text()) for folder in (first, tmp_path / "child"))
    kalman = before["kalman"]
    assert (kalman["n_weights"], kalman["block"], kalman["updates"]) == (N_WEIGHTS, 91, 30)
    assert 0 < kalman["memory"] <= MEMORY
    assert (child["steps"], child["kalman"]["updates"]) == (4, 50)
    checkpoints = [str(folder / "model.ckpt.pt") for folder in (first, tmp_path / "same", tmp_path / "child")]
    printed = subprocess.run([sys.executable, "-c", LOOK, *checkpoints], check=True, capture_output=True, text=True)
    is_equal, is_frozen, first_largest, child_largest = json.loads(printed.stdout)
    assert is_equal, "the same seed gives the same weights and the same covariance"
    assert not is_frozen
    assert math.log(first_largest) == pytest.approx(kalman["log_inflation"])  # a direction no datum has seen
    assert math.log(child_largest) == pytest.approx(child["kalman"]["log_inflation"]), "the child began with it"
    virtual = [(folder / "virtual.003.pth").read_bytes() for folder in (first, tmp_path / "same", tmp_path / "child")]
    assert virtual[0] == virtual[1] != virtual[2]

    other = make_filter(kalman_memory=1.0)
    train(other, tmp_path / "other", silicon, phase="next", parent=first)
    with pytest.raises(EngineError, match="the filter had blocks of up to 91 weights, and would now have 273"):
        other.verify(tmp_path / "other")


@pytest.mark.needs("dp")
def test_the_virtual_committee_deviates_as_the_covariance_says(first: Path) -> None:
    atoms = silicon_frames(1, seed=5)[0]
    arguments = [json.dumps(array.reshape(-1).tolist()) for array in (atoms.positions, atoms.cell.array)]
    argv = [sys.executable, "-c", COMPARE, str(first), *arguments]
    found = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    kalman = json.loads((first / "evaluation.json").read_text())["kalman"]
    assert found["drives"] < 1e-10, "the first model is the one that was trained"
    scores = np.array(found["sigma"]) / kalman["virtual"]["step"]
    exact = np.array(found["u"]) * math.exp(-kalman["log_inflation"] / 2)
    assert 0.7 < (scores**2).sum() / (exact**2).sum() < 1.001, "six directions hold most of it, and never more"
    assert 0.7 < kalman["virtual"]["captured"] <= 1
    assert kalman["virtual"]["change"] < 0.02
    assert make_filter().score_factor(first) == kalman["virtual"]["score_factor"] > 0


def test_every_virtual_model_must_lie_there(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps({"energy_rmse": 0.1, "force_rmse": 0.2}))
    for name in ("frozen_model.pth", *(f"virtual.{number:03d}.pth" for number in range(5))):
        (tmp_path / name).write_bytes(b"model")
    with pytest.raises(EngineError, match="5 virtual models lie there; expected 6"):
        make_filter().verify(tmp_path)
    (tmp_path / "virtual.005.pth").write_bytes(b"model")
    make_filter().verify(tmp_path)
    assert make_filter().model_files(tmp_path)[:2] == ("frozen_model.pth", "virtual.000.pth")
    assert make_filter().committee_size() == 7
