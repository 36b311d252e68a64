"""Attempts on disk: which there are, how they ended, and their publication.

An attempt that failed holds ``failed.json``. A failure is *final* when the physics is to blame, or when the machine was
to blame too often; everything else is run again.
"""

import logging
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from al_driver.errors import EngineError, Reason
from al_driver.files import find_disk_error, read_json, read_tail, write_json
from al_driver.jobs.task import Task
from al_driver.layout import FAILED_FILE, RETRIED_FILE, SPOILED_SUFFIX, attempt_name, split_attempt
from al_driver.schema.resource import Profile

log = logging.getLogger(__name__)

MACHINE_SIGNALS = frozenset(
    {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
     signal.SIGXCPU, signal.SIGXFSZ, signal.SIGBUS, signal.SIGPWR}
)  # fmt: skip
"""Signals that come from outside a program."""

OWN_SIGNALS = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL})
"""Signals that a program brings upon itself."""

TAIL_BYTES = 1 << 16

UNPREPARED = 113
"""Exit code of a task's own shell that never became the task's program."""

NEVER_BEGAN = ("cannot be started", "its job ended")
"""How the details of failures begin that tell nothing of a task: its program has not run."""

WRAPPED = {256 - number: int(number) for number in (signal.SIGKILL, signal.SIGTERM, *OWN_SIGNALS)}
"""Exit codes of Python launchers (`lmp` of the wheel) whose program was killed: a negative code modulo 256."""


@dataclass(frozen=True)
class Attempt:
    """One try at a task."""

    task: Task
    number: int
    timeout: float | None = None

    @property
    def folder(self) -> Path:
        return self.task.folder.with_name(attempt_name(self.task.name, self.number))

    @property
    def spoiled(self) -> Path:
        """Where it lies once it is set aside for its disk's sake."""
        return self.folder.with_name(f"{self.folder.name}{SPOILED_SUFFIX}")


@dataclass(frozen=True)
class Ending:
    """How an attempt ended, as far as is known."""

    code: int | None = None
    """Exit code; negative for a signal, None when nobody saw it."""
    timed_out: float | None = None
    """The time limit it ran into, in seconds."""
    error: str = ""
    """What kept it from starting, or took its runner away."""
    out_of_time: bool = False
    """The error is a time limit that the scheduler enforced."""

    def machine_detail(self) -> str | None:
        """Say what the machine did to it; None if it ended by itself."""
        if self.timed_out is not None:
            return f"ran longer than {self.timed_out / 60:.4g} min"
        if self.error:
            return self.error
        if self.code == UNPREPARED:
            return f"{NEVER_BEGAN[0]}: modules, source or setup lines failed, or there is no such program"
        if self.code is None:
            return "its end was not seen"
        return f"killed by signal {self._signal}" if self._signal in MACHINE_SIGNALS else None

    @property
    def is_crash(self) -> bool:
        """Whether the program ended itself by a signal."""
        return self.timed_out is None and not self.error and self._signal in OWN_SIGNALS

    @property
    def _signal(self) -> int:
        """The signal that ended it; 0 or less, or no signal's number, when none did."""
        code = self.code or 0
        return -code if code < 0 else WRAPPED.get(code, code - 128)  # shells report 128 + signal


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed, and where the evidence lies."""

    reason: Reason
    detail: str
    where: Path
    """The attempt's folder."""
    final: bool = True
    """Not run again within this batch."""


def judge(attempt: Attempt, ending: Ending) -> Failure | None:
    """Publish an attempt whose output is whole, or was left by a crash and can be used; otherwise say why it is not."""
    found = _refusal(attempt.task.verify, attempt.folder)
    if found is not None and attempt.task.salvage is not None and ending.is_crash:
        found = _refusal(attempt.task.salvage, attempt.folder)
    if found is None:
        attempt.folder.rename(attempt.task.folder)
        return None
    detail = ending.machine_detail() or _disk_detail(found.detail, attempt)
    if detail is None:
        status = f" (exit status {ending.code})" if ending.code else ""
        return replace(found, detail=found.detail + status)
    late = ending.timed_out is not None or ending.out_of_time
    return Failure("timeout" if late else "engine_error", detail, attempt.folder, final=False)


def _disk_detail(said: str, attempt: Attempt) -> str | None:
    """Return what a program said of a disk that took nothing more, its own node's perhaps."""
    output = attempt.folder / attempt.task.output
    return find_disk_error(said) or find_disk_error(read_tail(output, TAIL_BYTES).decode(errors="replace"))


def _refusal(check: Callable[[Path], None], folder: Path) -> Failure | None:
    try:
        check(folder)
    except EngineError as error:
        return Failure(error.reason, error.detail, folder)
    except Exception as error:  # a damaged output must not end the run, whatever a parser makes of it
        return Failure("engine_error", f"its output cannot be read ({type(error).__name__}: {error})", folder)
    return None


def allowed_failures(failed: Mapping[str, Failure], n_tasks: int, profile: Profile) -> float:
    """Return how many tasks of a batch may fail before it stops: none where not one of them has begun."""
    if len(failed) == n_tasks and all(failure.detail.startswith(NEVER_BEGAN) for failure in failed.values()):
        return 0
    return profile.allowed_failures(n_tasks)


def conclude(failure: Failure, before: Sequence[str], retries: int) -> Failure:
    """Make a machine's failure final when it is one too many; its detail then tells them all."""
    details = [*before, failure.detail]
    if failure.final or len(details) <= retries:
        return failure
    told = "; ".join(detail if n == 1 else f"{detail}, {n} times" for detail, n in Counter(details).items())
    return replace(failure, detail=told, final=True)


def write_failure(failure: Failure) -> Failure:
    """Record a failure in its attempt's folder, and return it."""
    failure.where.mkdir(parents=True, exist_ok=True)
    write_json(
        failure.where / FAILED_FILE, {"reason": failure.reason, "detail": failure.detail, "final": failure.final}
    )
    return failure


def read_failures(task: Task, last: int) -> list[Failure]:
    """Return how the task's attempts failed, oldest first, since it was last retried in spite of a final failure."""
    failures: list[Failure] = []
    for number in range(last, 0, -1):
        folder = Attempt(task, number).folder
        if (folder / RETRIED_FILE).exists():
            break
        if (folder / FAILED_FILE).exists():
            failures.insert(0, Failure(where=folder, **read_json(folder / FAILED_FILE)))
    return failures


def recall_failures(
    tasks: Mapping[str, Task], tries: Mapping[str, int], *, forgiving: bool
) -> Iterator[tuple[str, list[Failure]]]:
    """Yield each task's name with how its attempts failed; none of that counts once it is forgiven, on disk too."""
    for name, last in tries.items():
        failures = read_failures(tasks[name], last)
        for failure in failures if forgiving else ():
            forgive(failure)
        yield name, [] if forgiving else failures


def prepare(attempt: Attempt) -> None:
    """Write an attempt's inputs, and what it can go on from where a time limit or a preemption ended one before.

    After anything else, a driver's own doing among it, a task begins anew, so that its result is that of any other run.
    """
    task = attempt.task
    task.write_inputs(attempt.folder)
    before = _find_cut_short(attempt)
    if before is not None and task.go_on is not None and task.go_on(before.folder, attempt.folder):
        log.info("%s goes on from %s", task.folder, before.folder.name)


def _find_cut_short(attempt: Attempt) -> Attempt | None:
    """Return the attempt whose failure is the last on record, if it only lacked time."""
    for number in range(attempt.number - 1, 0, -1):
        before = Attempt(attempt.task, number)
        marks = [path for name in (FAILED_FILE, RETRIED_FILE) if (path := before.folder / name).exists()]
        if marks:
            told = read_json(marks[0])
            return before if told["reason"] == "timeout" or "PREEMPTED" in told["detail"] else None
    return None


def is_judged(attempt: Attempt) -> bool:
    """Say whether an attempt's failure is on record, or it is set aside, so that it is not counted twice."""
    places = (attempt.folder / FAILED_FILE, attempt.folder / RETRIED_FILE, attempt.spoiled)
    return any(place.exists() for place in places)


def forgive(failure: Failure) -> None:
    """Let a failed task be run again; what happened stays on record."""
    (failure.where / FAILED_FILE).rename(failure.where / RETRIED_FILE)


def find_attempts(tasks: Iterable[Task]) -> dict[str, int]:
    """Return the highest attempt number of each task that has one. One look at each parent folder, not at each task."""
    names = {(task.folder.parent, task.name) for task in tasks}
    found: dict[str, int] = {}
    for parent in {parent for parent, _ in names}:
        for entry in parent.iterdir() if parent.is_dir() else ():
            split = split_attempt(entry.name)
            if split and (parent, split[0]) in names:
                found[split[0]] = max(split[1], found.get(split[0], 0))
    return found


def describe_failures(failed: Mapping[str, Failure], tasks: Mapping[str, Task]) -> str:
    """Say how many tasks failed, why for the most part, where to look and what to do, in three lines."""
    reason, n = Counter(failure.reason for failure in failed.values()).most_common(1)[0]
    name, failure = next(item for item in failed.items() if item[1].reason == reason)
    output = failure.where / tasks[name].output
    often = f"{n} times {reason}, first: " if n > 1 else f"{reason}: "
    return (
        f"{len(failed)} of {len(tasks)} tasks failed, too many to go on; {often}{failure.detail}\n"
        f"  Look at {output if output.exists() else failure.where}\n"
        f"  Mend the cause, then run the same command again: what is finished is kept, what failed is run anew."
    )
