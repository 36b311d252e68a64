"""resource.json: how the tasks of each role are run. Nothing here changes what is calculated."""

import shlex
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from al_driver.schema.base import (
    Bool,
    CrossError,
    Fraction,
    NonNegativeInt,
    Params,
    PositiveFloat,
    PositiveInt,
    UserPath,
    as_list,
)
from al_driver.units import Unit

Role = Literal["train", "explore", "query", "label", "relax", "aimd"]
Minutes = Annotated[PositiveFloat, Unit("min")]


def _check_command(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"cannot be split into words ({str(error).lower()}); found {command!r}") from error
    if not words:
        raise ValueError("a command needs at least the name of a program")
    return command


class Profile(Params):
    """How the tasks of a role are run."""

    executor: Literal["local", "inline"] = "local"
    """local: background jobs on this machine, which outlive the driver; inline: children of the driver itself."""
    workers: PositiveInt = 1
    """Tasks side by side on this machine."""
    command: Annotated[str, AfterValidator(_check_command)] | None = None
    """The program with its launcher, e.g. ``mpirun -np 4 pw.x``; split as a shell would, run without one.
    None for ``query``: it is a program of our own, run by the Python that runs `al`."""
    env: dict[str, str] = Field(default={})
    """Environment variables of the tasks; a role's are added to the default's."""
    modules: tuple[str, ...] = ()
    """Environment modules, loaded in the task's own shell."""
    source: tuple[UserPath, ...] = ()
    """Files to source in the task's own shell."""
    setup: tuple[str, ...] = ()
    """Shell lines that run in the task's own shell before the command."""
    timeout_min: Annotated[
        Annotated[tuple[Minutes, ...], Field(min_length=1)] | None,
        BeforeValidator(as_list, json_schema_input_type=Minutes | list[Minutes] | None),
    ] = None
    """Longest time a task may take; a list gives each retry more."""
    group_size: PositiveInt | None = None
    """Tasks a job carries; all of a batch when left out."""
    retries: NonNegativeInt = 2
    """How often a task that the machine (not the physics) ended is run again."""
    max_failed: NonNegativeInt = 2
    """A step stops when more tasks than this fail ..."""
    max_failed_fraction: Fraction = 0.1
    """... and more than this share of them."""

    pack: Bool = False
    """Put the task folders of a finished step into one archive, tasks.zip; of explore, label, relax and aimd."""

    def argv(self, default: str) -> tuple[str, ...]:
        """Return the program with its launcher as an argument list."""
        return tuple(shlex.split(self.command or default))

    def timeout_seconds(self, attempt: int) -> float | None:
        """Return the time limit of an attempt, counted from 0."""
        if self.timeout_min is None:
            return None
        return 60.0 * self.timeout_min[min(attempt, len(self.timeout_min) - 1)]

    def allowed_failures(self, n_tasks: int) -> float:
        return max(self.max_failed, self.max_failed_fraction * n_tasks)


class Resources(Params):
    """The whole of resource.json. Each role inherits what it does not set from ``default``."""

    schema_: Annotated[str | None, Field(alias="$schema")] = None
    """Where editors find the JSON Schema of this file."""
    default: Profile = Profile()
    """What every role starts from."""
    train: Profile = Profile()
    """Training of the models."""
    explore: Profile = Profile()
    """Molecular dynamics."""
    query: Profile = Profile()
    """Scoring and choosing frames."""
    label: Profile = Profile()
    """Reference calculations."""
    relax: Profile = Profile()
    """Relaxations of `al init_bulk`."""
    aimd: Profile = Profile()
    """Molecular dynamics with the reference, of `al init_bulk`."""

    @model_validator(mode="after")
    def _check_query(self) -> "Resources":
        if self.query.command is not None:
            message = f"the query is our own program, and takes no command; take {self.query.command!r} out"
            raise CrossError([(("query", "command"), message)])
        return self

    @model_validator(mode="after")
    def _check_pack(self) -> "Resources":
        roles: tuple[Role, ...] = ("train", "query")
        packed = [role for role in roles if getattr(self, role).pack]
        if packed:
            raise CrossError([((role, "pack"), "there is nothing to pack; take it out") for role in packed])
        return self

    def role(self, name: Role) -> Profile:
        """Return the profile of a role, with what it inherits."""
        own: Profile = getattr(self, name)
        merged = {field: getattr(self.default, field) for field in self.default.model_fields_set}
        merged |= {field: getattr(own, field) for field in own.model_fields_set}
        merged["env"] = self.default.env | own.env
        return Profile.model_construct(**(Profile().model_dump() | merged))
