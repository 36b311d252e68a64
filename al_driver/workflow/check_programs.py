"""What ``al check`` finds of resource.json: the files that it names, and the programs of each role."""

from collections.abc import Iterator, Mapping
from typing import get_args

from al_driver.engines.base import Calculation, Engine
from al_driver.errors import Problem
from al_driver.jobs.group import has_shell
from al_driver.jobs.launcher import check_command
from al_driver.schema.resource import Resources, Role
from al_driver.workflow.report import Report


def check_resources(resources: Resources) -> Iterator[Problem]:
    """Yield what is wrong with the files that resource.json names."""
    for name in ("default", *get_args(Role)):
        for index, file in enumerate(getattr(resources, name).source):
            if not file.is_file():
                yield Problem("does not exist", f"{name}.source[{index}] (resource file)", file)


def check_program(resources: Resources, role: Role, default: str) -> Iterator[Problem]:
    profile = resources.role(role)
    return check_command(profile.argv(default), profile, f"{role}.command (resource file)")


def check_engines(report: Report, resources: Resources, wanted: Mapping[Calculation, Mapping[str, Engine]]) -> None:
    """Find the engines' programs, and ask each engine, once, about one that is there."""
    asked: list[tuple[Engine, tuple[str, ...]]] = []
    for role, engines in wanted.items():
        profile = resources.role(role)
        for key, engine in engines.items():
            argv = profile.argv(engine.default_command)
            missing = list(check_command(argv, profile, f"{role}.command (resource file)"))
            report.collect(lambda missing=missing: missing)  # type: ignore[misc]
            if not missing and not has_shell(profile) and (engine, argv) not in asked:  # a module may bring another
                asked.append((engine, argv))
                report.collect(lambda engine=engine, argv=argv, env=profile.env: engine.check_program(argv, env), key)  # type: ignore[misc]
