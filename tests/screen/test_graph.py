"""Crystal graphs: neighbours as by brute force, shells that no order of atoms changes, mistakes in structures."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from crystals import cubic, perovskite, triclinic
from hypothesis import given, settings
from hypothesis import strategies as st

from al_driver.errors import ConfigError
from al_driver.screen.crystals import make_crystal, make_crystals
from al_driver.screen.graph import Graph, make_graph
from al_driver.screen.graph_cache import GraphCache, make_graphs

pytestmark = pytest.mark.needs("module:pymatgen.core")


def brute_force(atoms: Atoms) -> np.ndarray:
    """Return the sorted distances of the twelve nearest within 8 Å, 9 where there are fewer, (n_atoms, 12)."""
    cell = atoms.cell.complete().array
    reach = [
        int(np.ceil(8 / height)) + 5 if periodic else 0
        for height, periodic in zip(1 / np.linalg.norm(np.linalg.inv(cell), axis=0), atoms.pbc, strict=True)
    ]
    images = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), -1).reshape(-1, 3) @ cell
    found = []
    for centre in atoms.positions:
        all_of_them = (atoms.positions[None] + images[:, None] - centre).reshape(-1, 3)
        distances = np.sort(np.linalg.norm(all_of_them, axis=1))[1:]
        near = distances[distances <= 8][:12]
        found.append(np.append(near, [9.0] * (12 - len(near))))
    return np.array(found)


STRUCTURES = {
    "perovskite": perovskite(),
    "triclinic": triclinic(),
    "slab": fcc111("Cu", (2, 2, 3), vacuum=10.0),
    "molecule": Atoms("OH2", positions=[[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]),
    "thin gas": Atoms("ArNe", positions=[[0, 0, 0], [3.5, 0, 0]], cell=[7, 9, 11], pbc=True),
    "one atom": Atoms("Xe", cell=[20, 20, 20], pbc=True),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_nearest_twelve_are_found(name):
    graph = make_graph(make_crystal(STRUCTURES[name]))
    assert np.sort(graph.distances, axis=1) == pytest.approx(brute_force(STRUCTURES[name]), abs=1e-5)
    missing = graph.distances > 8
    assert (graph.neighbours[missing] == 0).all()
    assert graph.n_missing == missing.sum() == (brute_force(STRUCTURES[name]) > 8).sum()


def seen(graph: Graph, order: np.ndarray) -> list[list[tuple[float, int]]]:
    """Return the edges of each atom, as distance and element, atoms in the order of the original."""
    inverse = np.argsort(order)
    elements = graph.number[graph.neighbours]
    return [sorted(zip(np.round(graph.distances[i], 3).tolist(), elements[i].tolist(), strict=True)) for i in inverse]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.tuples(*[st.floats(-3, 3)] * 3))
def test_neither_order_nor_origin_nor_orientation_changes_what_is_seen(seed, shift):
    """Of twelve neighbours of O at one distance ten have room: those are the same ten however the file is written."""
    atoms = perovskite()
    order = np.random.default_rng(seed).permutation(len(atoms))
    turned = atoms[order]
    turned.positions += shift
    turned.rotate(seed % 360, (1, 2, 3), rotate_cell=True)
    turned.wrap()
    first, second = make_graphs([make_crystal(atoms), make_crystal(turned)])
    assert seen(first, np.arange(5)) == seen(second, order)


def test_a_structure_of_pymatgen_and_one_of_ase_give_one_graph():
    atoms = triclinic()
    from pymatgen.io.ase import AseAtomsAdaptor

    structure = AseAtomsAdaptor.get_structure(atoms)
    one, two = make_graphs(make_crystals([atoms, structure]))
    assert one.distances == pytest.approx(two.distances, abs=1e-6)
    assert (one.number == two.number).all()


def test_shared_sites_are_averages():
    structure = cubic(4.2, [{"Ni": 0.8, "Mn": 0.1}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    graph = make_graph(make_crystal(structure))
    assert not graph.is_ordered
    assert (graph.site.tolist(), sorted(graph.number.tolist())) == ([0, 0, 1], [8, 25, 28])
    assert graph.share.sum() == pytest.approx(1.9)


MISTAKES = {
    "Na (site 1) and Cl (site 2) are 0.70 Å apart: sites clash": Atoms("NaCl", [[0, 0, 0], [0.7, 0, 0]], cell=[5] * 3),
    "Na (site 1) and Cl (site 2) are 0.00 Å apart: sites clash": Atoms("NaCl", [[0, 0, 0]] * 2, cell=[5] * 3, pbc=True),
    "Si (site 1) and Si (site 1) are 1.00 Å apart": Atoms("Si", cell=[1, 5, 5], pbc=True),
    "has Rf, which has no atom features": Atoms("Rf", cell=[5] * 3, pbc=True),
    "has X, which has no atom features": Atoms("X", cell=[5] * 3, pbc=True),
    "holds no atoms": Atoms(cell=[5] * 3, pbc=True),
    "not a finite number": Atoms("H", [[0, 0, np.nan]], cell=[5] * 3, pbc=True),
    "a cell without a volume": Atoms("Si", cell=[[3, 0, 0], [3, 0, 0], [0, 0, 3]], pbc=True),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_in_structures_are_told(words):
    with pytest.raises(ConfigError) as refused:
        make_graph(make_crystal(MISTAKES[words], "mine"))
    assert words in str(refused.value) and str(refused.value).startswith("mine: ")


def test_split_positions_are_to_be_ordered():
    structure = cubic(5, [{"Li": 0.5}, {"Li": 0.5}], [[0, 0, 0], [0.05, 0, 0]])
    with pytest.raises(ConfigError, match=r"0\.25 Å apart: sites clash; order split positions first"):
        make_graph(make_crystal(structure))


def test_graphs_are_kept_by_content(tmp_path, caplog):
    structures = [triclinic(1), bulk("Cu"), triclinic(1), perovskite()]
    shared = cubic(4.2, [{"Ni": 0.5, "Mn": 0.5}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    crystals = make_crystals([*structures, shared])
    cache = GraphCache(tmp_path / "kept")
    graphs = make_graphs(crystals, cache)
    assert graphs[0] is graphs[2]
    cache.save()
    cache.save()
    (file,) = (tmp_path / "kept").iterdir()
    again = GraphCache(tmp_path / "kept")
    for crystal, graph in zip(crystals, graphs, strict=True):
        (kept,) = again.get(crystal.key)
        for name in ("neighbours", "distances", "site", "number", "share"):
            assert np.array_equal(getattr(kept, name), getattr(graph, name))
    again.save()
    assert list((tmp_path / "kept").iterdir()) == [file]
    file.write_bytes(file.read_bytes()[:300])
    assert GraphCache(tmp_path / "kept").get(crystals[0].key) is None
    assert "is damaged" in caplog.text
