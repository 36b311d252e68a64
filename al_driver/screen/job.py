"""What the program of surrogates is asked: one file in its folder, written by the driver."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from al_driver.schema.base import Bool, Fraction, Int, NonNegativeFloat, Params, PositiveFloat, PositiveInt
from al_driver.screen.baselines.clusters import ClusterModel
from al_driver.screen.baselines.ewald import EwaldModel

Device = Literal["auto", "cpu", "cuda"]
SMALLEST_TRAIN, SMALLEST_VALID, SMALLEST_CALIBRATE = 4, 3, 9  # an interval of 90 % needs nine crystals
SMALLEST_KNOWN = SMALLEST_TRAIN + SMALLEST_VALID + SMALLEST_CALIBRATE
"""With fewer crystals there is no fit."""


class Job(Params):
    """What every job is told."""

    inputs: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Absolute paths, or patterns."""
    base: Path
    """Paths in a table are relative to this folder where they lie in it."""
    cache: Path | None = None
    """Where graphs are kept."""
    skip: Bool = False
    """Leave out what cannot be read."""
    device: Device = "auto"


class PredictJob(Job):
    """Predict properties of crystals."""

    do: Literal["predict"] = "predict"
    models: tuple[str, ...] = ()
    """Names of published models, absolute paths of others."""
    baselines: tuple[Annotated[EwaldModel | ClusterModel, Field(discriminator="model")], ...] = ()
    """What predicts without a network; each input is then a file of frames."""
    features: Bool = False
    """Leave the first model's vectors of the crystals too, in ``features.npz``; counts of pairs where there is none."""
    max_atoms: PositiveInt | None = None
    """Atoms in a batch."""


class Learning(Params):
    """How networks are trained."""

    members: PositiveInt = 4
    """Size of the ensemble."""
    epochs: PositiveInt = 100
    """At most."""
    patience: PositiveInt = 30
    """Epochs without a better validation error after which a training ends."""
    batch_atoms: PositiveInt = 384
    """Atoms in a step, at most."""
    learning_rate: PositiveFloat = 3e-3
    """The largest; it rises for a tenth of the steps, then falls."""
    weight_decay: NonNegativeFloat = 1e-3
    """Of AdamW."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the head's vector that is left out in training, and in the uncertainty "dropout"."""
    freeze: tuple[str, ...] = ()
    """Parts of the network that stay as they are: embedding, convs, convs.0 …"""
    valid: Annotated[Fraction, Field(gt=0, lt=1)] = 0.1
    """Share of the crystals that says when to stop."""
    calibrate: Annotated[Fraction, Field(gt=0, lt=1)] = 0.15
    """Share that no training sees at all: it gives uncertainties their scale."""


class FitSettings(Learning):
    """How one fit is made."""

    seed: Int = 0
    atom_features: PositiveInt = 64
    head_features: PositiveInt = 32
    convolutions: PositiveInt = 3
    hidden: PositiveInt = 1
    """Layers of the head; of a fit from scratch, as the three above."""


class FitJob(Job):
    """Fit a surrogate, from scratch or from another."""

    do: Literal["fit"] = "fit"
    target: str | None = None
    """Which of the known properties; needed where there are several."""
    unit: str = ""
    start: str | None = None
    """The surrogate whose weights are the first."""
    classify: Bool = False
    """The property is 0 or 1."""
    settings: FitSettings
    predict: tuple[Path, ...] = ()
    """Crystals that the surrogate is asked about once it is fitted, as a job that predicts would."""


class EvaluateJob(Job):
    """Compare predictions with known values."""

    do: Literal["evaluate"] = "evaluate"
    model: str
    target: str | None = None


AnyJob = Annotated[PredictJob | FitJob | EvaluateJob, Field(discriminator="do")]
