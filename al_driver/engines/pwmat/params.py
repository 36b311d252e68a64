"""Keys of PWmat's engine that are objects: an input for each calculation, and tight binding in place of plane waves."""

from pathlib import Path
from typing import Any

from al_driver.engines.base import Calculation
from al_driver.engines.pwmat.etot import EtotInput
from al_driver.schema.base import Params, UserPath

_MODEL_WITHOUT_FILES = ["3"]


class EtotInputs(Params):
    """An ``etot.input`` for each calculation."""

    label: UserPath
    """Of labels, and of what has none of its own."""
    relax: UserPath | None = None
    """Of relaxations."""
    aimd: UserPath | None = None
    """Of molecular dynamics."""

    def of(self, calculation: Calculation) -> Path:
        """Return the input of a calculation."""
        own: Path | None = getattr(self, calculation)
        return own or self.label


class Dftb(Params):
    """Density-functional tight binding inside PWmat, in place of plane waves."""

    slater_koster: UserPath | None = None
    """The folder of Slater–Koster files; left out only where DFTB_DETAIL begins with 3."""
    detail: str | None = None
    """DFTB_DETAIL, such as "1, 1, 0, 500, 1e-5, 1, 1"; that of your input when left out."""

    def detail_of(self, user: EtotInput) -> str:
        """Return DFTB_DETAIL as it is written; nothing where nobody says it."""
        return self.detail or user.keys.get("DFTB_DETAIL", "")

    def needs_files(self, user: EtotInput) -> bool:
        """Say whether the model reads Slater–Koster files."""
        return self.detail_of(user).replace(",", " ").split()[:1] != _MODEL_WITHOUT_FILES


def as_inputs(value: Any) -> Any:
    """Let one path stand for the input of every calculation."""
    return {"label": value} if isinstance(value, str | Path) else value
