"""``al check`` of a screening: its crystals, its models, what labels them, and how much of it there will be."""

import shlex
from collections.abc import Iterable, Iterator

from ase import Atoms
from ase.data import chemical_symbols

from al_driver.data.frames import sort_by_type
from al_driver.engines.base import Calculation, Engine
from al_driver.errors import Problem
from al_driver.schema.learn import KnownTable, Learn
from al_driver.schema.resource import Resources
from al_driver.schema.screen import Model, ScreenParams, column_of
from al_driver.schema.unrelaxed import UnrelaxedModel
from al_driver.screen.baselines.clusters import ClusterModel
from al_driver.screen.baselines.ewald import EwaldModel
from al_driver.screen.candidates import CandidateEntry, make_candidates
from al_driver.screen.job import SMALLEST_KNOWN
from al_driver.screen.parents import read_parents
from al_driver.screen.properties import CLASSIFIER, UNITS, check_installed, find_model
from al_driver.screen.ranking import KNOWN, check_properties
from al_driver.words import many
from al_driver.workflow.check_programs import check_engines, check_engines_of, check_resources, render_scripts
from al_driver.workflow.outliers import second_look
from al_driver.workflow.report import Report, render_files
from al_driver.workflow.screen_label import find_names, read_known
from al_driver.workflow.screen_tasks import as_frame


def check_screen(params: ScreenParams, resources: Resources | None, *, render: bool = False) -> Report:
    """Check the files of ``al screen``; with ``render``, make the candidates, and tell how many there are."""
    report = Report()
    report.collect(check_installed)
    for index, entry in enumerate(params.candidates):
        report.collect(lambda entry=entry: _check_entry(entry, params), f"candidates[{index}]")  # type: ignore[misc]
    for index, model in enumerate(params.models):
        report.collect(lambda model=model: _check_model(model), name_key(index, model))  # type: ignore[misc]
    report.collect(lambda: _check_rank(params))
    if resources is not None:
        report.collect(lambda: check_resources(resources))
        unrelaxed = {
            name_key(index, model): model.engine
            for index, model in enumerate(params.models)
            if isinstance(model, UnrelaxedModel)
        }
        check_engines_of(report, resources, "screen", unrelaxed, [])
    if isinstance(params.label, KnownTable):
        report.collect(lambda table=params.label: _check_table(table), "label")  # type: ignore[misc]
    engines = _find_engines(params)
    for key, engine in engines.get("label", {}).items():
        _check_engine(report, params, key, engine)
    if resources is not None and engines:
        check_engines(report, resources, engines)
    if render and not report.errors:
        _render(report, params, resources)
    return report


def _check_entry(entry: CandidateEntry, params: ScreenParams) -> Iterator[Problem]:
    """Read an entry's crystals; where an engine labels, it must know their elements."""
    found = {target for targets in entry.substitute.values() for target in targets}
    for _, parent in read_parents(entry.path, entry.supercell):
        found |= {*parent.atoms.symbols, *(symbol for shares in parent.shares for symbol in shares)}
    if params.type_map is not None and (strange := sorted(found - set(params.type_map))):
        yield Problem(f"brings in {', '.join(strange)}, which `type_map` lacks")


def name_key(index: int, model: Model) -> str:
    """Return where a model, or its engine, stands in the param file."""
    return f"models[{index}]" + (".engine" if isinstance(model, UnrelaxedModel) else "")


def _check_model(model: Model) -> Iterable[Problem]:
    if isinstance(model, str):
        find_model(model)
    elif isinstance(model, ClusterModel):
        model.read_known()
    elif isinstance(model, UnrelaxedModel):
        return model.engine.check(chemical_symbols[1:])
    return ()


def _check_rank(params: ScreenParams) -> Iterator[Problem]:
    """Hold what is ranked by against the models, where all of them are published ones: what those predict is known."""
    if params.learn is not None:
        yield from _check_learn(params, params.learn)
    if not set(params.surrogates) <= set(UNITS):
        return
    learnt = [params.rank.property] if params.learn else []
    columns = [column_of(model) for model in params.models]
    if params.intercalation is not None:
        yield from params.intercalation.find_unknown([*columns, *([KNOWN] if params.learn else [])])
    check_properties(params.filters, params.rank, [*columns, *learnt])
    wanted = {
        "rank.by": params.rank.by != "mean",
        "filters.max_uncertainty": params.filters.max_uncertainty is not None,
    }
    for key in (key for key, is_wanted in wanted.items() if is_wanted and not learnt):
        yield Problem(
            "needs an uncertainty, which these models do not give; fit an ensemble (al screen fit)",
            key,
        )


def _check_learn(params: ScreenParams, learn: Learn) -> Iterator[Problem]:
    """Yield why nothing could be learnt."""
    name, columns = params.rank.property, [column_of(model) for model in params.models]
    if learn.first == "rank" and set(params.surrogates) <= set(UNITS) and name not in columns:
        yield Problem(f'no model predicts {name!r} before it is learnt; take "random" or "diverse"', "learn.first")
    start = name if name in params.surrogates else next(iter(params.surrogates), None)
    if start == CLASSIFIER and not learn.from_scratch:
        yield Problem(f"{CLASSIFIER} gives a probability, and cannot go on to {name!r}; name another first", "models")
    if learn.max_labels < SMALLEST_KNOWN:
        message = f"{learn.max_labels} labels are too few to learn from; a fit takes {SMALLEST_KNOWN}"
        yield Problem(message, "learn.max_labels", severity="warning")


def _check_table(table: KnownTable) -> None:
    read_known(table)


def _find_engines(params: ScreenParams) -> dict[Calculation, dict[str, Engine]]:
    """Return the engines that label and relax, each by the key that names it."""
    if params.label_engine is None:
        return {}
    found: dict[Calculation, dict[str, Engine]] = {"label": {params.label_key: params.label_engine}}
    relax = params.learn.relax if params.learn else None
    if relax is not None:
        named = f"engines.{relax.engine}" if isinstance(relax.engine, str) else "learn.relax.engine"
        key = params.label_key if relax.engine is None else named
        found["relax"] = {key: params.relax_engine(relax)}
    return found


def _check_engine(report: Report, params: ScreenParams, key: str, engine: Engine) -> None:
    """Check the engine that labels, and write its input for the first crystal of each entry."""
    type_map = params.type_map or ()
    report.collect(lambda: engine.check(type_map), key)
    report.set_by_driver += [f"label: {line}" for line in engine.set_by_driver()] + second_look(engine)
    if not report.errors:
        report.collect(lambda: _write_for_parents(params, engine), key)


def _write_for_parents(params: ScreenParams, engine: Engine) -> None:
    """Find out whether inputs can be written, before candidates are made, which takes long."""
    for entry in params.candidates:
        _, parent = read_parents(entry.path, entry.supercell)[0]
        _label_inputs(params, engine, parent.atoms)


def _label_inputs(params: ScreenParams, engine: Engine, atoms: Atoms) -> dict[str, str]:
    frame = sort_by_type(atoms, params.type_map or ())
    return render_files(lambda folder: engine.write_inputs(frame, folder), "label")


def _render(report: Report, params: ScreenParams, resources: Resources | None) -> None:
    """Make the candidates; tell how many there are and what their labels cost, and show inputs."""
    frames = list[Atoms]()
    for index, entry in enumerate(params.candidates):
        report.collect(lambda entry=entry: _foretell(entry, params, report, frames), f"candidates[{index}]")  # type: ignore[misc]
    if params.learn is not None and not report.errors:
        report.plan += _describe_cost(params, params.learn, resources, len(frames))
        report.collect(lambda: _check_frames(params, frames))
        if (engine := params.label_engine) is not None and not report.errors:
            report.inputs |= _label_inputs(params, engine, frames[0])
    if resources is not None:
        report.inputs |= render_scripts(resources, ["screen", *_find_engines(params)])


def _foretell(entry: CandidateEntry, params: ScreenParams, report: Report, frames: list[Atoms]) -> None:
    """Tell how many candidates an entry comes to, once every charge that a model needs is known.

    Raises
    ------
    ConfigError
        As `make_candidates`; or if a candidate has no charges.
    """
    candidates, counts = make_candidates(entry, params.seed)
    for model in params.baselines:
        if isinstance(model, EwaldModel):
            for candidate in candidates:
                model.share_charges(candidate.atoms)
    report.plan.append(f"{entry.called}: {counts.describe()}")
    frames += map(as_frame, candidates)


def _describe_cost(params: ScreenParams, learn: Learn, resources: Resources | None, n_candidates: int) -> Iterator[str]:
    """Yield what the labels will cost at most, and what is learnt from them."""
    n_labels = min(learn.max_labels, n_candidates)
    n_iterations = -(-n_labels // learn.max_labels_per_iteration)
    each = (
        f"{many(min(learn.max_labels_per_iteration, n_labels), 'label')} in each of {many(n_iterations, 'iteration')}"
    )
    yield f"labels: at most {n_labels} of {many(n_candidates, 'candidate')}, {each}"
    engine = params.label_engine
    if engine is not None and resources is not None:
        argv = (*resources.role("label").argv(engine.default_command), *engine.arguments())
        relaxed = "a relaxation, then " if learn.relax is not None else ""
        yield f"  each: {relaxed}{shlex.join(argv)}"
    n_fits = max(n_iterations + 1 - -(-SMALLEST_KNOWN // learn.max_labels_per_iteration), 0)
    fit, begin = learn.fit, "from random weights" if learn.from_scratch else "from the model's weights"
    yield (
        f"learning: {many(n_fits, 'fit')} of {many(fit.members, 'network')}, at most {many(fit.epochs, 'epoch')} each, "
        f"{begin}; the first from {SMALLEST_KNOWN} labels on, on candidates chosen by {learn.first}"
    )


def _check_frames(params: ScreenParams, frames: list[Atoms]) -> Iterator[Problem]:
    """Yield what is wrong with what labels, for these candidates."""
    if isinstance(params.label, KnownTable):
        values, names = read_known(params.label), find_names(frames)
        n_known = sum(any(name in values for name in own) for own in names.values())
        if not n_known:
            message = f"has no value of a candidate; those are called {frames[0].info['id']} …, or as their files are"
            yield Problem(message, "label.table", params.label.table)
        elif n_known < len(frames):
            message = f"has values of {n_known} of {len(frames)} candidates; others are rejected when they are chosen"
            yield Problem(message, "label.table", params.label.table, severity="warning")
        return
    engine, learn = params.label_engine, params.learn
    assert engine is not None and learn is not None  # noqa: S101  (the schema)
    yield from engine.check_frames({"label": frames})
    n_compositions = len({atoms.get_chemical_formula(empirical=True) for atoms in frames})
    if n_compositions > 1 and learn.reference_energies is None and not params.per_composition:
        message = f"left out: energies per atom of {n_compositions} compositions have no common zero"
        yield Problem(message, "learn.reference_energies", severity="warning")
