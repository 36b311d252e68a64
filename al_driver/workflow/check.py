"""``al check``: every problem of both files at once, and what would be done, without submitting anything."""

import shlex
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from al_driver.data.sources import read_structures
from al_driver.engines.base import Calculation, Engine
from al_driver.errors import AlError, ConfigError, Problem
from al_driver.explorers.base import Trajectory
from al_driver.explorers.sweep import make_trajectories, read_entries, structure_names
from al_driver.jobs.group import has_shell
from al_driver.jobs.launcher import check_command
from al_driver.schema.init_bulk import Aimd, InitBulkParams, InitStructure, Relax
from al_driver.schema.resource import Resources, Role
from al_driver.schema.run import RunParams
from al_driver.structures.supercell import check_size, make_supercell
from al_driver.trainers.base import Training
from al_driver.workflow.check_data import check_data, open_init_bulks
from al_driver.workflow.foretell import expected_counts, expected_split
from al_driver.workflow.references import check_references

MOST_TASKS_SHOWN = 5
LONG_TIMESTEP = 0.01  # ps


@dataclass
class Report:
    """What a check found."""

    problems: list[Problem] = field(default_factory=list)
    set_by_driver: list[str] = field(default_factory=list)
    """What the driver sets in the user's own inputs."""
    plan: list[str] = field(default_factory=list)
    """The first tasks."""
    inputs: dict[str, str] = field(default_factory=dict)
    """One rendered input of each kind: name and content."""

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "error"]

    def raise_errors(self) -> None:
        """Raise all errors as one `ConfigError`; warnings alone do not stop a run."""
        if self.errors:
            raise ConfigError(self.errors)

    def collect(self, find: Callable[[], Iterable[Problem] | None], prefix: str = "") -> None:
        """Add the problems that a function returns or raises; keys start at the noun that ``prefix`` names."""
        try:
            for problem in find() or ():
                self._add(replace(problem, key=_join(prefix, problem.key)))
        except ConfigError as error:
            for problem in error.problems:
                self._add(replace(problem, key=_join(prefix, problem.key)))
        except AlError as error:
            self._add(Problem(str(error), key=prefix))
        except OSError as error:
            file = Path(error.filename) if isinstance(error.filename, str) else None
            self._add(Problem(f"cannot be read: {error.strerror or error}", prefix, file))

    def _add(self, problem: Problem) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def check_run(params: RunParams, resources: Resources | None, *, render: bool = False) -> Report:
    """Check the files and programs of ``al run``; with ``render``, read data to convert, show inputs and first tasks.

    Parameters
    ----------
    resources
        None where the resource file cannot be read: what programs run is not known.
    render
        Takes a little longer, and only a person needs it: a run itself reads and renders everything anyway.
    """
    report = Report()
    label_key = f"engines.{params.label}" if isinstance(params.label, str) else "label"
    engines = {label_key: params.label_engine, **{f"engines.{name}": engine for name, engine in params.engines.items()}}
    for key, engine in engines.items():
        report.collect(lambda engine=engine: engine.check(params.type_map), key)  # type: ignore[misc]
    report.collect(lambda: params.train.check(params.type_map), "train")
    report.collect(lambda: params.explore.check(params.type_map, params.query.metric == "relative_force"), "explore")
    report.collect(lambda: check_data(params, read=render))
    report.collect(lambda: check_references(params))
    for key, made_by in open_init_bulks(params):
        nested = Report()
        _check_init_files(nested, made_by)
        report.problems += [replace(problem, key=f"{key}: {problem.key}") for problem in nested.problems]
    if resources is not None:
        report.collect(lambda: check_resources(resources))
        report.collect(lambda: _check_trainer(params, resources))
        report.collect(lambda: _check_program(resources, "explore", params.explore.default_command))
        _check_engines(report, resources, {"label": {label_key: params.label_engine}})
    report.set_by_driver += [f"train: {line}" for line in params.train.set_by_driver()]
    report.set_by_driver += [f"explore: {line}" for line in params.explore.set_by_driver()]
    report.set_by_driver += [f"label: {line}" for line in params.label_engine.set_by_driver()]
    if render and resources is not None and not report.errors:
        report.collect(lambda: _render_run(params, resources, report))
    return report


def check_init_bulk(params: InitBulkParams, resources: Resources | None, *, render: bool = False) -> Report:
    """Check the files and programs of ``al init_bulk``; with ``render``, show inputs and the counts too."""
    report = Report()
    _check_init_files(report, params)
    wanted = _find_calculations(params)
    if resources is not None:
        report.collect(lambda: check_resources(resources))
        _check_engines(report, resources, wanted)
    for line, calculations in _set_in_inputs(wanted).items():
        report.set_by_driver.append(f"{', '.join(calculations)}: {line}")
    if render and not report.errors:
        report.plan += expected_counts(params)
        if params.label_engine is not None:
            report.collect(lambda: report.plan.append(expected_split(params)))
        for entry in params.structures:
            report.inputs |= _render_entry(entry, params) | report.inputs  # one of each kind, the first
    return report


def check_resources(resources: Resources) -> Iterator[Problem]:
    """Yield what is wrong with the files that resource.json names."""
    for name in ("default", *get_args(Role)):
        for index, file in enumerate(getattr(resources, name).source):
            if not file.is_file():
                yield Problem("does not exist", f"{name}.source[{index}] (resource file)", file)


def _check_init_files(report: Report, params: InitBulkParams) -> None:
    for engines in _find_calculations(params).values():
        for key, engine in engines.items():
            report.collect(lambda engine=engine: engine.check(params.type_map), key)  # type: ignore[misc]
    sound = not report.errors
    for index, entry in enumerate(params.structures):
        report.collect(
            lambda entry=entry: _check_entry(entry, params, render=sound),  # type: ignore[misc]
            f"structures[{index}]",
        )


def _find_calculations(params: InitBulkParams) -> dict[Calculation, dict[str, Engine]]:
    """Return the engines that label, relax and run dynamics, each by the key that names it."""
    found: dict[Calculation, dict[str, Engine]] = {"relax": {}, "aimd": {}, "label": {}}

    def add(calculation: Calculation, choice: object, engine: Engine, key: str) -> None:
        found[calculation][f"engines.{choice}" if isinstance(choice, str) else key] = engine

    for index, entry in enumerate(params.structures):
        stages: dict[Calculation, Relax | Aimd | None] = {"relax": entry.relax, "aimd": entry.aimd}
        for calculation, stage in stages.items():
            if stage is not None:
                own = stage.engine is not None
                key = f"structures[{index}].{calculation}.engine" if own else "label"
                add(calculation, stage.engine if own else params.label, params.engine_of(stage), key)
    if params.label_engine is not None:
        add("label", params.label, params.label_engine, "label")
    return found


def _set_in_inputs(wanted: Mapping[Calculation, Mapping[str, Engine]]) -> dict[str, list[Calculation]]:
    """Return each line of what is set in the user's inputs, with the calculations it is said of."""
    said: dict[str, list[Calculation]] = {}
    for calculation, engines in wanted.items():
        for line in dict.fromkeys(line for engine in engines.values() for line in engine.set_by_driver(calculation)):
            said.setdefault(line, []).append(calculation)
    return said


def _check_entry(entry: InitStructure, params: InitBulkParams, *, render: bool) -> Iterator[Problem]:
    """Read an entry's structures, and write an engine's input of each kind for the first."""
    if entry.aimd is not None and entry.aimd.timestep > LONG_TIMESTEP:
        yield Problem(
            f"{entry.aimd.timestep:g} ps is a long step; 0.001 is common", "aimd.timestep", severity="warning"
        )
    for atoms in read_structures(entry.path, params.type_map):
        check_size(atoms, entry.supercell)
        if entry.aimd is not None and len(make_supercell(atoms, entry.supercell)) == 1:
            yield Problem(f"{entry.path.name} holds one atom, which dynamics do not move; make a supercell", "aimd")
        if entry.relax is not None and entry.relax.what == "cell" and not atoms.pbc.all():
            raise ConfigError(
                Problem(
                    f"{entry.path.name} is not periodic in three directions, and has no cell to relax; "
                    'say "what": "positions"',
                    "relax",
                )
            )
    if render:
        _render_entry(entry, params)


def _render_entry(entry: InitStructure, params: InitBulkParams) -> dict[str, str]:
    """Return the inputs of the first structure's relaxation, dynamics and label."""
    unit = read_structures(entry.path, params.type_map)[0]
    first = make_supercell(unit, entry.supercell)
    inputs: dict[str, str] = {}
    if entry.relax is not None:
        engine, relaxation = params.engine_of(entry.relax), entry.relax.relaxation
        inputs |= _render(lambda folder: engine.write_relaxation(unit, relaxation, folder), "relax")
    if entry.aimd is not None:
        engine, dynamics = params.engine_of(entry.aimd), entry.aimd.dynamics(seed=1)
        inputs |= _render(lambda folder: engine.write_dynamics(first, dynamics, folder), "aimd")
    label_engine = params.label_engine
    if label_engine is not None:
        inputs |= _render(lambda folder: label_engine.write_inputs(first, folder), "label")
    return inputs


def _check_program(resources: Resources, role: Role, default: str) -> Iterator[Problem]:
    profile = resources.role(role)
    return check_command(profile.argv(default), profile, f"{role}.command (resource file)")


def _check_engines(report: Report, resources: Resources, wanted: Mapping[Calculation, Mapping[str, Engine]]) -> None:
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


def _check_trainer(params: RunParams, resources: Resources) -> Iterator[Problem]:
    """Make the command line of a training, which looks into its program, and find what that names."""
    profile = resources.role("train")
    argv = params.train.command(profile.argv(params.train.default_command), profile.env)
    return check_command(argv, profile, "train.command (resource file)")


def _render_run(params: RunParams, resources: Resources, report: Report) -> None:
    """Render one training, one trajectory and one label, and list the tasks of the first iteration."""
    structures = read_entries(params.explore, params.type_map)
    stage = params.explore.iterations[0]
    trajectories = make_trajectories(params.explore, stage, structures, seed=params.seed, iteration=0)
    first = trajectories[0]
    training = Training("first", 1, tuple(params.type_map), (Path("init_data").absolute(),))
    models = [f"{params.train.model_name}.{member}" for member in range(params.train.models)]
    epsilon = params.query.relative_epsilon
    report.inputs |= _render(lambda folder: params.train.write_inputs(training, folder), "train")
    report.inputs |= _render(
        lambda folder: params.explore.write_inputs(first, params.type_map, models, folder, relative_epsilon=epsilon),
        "explore",
    )
    report.inputs |= _render(lambda folder: params.label_engine.write_inputs(first.atoms, folder), "label")
    profile = resources.role("train")
    train = params.train.command(profile.argv(params.train.default_command), profile.env)
    explore = (*resources.role("explore").argv(params.explore.default_command), *params.explore.arguments())
    label = (*resources.role("label").argv(params.label_engine.default_command), *params.label_engine.arguments())
    report.plan += [
        f"0/train: {params.train.models} trainings, each: {shlex.join(train)}",
        f"0/explore: {len(trajectories)} trajectories, each: {shlex.join(explore)}",
        *(_describe(trajectory) for trajectory in trajectories[:MOST_TASKS_SHOWN]),
    ]
    if len(trajectories) > MOST_TASKS_SHOWN:
        report.plan.append(f"  … and {len(trajectories) - MOST_TASKS_SHOWN} more")
    report.plan.append(f"0/label: at most {_most_labels(params, trajectories)} frames, each: {shlex.join(label)}")


def _describe(trajectory: Trajectory) -> str:
    first, last = trajectory.temperature
    temperature = f"{first:g} K" if first == last else f"{first:g} → {last:g} K"
    pressure = "" if trajectory.pressure is None else f", {trajectory.pressure:g} bar"
    return (
        f"  {trajectory.structure} ({len(trajectory.atoms)} atoms), {trajectory.job.ensemble}, {temperature}"
        f"{pressure}, {trajectory.job.n_steps} steps"
    )


def _most_labels(params: RunParams, trajectories: Iterable[Trajectory]) -> int:
    """Return the largest number of frames that the first iteration can choose."""
    frames: Counter[str] = Counter()
    for trajectory in trajectories:
        frames[trajectory.structure] += trajectory.job.n_steps // trajectory.job.dump_every
    own = dict(zip(structure_names(params.explore), params.explore.structures, strict=True))
    total = sum(min(count, own[name].max_select or params.query.max_select) for name, count in frames.items())
    limits = (params.query.max_labels, params.query.max_labels_per_iteration)
    return min(total, *(limit or total for limit in limits))


def _render(write: Callable[[Path], None], kind: str) -> dict[str, str]:
    """Return the short text files that a writer makes."""
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        files = sorted(path for path in Path(name).iterdir() if path.is_file() and not path.is_symlink())
        return {f"{kind}/{path.name}": path.read_text(errors="replace") for path in files}


def _join(prefix: str, key: str) -> str:
    return ".".join(part for part in (prefix, key) if part)
