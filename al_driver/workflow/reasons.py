"""Why a run has not converged, in a reason that a person can act on; from what its iterations measured. eV/Å."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from al_driver.query.params import QueryParams

STILL_FALLING = 0.9
"""Errors fall where the later half of the iterations has less than this share of the errors of the earlier half."""
MOSTLY = 0.5
FAR = 3
"""A target is out of reach where it is more iterations away than so many times those that were run."""
WORSE = 1.25
"""So many times the errors of the models before, and a model is worse than they are."""


@dataclass(frozen=True)
class Seen:
    """What one iteration measured."""

    trained: dict[str, Any]
    explored: dict[str, Any]
    queried: dict[str, Any]
    labelled: dict[str, Any]
    audited: dict[str, Any] | None

    @property
    def error(self) -> float:
        """The median error of its audit frames; without a target the force RMSE of its models."""
        if self.audited and self.audited["frames"]:
            return float(statistics.median(frame["error"] for frame in self.audited["frames"]))
        return float(self.trained["force_rmse"])


def find_reason(seen: Sequence[Seen], query: QueryParams, short_training: int | None = None) -> str:
    """Return what stands in the way, and what to do; the most certain reason first.

    ``short_training`` is `Trainer.short_training`.
    """
    last = seen[-1]
    queried, explored = last.queried, last.explored
    n_trajectories = max(explored["trajectories"], 1)
    broken = explored.get("halted", 0) + explored.get("crashed", 0) + explored["failed"]
    tried = sum(one.labelled["labelled"] + one.labelled["rejected"] for one in seen)
    rejected = sum(one.labelled["rejected"] for one in seen)
    if tried and rejected > MOSTLY * tried:
        return (
            f"{rejected} of {tried} calculations failed or were refused: look into rejected.jsonl and mend the "
            "reference's settings first"
        )
    if broken > MOSTLY * n_trajectories or queried["failed"] > MOSTLY * max(queried["frames"], 1):
        return (
            f"failures dominate ({broken} of {explored['trajectories']} trajectories ended early, {queried['failed']} "
            f"of {queried['frames']} frames failed): begin with lower temperatures, shorter runs or more first data"
        )
    if not queried["selected"]:
        window = "widen the window" if not query.has_target else "raise `max_select` or `max_labels`"
        return f"nothing was labelled in the last iteration, so that the models cannot improve: {window}"
    about_errors = _about_errors(seen, last.audited["target"] if last.audited else None)
    if short_training is None:
        return about_errors
    return f"{about_errors}. But {short_training} training steps are few: raise train.steps or numb_steps first"


def _about_errors(seen: Sequence[Seen], target: float | None) -> str:
    """Say whether more labels help: whether errors still fall, and fast enough to reach a target."""
    errors = [one.error for one in seen]
    half = len(errors) // 2
    course = " → ".join(f"{error:.3g}" for error in (errors[0], errors[-1]))
    ratio = statistics.median(errors[-half:]) / max(statistics.median(errors[:half]), 1e-300) if half else 0.0
    if half and ratio >= STILL_FALLING:
        return (
            f"errors no longer fall ({course} eV/Å in {len(errors)} iterations): more labels alone will not help. "
            "Train longer, use a larger net, cut-off or `sel`, tighten the reference (noisy labels), or ask for less"
        )
    if half and target is not None and errors[-1] > target:
        rate = -math.log(max(ratio, 1e-300)) / (len(errors) - half)
        n_more = math.ceil(math.log(errors[-1] / target) / rate)
        if n_more > FAR * len(errors):
            return (
                f"errors fall ({course} eV/Å in {len(errors)} iterations), but at this pace {target:g} is some "
                f"{n_more} iterations away: out of reach. Ask for less, train longer, or use a larger net or cut-off"
            )
    how = "errors still fall" if half else "one iteration is too few"
    return (
        f"{how} ({course} eV/Å): too few labels so far. Raise max_repeats or max_select, or add a stage, and run again"
    )


def why_worse(final: Mapping[str, Any], last: Mapping[str, Any]) -> str | None:
    """Say by what the final model is worse than those of the last iteration, which learnt from less; None if it is not.

    Both are what a training says of its errors on validation data: energies eV/atom, forces eV/Å.
    """
    if final["on"] != "valid" or last["on"] != "valid":
        return None
    names = {"energy_rmse": ("energy RMSE", 1e3, "meV/atom"), "force_rmse": ("force RMSE", 1.0, "eV/Å")}
    worse = [
        f"{name} {factor * final[key]:.3g} {unit}, and {factor * last[key]:.3g} theirs"
        for key, (name, factor, unit) in names.items()
        if final[key] > WORSE * last[key]
    ]
    if not worse:
        return None
    return f"worse than the models of the last iteration: {'; '.join(worse)}. Raise train.steps.final, and run again"
