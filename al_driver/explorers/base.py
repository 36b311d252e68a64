"""What is explored: structures, ensembles, temperatures and pressures, and when a trajectory ends.

Units: K, bar, ps, Å, eV/Å. An explorer turns each combination of structure, temperature and pressure into one
molecular-dynamics task.
"""

from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypedDict

from ase import Atoms
from pydantic import BeforeValidator, Field

from al_driver.errors import Problem
from al_driver.schema.base import (
    Bool,
    Float,
    Int,
    Name,
    NonNegativeFloat,
    Params,
    PositiveFloat,
    PositiveInt,
    as_entry,
    as_list,
    cross_check,
    hold_against,
)
from al_driver.structures.screened import StructureSource
from al_driver.structures.supercell import Supercell
from al_driver.units import Unit

Kelvin = Annotated[PositiveFloat, Unit("K")]
Bar = Annotated[Float, Unit("bar")]
Ensemble = Literal["nve", "nvt", "npt", "npt-aniso", "npt-tri", "npt-xy"]


class Ramp(Params):
    """A temperature that changes evenly over the run."""

    ramp: tuple[Kelvin, Kelvin]
    """First and last temperature."""


class Structure(StructureSource):
    """An entry of ``structures``: a file, or every file that a pattern finds."""

    name: Name | None = None
    """How jobs and tables call this entry; the file's name otherwise."""
    supercell: Supercell = (1, 1, 1)
    """Repeats along the three cell vectors, or a 3×3 matrix."""
    pbc: tuple[Bool, Bool, Bool] | None = None
    """Periodic directions; as in the file when left out."""
    max_select: PositiveInt | None = None
    """Most frames of this entry that an iteration labels; the query's own limit when left out."""


class Job(Params):
    """Molecular dynamics of some structures at every combination of temperature and pressure."""

    structures: Annotated[
        Literal["all"] | tuple[Int | str, ...],
        BeforeValidator(
            lambda value: value if value == "all" else as_list(value),
            json_schema_input_type=Literal["all"] | int | str | list[int | str],
        ),
    ]
    """Indices or names of entries of ``structures``, or "all"."""
    ensemble: Ensemble
    """nve, nvt, or npt: isotropic, -aniso, -tri (all six cell components), -xy (the plane only)."""
    temperatures: Annotated[
        Ramp | tuple[Kelvin, ...],
        BeforeValidator(as_list, json_schema_input_type=Kelvin | list[Kelvin] | Ramp),
    ]
    """Temperatures; for nve the starting ones; or {"ramp": [first, last]}."""
    pressures: Annotated[
        tuple[Bar, ...] | None,
        BeforeValidator(as_list, json_schema_input_type=Bar | list[Bar] | None),
    ] = None
    """Pressures of an npt job."""
    n_steps: PositiveInt
    """Steps of each trajectory."""
    timestep: Annotated[PositiveFloat, Unit("ps")] = 0.001
    """Time step."""
    dump_every: PositiveInt = 10
    """Steps between two frames."""
    tau_t: Annotated[PositiveFloat, Unit("ps")] = 0.1
    """Damping time of the thermostat."""
    tau_p: Annotated[PositiveFloat, Unit("ps")] = 1.0
    """Damping time of the barostat."""

    @cross_check
    def _check_sweep(self) -> "Job":
        return hold_against(self, self._find_contradictions())

    def _find_contradictions(self) -> Iterator[str]:
        """Yield what would make no task, or what a key asks for that the ensemble does not do."""
        if not self.structures:
            yield '`structures` is empty; name entries, or write "all"'
        if isinstance(self.temperatures, tuple) and not self.temperatures:
            yield "`temperatures` is empty: the job would have no task"
        is_npt = self.ensemble.startswith("npt")
        if is_npt and not self.pressures:
            yield f"ensemble {self.ensemble!r} needs `pressures` (bar), e.g. [0.0]"
        if not is_npt and self.pressures is not None:
            yield f"ensemble {self.ensemble!r} has no use for `pressures`; leave it out or choose an npt"
        if self.ensemble == "nve" and isinstance(self.temperatures, Ramp):
            yield 'ensemble "nve" cannot follow a ramp; choose "nvt", or give starting temperatures'
        if self.dump_every > self.n_steps:
            yield f"dump_every ({self.dump_every}) is larger than n_steps ({self.n_steps}): no frame"


class Stage(Params):
    """Jobs that are explored together, once or until the stage converges."""

    jobs: Annotated[tuple[Job, ...], Field(min_length=1)]
    """What runs in each iteration of this stage."""
    max_repeats: PositiveInt = 1
    """The stage repeats until it converges, at most so often."""


def _as_stage(value: Any) -> Any:
    return {"jobs": value} if isinstance(value, list) else value


class Guard(Params):
    """Where a trajectory has left what physics allows: it ends there, and later frames are not read."""

    min_distance: NonNegativeFloat = 0.6
    """Shortest distance of two atoms, in sums of their covalent radii; 0 switches it off."""
    max_force: Annotated[PositiveFloat, Unit("eV/Å")] = 50.0
    """Largest force on an atom."""
    max_temperature_ratio: PositiveFloat = 3.0
    """Largest temperature, in units of the job's."""
    volume_ratio: tuple[PositiveFloat, PositiveFloat] = (0.7, 1.6)
    """Smallest and largest volume, in units of the first."""

    @cross_check
    def _check_volumes(self) -> "Guard":
        if not self.volume_ratio[0] < 1 < self.volume_ratio[1]:
            raise ValueError(f"`volume_ratio` needs a number below 1, then one above; found {list(self.volume_ratio)}")
        return self


@dataclass(frozen=True)
class Trajectory:
    """One molecular-dynamics task: everything that decides its frames, besides the models."""

    structure: str
    """Name of the entry it belongs to."""
    atoms: Atoms
    job: Job
    temperature: tuple[float, float]
    """First and last set temperature, K; equal unless the job ramps."""
    pressure: float | None
    """bar"""
    seed: int
    """For the starting velocities and the thermostat."""


class Outcome(TypedDict):
    """How a trajectory ended."""

    state: Literal["ended", "halted", "crashed"]
    step: int | None
    """ended, crashed: the last whole frame; halted: the step at which the guard was met, which is not to be read."""
    why: str
    """The guard's name, or what the program said; empty when it ended."""


class Explorer(Params):
    """A program that runs molecular dynamics with a committee of models."""

    default_command: ClassVar[str]
    """The program that runs when resource.json names none."""
    output_name: ClassVar[str] = "output"
    """The file, in the task's folder, that takes the program's stdout and stderr."""
    deviation_name: ClassVar[str] = "model_devi.out"
    """The file, in the task's folder, with a row of deviations a frame (see `query.deviation`)."""

    structures: Annotated[
        tuple[Annotated[Structure, BeforeValidator(as_entry, json_schema_input_type=Path | Structure)], ...],
        Field(min_length=1),
    ]
    """Starting structures."""
    iterations: Annotated[
        tuple[Annotated[Stage, BeforeValidator(_as_stage, json_schema_input_type=list[Job] | Stage)], ...],
        Field(min_length=1),
    ]
    """Stages, one after the other; a bare list of jobs is a stage run once."""
    guard: Guard = Guard()
    """Where a trajectory ends because it left what physics allows."""
    stop_after: PositiveInt = 5
    """Frames in a row at or above ``upper`` after which a trajectory is not read any more."""

    @abstractmethod
    def write_inputs(
        self,
        trajectory: Trajectory,
        type_map: Sequence[str],
        models: Sequence[str],
        directory: Path,
        *,
        relative_epsilon: float | None = None,
    ) -> None:
        """Write what the program reads.

        Parameters
        ----------
        models
            File names as seen from ``directory``; the first drives, the others observe.
        relative_epsilon
            Asks for relative force deviations, σ / (|F| + ε); eV/Å.
        """

    @abstractmethod
    def arguments(self) -> tuple[str, ...]:
        """Return what follows the program's name on its command line."""

    def command(self, launcher: Sequence[str]) -> tuple[str, ...]:
        """Return the whole command line, from the launcher that resource.json gives."""
        return (*launcher, *self.arguments())

    @classmethod
    @abstractmethod
    def verify(cls, directory: Path) -> None:
        """Accept a trajectory that ended, was halted by a guard, or crashed after it had begun.

        Raises
        ------
        EngineError
            If the dynamics did not begin at all, with what the program said; or if the program vanished without a
            word, as one does that somebody killed: that is no physics, and it must run again.
        """

    @classmethod
    def salvage(cls, directory: Path) -> None:
        """Accept what a trajectory left that `verify` refuses, now that its program is known to have crashed by itself.

        Raises
        ------
        EngineError
            If the dynamics did not begin at all, with what the program said.
        """
        cls.verify(directory)

    def go_on(self, before: Path, directory: Path) -> bool:  # noqa: ARG002  (an explorer need not be able to)
        """Take from an earlier attempt, which lacked time, what this one's dynamics can go on from; say whether it did.

        Every frame stands once in what the two then leave.
        """
        return False

    @classmethod
    @abstractmethod
    def outcome(cls, directory: Path) -> Outcome:
        """Say how a trajectory ended."""

    @classmethod
    def version(cls, directory: Path) -> str | None:  # noqa: ARG003  (an explorer need not know)
        """Return program and version that ran, e.g. ``LAMMPS 22 Jul 2025``; None where that is not known."""
        return None

    @classmethod
    @abstractmethod
    def halted_at(cls, directory: Path) -> int | None:
        """Return the step at which a guard was met: its frame and later ones are not to be read. None without one."""

    @classmethod
    @abstractmethod
    def frame_steps(cls, directory: Path) -> list[int]:
        """Return the steps of the whole frames, in order; none where there is no trajectory."""

    @classmethod
    def last_step(cls, directory: Path) -> int | None:
        """Return the step of the last whole frame; None where there is none."""
        return max(cls.frame_steps(directory), default=None)

    @classmethod
    @abstractmethod
    def read_frames(
        cls, directory: Path, steps: Collection[int] | None, type_map: Sequence[str]
    ) -> Iterator[tuple[int, Atoms]]:
        """Yield step and frame, with the forces of the driving model, of these steps; all of them for None."""

    @abstractmethod
    def check(self, type_map: Sequence[str], relative: bool) -> Iterator[Problem]:
        """Yield what is wrong with the user's files and keys; ``relative``: the query asks for relative deviations."""

    def check_forces(self) -> Iterator[Problem]:
        """Yield why trajectories would hold no forces of the driving model, which audit frames need."""
        yield from ()

    def set_by_driver(self) -> tuple[str, ...]:
        """Return, in words, what the driver sets in the user's template."""
        return ()
