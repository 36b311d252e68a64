"""Commands as resource.json gives them: which words must be programs, and whether these are there."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from al_driver.errors import Problem
from al_driver.jobs.group import has_shell
from al_driver.jobs.processes import find_program
from al_driver.schema.resource import Profile

LAUNCHERS = {
    "env", "ibrun", "ionice", "jsrun", "mpiexec", "mpiexec.hydra", "mpirun", "nice", "nohup", "numactl", "orterun",
    "prterun", "prun", "setsid", "srun", "stdbuf", "taskset", "time", "timeout",
}  # fmt: skip
"""Programs that start the program a later word names. What a container holds cannot be seen from outside."""
_NUMBER = re.compile(r"[\d.,:+x-]+[a-zA-Z%]{0,2}")


def check_command(argv: Sequence[str], profile: Profile, key: str) -> Iterator[Problem]:
    """Yield what is wrong with the programs of a command line.

    A program that is missing is an error; where modules or setup lines may bring it, a warning.
    """
    words = find_missing(argv, profile)
    if words is None:
        return
    if not words:
        yield Problem(f"{' '.join(argv)!r} names no program for the launcher to start", key)
        return
    name = words[0]
    if len(words) > 1:
        found = f"none of {', '.join(map(repr, words))} is a program"
    elif "/" in name and not Path(name).is_absolute():
        yield Problem(f"{name!r} is a relative path, but each task runs in its own folder; give its whole path", key)
        return
    elif "/" in name:
        found = f"{name} does not exist or cannot be executed"
    else:
        found = f"program {name!r} is neither on the PATH nor beside this Python"
    brought = has_shell(profile) and not any("/" in word for word in words)
    told = "; install it, or name it in `command`"
    if profile.is_slurm:
        told = "; the nodes of the cluster must have it"
    elif brought:
        told = "; that is left to what is loaded or sourced"
    yield Problem(found + told, key, severity="warning" if brought or profile.is_slurm else "error")


def find_missing(argv: Sequence[str], profile: Profile) -> tuple[str, ...] | None:
    """Return the words of which one must be a program and none is; None when there is nothing to object to.

    Behind a launcher an option's value cannot be told from the program, so that one word that is a program will do.
    """
    name, *rest = argv
    if not _is_program(name, profile):
        return (name,)
    if Path(name).name not in LAUNCHERS:
        return None
    places = [index for index, word in enumerate(rest) if _may_be_program(word)]
    first = next((index for index in places if _is_program(rest[index], profile)), None)
    return tuple(rest[index] for index in places) if first is None else find_missing(rest[first:], profile)


def _is_program(name: str, profile: Profile) -> bool:
    relative = "/" in name and not Path(name).is_absolute()
    return not relative and find_program(name, profile.env) is not None


def _may_be_program(word: str) -> bool:
    return not word.startswith("-") and "=" not in word and not _NUMBER.fullmatch(word)
