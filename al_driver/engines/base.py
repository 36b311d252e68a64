"""What a reference engine is: it writes an input, names its command, and reads what the program wrote.

Every engine labels a frame. One that declares so in `Engine.can` also relaxes a structure and runs molecular dynamics
(the AIMD of ``al init_bulk``), so that asking a program for what it cannot do is an error in the user's input.

An engine is at once the schema of its keys, the plugin and the behaviour. Adding one is one file in this folder, or a
class that an outside package names in the entry-point group ``al_driver.engines``; ``engines/testing.py`` holds the
conformance test that it must pass.
"""

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from ase import Atoms
from pydantic import BeforeValidator

from al_driver.data.frames import Label
from al_driver.data.gate import GateLimits
from al_driver.errors import ConfigError, EngineError, Problem
from al_driver.files import hash_json
from al_driver.schema.base import Params, UserPath, identity
from al_driver.schema.suggest import nearest

Calculation = Literal["label", "relax", "aimd"]
"""What an engine may be asked for."""


class CalculationFiles(Params):
    """An input file of the program for each calculation."""

    label: UserPath
    """Of labels, and of what has none of its own."""
    relax: UserPath | None = None
    """Of relaxations."""
    aimd: UserPath | None = None
    """Of molecular dynamics."""

    def of(self, calculation: Calculation) -> Path:
        """Return the file of a calculation."""
        own: Path | None = getattr(self, calculation)
        return own or self.label

    def key_of(self, calculation: Calculation, key: str) -> str:
        """Return the key that names the file of a calculation, where ``key`` holds these files."""
        if self.is_one:
            return key
        return f"{key}.{calculation if getattr(self, calculation) else 'label'}"

    @property
    def is_one(self) -> bool:
        """Say whether one file serves every calculation."""
        return self.relax is None and self.aimd is None


def _as_files(value: Any) -> Any:
    return {"label": value} if isinstance(value, str | Path) else value


InputFiles = Annotated[CalculationFiles, BeforeValidator(_as_files, json_schema_input_type=UserPath | CalculationFiles)]
"""The user's own input of the program: one path, or one for each calculation."""


@dataclass(frozen=True)
class Relaxation:
    """A search for the nearest minimum of the energy.

    Attributes
    ----------
    what
        "cell": atoms and all six parameters of the cell, at zero pressure; "positions": atoms in a fixed cell.
    max_force
        Where it ends: the largest force on an atom, eV/Å. The cell's own limit follows from it: −stress × volume per
        atom, eV, stays below ``max_force`` × 1 Å.
    max_steps
        Of the optimiser; a search that needs more has failed.
    """

    what: Literal["cell", "positions"]
    max_force: float
    max_steps: int


@dataclass(frozen=True)
class Dynamics:
    """Molecular dynamics at constant volume and temperature.

    Attributes
    ----------
    temperature
        K, of the thermostat and of the first velocities.
    n_steps, timestep
        Number of steps, and the length of one in ps.
    every
        Steps between the frames that are kept.
    tau_t
        Time constant of the thermostat, ps.
    seed
        Of the first velocities, and of a thermostat that draws numbers.
    """

    temperature: float
    n_steps: int
    timestep: float
    every: int
    tau_t: float
    seed: int

    @property
    def steps(self) -> range:
        """The steps whose frames are kept; the start, step 0, is not among them."""
        return range(self.every, self.n_steps + 1, self.every)


class Engine(Params):
    """A program that calculates energy, forces and virial of a frame. eV, eV/Å, eV."""

    gate: GateLimits = GateLimits()
    """What a label must keep to before anything trains on it."""

    can: ClassVar[frozenset[Calculation]] = frozenset({"label"})
    """What this engine does; "relax" and "aimd" ask for the methods that write and read them."""
    takes_many: ClassVar[bool] = False
    """Whether one process labels many frames: `write_frames` and `read_energies`."""

    default_command: ClassVar[str]  # the program that runs when resource.json names none
    program: ClassVar[str] = ""
    """What ``info["program"]`` of its labels says, in small letters; nothing where that is the calculator's name."""
    output_name: ClassVar[str] = "output"
    """The file, in the task's folder, that takes the program's stdout and stderr."""

    by_name: ClassVar[frozenset[str]] = frozenset()
    """Keys of `settings` with an entry for each element, or structure: two references that do not both name one differ
    in nothing that they calculated both."""
    scratch: ClassVar[tuple[str, ...]] = ()
    """Patterns of what the program may leave in the task's folder and nobody reads."""

    @abstractmethod
    def write_inputs(self, atoms: Atoms, directory: Path) -> None:
        """Write everything the program reads to label a frame, into a folder of its own."""

    def other_start(self) -> str | None:
        """Say in words how `write_other_start` begins; None where the numbers follow from the frame alone.

        A classical potential has no start: to calculate a frame again would only repeat it.
        """
        return None

    def write_other_start(self, atoms: Atoms, directory: Path) -> None:
        """As `write_inputs`, but let self-consistency begin elsewhere: other wave functions, density or mixing.

        An energy that is unusual for its composition is believed when it is found from two starts.
        """
        raise NotImplementedError

    def write_relaxation(self, atoms: Atoms, relaxation: Relaxation, directory: Path) -> None:
        """Write everything the program reads to relax a structure."""
        raise NotImplementedError

    def write_dynamics(self, atoms: Atoms, dynamics: Dynamics, directory: Path) -> None:
        """Write everything the program reads for molecular dynamics."""
        raise NotImplementedError

    def write_frames(self, frames: Sequence[Atoms], directory: Path) -> None:
        """Write everything the program reads to label many frames in one process."""
        raise NotImplementedError

    @abstractmethod
    def arguments(self) -> tuple[str, ...]:
        """Return what follows the program's name on its command line, whatever it calculates."""

    def command(self, launcher: Sequence[str]) -> tuple[str, ...]:
        """Return the whole command line, from the launcher that resource.json gives."""
        return (*launcher, *self.arguments())

    @abstractmethod
    def is_complete(self, directory: Path) -> bool:
        """Say, from a cheap text marker, whether the program ran to its end. Convergence is `read_label`'s matter."""

    def find_scratch(self, directory: Path) -> list[Path]:
        """Return what goes after each attempt, once it was read."""
        return [path for pattern in self.scratch for path in directory.glob(pattern)]

    @abstractmethod
    def read_label(self, directory: Path) -> Label:
        """Read the label, in the order of atoms that was sent.

        Raises
        ------
        EngineError
            ``no_output``, ``engine_error`` or ``scf_unconverged``, with what the program said.
        """

    def read_relaxation(self, directory: Path, relaxation: Relaxation) -> Label:
        """Read the relaxed structure with its label, atoms in the order that was sent.

        Raises
        ------
        EngineError
            As `read_label`; ``engine_error`` also where the limits of ``relaxation`` were not reached.
        """
        raise NotImplementedError

    def read_energies(self, directory: Path, n_frames: int) -> list[float]:
        """Return the energies of the frames of `write_frames`, eV; raises `EngineError` unless all are there."""
        raise NotImplementedError

    def read_dynamics(self, directory: Path, dynamics: Dynamics) -> list[tuple[int, Label | EngineError]]:
        """Read the frames of ``dynamics.steps``, each by itself: its step, and its label or what is wrong with it.

        Positions are as the dynamics moved them, not wrapped into the cell.

        Raises
        ------
        EngineError
            As `read_label`, where the whole run gave nothing, or not all of its frames.
        """
        raise NotImplementedError

    def check(self, type_map: Sequence[str]) -> Iterator[Problem]:  # noqa: ARG002  (there is nothing to check here)
        """Yield what is wrong with the user's files and keys; keys are relative to the engine's object."""
        yield from ()

    def check_frames(self, frames: Mapping[Calculation, Sequence[Atoms]]) -> Iterator[Problem]:  # noqa: ARG002
        """Yield what is wrong with the user's input for the structures that calculations will be of, or begin from."""
        yield from ()

    def check_program(self, launcher: Sequence[str], env: Mapping[str, str]) -> Iterator[Problem]:  # noqa: ARG002
        """Yield what is wrong with a program that is there; as `check`, but resource.json is known, and it may be run.

        ``launcher`` is what `command` takes, and ``env`` holds the task's own environment variables.
        """
        yield from ()

    def set_by_driver(self, calculation: Calculation = "label") -> tuple[str, ...]:  # noqa: ARG002
        """Return, in words, what the driver sets in the user's input; `al check` prints it."""
        return ()

    def named_structures(self) -> Mapping[str, str]:
        """Return the entries of ``structures`` for which the user gives something of its own: key and name.

        A frame's ``info["structure"]`` says which entry it comes from.
        """
        return {}

    def variant(self, atoms: Atoms) -> str | None:  # noqa: ARG002
        """Return which of several inputs of the user's a frame has, by name; None where all frames have one.

        With the frame's atoms and `identity` it decides every number, so an engine reads nothing else of the frame's
        ``info``: what was calculated of one variant is not used for another.
        """
        return None

    def tags(self) -> Collection[str]:
        """Return the names that `with_tags` takes; none where the user has no input file of the program's own."""
        return ()

    def with_tags(self, tags: Mapping[str, str], directory: Path) -> Self:  # noqa: ARG002
        """Return this engine with other values of tags in the user's input, of which a copy is written to a folder.

        Raises
        ------
        ConfigError
            If there is no such tag, with the nearest that there is.
        """
        for tag in tags:
            raise ConfigError(Problem(f"there is no such key{nearest(tag, type(self).model_fields)}", tag))
        return self

    def settings(self, calculation: Calculation = "label") -> dict[str, Any]:  # noqa: ARG002
        """Return, by name and as JSON, everything that decides what a calculation converges to; files stand as hashes.

        Functional, potentials, cutoffs, k-points, smearing, U, dispersion, spin, charge: labels that differ in one of
        them do not belong into one training set. How the program gets there, and how near, is not among them.
        """
        return {name: value for name, value in identity(self).items() if name != "gate"}

    def told_reference(self) -> dict[str, str]:
        """Return what an output of these settings would tell of them, as `data.reference` has it; nothing if unknown.

        What follows from a structure is left out; what the user gives frames apart stands empty, and is not compared.
        """
        return {}

    def accuracy(self, calculation: Calculation = "label") -> dict[str, float]:  # noqa: ARG002
        """Return, by name, the thresholds below which self-consistency ends; the program's own where none is given.

        Labels with two of them belong together; one that was calculated again must not have a larger one.
        """
        return {}

    def identity(self, calculation: Calculation = "label") -> str:
        """Return a hash of `settings` and `accuracy`: of what decides every digit that means something.

        A finished calculation of another identity is not used in place of one that is asked for. Mixing, the number
        of steps and the like are left out: they may change from one start of a run to the next.
        """
        return hash_json([self.settings(calculation), self.accuracy(calculation)])
