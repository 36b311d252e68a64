"""What SLURM is asked and what it says: commands, states, reasons, refusals.

Sources: sacct(1), squeue(1), *JOB STATE CODES*.
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterable

ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"}
)
"""States a job never leaves: it is submitted so that SLURM does not requeue it."""

TAKEN = ENDED - {"CANCELLED", "COMPLETED", "FAILED"}
"""Those that the machine alone brings about."""

NEVER = frozenset(
    {"BadConstraints", "InvalidAccount", "InvalidQOS", "PartitionNodeLimit", "PartitionTimeLimit", "DeadLine",
     "QOSMaxWallDurationPerJobLimit", "AssocMaxWallDurationPerJobLimit", "QOSMaxCpuPerJobLimit",
     "QOSMaxNodePerJobLimit", "QOSMaxMemoryPerJob", "AssocMaxCpuPerJobLimit", "AssocMaxNodePerJobLimit"}
)  # fmt: skip
"""Reasons for which a job waits as long as it asks for what it does. Source: squeue(1), *JOB REASON CODES*."""

PATIENCE_SECONDS = 30.0

TRANSIENT = (
    "unable to contact", "socket timed out", "connection refused", "connection timed out", "communication connection",
    "zero bytes were transmitted", "temporarily unable", "temporarily unavailable", "insane message length",
    "maxjobcount", "job submit limit", "backup slurm controller", "unexpected message received",
)  # fmt: skip
"""What a scheduler says that may take the same job later: it is away, or has too many of this user's."""

Ask = Callable[[list[str]], str | None]


def ask_program(argv: list[str]) -> str | None:
    """Return what a program answers; None when it fails or takes too long."""
    try:
        run = subprocess.run(
            argv, capture_output=True, text=True, timeout=PATIENCE_SECONDS, stdin=subprocess.DEVNULL, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout if run.returncode == 0 else None


def sacct_command(ids: Iterable[str]) -> list[str]:
    return ["sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", ",".join(sorted(ids))]


def squeue_command() -> list[str]:
    """Return the query for all of this user's jobs: one that the controller forgot is left out, not an error."""
    return ["squeue", "-h", "-r", "-a", "-t", "all", "-o", "%i|%T", "-u", str(os.getuid())]


def pending_command() -> list[str]:
    """Return the query for why jobs of this user wait."""
    return ["squeue", "-h", "-a", "-t", "pending", "-o", "%i|%r", "-u", str(os.getuid())]


def find_command(name: str) -> list[str]:
    return ["squeue", "-h", "-a", "-t", "all", "-o", "%F", "-u", str(os.getuid()), f"--name={name}"]


def read_states(text: str) -> dict[str, str]:
    """Return the state of each job from lines ``JOBID|STATE``; what else a line says is left out.

    >>> read_states("12_3|CANCELLED by 1000\\n12_[5-6,9%2]|PENDING\\n")
    {'12_3': 'CANCELLED', '12_5': 'PENDING', '12_6': 'PENDING', '12_9': 'PENDING'}
    """
    states = {}
    for line in text.splitlines():
        job_ids, mark, state = line.partition("|")
        if mark and state.split():
            states.update(dict.fromkeys(expand_ids(job_ids.strip()), state.split()[0].rstrip("+")))
    return states


def read_reasons(text: str) -> dict[str, str]:
    """Return the reason of each job from lines ``JOBID|REASON``."""
    lines = (line.partition("|") for line in text.splitlines())
    return {job_id: reason.strip() for ids, _, reason in lines for job_id in expand_ids(ids.strip())}


def expand_ids(text: str) -> list[str]:
    """Return the single jobs of an array's waiting rest, ``12_[3-5,8%2]``; any other id as it is."""
    found = re.fullmatch(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]", text)
    if found is None:
        return [text]
    ids = []
    for part in found[2].split(","):
        bounds, _, step = part.partition(":")
        first, _, last = bounds.partition("-")
        ids += [f"{found[1]}_{index}" for index in range(int(first), int(last or first) + 1, int(step or 1))]
    return ids


def read_job_id(text: str) -> str | None:
    """Return the id from what ``sbatch --parsable`` prints, ``123`` or ``123;cluster``; None if there is none."""
    last = text.strip().rpartition("\n")[2].partition(";")[0]
    return last if last.isdecimal() else None


def is_transient(words: str) -> bool:
    """Say whether a refused submission may be repeated as it is; otherwise the site's settings are wrong.

    What SLURM says of every limit is "job submit limit, user's size and/or time limits"; a name before it tells which.
    """
    limits = re.findall(r"\b(?:Assoc|QOS)\w+", words)
    if limits:
        return all("SubmitJob" in limit for limit in limits)
    return any(known in words.lower() for known in TRANSIENT)


def is_over(job_id: str, ask: Ask = ask_program) -> bool:
    """Say whether the scheduler tells that nothing of a job runs: it has ended, or waits to run again."""
    for argv in (["squeue", "-h", "-a", "-t", "all", "-o", "%A|%T", "-j", job_id], sacct_command([job_id])):
        state = read_states(ask(argv) or "").get(job_id)
        if state is not None:
            return state in ENDED or state == "PENDING"
    return False
