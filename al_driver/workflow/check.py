"""``al check`` of a run: every problem of its files and programs at once, and what would be done first."""

import shlex
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from al_driver.errors import Problem
from al_driver.explorers.base import Trajectory
from al_driver.explorers.sweep import make_trajectories, read_entries, structure_names
from al_driver.jobs.launcher import check_command
from al_driver.schema.likely import check_deviation
from al_driver.schema.resource import Resources
from al_driver.schema.run import RunParams
from al_driver.trainers.base import Training
from al_driver.words import many
from al_driver.workflow.check_data import check_data, open_init_bulks
from al_driver.workflow.check_init import check_init_files, check_named
from al_driver.workflow.check_programs import check_engines, check_program, check_resources, render_scripts
from al_driver.workflow.check_target import check_target, describe_target, most_labels
from al_driver.workflow.outliers import second_look
from al_driver.workflow.references import check_references
from al_driver.workflow.report import Report, render_files

MOST_TASKS_SHOWN = 5


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
        report.collect(lambda engine=engine: check_named(engine, structure_names(params.explore)), key)  # type: ignore[misc]
    report.collect(lambda: params.train.check(params.type_map), "train")
    report.collect(lambda: params.explore.check(params.type_map, params.query.metric == "relative_force"), "explore")
    if params.query.metric in ("max_force", "mean_force"):
        report.collect(lambda: check_deviation(params.query.lower, "query.lower"))
    report.collect(lambda: check_target(params))
    report.collect(lambda: check_data(params, resources, read=render))
    for key, made_by in open_init_bulks(params):
        nested = Report()
        check_init_files(nested, made_by)
        report.nest(key, nested.problems)
    if resources is not None:
        report.collect(lambda: check_resources(resources))
        report.collect(lambda: _check_trainer(params, resources))
        report.collect(lambda: check_program(resources, "explore", params.explore.default_command))
        check_engines(report, resources, {"label": {label_key: params.label_engine}})
    if not any(problem.key.startswith(label_key) for problem in report.errors):
        report.collect(lambda: check_references(params))
    report.set_by_driver += [f"train: {line}" for line in params.train.set_by_driver(params.type_map)]
    report.set_by_driver += [f"explore: {line}" for line in params.explore.set_by_driver()]
    report.set_by_driver += [f"label: {line}" for line in params.label_engine.set_by_driver()]
    report.set_by_driver += second_look(params.label_engine)
    labels: dict[str, dict[str, str]] = {}
    if not any(problem.key.startswith((label_key, "explore")) for problem in report.errors):
        report.collect(lambda: _write_labels(params, labels), label_key)
    if render and not report.errors:
        report.collect(lambda: _check_frames(params), label_key)
    if render and resources is not None and not report.errors:
        report.collect(lambda: _render_run(params, resources, labels, report))
    return report


def _check_frames(params: RunParams) -> Iterator[Problem]:
    """Hold the label's input against the structures that are explored."""
    frames = []
    names = structure_names(params.explore)
    for name, structures in zip(names, read_entries(params.explore, params.type_map), strict=True):
        for atoms in structures:
            atoms.info["structure"] = name
            frames.append(atoms)
    yield from params.label_engine.check_frames({"label": frames})


def _write_labels(params: RunParams, labels: dict[str, dict[str, str]]) -> None:
    """Render the label's input for the first structure of each entry: what cannot be written must not wait for it."""
    names = structure_names(params.explore)
    for name, structures in zip(names, read_entries(params.explore, params.type_map), strict=True):
        frame = structures[0].copy()
        frame.info["structure"] = name
        write = partial(params.label_engine.write_inputs, frame)
        labels[name] = render_files(write, "label")


def _check_trainer(params: RunParams, resources: Resources) -> Iterator[Problem]:
    """Make the command line of a training, which looks into its program, and find what that names."""
    profile = resources.role("train")
    argv = params.train.command(profile.argv(params.train.default_command), profile.env)
    return check_command(argv, profile, "train.command (resource file)")


def _render_run(params: RunParams, resources: Resources, labels: Mapping[str, dict[str, str]], report: Report) -> None:
    """Render one training and one trajectory beside their label, and list the tasks of the first iteration."""
    structures = read_entries(params.explore, params.type_map)
    stage = params.explore.iterations[0]
    trajectories = make_trajectories(params.explore, stage, structures, seed=params.seed, iteration=0)
    first = trajectories[0]
    training = Training("first", 1, tuple(params.type_map), (Path("init_data").absolute(),))
    models = [f"{params.train.model_name}.{member}" for member in range(params.train.committee_size())]
    epsilon = params.query.relative_epsilon
    report.inputs |= render_files(lambda folder: params.train.write_inputs(training, folder), "train")
    report.inputs |= render_files(
        lambda folder: params.explore.write_inputs(first, params.type_map, models, folder, relative_epsilon=epsilon),
        "explore",
    )
    report.inputs |= labels[first.structure]
    report.inputs |= render_scripts(resources, ("train", "explore", "query", "label"))
    profile = resources.role("train")
    train = params.train.command(profile.argv(params.train.default_command), profile.env)
    explore = (*resources.role("explore").argv(params.explore.default_command), *params.explore.arguments())
    label = (*resources.role("label").argv(params.label_engine.default_command), *params.label_engine.arguments())
    report.plan += [
        f"0/train: {many(params.train.models, 'training')}, each: {shlex.join(train)}",
        f"0/explore: {many(len(trajectories), 'trajectory')}, each: {shlex.join(explore)}",
        *(_describe(trajectory) for trajectory in trajectories[:MOST_TASKS_SHOWN]),
    ]
    if len(trajectories) > MOST_TASKS_SHOWN:
        report.plan.append(f"  … and {len(trajectories) - MOST_TASKS_SHOWN} more")
    if params.query.compares:
        describe = params.train.describe_command(profile.argv(params.train.default_command), profile.env)
        report.plan.append(f"0/query: candidates are described by: {shlex.join(describe)}")
    report.plan.append(
        f"0/label: at most {many(most_labels(params, trajectories), 'frame')}, each: {shlex.join(label)}"
    )
    report.plan += describe_target(params)


def _describe(trajectory: Trajectory) -> str:
    first, last = trajectory.temperature
    temperature = f"{first:g} K" if first == last else f"{first:g} → {last:g} K"
    pressure = "" if trajectory.pressure is None else f", {trajectory.pressure:g} bar"
    return (
        f"  {trajectory.structure} ({many(len(trajectory.atoms), 'atom')}), {trajectory.job.ensemble}, {temperature}"
        f"{pressure}, {many(trajectory.job.n_steps, 'step')} of {trajectory.job.timestep:g} ps"
    )
