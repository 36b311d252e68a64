"""What ``al check`` finds of resource.json: files it names, keys without effect, programs and scripts of each role."""

from collections.abc import Iterable, Iterator, Mapping
from typing import get_args

from al_driver.engines.base import Calculation, Engine
from al_driver.errors import Problem
from al_driver.jobs.executor import render_script
from al_driver.jobs.group import has_shell
from al_driver.jobs.launcher import check_command
from al_driver.jobs.processes import find_program
from al_driver.schema.resource import SLURM_KEYS, Resources, Role
from al_driver.workflow.report import Report


def check_resources(resources: Resources) -> Iterator[Problem]:
    """Yield what is wrong with the files that resource.json names, and which of its keys mean nothing."""
    yield from _check_executors(resources)
    for name in ("default", *get_args(Role)):
        for index, file in enumerate(getattr(resources, name).source):
            if not file.is_file():
                yield Problem("does not exist", f"{name}.source[{index}] (resource file)", file)


def _check_executors(resources: Resources) -> Iterator[Problem]:
    slurm = {role for role in get_args(Role) if resources.role(role).is_slurm}
    if slurm and find_program("sbatch") is None:
        found = "sbatch is not found: SLURM is not here; run al where jobs are submitted"
        yield Problem(found, f"{sorted(slurm)[0]}.executor (resource file)", severity="warning")
    for name in ("default", *get_args(Role)):
        own = getattr(resources, name).model_fields_set
        here = bool(slurm) if name == "default" else name in slurm
        for key in () if here else [key for key in SLURM_KEYS if key in own]:
            executor = resources.default.executor if name == "default" else resources.role(name).executor
            found = f'has no effect with "executor": "{executor}"; set "slurm", or take it out'
            yield Problem(found, f"{name}.{key} (resource file)", severity="warning")
        if name in slurm and "workers" in own:
            found = "has no effect with SLURM; tasks side by side within a job are `parallel_tasks`"
            yield Problem(found, f"{name}.workers (resource file)", severity="warning")


def render_scripts(resources: Resources, roles: Iterable[Role]) -> dict[str, str]:
    """Return the script that SLURM is handed for each of these roles that runs there."""
    profiles = {role: resources.role(role) for role in roles}
    return {
        f"{role}/submit.sh": render_script(profile, profile.timeout_seconds(0))
        for role, profile in profiles.items()
        if profile.is_slurm
    }


def check_program(resources: Resources, role: Role, default: str) -> Iterator[Problem]:
    profile = resources.role(role)
    return check_command(profile.argv(default), profile, f"{role}.command (resource file)")


def check_engines(report: Report, resources: Resources, wanted: Mapping[Calculation, Mapping[str, Engine]]) -> None:
    """Find the engines' programs, and ask each engine, once, about one that is there."""
    asked: list[tuple[Engine, tuple[str, ...]]] = []
    for role, engines in wanted.items():
        check_engines_of(report, resources, role, engines, asked)


def check_engines_of(
    report: Report,
    resources: Resources,
    role: Role,
    engines: Mapping[str, Engine],
    asked: list[tuple[Engine, tuple[str, ...]]],
) -> None:
    """As `check_engines`, of one role; those in ``asked`` are not asked again, and it gets the others."""
    profile = resources.role(role)
    for key, engine in engines.items():
        argv = profile.argv(engine.default_command)
        missing = list(check_command(argv, profile, f"{role}.command (resource file)"))
        report.collect(lambda missing=missing: missing)  # type: ignore[misc]
        if not missing and not has_shell(profile) and (engine, argv) not in asked:  # a module may bring another
            asked.append((engine, argv))
            report.collect(lambda engine=engine, argv=argv, env=profile.env: engine.check_program(argv, env), key)  # type: ignore[misc]
