"""The Kalman prediction uncertainty is what the plain computation gives, and obeys the symmetries of a frame."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list
from kalman_trainings import alloy, make_checkpoint, plain_uncertainty

pytestmark = pytest.mark.needs("dp")
TASKS = Path(__file__).parents[2] / "al_driver" / "tasks"


@pytest.fixture(scope="session")
def kpu_model():
    """The module as programs of its folder see it."""
    sys.path.append(str(TASKS))
    import kpu_model

    yield kpu_model
    sys.path.remove(str(TASKS))


@pytest.fixture(scope="session")
def load(checkpoints, kpu_model):
    loaded = {}

    def load(name):
        if name not in loaded:
            loaded[name] = kpu_model.KalmanModel(checkpoints[name])
        return loaded[name]

    return load


def frame_of(model, atoms):
    return model.make_frame(atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_chemical_symbols())


def silicon(cells=(1, 1, 1), seed=4):
    atoms = bulk("Si", "diamond", a=5.43, cubic=True) * cells
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=atoms.positions.shape)
    return atoms


def sheared(atoms):
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array + np.array([[0, 0.3, 0], [0.2, 0, -0.4], [0, 0.1, 0]]), scale_atoms=True)
    return atoms


@pytest.mark.parametrize("name", ["silicon", "alloy", "embedding", "attention"])
def test_equals_the_plain_computation(load, checkpoints, name):
    atoms = sheared(silicon() if name == "silicon" else alloy(seed=9))
    model = load(name)
    assert len(model.covariance) == (4 if name == "alloy" else 1)
    energy, forces = plain_uncertainty(checkpoints[name], atoms, [0, 3, 7])
    frame = frame_of(model, atoms)
    assert model.force_uncertainty(frame, [0, 3, 7]) == pytest.approx(forces, rel=1e-9)
    assert model.energy_uncertainty(frame) == pytest.approx(energy, rel=1e-9)


@pytest.mark.parametrize("name", ["alloy", "attention"])
def test_equals_the_plain_computation_without_a_cell(load, checkpoints, name):
    atoms = alloy(seed=3)
    atoms.pbc = False
    energy, forces = plain_uncertainty(checkpoints[name], atoms, [5])
    frame = frame_of(load(name), atoms)
    assert load(name).force_uncertainty(frame, [5]) == pytest.approx(forces, rel=1e-9)
    assert load(name).energy_uncertainty(frame) == pytest.approx(energy, rel=1e-9)


def test_relabelling_permutes_and_translation_changes_nothing(load):
    """Lesson 8."""
    model, atoms = load("alloy"), alloy(seed=5)
    before = model.force_uncertainty(frame_of(model, atoms))
    order = np.random.default_rng(0).permutation(len(atoms))
    assert model.force_uncertainty(frame_of(model, atoms[order])) == pytest.approx(before[order], rel=1e-10)
    atoms.translate([1.3, -7.0, 22.0])
    assert model.force_uncertainty(frame_of(model, atoms)) == pytest.approx(before, rel=1e-8)


def test_ten_times_the_covariance_is_the_root_of_ten(load, kpu_model, checkpoints):
    """Lesson 8."""
    model, atoms = kpu_model.KalmanModel(checkpoints["silicon"]), silicon()
    frame = frame_of(model, atoms)
    force, energy = model.force_uncertainty(frame), model.energy_uncertainty(frame)
    model.covariance = [10 * block for block in model.covariance]
    assert model.force_uncertainty(frame) == pytest.approx(10**0.5 * force, rel=1e-12)
    assert model.energy_uncertainty(frame) == pytest.approx(10**0.5 * energy, rel=1e-12)


@pytest.mark.parametrize("name", ["silicon", "alloy", "attention"])
def test_a_supercell_cut_out_equals_the_cell(load, name):
    model = load(name)
    atoms = silicon() if name == "silicon" else alloy(seed=2)
    small, large = frame_of(model, atoms), frame_of(model, atoms * (3, 3, 3))
    assert len(model.find_local(large, [0])) * 3 < len(large.kinds)  # so that it is cut out
    last = np.arange(len(atoms)) + 13 * len(atoms)
    assert model.force_uncertainty(large, last) == pytest.approx(model.force_uncertainty(small), rel=1e-9)
    energy = model.energy_gradient(small)
    assert np.allclose(model.energy_gradient(large), 27 * energy, rtol=1e-9, atol=1e-12 * float(abs(energy).max()))


@pytest.mark.parametrize("keys", [{}, {"resnet_dt": True, "activation_function": "gelu"}, {"trainable": False}])
@pytest.mark.parametrize("one_side", [True, False])
def test_the_closed_form_equals_autograd(kpu_model, tmp_path, keys, one_side):
    descriptor = {"type": "se_e2_a", "rcut": 4.5, "rcut_smth": 1.0, "sel": [25, 40], "neuron": [3, 6, 7]}
    descriptor |= {"axis_neuron": 3, "type_one_side": one_side, **keys}
    fitting = {"neuron": [5, 5], **keys, "trainable": True}
    make_checkpoint(tmp_path / "model.ckpt.pt", descriptor, fitting, ["Al", "Cu"])
    closed, plain = (kpu_model.KalmanModel(tmp_path / "model.ckpt.pt", closed_form=wanted) for wanted in (True, False))
    frame = frame_of(closed, sheared(alloy(seed=3) * (2, 1, 1)))
    expected = plain.force_uncertainty(frame, [1, 20, 30])
    assert closed.force_uncertainty(frame, [1, 20, 30]) == pytest.approx(expected, rel=1e-9)
    assert closed._closed is not None


@pytest.mark.parametrize("kind", ["se_e2_a", "se_atten"])
def test_a_model_of_its_own_precision(kpu_model, tmp_path, kind):
    """The plain computation has the digits that float32 leaves it."""
    descriptor = {"type": kind, "rcut": 4.5, "rcut_smth": 1.0, "sel": [25, 40], "neuron": [3, 6], "axis_neuron": 3}
    descriptor |= {"precision": "float32"} | ({"sel": 60, "attn_layer": 0} if kind == "se_atten" else {})
    path = tmp_path / "model.ckpt.pt"
    make_checkpoint(path, descriptor, {"neuron": [5, 5], "precision": "float32"}, ["Al", "Cu"])
    atoms, model = alloy(seed=3), kpu_model.KalmanModel(path)
    energy, forces = plain_uncertainty(path, atoms, [1, 6])
    assert model.force_uncertainty(frame_of(model, atoms), [1, 6]) == pytest.approx(forces, rel=1e-4)
    assert model.energy_uncertainty(frame_of(model, atoms)) == pytest.approx(energy, rel=1e-4)


def test_a_closed_form_that_errs_is_not_used(load, kpu_model, checkpoints, monkeypatch):
    model, frame = kpu_model.KalmanModel(checkpoints["silicon"]), frame_of(load("silicon"), silicon())
    expected = load("silicon").force_uncertainty(frame, [0])
    monkeypatch.setattr(kpu_model.kpu_se_a, "add_changes", lambda *given: 0 * given[3])
    assert model.force_uncertainty(frame, [0]) == pytest.approx(expected, rel=1e-10)


def test_little_memory_gives_the_same(load, kpu_model, checkpoints):
    model = kpu_model.KalmanModel(checkpoints["alloy"], memory=1e-6)
    atoms = alloy(seed=6)
    expected = load("alloy").force_uncertainty(frame_of(model, atoms))
    assert model.force_uncertainty(frame_of(model, atoms)) == pytest.approx(expected, rel=1e-10)
    expected = load("alloy").energy_uncertainty(frame_of(model, atoms))
    assert model.energy_uncertainty(frame_of(model, atoms)) == pytest.approx(expected, rel=1e-10)


def test_gradients_are_of_the_force(load, checkpoints):
    """Against finite differences of the force in one weight of each layer."""
    import torch

    model, atoms = load("alloy"), alloy(seed=7)
    frame = frame_of(model, atoms)
    ((which, gradients),) = model.force_gradients(frame, [4])
    assert which.tolist() == [4] and gradients.shape == (1, 3, model.n_weights)

    def force():
        shift = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
        with torch.enable_grad():
            energy = model.energy_of(frame, model.find_local(frame, [4]), [4], shift)
        return -torch.autograd.grad(energy, shift)[0][0]

    start = 0
    for weight in (weight for weight in model.weights if weight.numel()):
        place = (1, 0) if weight.ndim > 1 and len(weight) > 1 else (0,) * weight.ndim
        number = place[0] + (place[1] * len(weight) if weight.ndim > 1 else 0)
        with torch.no_grad():
            weight[place] += 1e-4
            above = force()
            weight[place] -= 2e-4
            below = force()
            weight[place] += 1e-4
        assert gradients[0, :, start + number].numpy() == pytest.approx(((above - below) / 2e-4).numpy(), abs=1e-7)
        start += weight.numel()


def test_float32_keeps_four_digits(load, kpu_model, checkpoints):
    atoms = alloy(seed=8)
    model = kpu_model.KalmanModel(checkpoints["alloy"], single=True)
    single = model.force_uncertainty(frame_of(model, atoms))
    assert single == pytest.approx(load("alloy").force_uncertainty(frame_of(load("alloy"), atoms)), rel=1e-4)
    assert not np.array_equal(single, load("alloy").force_uncertainty(frame_of(load("alloy"), atoms)))


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, True, False), (False, False, False)])
def test_neighbours_are_those_of_ase(kpu_model, pbc):
    atoms = sheared(silicon(seed=1))
    atoms.positions += 40.0
    atoms.pbc = pbc
    if not pbc[2]:
        atoms.cell[2] = 0
    if not any(pbc):
        atoms = molecule("C60")
    cutoff = 6.1  # larger than the cell
    frame = kpu_model.kpu_frame.make_frame(atoms.positions, atoms.cell.array, atoms.pbc, atoms.numbers, cutoff, 200)
    distances = [
        np.linalg.norm(frame.images[near[near >= 0]] - frame.images[atom], axis=1)
        for atom, near in enumerate(frame.neighbours)
    ]
    first, length = neighbor_list("id", atoms, cutoff)
    for atom, found in enumerate(distances):
        assert found == pytest.approx(np.sort(length[first == atom]))


def refuse(kpu_model, path, *words):
    with pytest.raises(kpu_model.Refused) as refused:
        kpu_model.KalmanModel(path)
    assert str(refused.value).count("\n") < 3
    assert all(word in str(refused.value) for word in words), str(refused.value)


class Shout:
    def __reduce__(self):
        return Path.touch, (Path("/tmp/al-kpu-shouted"),)  # noqa: S108


def test_what_is_no_checkpoint_is_refused(kpu_model, checkpoints, tmp_path):
    import torch

    refuse(kpu_model, checkpoints["adam"], "no covariance", "LKF")
    bad = tmp_path / "model.ckpt.pt"
    poscar = b"silicon, cubic cell of 8 atoms\n1.0\n"  # a stack that is popped while it is empty
    for text in (b"not a checkpoint", poscar):
        bad.write_bytes(text)
        refuse(kpu_model, bad, str(bad), "no checkpoint")
    for content in ({"model": {}}, [1, 2], {"model": {"_extra_state": {}}, "optimizer": Shout()}):
        torch.save(content, bad)
        refuse(kpu_model, bad, "no checkpoint")
    bad.write_bytes(pickle.dumps(Shout()))
    refuse(kpu_model, bad, "no checkpoint")
    assert not Path("/tmp/al-kpu-shouted").exists()  # noqa: S108


@pytest.mark.parametrize(
    ("fitting", "keys", "word"),
    [
        ({"numb_fparam": 1}, {}, "fparam"),
        ({"numb_aparam": 1}, {}, "aparam"),
        ({}, {"spin": {"use_spin": [True, False], "virtual_scale": [0.3, 0.0]}}, "spins"),
    ],
)
def test_a_model_that_needs_more_than_a_frame_is_refused(kpu_model, tmp_path, fitting, keys, word):
    descriptor = {"type": "se_e2_a", "rcut": 4.5, "rcut_smth": 1.0, "sel": [25, 40], "neuron": [3, 6], "axis_neuron": 3}
    path = tmp_path / "model.ckpt.pt"
    make_checkpoint(path, descriptor, {"neuron": [5]} | fitting, ["Al", "Cu"], **keys)
    refuse(kpu_model, path, f"needs {word}" if word == "spins" else word, "frames do not carry")


def test_a_damaged_covariance_is_refused(kpu_model, checkpoints, tmp_path):
    import torch

    bad = tmp_path / "model.ckpt.pt"
    harms = [
        (lambda blocks: blocks[0].mul_(np.nan), ["block 0", "finite"]),
        (lambda blocks: blocks.pop(), ["damaged", "weights"]),
        (lambda blocks: blocks[1][0].add_(1), ["block 1", "symmetric"]),
        (lambda blocks: blocks[2].neg_(), ["block 2", "positive"]),
    ]
    for harm, words in harms:
        content = torch.load(checkpoints["alloy"], weights_only=True)
        harm(content["optimizer"]["state"][0]["P"])
        torch.save(content, bad)
        refuse(kpu_model, bad, *words)


def test_what_no_covariance_gives_is_refused(load, kpu_model):
    model, atoms = load("silicon"), silicon()
    with pytest.raises(kpu_model.Refused, match="Cu, which the model does not know; it knows Si"):
        frame_of(model, alloy(seed=1))
    atoms.positions[1] = atoms.positions[0]
    with pytest.raises(kpu_model.Refused, match=r"is (nan|inf)"):
        model.force_uncertainty(frame_of(model, atoms))
