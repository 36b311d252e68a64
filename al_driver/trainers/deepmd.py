"""Deep Potential models, trained by DeePMD-kit's PyTorch backend.

The user's own input (or a preset) stays what it is; the driver sets data, seeds and names in it, and steps and
learning rate only where asked. One process a member trains, freezes, compresses and evaluates
(`al_driver/tasks/deepmd_train.py`), since importing DeePMD-kit costs more than a short training.
Energies eV/atom, forces eV/Å.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import PrivateAttr

from al_driver.errors import ConfigError, EngineError, Problem
from al_driver.files import read_json, write_json
from al_driver.layout import EVALUATION_FILE
from al_driver.schema.base import Bool, Params, PositiveFloat, PositiveInt, UserPath, cross_check
from al_driver.trainers.base import Description, Phase, Trainer, Training
from al_driver.trainers.deepmd_check import find_contradictions, find_schema_errors
from al_driver.trainers.deepmd_input import (
    SET_BY_DRIVER,
    SHORT,
    fill_in,
    own_steps,
    read_input,
    read_preset,
    relative_path,
    set_schedule,
    take_checkpoints,
)
from al_driver.trainers.deepmd_kalman import (
    FILTER_GOES_ON,
    LARGEST_BLOCK,
    PRESET_STEPS,
    SMALLEST_BLOCK,
    block_size,
    count_weights,
    describe_covariance,
    find_filter_contradictions,
    force_factor,
    set_filter,
)
from al_driver.trainers.deepmd_program import python_command
from al_driver.units import Unit

INPUT_FILE = "input.json"
SPEC_FILE = "train.json"
DIAGNOSIS_FILE = "diagnosis.json"
DESCRIPTION_FILE = "describe.json"
PROGRAM = Path(__file__).parents[1] / "tasks" / "deepmd_train.py"
DESCRIBE_PROGRAM = PROGRAM.with_name("deepmd_describe.py")


class Steps(Params):
    """Training steps of each phase; the input's own number where left out."""

    first: PositiveInt | None = None
    """The first training of a run."""
    next: PositiveInt | None = None
    """Trainings of later iterations, from scratch; a warm start has its own number."""
    final: PositiveInt | None = None
    """The training of the model to use, always from scratch."""


class WarmStart(Params):
    """Later trainings continue each member from its own weights of the iteration before."""

    steps: PositiveInt
    """Training steps of an iteration that starts warm; takes the place of ``steps.next``."""
    start_lr: Annotated[PositiveFloat, Unit("1")] | None = None
    """Learning rate to start from, since the input's own is for random weights; a Kalman filter has none."""


class DeepmdTrainer(Trainer):
    """Training with DeePMD-kit (PyTorch). Energies eV/atom, forces eV/Å."""

    default_command: ClassVar[str] = "dp"
    model_name: ClassVar[str] = "frozen_model.pth"
    covariance_name: ClassVar[str | None] = "model.ckpt.pt"
    describes: ClassVar[bool] = True

    trainer: Literal["deepmd"]
    input: UserPath | dict[str, Any] | None = None
    """The user's own input of ``dp train``: a JSON file, or the object itself."""
    preset: Literal["small", "standard"] | None = None
    """A built-in input. small: a demo's net, minutes on a laptop; standard: for production."""
    steps: Steps = Steps()
    """Training steps of each phase."""
    warm_start: Literal[False] | WarmStart = False
    """How later iterations continue from the models before; the final training starts from scratch. With "kpu" the
    filter goes on for a fifth of the first training's steps, unless ``steps.next`` or this says otherwise."""
    compress: Bool = False
    """Tabulate the embedding nets of the frozen model: quicker MD, the same numbers to about 1e-6."""
    kalman_memory: Annotated[PositiveFloat, Unit("GB")] = 1.0
    """Most memory of the covariance that the uncertainty "kpu" needs: its blocks are as large as fit into it, and as
    are of use."""
    virtual_models: PositiveInt = 3
    """How many models the uncertainty "kpu" draws from the covariance, to observe the dynamics as a committee does."""
    virtual_step: Annotated[PositiveFloat, Unit("1")] | None = None
    """How far their weights are moved, ε; found when left out. Scores do not depend on it while the models answer
    linearly, which is checked."""
    _keeps_covariance: bool = PrivateAttr(False)

    @cross_check
    def _check_one(self) -> "DeepmdTrainer":
        if (self.input is None) == (self.preset is None):
            raise ValueError("needs either `input` or `preset`")
        return self

    def with_covariance(self) -> Self:
        trainer = self.model_copy(update={"models": 1, "warm_start": self._filter_warm_start()})
        trainer._keeps_covariance = True
        return trainer

    def write_inputs(self, training: Training, directory: Path) -> None:
        parent = None
        if self._is_warm(training.phase):
            if training.parent is None:
                raise ConfigError("a warm start needs the model of the iteration before, and there is none.")
            parent = relative_path(training.parent, directory)
        if not training.systems:
            raise ConfigError("there is no training data; list labelled frames under `init_data`.")
        write_json(directory / INPUT_FILE, fill_in(self._phase_input(training.phase), training, directory))
        spec: dict[str, Any] = {
            "phase": training.phase,
            "seed": training.seed,
            "parent": parent,
            "compress": self.compress,
        }
        if self._keeps_covariance:
            spec["kalman"] = {"memory": self.kalman_memory, "largest_block": LARGEST_BLOCK, **self._virtual()}
        write_json(directory / SPEC_FILE, spec)

    def command(self, launcher: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[str, ...]:
        return python_command(launcher, PROGRAM, env)

    def write_description(self, description: Description, directory: Path) -> None:
        spec = asdict(description)
        if description.covariance:
            spec["force_factor"] = force_factor((directory / description.covariance).with_name(INPUT_FILE))
        write_json(directory / DESCRIPTION_FILE, spec)

    def describe_command(self, launcher: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[str, ...]:
        return python_command(launcher, DESCRIBE_PROGRAM, env)

    def verify(self, directory: Path) -> None:
        if (directory / DIAGNOSIS_FILE).exists():
            failure = read_json(directory / DIAGNOSIS_FILE)
            raise EngineError(failure["reason"], directory, failure["detail"])
        if not (directory / EVALUATION_FILE).exists():
            raise EngineError("engine_error", directory, f"training did not end: {_last_words(directory, self)}")
        evaluation = read_json(directory / EVALUATION_FILE)
        for name in ("energy_rmse", "force_rmse"):
            if not math.isfinite(evaluation[name]):
                raise EngineError("not_finite", directory, f"{name} of the member is {evaluation[name]}")
        for name in self.model_files(directory):
            if not (directory / name).is_file() or (directory / name).stat().st_size == 0:
                raise EngineError("engine_error", directory, f"{name} is missing or empty")
        n_virtual, wanted = len(self.model_files(directory)) - 1, self.virtual_models * self._keeps_covariance
        if n_virtual != wanted:
            raise EngineError("engine_error", directory, f"{n_virtual} virtual models lie there; expected {wanted}")

    def go_on(self, before: Path, directory: Path) -> bool:
        return not self._keeps_covariance and take_checkpoints(before, directory)

    def warm_starts(self) -> bool:
        return self.warm_start is not False

    def phase_identity(self, phase: Phase) -> dict[str, Any]:
        return {
            "trainer": self.trainer,
            "input": self._phase_input(phase),
            "warm_start": self._is_warm(phase),
            "compress": self.compress,
            **({"kalman_memory": self.kalman_memory, **self._virtual()} if self._keeps_covariance else {}),
        }

    def committee_size(self) -> int:
        return 1 + self.virtual_models if self._keeps_covariance else self.models

    def model_files(self, directory: Path) -> tuple[str, ...]:
        return (self.model_name, *sorted(file.name for file in directory.glob("virtual.*.pth")))

    def score_factor(self, directory: Path) -> float:
        kalman = read_json(directory / EVALUATION_FILE).get("kalman")
        return float(kalman["virtual"]["score_factor"]) if kalman else 1.0

    def _virtual(self) -> dict[str, Any]:
        return {"virtual_models": self.virtual_models, "virtual_step": self.virtual_step}

    def check(self, type_map: Sequence[str]) -> Iterator[Problem]:
        try:
            config = self._read()
        except ConfigError as error:
            yield from error.problems
            return
        phases: tuple[Phase, ...] = ("first", "next", "final")
        needs_steps = any(self._phase_steps(phase) is None for phase in phases)
        findings = list(find_contradictions(config, type_map, needs_steps))
        if self._keeps_covariance and self.preset is None and not findings:
            findings += find_filter_contradictions(config)
        findings += find_schema_errors(config, type_map) if not findings else []
        for key, message in findings:
            yield self._problem(key, message)
        yield from self._check_filter(config, type_map) if self._keeps_covariance else self._check_rates(config)

    def _filter_warm_start(self) -> Literal[False] | WarmStart:
        """Return how a filter goes on: unless the user says otherwise, for a fifth of the first training's steps."""
        if "warm_start" in self.model_fields_set or self.steps.next is not None:
            return self.warm_start
        first = self.steps.first or PRESET_STEPS.get(self.preset or "")
        if first is None:
            try:
                first = own_steps(self._read())
            except ConfigError:  # which `check` tells
                return False
        return WarmStart(steps=max(1, first // FILTER_GOES_ON)) if first else False

    def _check_rates(self, config: dict[str, Any]) -> Iterator[Problem]:
        if not self.warm_start:
            return
        if self.warm_start.start_lr is None:
            yield Problem("is missing: the learning rate that a warm start begins with", key="warm_start.start_lr")
            return
        rates = config.get("learning_rate", {})
        stop_lr = rates.get("stop_lr") if isinstance(rates, dict) else None
        if isinstance(stop_lr, (int, float)) and stop_lr >= self.warm_start.start_lr:
            message = f"{self.warm_start.start_lr:g} is not above the input's learning_rate.stop_lr, {stop_lr:g}"
            yield Problem(message, key="warm_start.start_lr")

    def _check_filter(self, config: dict[str, Any], type_map: Sequence[str]) -> Iterator[Problem]:
        if self.compress:
            yield Problem(
                'would blur what virtual models differ by; leave it out with the uncertainty "kpu"', "compress"
            )
        if self.warm_start and self.warm_start.start_lr is not None:
            yield Problem("has no meaning for a Kalman filter; leave it out", key="warm_start.start_lr")
        n_weights = count_weights(config, type_map)
        if n_weights and block_size(n_weights, self.kalman_memory) < min(SMALLEST_BLOCK, n_weights):
            needed = SMALLEST_BLOCK * n_weights * 8 / 1e9
            yield Problem(f"{self.kalman_memory:g} GB is too little for {n_weights} weights; give {needed:.2g} or more",
                          key="kalman_memory")  # fmt: skip

    def set_by_driver(self, type_map: Sequence[str] = ()) -> tuple[str, ...]:
        phases: tuple[Phase, ...] = ("first", "next", "final")
        lines = list(SET_BY_DRIVER)
        if any(self._phase_steps(phase) for phase in phases):
            numbers = ", ".join(f"{phase} {self._told_steps(phase)}" for phase in phases)
            lines.append(f"training.numb_steps: {numbers}; learning_rate.decay_steps and warmup_steps in proportion")
        if self._keeps_covariance:
            lines += describe_covariance(count_weights(self._read(), type_map), self.kalman_memory)
            lines.append(f"models: {self.virtual_models} more, drawn from the covariance, observe the dynamics")
        if self.warm_start and self.warm_start.start_lr is not None:
            lines.append(f"learning_rate.start_lr: {self.warm_start.start_lr:g} in a warm start")
        if self.warm_start:
            lines.append("model.descriptor.sel: where it is auto, the parent's in a warm start")
        return tuple(lines)

    def short_training(self) -> int | None:
        phases: tuple[Phase, ...] = ("first",) if self.warm_starts() else ("first", "next")
        steps = (own_steps(self._phase_input(phase)) for phase in phases)
        least = SHORT[self._keeps_covariance]
        return min((n for n in steps if n is not None and n < least), default=None)

    def _is_warm(self, phase: Phase) -> bool:
        return phase == "next" and self.warm_starts()

    def _phase_steps(self, phase: Phase) -> int | None:
        if self.warm_start and self._is_warm(phase):
            return self.warm_start.steps
        return {"first": self.steps.first, "next": self.steps.next, "final": self.steps.final}[phase]

    def _told_steps(self, phase: Phase) -> str:
        steps = own_steps(self._phase_input(phase))  # None where the input counts epochs
        return str(steps) if self._phase_steps(phase) else f"{steps or 'epochs'} (as in the input)"

    def _phase_input(self, phase: Phase) -> dict[str, Any]:
        """Return what decides a training of this phase, besides data and seed."""
        start_lr = self.warm_start.start_lr if self.warm_start and self._is_warm(phase) else None
        config = set_filter(self._read(), self.preset) if self._keeps_covariance else self._read()
        return set_schedule(config, self._phase_steps(phase), start_lr)

    def _read(self) -> dict[str, Any]:
        return read_preset(self.preset) if self.preset else read_input(self.input or {})

    def _problem(self, key: str, message: str) -> Problem:
        if isinstance(self.input, Path):
            return Problem(message, key=key, file=self.input)
        return Problem(message, key=f"input.{key}".rstrip(".") if self.input else f"preset.{key}".rstrip("."))


def _last_words(directory: Path, trainer: Trainer) -> str:
    """Return the last line the program printed."""
    output = directory / trainer.output_name
    lines = output.read_text(errors="replace").split("\n") if output.exists() else []
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:300] if said else "it printed nothing"
