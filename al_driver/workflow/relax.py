"""Structures that a reference engine makes of others: what came of each, and relaxations, of ``al init_bulk`` and
``al screen``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from ase import Atoms

from al_driver.data.frames import Label, carry_sites
from al_driver.engines.base import Engine, Relaxation
from al_driver.errors import EngineError
from al_driver.layout import task_name
from al_driver.schema.resource import Role
from al_driver.workflow.context import Context
from al_driver.workflow.engine_tasks import EngineTask, EngineTasks, calculation_key
from al_driver.workflow.step import Step

Result = TypeVar("Result")


@dataclass
class Made:
    """What a stage made."""

    structures: list[Atoms] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)

    def reject(self, index: int, lineage: str, error: EngineError) -> None:
        """Keep what became of a structure that gave nothing."""
        detail = f"{lineage}: {error.detail}"
        self.rejected.append({"frame": index, "reason": error.reason, "detail": detail, "where": error.where.name})

    def add_version(self, label: Label) -> None:
        self.versions.add(f"{label.info.get('program', '')} {label.info.get('version', '')}".strip())


def relax_structures(
    context: Context, step: Step, structures: Sequence[Atoms], wanted: Mapping[int, tuple[Engine, Relaxation]]
) -> Made:
    """Relax structures, as a step's tasks; one of which nothing is wanted passes as it is.

    Parameters
    ----------
    structures
        Each tells its ``lineage``.
    wanted
        By the structure's index.
    """
    tasks = {task_name(index): _relax_task(structures[index], *asked) for index, asked in wanted.items()}
    made = Made()
    for index, atoms, found in run_calculations(context, step, "relax", structures, EngineTasks(tasks, step.folder)):
        if isinstance(found, EngineError):
            made.reject(index, atoms.info["lineage"], found)
        elif found is None:
            made.structures.append(atoms)
        else:
            relaxed = carry_sites(atoms, found.atoms.copy())
            relaxed.info = atoms.info | {"lineage": f"{atoms.info['lineage']}/relaxed", "relax": task_name(index)}
            made.structures.append(relaxed)
            made.add_version(found)
    return made


def _relax_task(atoms: Atoms, engine: Engine, relaxation: Relaxation) -> EngineTask[Label]:
    key = calculation_key(engine, atoms, engine.identity("relax"), "relax", asdict(relaxation))
    return EngineTask(
        key,
        engine,
        lambda directory: engine.write_relaxation(atoms, relaxation, directory),
        lambda directory: engine.read_relaxation(directory, relaxation),
    )


def run_calculations(
    context: Context, step: Step, role: Role, structures: Sequence[Atoms], calculations: EngineTasks[Result]
) -> Iterator[tuple[int, Atoms, Result | EngineError | None]]:
    """Run tasks; yield each structure with its result, with why it has none, or with None where nothing was asked."""
    failed = calculations.run(context, step, role).failed
    for index, atoms in enumerate(structures):
        name = task_name(index)
        if name in failed:
            yield index, atoms, EngineError(failed[name].reason, failed[name].where, failed[name].detail)
        else:
            yield index, atoms, calculations.result(name) if name in calculations else None
