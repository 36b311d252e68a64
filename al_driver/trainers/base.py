"""What a trainer is: it writes the input of each member of the committee, and says where the model lies."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from al_driver.errors import ConfigError, Problem
from al_driver.schema.base import Params, PositiveInt

Phase = Literal["first", "next", "final"]
"""The first training of a run, one of a later iteration, or that of the model to use."""


@dataclass(frozen=True)
class Training:
    """One training of one member: everything that decides its weights, besides the trainer's own keys."""

    phase: Phase
    seed: int
    type_map: tuple[str, ...]
    systems: tuple[Path, ...]
    """deepmd/npy systems to learn from."""
    valid_systems: tuple[Path, ...] = ()
    """Systems that are never trained on; the member is evaluated on them."""
    parent: Path | None = None
    """The folder of this member's own training in the iteration before, for a warm start."""


@dataclass(frozen=True)
class Description:
    """What candidates are compared by: everything that decides it. Paths start at the folder of the task."""

    shortlist: str
    """The candidates, as `al_driver.tasks.shortlist` writes them."""
    models: tuple[str, ...]
    """The committee; the first drove the dynamics."""
    systems: tuple[str, ...]
    """deepmd/npy systems it was trained on."""
    type_map: tuple[str, ...]
    worst_atoms: int
    """How many atoms stand for a frame."""
    relative_epsilon: float | None
    """Where deviations are relative: what is added to a force, eV/Å."""
    covariance: str | None = None
    """To look ahead: the file of the first model that keeps its `Trainer.covariance_name`."""


class Trainer(Params):
    """A program that makes a committee of models from labelled frames."""

    default_command: ClassVar[str]
    output_name: ClassVar[str] = "output"
    model_name: ClassVar[str]
    """The file, in a member's folder, that explorers load."""

    covariance_name: ClassVar[str | None] = None
    """The file, in a member's folder, that keeps the covariance of its weights; None where nothing does."""

    describes: ClassVar[bool] = False
    """Whether its models describe the environments of atoms, which a choice that compares candidates needs."""

    models: PositiveInt = 4
    """Size of the committee; 1 with the uncertainty "kpu", which needs one model only."""

    def with_covariance(self) -> Self:
        """Return this trainer as it trains one model that keeps a covariance of its weights.

        Raises
        ------
        ConfigError
            If it cannot.
        """
        raise ConfigError(Problem('keeps no covariance of the weights, which the uncertainty "kpu" needs', "trainer"))

    @abstractmethod
    def write_inputs(self, training: Training, directory: Path) -> None:
        """Write everything one member's training reads. Data and parent are named relative to ``directory``."""

    @abstractmethod
    def command(self, launcher: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """Return the whole command line, from the launcher and the environment variables that resource.json gives.

        Raises
        ------
        ConfigError
            If the program must be looked into and is not found, or is another.
        """

    @abstractmethod
    def verify(self, directory: Path) -> None:
        """Accept a member whose model exists, is finite and was evaluated.

        Raises
        ------
        EngineError
            ``not_finite`` when the training diverged, ``engine_error`` otherwise, naming the step where it happened.
        """

    def go_on(self, before: Path, directory: Path) -> bool:  # noqa: ARG002  (a trainer need not be able to)
        """Take from an earlier attempt, which lacked time, what this one's training can go on from.

        Returns
        -------
        Whether there was anything; otherwise the training begins anew.
        """
        return False

    def committee_size(self) -> int:
        """Return how many models explore: as many as are trained, unless a training leaves more than one."""
        return self.models

    def model_files(self, directory: Path) -> tuple[str, ...]:  # noqa: ARG002  (a member is one file)
        """Return the files of a trained member that explorers load, the one that drives first."""
        return (self.model_name,)

    def score_factor(self, directory: Path) -> float:  # noqa: ARG002  (a deviation is the score)
        """Return what makes a score of the deviation of a trained member's `model_files`, or of a committee's."""
        return 1.0

    @abstractmethod
    def warm_starts(self) -> bool:
        """Say whether later trainings continue from their parents."""

    def short_training(self) -> int | None:
        """Return the steps of an iteration's training that is too short to learn from its data; None if none is."""
        return None

    @abstractmethod
    def phase_identity(self, phase: Phase) -> dict[str, Any]:
        """Return, as JSON, the keys that decide a training of this phase; the other phases' keys are not in it."""

    def check(self, type_map: Sequence[str]) -> Iterator[Problem]:  # noqa: ARG002  (there is nothing to check here)
        """Yield what is wrong with the user's files and keys; keys are relative to the trainer's object."""
        yield from ()

    def write_description(self, description: Description, directory: Path) -> None:
        """Write everything that describing candidates reads; the task leaves ``features.npz`` (`query.diversity`)."""
        raise NotImplementedError

    def describe_command(self, launcher: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """Return the command line that describes candidates, as `command` does."""
        raise NotImplementedError

    def set_by_driver(self, type_map: Sequence[str] = ()) -> tuple[str, ...]:  # noqa: ARG002  (nothing is set here)
        """Return, in words, what the driver sets in the user's input for a model of these elements."""
        return ()
