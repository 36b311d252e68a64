"""What to label: the keys under ``query``."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from al_driver.schema.base import Fraction, Params, PositiveFloat, PositiveInt

Metric = Literal["max_force", "mean_force", "max_virial", "relative_force"]


class QueryParams(Params):
    """How unsure the models must be of a frame before it is calculated, and how many frames are."""

    uncertainty: Literal["committee", "kpu"] = "committee"
    """Where the score comes from. committee: the spread of several trainings. kpu: one training with a Kalman filter
    (LKF), whose covariance says what the data left undetermined."""
    metric: Metric = "max_force"
    """The score of a frame: largest or mean deviation of the atoms' forces (eV/Å), the largest of the virial
    (eV/atom), or the largest relative deviation of a force (no unit)."""
    relative_epsilon: PositiveFloat | None = None
    """Added to a force before it divides its deviation, eV/Å; needed by, and only by, ``relative_force``."""
    lower: PositiveFloat
    """Below it a frame is accurate. eV/Å for forces, eV/atom for the virial, no unit for relative."""
    upper: PositiveFloat
    """From it on a frame has failed; between the two it is a candidate."""
    max_select: PositiveInt = 20
    """Most frames of a structure that an iteration labels."""
    max_labels_per_iteration: PositiveInt | None = None
    """Most frames an iteration labels."""
    max_labels: PositiveInt | None = None
    """Most frames the whole run labels; it ends when they are spent."""
    converged_fraction: Annotated[Fraction, Field(gt=0)] = 0.02
    """A stage has converged when candidates and failed frames together fall below this share."""
    choose: Literal["random", "largest"] = "random"
    """Which candidates are labelled when there are more than the limits allow."""

    @model_validator(mode="after")
    def _check_window(self) -> "QueryParams":
        if self.lower >= self.upper:
            raise ValueError(f"`lower` ({self.lower:g}) must be below `upper` ({self.upper:g})")
        if (self.metric == "relative_force") != (self.relative_epsilon is not None):
            raise ValueError('`relative_epsilon` (eV/Å) belongs to the metric "relative_force", and only to it')
        return self

    def selection_identity(self) -> dict[str, Any]:
        """Return, as JSON, what decides the selection of one iteration; stop rules are not in it."""
        return self.model_dump(mode="json", exclude={"max_labels", "converged_fraction"})
