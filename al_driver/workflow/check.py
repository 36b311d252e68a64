"""``al check``: every problem of both files at once, and what would be done, without submitting anything."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from al_driver.data.sources import read_structures
from al_driver.errors import AlError, ConfigError, Problem
from al_driver.explorers.sweep import make_trajectories, read_entries
from al_driver.jobs.processes import find_program
from al_driver.schema.init_bulk import InitBulkParams, expected_counts
from al_driver.schema.load import load_params
from al_driver.schema.resource import Resources, Role
from al_driver.schema.run import RunParams
from al_driver.trainers.base import Training
from al_driver.workflow.initial import locate


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

    def raise_errors(self) -> None:
        """Raise all errors as one `ConfigError`; warnings alone do not stop a run."""
        errors = [problem for problem in self.problems if problem.severity == "error"]
        if errors:
            raise ConfigError(errors)

    def collect(self, found: Iterator[Problem], prefix: str) -> None:
        """Add the problems of a noun, whose keys start at its own object."""
        try:
            for problem in found:
                key = ".".join(part for part in (prefix, problem.key) if part)
                self.problems.append(replace(problem, key=key))
        except ConfigError as error:
            self.problems += [replace(problem, key=problem.key or prefix) for problem in error.problems]
        except AlError as error:
            self.problems.append(Problem(str(error), key=prefix))


def check_run(params: RunParams, resources: Resources, *, render: bool = False) -> Report:
    """Check the files and programs of ``al run``; with ``render``, show inputs and first tasks too."""
    report = Report()
    label_key = f"engines.{params.label}" if isinstance(params.label, str) else "label"
    for key, engine in {
        label_key: params.label_engine,
        **{f"engines.{n}": e for n, e in params.engines.items()},
    }.items():
        report.collect(engine.check(params.type_map), key)
    report.collect(params.train.check(params.type_map), "train")
    report.collect(params.explore.check(params.type_map, params.query.metric == "relative_force"), "explore")
    report.collect(_check_data(params, resources), "")
    report.collect(_check_program(resources, "train", params.train.default_command), "")
    report.collect(_check_program(resources, "explore", params.explore.default_command), "")
    report.collect(_check_program(resources, "label", params.label_engine.default_command), "")
    report.set_by_driver += [f"train: {line}" for line in params.train.set_by_driver()]
    report.set_by_driver += [f"explore: {line}" for line in params.explore.set_by_driver()]
    report.set_by_driver += [f"label: {line}" for line in params.label_engine.set_by_driver()]
    if render and not any(problem.severity == "error" for problem in report.problems):
        report.collect(_render_run(params, report), "")
    return report


def check_init_bulk(params: InitBulkParams, resources: Resources, *, render: bool = False) -> Report:
    """Check the files and programs of ``al init_bulk``; with ``render``, show an input and the counts too."""
    report = Report()
    for index, entry in enumerate(params.structures):
        report.collect(_check_structures(entry.path, params), f"structures[{index}].path")
    engine = params.label_engine
    if engine is not None:
        report.collect(engine.check(params.type_map), "label")
        report.collect(_check_program(resources, "label", engine.default_command), "")
        report.set_by_driver += [f"label: {line}" for line in engine.set_by_driver()]
    if render and not any(problem.severity == "error" for problem in report.problems):
        report.plan += expected_counts(params)
        first = read_structures(params.structures[0].path, params.type_map)[0]
        if engine is not None:
            report.inputs |= _render(lambda folder: engine.write_inputs(first, folder), "label")
    return report


def _check_data(params: RunParams, resources: Resources) -> Iterator[Problem]:
    """Yield missing data; what an ``init_bulk`` will make need not be there, but its own file is checked too."""
    for key, sources in (("init_data", params.init_data), ("valid_data", params.valid_data)):
        for index, source in enumerate(sources):
            where = f"{key}[{index}]"
            try:
                locate(source, key)
            except ConfigError as error:
                if source.init_bulk is None:
                    yield from (replace(problem, key=where) for problem in error.problems)
                    continue
                made_by = load_params(source.init_bulk, InitBulkParams)
                for problem in check_init_bulk(made_by, resources).problems:
                    yield replace(problem, key=f"{where}.init_bulk: {problem.key}")
                yield Problem(
                    f"not made yet; make it first: al init_bulk {source.init_bulk} RESOURCE", where, severity="warning"
                )


def _check_structures(path: Path, params: InitBulkParams) -> Iterator[Problem]:
    read_structures(path, params.type_map)
    yield from ()


def _check_program(resources: Resources, role: Role, default: str) -> Iterator[Problem]:
    profile = resources.role(role)
    program = profile.argv(default)[0]
    if find_program(program, profile.env) is None:
        elsewhere = bool(profile.modules or profile.source or profile.setup)
        yield Problem(
            f"program {program!r} is neither on the PATH nor beside this Python; install it, or name it in `command`",
            f"{role}.command (resource file)",
            severity="warning" if elsewhere else "error",
        )


def _render_run(params: RunParams, report: Report) -> Iterator[Problem]:
    """Render one training, one trajectory and one label, and list the tasks of the first iteration."""
    structures = read_entries(params.explore, params.type_map)
    trajectories = make_trajectories(
        params.explore, params.explore.iterations[0], structures, seed=params.seed, iteration=0
    )
    training = Training("first", 1, tuple(params.type_map), (Path("init_data").absolute(),))
    models = [f"{params.train.model_name}.{member}" for member in range(params.train.models)]
    report.inputs |= _render(lambda folder: params.train.write_inputs(training, folder), "train")
    report.inputs |= _render(
        lambda folder: params.explore.write_inputs(
            trajectories[0], params.type_map, models, folder, relative_epsilon=params.query.relative_epsilon
        ),
        "explore",
    )
    report.inputs |= _render(lambda folder: params.label_engine.write_inputs(trajectories[0].atoms, folder), "label")
    report.plan.append(f"iteration 0: train {params.train.models} models, run {len(trajectories)} trajectories:")
    for trajectory in trajectories[:5]:
        first, last = trajectory.temperature
        temperature = f"{first:g} K" if first == last else f"{first:g} → {last:g} K"
        pressure = "" if trajectory.pressure is None else f", {trajectory.pressure:g} bar"
        report.plan.append(
            f"  {trajectory.structure} ({len(trajectory.atoms)} atoms), {trajectory.job.ensemble}, {temperature}"
            f"{pressure}, {trajectory.job.n_steps} steps"
        )
    if len(trajectories) > 5:
        report.plan.append(f"  … and {len(trajectories) - 5} more")
    yield from ()


def _render(write: Callable[[Path], None], kind: str) -> dict[str, str]:
    """Return the short text files that a writer makes."""
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        files = sorted(path for path in Path(name).iterdir() if path.is_file() and not path.is_symlink())
        return {f"{kind}/{path.name}": path.read_text(errors="replace") for path in files}
