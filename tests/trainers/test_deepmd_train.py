"""Real trainings of a tiny net: same bits for the same seed, warm starts proved, divergence named."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dpdata
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from tiny_trainings import labelled, make_trainer, silicon_frames, tiny_input, train, write_systems

from al_driver.data.dataset import find_systems
from al_driver.errors import EngineError
from al_driver.tasks.deepmd_evaluate import MAX_ENERGIES, MAX_FORCES, _draw
from al_driver.tasks.deepmd_train import Failure, check_data, check_first_loss, check_weights

pytestmark = pytest.mark.needs("dp")
LKF = {"type": "LKF", "kf_blocksize": 512}
COMPARE = """
import sys, torch
first, second = (torch.load(path, map_location="cpu", weights_only=True)["model"] for path in sys.argv[1:])
names = [name for name in first if name != "_extra_state"]
assert len(names) > 8 and all(torch.is_tensor(first[name]) for name in names)
print(all(torch.equal(first[name], second[name]) for name in names))
"""


def evaluation_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation.json").read_text())


def same_weights(first: Path, second: Path) -> bool:
    """Compare two checkpoints, bit for bit, in a process of its own."""
    argv = [sys.executable, "-c", COMPARE, *(str(folder / "model.ckpt.pt") for folder in (first, second))]
    printed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return printed.strip() == "True"


@pytest.fixture(scope="session")
def parent(silicon: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A member trained with Adam for twenty steps."""
    folder = tmp_path_factory.mktemp("work") / "iter.0000" / "train" / "model.000"
    train(make_trainer(), folder, silicon)
    return folder


def test_a_member_is_trained_frozen_and_evaluated(parent: Path) -> None:
    make_trainer().verify(parent)
    evaluation = evaluation_of(parent)
    assert (evaluation["on"], evaluation["n_frames"], evaluation["steps"]) == ("train", 10, 20)
    assert evaluation["n_train"] == 10
    assert evaluation["versions"]["deepmd-kit"].startswith("3.")
    assert evaluation["warm_start"] is None
    assert evaluation["last_loss"] < evaluation["first_loss"]
    files = {file.name for file in parent.iterdir()}
    assert files == {
        "input.json", "train.json", "out.json", "lcurve.out", "output",
        "model.ckpt.pt", "frozen_model.pth", "evaluation.json", "evaluation.npz",
    }  # fmt: skip
    assert not (parent / "model.ckpt.pt").is_symlink()


def test_the_evaluation_is_that_of_the_frozen_model(parent: Path, silicon: list[Path]) -> None:
    code = (
        "import sys, numpy as np; from deepmd.infer import DeepPot; from pathlib import Path\n"
        "data = Path(sys.argv[2]) / 'set.000'; load = lambda name: np.load(data / f'{name}.npy')\n"
        "energy, force, _ = DeepPot(sys.argv[1]).eval(load('coord'), load('box'), [0] * 8)\n"
        "print(np.sqrt(np.mean((energy.ravel() - load('energy').ravel()) ** 2)) / 8,"
        " np.sqrt(np.mean((force.ravel() - load('force').ravel()) ** 2)))"
    )
    argv = [sys.executable, "-c", code, str(parent / "frozen_model.pth"), str(silicon[0])]
    printed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    evaluation = evaluation_of(parent)
    assert [float(word) for word in printed] == pytest.approx([evaluation["energy_rmse"], evaluation["force_rmse"]])
    kept = np.load(parent / "evaluation.npz")
    assert (kept["n_energies"], kept["n_forces"]) == (10, 10 * 8 * 3)
    assert sorted(kept["energy_reference"]) == pytest.approx(
        sorted(np.load(silicon[0] / "set.000/energy.npy").ravel() / 8)
    )
    for name, rmse in zip(("energy", "force"), map(float, printed), strict=True):
        errors = kept[f"{name}_predicted"] - kept[f"{name}_reference"]
        assert np.sqrt(np.mean(errors**2)) == pytest.approx(rmse, rel=1e-5)


def test_of_very_many_numbers_a_fixed_draw_is_kept_for_plots() -> None:
    rng = np.random.default_rng(1)
    energy, force = rng.normal(size=(2, 2 * MAX_ENERGIES)), rng.normal(size=(2, 3 * MAX_FORCES))
    compositions = np.stack([np.arange(2 * MAX_ENERGIES) % 2, np.ones(2 * MAX_ENERGIES, dtype=int)], axis=1)
    kept, same = (_draw(energy, force, compositions) for _ in range(2))
    assert all(np.array_equal(kept[name], same[name]) for name in kept)
    assert (kept["n_energies"], kept["n_forces"]) == (2 * MAX_ENERGIES, 3 * MAX_FORCES)
    assert len(kept["energy_reference"]) == len(kept["formula"]) == MAX_ENERGIES
    assert len(kept["force_reference"]) == len(kept["force_predicted"]) == MAX_FORCES
    where = {value: index for index, value in enumerate(energy[0])}
    rows = [where[value] for value in kept["energy_reference"]]
    assert np.array_equal(kept["energy_predicted"], energy[1][rows])
    assert np.array_equal(kept["formula"], compositions[rows, 0])


def test_the_same_seed_gives_the_same_weights(parent: Path, silicon: list[Path], tmp_path: Path) -> None:
    train(make_trainer(), tmp_path / "same", silicon)
    assert same_weights(parent, tmp_path / "same")
    assert evaluation_of(parent) == evaluation_of(tmp_path / "same")


@pytest.mark.long
def test_the_kalman_filter_gives_the_same_weights_for_a_seed(parent: Path, silicon: list[Path], tmp_path: Path) -> None:
    trainer = make_trainer(input=tiny_input(optimizer=LKF), steps={"first": 4})
    for name in ("one", "same"):
        train(trainer, tmp_path / name, silicon)
        trainer.verify(tmp_path / name)
    assert same_weights(tmp_path / "one", tmp_path / "same")
    assert not same_weights(tmp_path / "one", parent)


def test_a_warm_start_continues_from_its_own_parent(parent: Path, silicon: list[Path], tmp_path: Path) -> None:
    trainer = make_trainer(warm_start={"steps": 10, "start_lr": 1e-4}, compress=True)
    new = write_systems(tmp_path / "new", silicon_frames(4, seed=2), ["Si"])
    train(trainer, tmp_path / "child", [*silicon, *new], phase="next", parent=parent, seed=8)
    trainer.verify(tmp_path / "child")
    evaluation = evaluation_of(tmp_path / "child")
    assert evaluation["warm_start"]["first_loss"] == pytest.approx(evaluation["warm_start"]["parent_loss"], rel=1e-6)
    assert (evaluation["steps"], evaluation["n_frames"]) == (10, 14)
    sel = [
        json.loads((folder / "out.json").read_text())["model"]["descriptor"]["sel"]
        for folder in (parent, tmp_path / "child")
    ]
    assert sel[0] == sel[1], "sel is auto, and must be the parent's"
    assert not (tmp_path / "child" / "compressed.pth").exists()


def test_a_changed_weight_is_no_warm_start() -> None:
    import torch

    parent = {"fitting.weight": torch.arange(6.0), "fitting.bias": torch.zeros(2)}
    check_weights(parent | {"loss.extra": torch.ones(1)}, parent)
    changed = torch.arange(6.0)
    changed[5] = torch.nextafter(changed[5], torch.tensor(10.0))
    with pytest.raises(Failure, match=r"warm start did not take: 1 of 2 weights are not the parent's"):
        check_weights(parent | {"fitting.weight": changed}, parent)
    with pytest.raises(Failure, match="1 of 2 weights"):
        check_weights({"fitting.weight": parent["fitting.weight"]}, parent)


def test_another_first_loss_is_no_warm_start() -> None:
    losses = SimpleNamespace(first=0.101, expected=0.1)
    assert check_first_loss({}, losses) == {"first_loss": 0.101, "parent_loss": 0.1}
    losses.first = 0.2
    with pytest.raises(Failure, match=r"did not take: the first loss is 0\.2, the parent gives 0\.1$") as refused:
        check_first_loss({}, losses)
    assert refused.value.reason == "engine_error"
    assert check_first_loss({"optimizer": LKF}, losses)["first_loss"] == 0.2


@pytest.mark.parametrize(
    ("change", "type_map", "text"),
    [
        ({"rcut": 4.5}, ["Si"], "model.descriptor.rcut is 4.5 in the input, 4.0 in the parent"),
        ({}, ["Si", "C"], r"model.type_map is \['Si', 'C'\] in the input, \['Si'\] in the parent"),
    ],
)
def test_a_parent_of_another_kind_is_refused(
    change: dict[str, Any], type_map: list[str], text: str, parent: Path, silicon: list[Path], tmp_path: Path
) -> None:
    config = tiny_input()
    config["model"]["descriptor"] |= change
    trainer = make_trainer(input=config, warm_start={"steps": 10, "start_lr": 1e-4})
    train(trainer, tmp_path / "child", silicon, phase="next", parent=parent, type_map=type_map)
    with pytest.raises(EngineError, match=text):
        trainer.verify(tmp_path / "child")


def test_divergence_is_found_and_its_step_named(silicon: list[Path], tmp_path: Path) -> None:
    config = tiny_input(learning_rate={"type": "exp", "start_lr": 1e200, "stop_lr": 1e199})
    trainer = make_trainer(input=config)
    finished = train(trainer, tmp_path / "member", silicon)
    assert finished.returncode == 1
    with pytest.raises(EngineError, match=r"not_finite: member diverged: loss is NaN at step [2-9]") as caught:
        trainer.verify(tmp_path / "member")
    assert caught.value.where == tmp_path / "member"


def test_a_label_that_is_no_number_is_named_before_training(silicon: list[Path], tmp_path: Path) -> None:
    frames = silicon_frames(3, seed=1)
    frames[1].arrays["forces"][2, 0] = np.nan
    bad = write_systems(tmp_path / "bad", frames, ["Si"])
    finished = train(make_trainer(), tmp_path / "member", [*silicon, *bad])
    assert finished.stderr.strip() == "not_finite: ../bad/Si8/set.000/force.npy holds a number that is not finite"
    with pytest.raises(EngineError, match="not_finite"):
        make_trainer().verify(tmp_path / "member")


def test_training_data_without_a_frame_are_refused(silicon: list[Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "type.raw").write_text((silicon[0] / "type.raw").read_text())
    train(make_trainer(), tmp_path / "member", [empty])
    with pytest.raises(EngineError, match=r"training_data holds no frame: \.\./empty"):
        make_trainer().verify(tmp_path / "member")


def test_mixed_formulas_molecules_and_missing_virials_are_trained_and_evaluated(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    carbide = bulk("SiC", "zincblende", a=4.36, cubic=True)
    carbon = Atoms("C2", positions=[[0, 0, 0], [0, 0, 2.3]])
    frames = [labelled(carbide, rng) for _ in range(3)]
    frames += [labelled(bulk("Si", "diamond", a=5.43, cubic=True), rng, virial=False) for _ in range(3)]
    frames += [labelled(atoms, rng, virial=False) for atoms in (carbon, carbon, molecule("SiH4")[:1] + carbon)]
    systems = write_systems(tmp_path / "mixed", frames, ["C", "Si"])
    assert len(systems) == 4
    trainer = make_trainer()
    train(trainer, tmp_path / "member", systems[:3], type_map=["Si", "C"], valid=systems)
    trainer.verify(tmp_path / "member")
    evaluation = evaluation_of(tmp_path / "member")
    assert (evaluation["on"], evaluation["n_frames"]) == ("valid", 9)


EVALUATE = """
import json, sys
from pathlib import Path
from al_driver.tasks import deepmd_train
sys.path.append(str(Path(deepmd_train.__file__).parent))
sections = [{"validation_data": {"systems": systems}} for systems in json.loads(sys.argv[1])]
print(json.dumps([deepmd_train.evaluate(section) for section in sections]))
"""


def test_mixed_systems_are_evaluated_with_the_species_of_each_frame(tmp_path: Path) -> None:
    """Two formulas that fill one system, another order of elements than the model's, and atoms that only fill up."""
    rng = np.random.default_rng(5)
    carbide = bulk("SiC", "zincblende", a=4.36, cubic=True)
    other = carbide.copy()
    other.symbols[:2] = "C"
    frames = [labelled(atoms, rng) for atoms in (carbide, other, carbide, other)]
    plain = write_systems(tmp_path / "plain", frames, ["C", "Si"])
    mixed = dpdata.MultiSystems(*(dpdata.LabeledSystem(str(system), fmt="deepmd/npy") for system in plain))
    mixed.to("deepmd/npy/mixed", str(tmp_path / "mixed"))
    (together,) = find_systems(tmp_path / "mixed")
    filled = tmp_path / "filled" / "set.000"
    filled.mkdir(parents=True)
    for name in ("type.raw", "type_map.raw"):
        (filled.parent / name).write_text((together / name).read_text())
    for name, more in (("coord", 6), ("force", 6), ("real_atom_types", 2), ("energy", 0), ("box", 0)):
        array = np.load(together / f"set.000/{name}.npy").reshape(4, -1)
        np.save(filled / name, np.hstack([array, np.full((4, more), -1 if more == 2 else 0, dtype=array.dtype)]))
    train(make_trainer(), tmp_path / "member", plain, type_map=["Si", "C"])
    make_trainer().verify(tmp_path / "member")
    argument = json.dumps([[str(system) for system in plain], [str(together)], [str(filled.parent)]])
    done = subprocess.run(
        [sys.executable, "-c", EVALUATE, argument], cwd=tmp_path / "member", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    apart, mixed_up, filled_up = json.loads(done.stdout.splitlines()[-1])
    assert apart["n_frames"] == 4 and apart["energy_rmse"] > 0
    for other in (mixed_up, filled_up):
        assert {name: other[name] for name in apart} == {
            name: value if name == "on" else pytest.approx(value, rel=1e-9) for name, value in apart.items()
        }


def test_a_cell_without_volume_is_named_before_training(silicon: list[Path], tmp_path: Path) -> None:
    (flat,) = write_systems(tmp_path / "flat", silicon_frames(2, seed=1), ["Si"])
    boxes = np.load(flat / "set.000/box.npy")
    boxes[1, 6:] = 0.0
    np.save(flat / "set.000/box.npy", boxes)
    finished = train(make_trainer(), tmp_path / "member", [*silicon, flat])
    text = "engine_error: ../flat/Si8/set.000/box.npy holds a cell without volume, and no file nopbc allows it"
    assert finished.stderr.strip() == text
    (flat / "nopbc").touch()
    check_data({"training_data": {"systems": [str(flat)]}})
