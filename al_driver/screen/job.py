"""What the program of surrogates is asked: one file in its folder, written by the driver."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from al_driver.schema.base import Params

Device = Literal["auto", "cpu", "cuda"]


class PredictJob(Params):
    """Predict properties of crystals."""

    do: Literal["predict"] = "predict"
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of published models, absolute paths of others."""
    inputs: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Absolute paths, or patterns."""
    base: Path
    """Paths in the table are relative to this folder where they lie in it."""
    cache: Path | None = None
    """Where graphs are kept."""
    skip: bool = False
    """Leave out what cannot be read."""
    features: bool = False
    """Leave the first model's vectors of the crystals too, in ``features.npz``."""
    device: Device = "auto"
    max_atoms: Annotated[int, Field(ge=1)] | None = None
    """Atoms in a batch."""
