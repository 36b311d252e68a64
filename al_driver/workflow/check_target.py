"""What an input costs in labels, and whether a wanted force error can be had at all: before anything runs."""

from collections import Counter
from collections.abc import Iterable, Iterator

from al_driver.errors import Problem
from al_driver.explorers.base import Trajectory
from al_driver.explorers.sweep import entries_of, structure_names
from al_driver.query.calibration import audits_needed
from al_driver.query.verdict import closing_size
from al_driver.schema.run import RunParams
from al_driver.words import many


def explored_structures(params: RunParams) -> list[str]:
    """Return the names of the structures that any stage explores, in the order of the entries."""
    names = structure_names(params.explore)
    used = {i for stage in params.explore.iterations for job in stage.jobs for i in entries_of(params.explore, job)}
    return [names[index] for index in sorted(used)]


def check_target(params: RunParams) -> Iterator[Problem]:
    """Yield why a wanted force error cannot be had, or not be shown, with this input."""
    query = params.query
    if not query.has_target:
        return
    yield from params.explore.check_forces()
    needed, known = audits_needed(query.coverage), _audits_by_iteration(params)
    if sum(known) < needed:
        message = f"{query.coverage:g} needs {needed} audit frames for a bound, and all iterations together draw"
        yield Problem(f"{message} {sum(known)}; raise `audit` or `max_repeats`, or lower `coverage`", "query.coverage")
    elif len(known) == 1:
        message = "bounds are set by audits of earlier iterations, and there is a single one; raise `max_repeats`"
        yield Problem(message, "explore.iterations[0].max_repeats")
    elif sum(known[:-1]) < needed:
        message = (
            f"the bound of {query.coverage:g} needs {needed} audit frames, and before the last iteration there are"
        )
        yield Problem(f"{message} {sum(known[:-1])}; raise `audit` or `max_repeats`", "query.audit")
    n_structures = len(explored_structures(params))
    closing = closing_size(query.max_bad_fraction, query.confidence, n_structures) * n_structures
    if query.max_labels is not None and query.max_labels < closing + needed:
        message = f"{query.max_labels} is too few: the closing audit alone takes {closing} labels, and a bound {needed}"
        yield Problem(message, "query.max_labels")
    most = query.max_labels_per_iteration
    if most is not None and most <= max(known, default=0):
        message = f"{most} leaves nothing to learn from: an iteration has up to {max(known)} audit frames"
        yield Problem(message, "query.max_labels_per_iteration")


def describe_target(params: RunParams) -> Iterator[str]:
    """Yield, in words, how many labels it takes to bound the errors, and to show that the run has converged."""
    query = params.query
    if not query.has_target:
        return
    known, names = _audits_by_iteration(params), explored_structures(params)
    size, second, third = (
        closing_size(query.max_bad_fraction, query.confidence, len(names), look) for look in (1, 2, 3)
    )
    yield (
        f"audit: {many(query.audit, 'frame')} of each structure in each iteration, "
        f"{many(sum(known), 'label')} in {many(len(known), 'iteration')} at most; "
        f"a bound of {query.coverage:g} needs {audits_needed(query.coverage)}"
    )
    yield (
        f"closing audit: {many(size, 'frame')} of each of {many(len(names), 'structure')}, "
        f"{many(size * len(names), 'label')}: with none above "
        f"the target, fewer than {query.max_bad_fraction:.2g} of frames are, at {query.confidence:.0%} confidence; "
        f"a second look, after one that fails, takes {second} of each, a third {third}"
    )


def most_labels(params: RunParams, trajectories: Iterable[Trajectory]) -> int:
    """Return the largest number of frames that an iteration of these trajectories can choose."""
    query = params.query
    frames: Counter[str] = Counter()
    for trajectory in trajectories:
        frames[trajectory.structure] += trajectory.job.n_steps // trajectory.job.dump_every
    own = dict(zip(structure_names(params.explore), params.explore.structures, strict=True))
    audits = query.audit if query.has_target else 0
    total = sum(min(count, (own[name].max_select or query.max_select) + audits) for name, count in frames.items())
    limits = (query.max_labels, query.max_labels_per_iteration)
    return min(total, *(limit or total for limit in limits))


def _audits_by_iteration(params: RunParams) -> list[int]:
    """Return how many audit frames each iteration draws, every stage repeated as often as it may be."""
    counts = []
    for stage in params.explore.iterations:
        used = {index for job in stage.jobs for index in entries_of(params.explore, job)}
        counts += [params.query.audit * len(used)] * stage.max_repeats
    return counts
