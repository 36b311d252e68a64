"""Tight binding in place of plane waves, as keys of PWmat's engine."""

from al_driver.engines.pwmat.etot import EtotInput
from al_driver.schema.base import Params, UserPath

_MODEL_WITHOUT_FILES = ["3"]


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
