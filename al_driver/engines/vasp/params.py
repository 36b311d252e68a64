"""Keys of VASP's engine that are objects: an INCAR for each calculation."""

from pathlib import Path

from al_driver.engines.base import Calculation
from al_driver.schema.base import Params, UserPath

CALCULATIONS: tuple[Calculation, ...] = ("label", "relax", "aimd")


class IncarFiles(Params):
    """An INCAR for each calculation; the label's serves those that are left out."""

    label: UserPath
    """For labels."""
    relax: UserPath | None = None
    """For relaxations; the label's when left out."""
    aimd: UserPath | None = None
    """For molecular dynamics; the label's when left out."""

    def of(self, calculation: Calculation) -> Path:
        """Return the INCAR of a calculation."""
        own: Path | None = getattr(self, calculation)
        return own or self.label


def incar_of(files: Path | IncarFiles, calculation: Calculation) -> Path:
    """Return the INCAR of a calculation; one file serves all."""
    return files if isinstance(files, Path) else files.of(calculation)
