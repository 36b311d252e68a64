"""Reference calculations with any ASE calculator. Energies eV, forces eV/Å, virial eV.

The driver never imports the calculator, which may bring torch or live in another environment: a program of ours does,
``tasks/ase_calculation.py``, run by the Python of resource.json, by default the driver's own. It loads the calculator
once for a label, a relaxation or a whole dynamics, and writes a line for each frame.
"""

import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import ConfigDict, Field, JsonValue, field_validator

from al_driver.data.frames import Array, Label
from al_driver.engines.ase_check import check_calculator
from al_driver.engines.ase_result import INPUT_FILE, failure, make_label, read_end, read_frames, read_sent, require_end
from al_driver.engines.base import Calculation, Dynamics, Engine, Relaxation
from al_driver.engines.motion import check_relaxable, draw_velocities, what_is_missing
from al_driver.errors import EngineError, Problem
from al_driver.files import write_atomic
from al_driver.schema.base import Float, UserPath, cross_check
from al_driver.schema.elements import Element
from al_driver.words import many

OTHER_START = 0.05  # Å per axis (σ)
OF_THE_WAY = frozenset(
    {"verbosity", "max_iterations", "maxiter", "mixer", "mixer_damping", "cache_api", "txt", "parallel", "device"}
    | {"use_device", "logfile"}
)
"""Keyword arguments of calculators that say how a calculation runs and gets there, not what it converges to."""
PROGRAM = Path(__file__).parents[1] / "tasks" / "ase_calculation.py"


class AseEngine(Engine):
    """Any ASE calculator, by its import path."""

    can: ClassVar[frozenset[Calculation]] = frozenset({"label", "relax", "aimd"})
    takes_many: ClassVar[bool] = True
    default_command: ClassVar[str] = shlex.quote(sys.executable)

    model_config = ConfigDict(populate_by_name=True)  # `arguments` is a method of every engine

    engine: Literal["ase"]
    calculator: str
    """Import path of a class, or of a function that returns a calculator, e.g. "ase.calculators.emt.EMT",
    "chgnet.model.dynamics.CHGNetCalculator", "ase.calculators.tersoff.Tersoff.from_lammps"."""
    keywords: dict[str, JsonValue] = Field(default={}, alias="arguments")
    """Keyword arguments of the calculator."""
    files: dict[str, UserPath] = Field(default={})
    """Keyword arguments of the calculator that are files or folders; what they hold decides the numbers."""
    module: UserPath | None = None
    """A Python file of your own that defines ``calculator``, where JSON cannot say how to make it."""
    magmoms: dict[Element, Float] = Field(default={})
    """First magnetic moment of each element's atoms, μ_B, where a structure brings none of its own."""

    @field_validator("calculator")
    @classmethod
    def _check_path(cls, path: str) -> str:
        if not all(part.isidentifier() for part in path.split(".")):
            raise ValueError('needs an import path: names with dots between, such as "ase.calculators.emt.EMT"')
        return path

    @cross_check
    def _check_across(self) -> "AseEngine":
        if self.module is None and "." not in self.calculator:
            raise ValueError(
                f'calculator: {self.calculator!r} names no module; write "package.module.{self.calculator}"'
            )
        twice = sorted(set(self.keywords) & set(self.files))
        if twice:
            raise ValueError(f"{', '.join(twice)} stands in `arguments` and in `files`; keep one")
        return self

    def write_inputs(self, atoms: Atoms, directory: Path) -> None:
        self._write(atoms, directory)

    def other_start(self) -> str:
        return f"a frame whose atoms are moved by {OTHER_START:g} Å comes first, and leaves the calculator its density"

    def write_other_start(self, atoms: Atoms, directory: Path) -> None:
        self._write(atoms, directory, first=_rattled(atoms).tolist())

    def write_relaxation(self, atoms: Atoms, relaxation: Relaxation, directory: Path) -> None:
        check_relaxable(atoms, relaxation)
        self._write(atoms, directory, relax=asdict(relaxation))

    def write_dynamics(self, atoms: Atoms, dynamics: Dynamics, directory: Path) -> None:
        velocities = draw_velocities(atoms, dynamics).tolist()
        self._write(atoms, directory, dynamics={**asdict(dynamics), "velocities": velocities})

    def arguments(self) -> tuple[str, ...]:
        return (str(PROGRAM),)

    def is_complete(self, directory: Path) -> bool:
        return read_end(directory) is not None

    def read_label(self, directory: Path) -> Label:
        return self._read_last(directory)

    def read_relaxation(self, directory: Path, relaxation: Relaxation) -> Label:
        label = self._read_last(directory)
        if missing := what_is_missing(label.forces, label.virial, relaxation):
            limit = f"max_force is {relaxation.max_force:g}, max_steps {relaxation.max_steps}"
            raise EngineError("engine_error", directory, f"not relaxed: {missing} in the end; {limit}")
        return label

    def read_dynamics(self, directory: Path, dynamics: Dynamics) -> list[tuple[int, Label | EngineError]]:
        """Read the frames; where a calculation failed on the way, that is what is wrong with all later ones."""
        end = require_end(directory, self.output_name)
        lines = {line["step"]: line for line in read_frames(directory)}
        if end["end"] == "failed" and not lines:
            raise failure(end, directory)
        missing = [step for step in dynamics.steps if step not in lines]
        if end["end"] != "failed" and missing:
            raise EngineError("no_output", directory, f"{len(missing)} of {len(dynamics.steps)} frames are missing")
        sent = read_sent(directory)

        def read(step: int) -> Label | EngineError:
            if step not in lines:
                return failure(end, directory)
            try:
                return make_label(sent, lines[step], end, directory)
            except EngineError as error:
                return error

        return [(step, read(step)) for step in dynamics.steps]

    def check(self, type_map: Sequence[str]) -> Iterator[Problem]:
        for name, path in self.files.items():
            if not path.exists():
                yield Problem(f"{path} does not exist", f"files.{name}")
        if self.module is not None and not self.module.is_file():
            yield Problem(f"{self.module} does not exist", "module")
        for symbol in self.magmoms:
            if symbol not in type_map:
                yield Problem(f"{symbol} is not in the type_map, {' '.join(type_map)}", "magmoms", severity="warning")

    def check_program(self, launcher: Sequence[str], env: Mapping[str, str]) -> Iterator[Problem]:
        """Ask the Python that would run the calculator whether it has it."""
        if self.module is not None and not self.module.is_file():
            return  # as `check` says
        yield from check_calculator(self._spec(), launcher, env)

    def set_by_driver(self, calculation: Calculation = "label") -> tuple[str, ...]:
        lines = {
            "label": "energy: the free energy, where the calculator tells it apart; stress where the cell is periodic",
            "relax": "BFGS, then FIRE for the last third of max_steps; the cell by FrechetCellFilter",
            "aimd": "velocity Verlet, Bussi's thermostat, seeded velocities without a total momentum",
        }
        return (lines[calculation],)

    def settings(self, calculation: Calculation = "label") -> dict[str, Any]:
        """Return the calculator with its arguments but for those that only say how it runs."""
        found = super().settings(calculation)
        return found | {"keywords": {key: value for key, value in self.keywords.items() if key not in OF_THE_WAY}}

    def _spec(self) -> dict[str, Any]:
        return {
            "calculator": self.calculator,
            "module": None if self.module is None else str(self.module),
            "arguments": self.keywords,
            "files": {name: str(path) for name, path in self.files.items()},
        }

    def write_frames(self, frames: Sequence[Atoms], directory: Path) -> None:
        several = [{**frame, **moments} for frame, moments in map(self._describe, frames)]
        self._write_content({**self._spec(), "frames": several}, directory)

    def read_energies(self, directory: Path, n_frames: int) -> list[float]:
        end = require_end(directory, self.output_name)
        energies = [float(line["energy"]) for line in read_frames(directory)]
        if end["end"] == "failed":
            raise failure(end, directory)
        if len(energies) != n_frames:
            raise EngineError("no_output", directory, f"{len(energies)} of {n_frames} energies are there")
        if not np.isfinite(energies).all():
            raise EngineError("not_finite", directory, "an energy is not a finite number")
        return energies

    def _write(self, atoms: Atoms, directory: Path, **task: Any) -> None:
        frame, moments = self._describe(atoms)
        told = {"structure": _in_words(atoms)}  # for a person: the line of the atoms is long
        self._write_content({**self._spec(), **told, **task, **moments, "atoms": frame}, directory)

    def _describe(self, atoms: Atoms) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a frame as JSON, and the moments of its elements where it brings none of its own."""
        frame = {
            "numbers": atoms.numbers.tolist(),
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
            "pbc": atoms.pbc.tolist(),
        }
        moments = {}
        if atoms.has("initial_magmoms"):
            frame["magmoms"] = atoms.get_initial_magnetic_moments().tolist()
        elif self.magmoms:
            moments["magmoms"] = [self.magmoms.get(symbol, 0.0) for symbol in atoms.get_chemical_symbols()]
        if atoms.has("tags"):
            frame["tags"] = atoms.get_tags().tolist()
        return frame, moments

    def _write_content(self, content: Mapping[str, Any], directory: Path) -> None:
        lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
        write_atomic(directory / INPUT_FILE, "{\n" + ",\n".join(lines) + "\n}\n")

    def _read_last(self, directory: Path) -> Label:
        """Read the last frame of a calculation that ended well."""
        end = require_end(directory, self.output_name)
        lines = read_frames(directory)
        if end["end"] == "failed" or not lines:
            raise failure(end, directory)
        return make_label(read_sent(directory), lines[-1], end, directory)


def _in_words(atoms: Atoms) -> str:
    """Return formula, number of atoms and cell of a structure, in words."""
    lengths = " × ".join(f"{length:.2f}" for length in atoms.cell.lengths())
    return f"{atoms.get_chemical_formula()}, {many(len(atoms), 'atom')}, cell vectors {lengths} Å"


def _rattled(atoms: Atoms) -> Array:
    """Return positions of a frame near by, always the same, Å."""
    moves = np.random.default_rng(0).normal(scale=OTHER_START, size=(len(atoms), 3))
    return np.asarray(atoms.positions + moves)
