"""``al check`` of a screening: its crystals, its models, and how many candidates there will be."""

from collections.abc import Iterable, Iterator

from al_driver.errors import Problem
from al_driver.schema.resource import Resources
from al_driver.schema.screen import Model, ScreenParams, column_of
from al_driver.screen.baselines.clusters import ClusterModel
from al_driver.screen.baselines.ewald import EwaldModel
from al_driver.screen.baselines.unrelaxed import UnrelaxedModel
from al_driver.screen.candidates import CandidateEntry, make_candidates
from al_driver.screen.parents import read_parents
from al_driver.screen.properties import UNITS, check_installed, find_model
from al_driver.screen.ranking import check_properties
from al_driver.workflow.check_programs import check_engines_of, check_resources, render_scripts
from al_driver.workflow.report import Report


def check_screen(params: ScreenParams, resources: Resources | None, *, render: bool = False) -> Report:
    """Check the files of ``al screen``; with ``render``, make the candidates, and tell how many there are."""
    report = Report()
    report.collect(check_installed)
    for index, entry in enumerate(params.candidates):
        report.collect(lambda entry=entry: _check_entry(entry), f"candidates[{index}]")  # type: ignore[misc]
    for index, model in enumerate(params.models):
        report.collect(lambda model=model: _check_model(model), name_key(index, model))  # type: ignore[misc]
    report.collect(lambda: _check_rank(params))
    if resources is not None:
        report.collect(lambda: check_resources(resources))
        engines = {
            name_key(index, model): model.engine
            for index, model in enumerate(params.models)
            if isinstance(model, UnrelaxedModel)
        }
        check_engines_of(report, resources, "screen", engines, [])
    if render and not report.errors:
        for index, entry in enumerate(params.candidates):
            report.collect(
                lambda entry=entry: report.plan.append(_foretell(entry, params)),  # type: ignore[misc]
                f"candidates[{index}]",
            )
        if resources is not None:
            report.inputs |= render_scripts(resources, ["screen"])
    return report


def _check_entry(entry: CandidateEntry) -> None:
    read_parents(entry.path, entry.supercell)


def name_key(index: int, model: Model) -> str:
    """Return where a model, or its engine, stands in the param file."""
    return f"models[{index}]" + (".engine" if isinstance(model, UnrelaxedModel) else "")


def _check_model(model: Model) -> Iterable[Problem]:
    if isinstance(model, str):
        find_model(model)
    elif isinstance(model, ClusterModel):
        model.read_known()
    elif isinstance(model, UnrelaxedModel):
        return model.engine.check(tuple(model.engine.magmoms))
    return ()


def _check_rank(params: ScreenParams) -> Iterator[Problem]:
    """Hold what is ranked by against the models, where all of them are published ones: what those predict is known."""
    if not set(params.surrogates) <= set(UNITS):
        return
    check_properties(params.filters, params.rank, [column_of(model) for model in params.models])
    wanted = {
        "rank.by": params.rank.by != "mean",
        "filters.max_uncertainty": params.filters.max_uncertainty is not None,
    }
    for key in (key for key, is_wanted in wanted.items() if is_wanted):
        yield Problem(
            "needs an uncertainty, which these models do not give; fit an ensemble (al screen fit)",
            key,
        )


def _foretell(entry: CandidateEntry, params: ScreenParams) -> str:
    """Return how many candidates an entry comes to, once every charge that a model needs is known.

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
    return f"{entry.called}: {counts.describe()}"
