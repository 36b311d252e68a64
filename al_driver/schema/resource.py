"""resource.json: how the tasks of each role are run. Nothing here changes what is calculated."""

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr

from al_driver.schema.base import (
    Bool,
    CrossError,
    Float,
    Fraction,
    Int,
    NonNegativeInt,
    Params,
    PositiveFloat,
    PositiveInt,
    UserPath,
    as_list,
    cross_check,
)
from al_driver.units import Unit

Role = Literal["train", "explore", "query", "label", "relax", "aimd", "screen"]
Minutes = Annotated[PositiveFloat, Unit("min")]


def _check_command(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"cannot be split into words ({str(error).lower()}); found {command!r}") from error
    if not words:
        raise ValueError("a command needs at least the name of a program")
    return command


Word = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$")]
"""One line of text, as a scheduler's options take it."""
OptionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]

OPTIONS_OF_KEYS = {
    "account": "account", "array": None, "chdir": None, "cpus-per-task": "cpus_per_task", "error": None,
    "export": "env", "gpus-per-node": "gpus_per_node", "job-name": None, "mem": "mem_gb", "no-requeue": None,
    "nodes": "nodes",
    "ntasks-per-node": "tasks_per_node", "output": None, "parsable": None, "partition": "partition", "qos": "qos",
    "requeue": None, "signal": None, "time": "timeout_min", "wait": None, "wckey": "wckey", "wrap": None,
}  # fmt: skip
"""Options of `sbatch` that the driver sets: the key that sets each, None where it does so itself."""

SLURM_KEYS = (
    "partition", "account", "qos", "nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node", "mem_gb", "use_srun",
    "wckey", "extra", "parallel_tasks", "max_jobs",
)  # fmt: skip
"""Keys that mean something with ``"executor": "slurm"`` alone."""


def _check_extra(extra: dict[str, Any]) -> dict[str, Any]:
    for name in extra:
        option = name.replace("_", "-")
        if option in OPTIONS_OF_KEYS:
            key = OPTIONS_OF_KEYS[option]
            raise ValueError(f"`{name}` is set by {f'the key {key!r}' if key else 'the driver itself'}; take it out")
    return extra


class Profile(Params):
    """How the tasks of a role are run."""

    executor: Literal["slurm", "local", "inline"] = "local"
    """slurm: jobs of a cluster; local: background jobs on this machine, which outlive the driver; inline: children of
    the driver itself."""
    workers: PositiveInt = 1
    """Tasks side by side on this machine."""
    parallel_tasks: PositiveInt = 1
    """SLURM: tasks side by side within a job."""
    max_jobs: Annotated[PositiveInt, Field(le=1000)] = 200
    """SLURM: jobs in the queue at once; tasks are grouped so that a batch fits, unless ``group_size`` is given."""
    partition: Word | None = None
    """SLURM: where jobs run; the site's default when left out."""
    account: Word | None = None
    """SLURM: what they are charged to."""
    qos: Word | None = None
    """SLURM: quality of service."""
    nodes: PositiveInt = 1
    """SLURM: nodes of a job."""
    tasks_per_node: PositiveInt = 1
    """SLURM: MPI ranks on a node. The launcher in ``command`` starts them; the job starts one program."""
    cpus_per_task: PositiveInt | None = None
    """SLURM: cores of a rank."""
    gpus_per_node: NonNegativeInt = 0
    """SLURM: GPUs of a node."""
    mem_gb: Annotated[PositiveFloat, Unit("GB")] | None = None
    """SLURM: memory of a node; the site's default when left out."""
    use_srun: Bool = False
    """SLURM: start the job's program by `srun`."""
    wckey: Word | None = None
    """SLURM: workload characterization key."""
    extra: Annotated[dict[OptionName, Word | Int | Float | Literal[True]], AfterValidator(_check_extra)] = Field(
        default={}
    )
    """SLURM: further options of `sbatch`, e.g. ``{"constraint": "v100", "exclusive": true}``."""
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
    """Longest time a task may take; a list gives each retry more. With SLURM also the time limit of a job, whatever
    number of tasks it carries: what was not begun in time is submitted again."""
    group_size: PositiveInt | None = None
    """Tasks a job carries. When left out: all of a batch; with SLURM as few as ``max_jobs`` allows."""
    retries: NonNegativeInt = 2
    """How often a task that the machine (not the physics) ended is run again."""
    max_failed: NonNegativeInt = 2
    """A step stops when more tasks than this fail ..."""
    max_failed_fraction: Fraction = 0.1
    """... and more than this share of them."""

    pack: Bool = False
    """Put the task folders of a finished step into one archive, tasks.zip; of explore, label, relax and aimd."""

    @property
    def is_slurm(self) -> bool:
        return self.executor == "slurm"

    @property
    def side_by_side(self) -> int:
        """Tasks that a job runs at once."""
        return self.parallel_tasks if self.is_slurm else self.workers

    def tasks_per_job(self, n_tasks: int) -> int:
        """Return how many of so many waiting tasks a job carries."""
        return self.group_size or (-(-n_tasks // self.max_jobs) if self.is_slurm else n_tasks)

    def sbatch_extra(self) -> dict[str, str | int | float]:
        """Return the further options of `sbatch`."""
        return {name.replace("_", "-"): value for name, value in self.extra.items()}

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
    screen: Profile = Profile()
    """Predictions of surrogates."""
    _read_from: Path | None = PrivateAttr(None)

    @property
    def read_from(self) -> Path | None:
        """The file it was read from, as its user named it: for commands that messages propose."""
        return self._read_from

    def remember(self, path: Path) -> None:
        """Keep which file it was read from; that decides nothing."""
        self._read_from = path

    @cross_check
    def _check_query(self) -> "Resources":
        if self.query.command is not None:
            message = f"the query is our own program, and takes no command; take {self.query.command!r} out"
            raise CrossError([(("query", "command"), message)])
        return self

    @cross_check
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
