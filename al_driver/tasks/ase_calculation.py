"""Label a frame, relax a structure or run molecular dynamics with any ASE calculator, in one process.

Run in the task's folder by the Python that has the calculator, which may be another environment than the driver's:
this file imports nothing of `al_driver`, and needs ASE and numpy. It reads `calculation.json` and writes
`result.jsonl`: a line for each frame, as soon as it is there, and last a line that says how it ended. eV, Å, eV/Å,
eV/Å³, K, ps.

Dynamics: velocity Verlet, and the thermostat of Bussi, Donadio and Parrinello, J. Chem. Phys. 126, 014101 (2007), eq.
A7. It is canonical, scales all velocities alike, so that the forces alone steer the atoms, and its time constant means
what Quantum ESPRESSO's `svr` and LAMMPS's `fix temp/csvr` mean by it; Langevin's friction would slow diffusion down.
"""

import importlib
import importlib.metadata
import json
import math
import os
import re
import shutil
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_UNCONVERGED = re.compile(
    r"SCFError|ConvergenceError|(?:\b(?:not|no|without|unable|fail\w*)|n['’]t)\W+(?:\w+\W+){0,3}?converge"
    r"|\b(?:un|non)-?converge|convergence\W+(?:\w+\W+){0,3}?(?:not|fail)",
    re.IGNORECASE,
)
CALCULATOR_DIR = "calculator"
_LONGEST_DETAIL = 300


class Failure(Exception):
    """The calculation gave nothing: one of the reasons of ``rejected.jsonl``, and what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Results:
    """``result.jsonl``: a line a frame, written by the first process where there are several."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.n_steps = 0
        """Steps of the relaxation or dynamics so far."""

    def write_frame(self, atoms: Any) -> None:
        """Write a frame with its energy, forces, and its stress where there is one."""
        label = {
            "energy": calculate_energy(atoms),
            "forces": atoms.get_forces().tolist(),
            "stress": calculate_stress(atoms),
        }
        if getattr(atoms.calc, "converged", True) is False:  # some calculators only note it
            raise Failure("scf_unconverged", "the calculator says that it did not converge")
        magmoms = getattr(atoms.calc, "results", {}).get("magmoms")
        if magmoms is not None:
            label["magmoms"] = getattr(magmoms, "tolist", lambda: list(magmoms))()  # vectors, where not collinear
        frame = {"positions": atoms.positions.tolist(), "cell": atoms.cell.array.tolist()}
        self.write({"step": self.n_steps, **frame, **label})

    def write(self, line: dict[str, Any]) -> None:
        from ase.parallel import world

        if world.rank == 0:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")


def main() -> int:
    """Do what `calculation.json` in the current folder asks for; return the exit status.

    The calculator works in a folder of its own, which goes when all went well. Nothing else is ever removed, wherever
    the calculator has left the process.
    """
    sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).parent)]  # neighbours are no libraries
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy reads it
    folder = Path.cwd()
    spec = json.loads((folder / "calculation.json").read_text(encoding="utf-8"))
    results = Results(folder / "result.jsonl")
    own = folder / CALCULATOR_DIR
    own.mkdir(exist_ok=True)
    os.chdir(own)  # calculators write where they stand
    try:
        run(spec, results)
    except Exception as error:
        traceback.print_exc()
        failure = error if isinstance(error, Failure) else explain(error)
        line = {"end": "failed", "steps": results.n_steps, "reason": failure.reason, "detail": failure.detail}
        results.write({**line, **find_version(spec)})
        return 1
    results.write({"end": "done", "steps": results.n_steps, **find_version(spec)})
    os.chdir(folder)
    from ase.parallel import world

    world.barrier()
    if world.rank == 0:
        shutil.rmtree(own, ignore_errors=True)
    return 0


def run(spec: Mapping[str, Any], results: Results) -> None:
    """Label, relax or move the atoms; or label many frames, one after another, with one calculator."""
    from ase import Atoms

    calculator = find_callable(spec)(**spec["arguments"], **spec["files"])
    for results.n_steps, frame in enumerate(spec.get("frames", ())):
        results.write_frame(Atoms(**frame, calculator=calculator))
    if "frames" in spec:
        return
    moments = {"magmoms": spec["magmoms"]} if "magmoms" in spec else {}  # of elements, not of this structure
    atoms = Atoms(**spec["atoms"], **moments, calculator=calculator)
    if "relax" in spec:
        relax(atoms, results, **spec["relax"])
    elif "dynamics" in spec:
        run_dynamics(atoms, results, **spec["dynamics"])
    else:
        if "first" in spec:
            start_elsewhere(atoms, spec["first"])
        results.write_frame(atoms)


def start_elsewhere(atoms: Any, first: Sequence[Sequence[float]]) -> None:
    """Calculate another frame first, so that self-consistency begins from what it leaves in the calculator."""
    positions = atoms.positions.copy()
    atoms.positions[:] = first
    try:
        calculate_forces(atoms)
    except Exception:  # where that frame has no result, its density is still another start
        traceback.print_exc()
    atoms.positions[:] = positions


def find_callable(spec: Mapping[str, Any]) -> Any:
    """Import what the calculator's name means; the longest part of it that is a module is imported.

    Raises
    ------
    ImportError
        If a module is not there, or what it imports is not.
    AttributeError
        If a module or class has no such name.
    """
    parts = spec["calculator"].split(".")
    if spec["module"]:
        module = Path(spec["module"])
        sys.path.insert(0, str(module.parent))
        parts = [module.stem, *parts]
    found: Any = importlib.import_module(parts[0])
    for index, part in enumerate(parts[1:], start=2):
        if not hasattr(found, part) and hasattr(found, "__path__"):
            importlib.import_module(".".join(parts[:index]))
        found = getattr(found, part)
    return found


def calculate_energy(atoms: Any) -> float:
    """Return the energy that the forces derive from, where the calculator tells it apart."""
    try:
        return float(atoms.get_potential_energy(force_consistent=True))
    except NotImplementedError:
        return float(atoms.get_potential_energy())


def calculate_stress(atoms: Any) -> Any:
    """Return the stress, shape (3, 3); None where the cell is not periodic, or the calculator has none."""
    if not atoms.pbc.all():
        return None
    atoms.get_forces()  # what a calculator cannot do at all, an element it does not know, is no missing stress
    try:
        return atoms.get_stress(voigt=False).tolist()
    except NotImplementedError:
        return None


def calculate_forces(atoms: Any) -> Any:
    """Return the forces, shape (n_atoms, 3).

    Raises
    ------
    Failure
        ``not_finite``: nothing can follow from such a force.
    """
    forces = atoms.get_forces()
    if not math.isfinite(float(abs(forces).max())):
        raise Failure("not_finite", "a force is not a finite number")
    return forces


def relax(atoms: Any, results: Results, *, what: str, max_force: float, max_steps: int) -> None:
    """Relax until forces and, with the cell, −stress × volume per atom are within their limit; write the last frame.

    BFGS needs few steps where the energy is smooth. Where it is not, FIRE, which needs no curvature, takes the last
    third of the steps.
    """
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS, FIRE

    if what == "cell" and calculate_stress(atoms) is None:
        raise Failure("engine_error", "the calculator gives no stress, without which a cell cannot be relaxed")

    def is_relaxed() -> bool:
        sizes = [float((calculate_forces(atoms) ** 2).sum(axis=1).max()) ** 0.5]
        if what == "cell":
            sizes.append(float(abs(atoms.get_stress()).max()) * atoms.get_volume() / len(atoms))
        sys.stdout.write(f"{results.n_steps} {sizes}\n")
        return bool(max(sizes) < max_force)

    target = FrechetCellFilter(atoms) if what == "cell" else atoms
    for optimiser, last in ((BFGS, max_steps - max_steps // 3), (FIRE, max_steps)):
        first = results.n_steps
        for n_steps, _ in enumerate(optimiser(target, logfile=None).irun(fmax=0.0, steps=last - first)):
            results.n_steps = first + n_steps
            if is_relaxed():
                results.write_frame(atoms)
                return
    results.write_frame(atoms)


def run_dynamics(
    atoms: Any,
    results: Results,
    *,
    temperature: float,
    n_steps: int,
    timestep: float,
    every: int,
    tau_t: float,
    seed: int,
    velocities: Sequence[Sequence[float]],
) -> None:
    """Move the atoms at constant volume and temperature; write every ``every``-th frame.

    The total momentum that forces of a grid or of float32 would add is taken out. Velocities in Å/ps.
    """
    import numpy as np
    from ase.units import fs, kB

    rng = np.random.default_rng([seed, 1])  # another stream than the one that drew the velocities
    masses = atoms.get_masses()[:, np.newaxis]
    n_free = 3 * len(atoms) - 3
    aim = n_free * kB * temperature / 2
    step_length = 1000 * fs * timestep
    keep = math.exp(-timestep / tau_t)

    def settle(momenta: Any) -> tuple[Any, float]:
        momenta = momenta - masses * momenta.sum(axis=0) / masses.sum()
        return momenta, float((momenta**2 / masses).sum() / 2)

    momenta, _ = settle(masses * np.array(velocities) / (1000 * fs))
    forces = calculate_forces(atoms)
    for step in range(1, n_steps + 1):
        momenta += step_length / 2 * forces
        atoms.positions += step_length * momenta / masses
        forces = calculate_forces(atoms)
        momenta, kinetic = settle(momenta + step_length / 2 * forces)
        share = (1 - keep) * aim / (n_free * kinetic)
        noise = rng.normal()
        momenta *= math.sqrt(
            keep + share * (noise**2 + rng.chisquare(n_free - 1)) + 2 * noise * math.sqrt(keep * share)
        )
        results.n_steps = step
        if step % every == 0:
            results.write_frame(atoms)


def explain(error: Exception) -> Failure:
    """Return the reason that an error of a calculator stands for, with its words."""
    printed = getattr(error, "stderr", None)  # of a program that the calculator ran
    text = " ".join(f"{type(error).__name__}: {error} {printed if isinstance(printed, str) else ''}".split())
    reason = "scf_unconverged" if _UNCONVERGED.search(text) else "engine_error"
    return Failure(reason, text if len(text) <= _LONGEST_DETAIL else f"{text[: _LONGEST_DETAIL - 1]}…")


def find_version(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the package that the calculator is from, and its version."""
    package = Path(spec["module"]).stem if spec["module"] else spec["calculator"].split(".")[0]
    version = getattr(sys.modules.get(package), "__version__", None)
    if version is None:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = "unknown"
    return {"program": package, "version": str(version)}


if __name__ == "__main__":
    sys.exit(main())
