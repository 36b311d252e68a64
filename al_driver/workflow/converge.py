"""Whether a stage looks done: by the share of unsure frames or, with a target, by its newest audit."""

from typing import Any

from al_driver.query.params import QueryParams
from al_driver.query.verdict import MOST_BROKEN

MOST_OUTSIDE = 3.0
"""A frame is above the scores of n like it with probability 1 / (n + 1); so many times as many are still no change."""


def why_open(
    explored: dict[str, Any], queried: dict[str, Any], query: QueryParams, audited: dict[str, Any] | None = None
) -> str | None:
    """Say why a stage is not done; None when it is.

    Without a target it is when candidate and failed frames fall below a share. Frames that a guard cut away are not
    among those counted, so that a stage most of whose trajectories ended early is open whatever their few sound frames
    say.

    Parameters
    ----------
    explored, queried
        Results of the steps of the stage's newest iteration.
    audited
        With a target: what its audits showed.
    """
    if queried["frames"] == 0:
        return "no frame could be scored"
    reason = _why_unsure(queried, query) if audited is None else _why_unproven(queried, query, audited)
    if reason:
        return reason
    broken = explored.get("halted", 0) + explored.get("crashed", 0) + explored["failed"]
    if broken > MOST_BROKEN * explored["trajectories"]:
        return f"{broken} of {explored['trajectories']} trajectories ended early"
    return None


def _why_unsure(queried: dict[str, Any], query: QueryParams) -> str | None:
    unsure = (queried["candidate"] + queried["failed"]) / queried["frames"]
    return f"{unsure:.0%} of frames unsure" if unsure >= query.converged_fraction else None


def _why_unproven(queried: dict[str, Any], query: QueryParams, audited: dict[str, Any]) -> str | None:
    """Say why the errors cannot be small enough yet; a closing audit has the last word."""
    calibration, frames = queried["calibration"], queried["frames"]
    factor = calibration["factor"]
    if factor is None:
        return f"no error bound yet: {calibration['n_audits']} of {calibration['n_needed']} audits were known"
    if not audited["audits"]:
        return "no audit frame has a label"
    if audited["missed_target"]:
        return (
            f"{audited['missed_target']} of {audited['audits']} audit frames miss the target of "
            f"{audited['target']:g} eV/Å; the largest error is {audited['largest_error']:.3g}"
        )
    shares = {
        "failed": (queried["failed"], query.max_bad_fraction),
        "with an error bound above the target": (queried["above_target"], query.max_bad_fraction),
        "outside the scores that were calibrated": (
            queried["outside"], max(query.max_bad_fraction, MOST_OUTSIDE / (factor["n"] + 1))
        ),
    }  # fmt: skip
    for what, (count, most) in shares.items():
        if count > most * frames:
            return f"{count / frames:.0%} of frames {what}"
    return None
