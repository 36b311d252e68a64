"""What to label: the keys under ``query``."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from al_driver.schema.base import (
    Bool,
    Fraction,
    NonNegativeFloat,
    Params,
    PositiveFloat,
    PositiveInt,
    cross_check,
    hold_against,
)
from al_driver.units import Unit

Metric = Literal["max_force", "mean_force", "max_virial", "relative_force"]
Uncertainty = Literal["committee", "kpu"]
Share = Annotated[Fraction, Field(gt=0, lt=1)]
ForceError = Annotated[PositiveFloat, Unit("eV/Å")]
Score = Annotated[PositiveFloat, Unit("eV/Å (eV/atom for max_virial, a share for relative_force)")]
STOP_RULES = {"max_labels", "converged_fraction", "max_bad_fraction", "confidence", "stop_when_converged"}
"""Keys that decide when a run ends, and not what an iteration selects."""
ONLY_WITH_TARGET = ("coverage", "max_bad_fraction", "confidence", "audit", "stop_when_converged")
COMPARISON_KEYS = {
    "score_power": ("diverse",),
    "worst_atoms": ("diverse", "lookahead"),
    "shortlist": ("diverse", "lookahead"),
}
"""Keys that only a choice which compares candidates reads, and which do."""


class QueryParams(Params):
    """How unsure the models must be of a frame before it is calculated, and how many frames are."""

    uncertainty: Uncertainty = "committee"
    """Where the score comes from. committee: the spread of several trainings. kpu: one training with a Kalman filter
    (LKF), whose covariance says what the data left undetermined."""
    metric: Metric = "max_force"
    """The score of a frame: largest or mean deviation of the atoms' forces (eV/Å), the largest of the virial
    (eV/atom), or the largest relative deviation of a force (no unit)."""
    relative_epsilon: PositiveFloat | None = None
    """Added to a force before it divides its deviation, eV/Å; needed by, and only by, ``relative_force``."""
    lower: Score | None = None
    """Below it a frame is accurate. eV/Å for forces, eV/atom for the virial, no unit for relative."""
    upper: Score | None = None
    """From it on a frame has failed; between the two it is a candidate."""
    target_force_error: ForceError | dict[str, ForceError] | None = None
    """In place of a window: the largest error of an atom's force that is wanted, eV/Å; a number, or one per element."""
    coverage: Share = 0.9
    """With a target: the share of frames for which the error bound of a score is to hold."""
    max_bad_fraction: Share = 0.05
    """With a target: the largest share of frames that may miss it when the run has converged."""
    confidence: Share = 0.95
    """With a target: the confidence of that statement."""
    audit: PositiveInt = 5
    """With a target: frames of each structure that an iteration draws at random and labels, to measure errors."""
    stop_when_converged: Bool = True
    """With a target: a stage ends when its errors are small enough, and the run when a last audit confirms it."""
    max_select: PositiveInt = 20
    """Most frames of a structure that an iteration labels."""
    max_labels_per_iteration: PositiveInt | None = None
    """Most frames an iteration labels."""
    max_labels: PositiveInt | None = None
    """Most frames the whole run labels; it ends when they are spent."""
    converged_fraction: Annotated[Fraction, Field(gt=0)] = 0.02
    """A stage has converged when candidates and failed frames together fall below this share."""
    choose: Literal["random", "largest", "diverse", "lookahead"] = "random"
    """Which candidates are labelled when there are more than the limits allow. diverse: those whose worst atoms have
    the largest scores and the environments farthest from what is trained on and from each other. lookahead, with the
    uncertainty "kpu": the largest uncertainty that is left when the forces chosen before are known."""
    score_power: NonNegativeFloat = 1.0
    """diverse: γ in score^γ · distance; 0 lets the distance alone decide."""
    worst_atoms: PositiveInt = 3
    """diverse, lookahead: how many atoms, those the models are least sure of, stand for a frame."""
    shortlist: PositiveInt = 20
    """diverse, lookahead: how many candidates are compared for each frame that may be chosen: the best of as many
    stretches of the trajectories. A look ahead compares no more than 4,000 in all, unless more may be chosen."""

    @cross_check
    def _check_across(self) -> "QueryParams":
        return hold_against(self, (*self._find_window(), *self._find_unread()))

    def _find_window(self) -> Iterator[str]:
        """Yield what is wrong with the window, or the target in its place."""
        if self.target_force_error is None:
            missing = [f"`{name}`" for name in ("lower", "upper") if getattr(self, name) is None]
            if missing:
                yield f"{' and '.join(missing)} missing; give both, or `target_force_error` in their place"
            if self.lower is not None and self.upper is not None and self.lower >= self.upper:
                yield f"`lower` ({self.lower:g}) must be below `upper` ({self.upper:g})"
            for name in ONLY_WITH_TARGET:
                if getattr(self, name) != type(self).model_fields[name].default:
                    yield f"`{name}` belongs to `target_force_error`, which is not there"
            return
        if self.lower is not None or self.upper is not None:
            yield "`target_force_error` takes the place of `lower` and `upper`; give one or the other"
        if self.metric not in ("max_force", "mean_force"):
            yield f'`target_force_error` needs the metric "max_force" or "mean_force", not {self.metric!r}'
        if self.target_force_error == {}:
            yield "`target_force_error` is empty; give a number, or one per element"

    def _find_unread(self) -> Iterator[str]:
        """Yield keys without which others make no sense, and keys that nothing reads."""
        if (self.metric == "relative_force") != (self.relative_epsilon is not None):
            yield '`relative_epsilon` (eV/Å) belongs to the metric "relative_force", and only to it'
        for name in sorted(self._unread_keys()):
            if getattr(self, name) != type(self).model_fields[name].default:
                choices = " and ".join(f'"{choice}"' for choice in COMPARISON_KEYS[name])
                yield f'`{name}` belongs to "choose": {choices}; found "{self.choose}"'
        if self.choose == "lookahead" and self.uncertainty != "kpu":
            yield '"choose": "lookahead" needs the covariance of one model: add "uncertainty": "kpu"'

    def _unread_keys(self) -> set[str]:
        """Return the keys of `COMPARISON_KEYS` that this choice does not read."""
        return {name for name, choices in COMPARISON_KEYS.items() if self.choose not in choices}

    @property
    def compares(self) -> bool:
        """Candidates are compared with each other, which needs more than their scores."""
        return self.choose in ("diverse", "lookahead")

    def selection_identity(self) -> dict[str, Any]:
        """Return, as JSON, what decides the selection of one iteration; stop rules are not in it."""
        left_out = STOP_RULES if self.has_target else STOP_RULES | {"target_force_error", *ONLY_WITH_TARGET}
        return self.model_dump(mode="json", exclude=left_out | self._unread_keys())

    @property
    def has_target(self) -> bool:
        """Whether errors are measured and bounded, in place of a window."""
        return self.target_force_error is not None

    def targets(self, type_map: Sequence[str]) -> dict[str, float]:
        """Return the wanted force error of each element, eV/Å; there must be a target."""
        target = self.target_force_error
        if isinstance(target, dict):
            return {element: target[element] for element in type_map}
        return dict.fromkeys(type_map, float(target or 0.0))
