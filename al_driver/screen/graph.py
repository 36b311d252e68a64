"""Crystal graphs: which atoms are neighbours, and how far away. Å.

The nearest twelve neighbours of an atom within 8 Å, as the published models were trained (Xie and Grossman, Phys. Rev.
Lett. 120, 145301 (2018)). An atom with fewer has edges to the first atom at 9 Å in place of those that it lacks: that
is what the authors' code does, and so what their weights know.

Neighbours at one distance are a shell, of which the twelfth place may take a part: six of the eight next-nearest, or
two of four. The original takes those that the neighbour search happened to find first. Here a shell (0.1 mÅ wide) is
ordered by atomic number, so that neither rounding nor the order of the atoms changes which elements are seen.
"""

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray

from al_driver.errors import ConfigError, Problem
from al_driver.screen.crystals import Crystal, Floats, Ints

RADIUS = 8.0
N_NEIGHBOURS = 12
FULL = 0.999  # the share from which on a site is not shared
SHELL = 1e-4
_OFF_GRID = 0.38196601  # of a shell's width: distances in round numbers lie on no boundary
CLOSEST = 0.5  # of the sum of two covalent radii; sites that lie closer are a mistake in the structure
_FIRST_COUNT = 34  # neighbours expected within the first radius that is tried
_ENLARGE = 1.35


@dataclass(frozen=True)
class Graph:
    """A crystal's graph.

    Attributes
    ----------
    neighbours
        Which atom each edge leads to, shape (n_atoms, 12).
    distances
        Shape (n_atoms, 12).
    site, number, share
        What stands on each site, as in `Crystal`.
    """

    neighbours: NDArray[np.int32]
    distances: NDArray[np.float32]
    site: NDArray[np.int32]
    number: NDArray[np.int32]
    share: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.neighbours)

    @property
    def is_ordered(self) -> bool:
        """Whether one element fills each site."""
        return len(self.site) == len(self) and bool((self.share > FULL).all())

    @property
    def n_missing(self) -> int:
        """Edges that stand for a neighbour which is not there."""
        return int((self.distances > RADIUS).sum())


def make_graph(crystal: Crystal) -> Graph:
    """Find the neighbours of every atom.

    Raises
    ------
    ConfigError
        If two sites lie closer than half the sum of their covalent radii, or pymatgen is not installed.
    """
    n_atoms = len(crystal)
    radius = min((_FIRST_COUNT * crystal.volume / n_atoms / 4.19) ** (1 / 3), RADIUS)
    heaviest = crystal.number
    if len(heaviest) > n_atoms:
        heaviest = np.zeros(n_atoms, dtype=np.int64)
        np.maximum.at(heaviest, crystal.site, crystal.number)
    while True:
        centre, other, distance = find_pairs(crystal, radius)
        counts = np.bincount(centre, minlength=n_atoms)
        shell = (distance / SHELL + _OFF_GRID).astype(np.int64)
        order = np.argsort((centre << 32) | (shell << 8) | heaviest[other])
        places = (np.cumsum(counts) - counts)[:, None] + np.arange(N_NEIGHBOURS)
        there = np.arange(N_NEIGHBOURS) < counts[:, None]
        found = np.append(order, 0)[np.where(there, places, len(order))]
        distances = np.where(there, np.append(distance, 0)[found], RADIUS + 1)
        if radius >= RADIUS or float(distances.max()) < radius - 2 * SHELL:
            break
        radius = min(radius * _ENLARGE, RADIUS)
    neighbours = np.where(there, np.append(other, 0)[found], 0)
    graph = Graph(
        neighbours.astype(np.int32), distances.astype(np.float32), crystal.site.astype(np.int32),
        crystal.number.astype(np.int32), crystal.share.astype(np.float32),
    )  # fmt: skip
    _check_closest(crystal, graph, heaviest)
    return graph


def find_pairs(crystal: Crystal, radius: float) -> tuple[Ints, Ints, Floats]:
    """Return centre, neighbour and distance of every pair within a radius; no atom with itself."""
    try:
        from pymatgen.optimization.neighbors import find_points_in_spheres
    except ImportError:
        raise ConfigError("crystal graphs need pymatgen: pip install -c constraints.txt -e '.[screen]'") from None
    centre, other, _, distance = find_points_in_spheres(
        crystal.positions, crystal.positions, r=radius, pbc=crystal.pbc.astype(np.int64), lattice=crystal.cell
    )
    keep = (distance > 1e-6) | (centre != other)
    return centre[keep], other[keep], distance[keep]


def _check_closest(crystal: Crystal, graph: Graph, heaviest: Ints) -> None:
    radii = covalent_radii[heaviest]
    ratio = graph.distances / (radii[:, None] + radii[graph.neighbours])
    if float(ratio.min()) >= CLOSEST:
        return
    one, edge = np.unravel_index(int(ratio.argmin()), ratio.shape)
    two = int(graph.neighbours[one, edge])
    pair = " and ".join(f"{chemical_symbols[heaviest[site]]} (site {site + 1})" for site in sorted((int(one), two)))
    advice = "" if graph.is_ordered else "; order split positions first"
    message = f"{pair} are {graph.distances[one, edge]:.2f} Å apart: sites clash{advice}"
    raise ConfigError(Problem(message, crystal.name if crystal.path is None else "", crystal.path))
