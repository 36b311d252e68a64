"""VASP's potentials: read by their heads, checked against the element, joined in the order of a POSCAR.

POTCARs are licensed. A joined file lies once for each composition in ``.potcar/`` of the work folder, readable by its
owner alone, and each calculation has a link to it, which goes when the calculation has been read. Where there is no
work folder it lies in the calculation's own, and goes too. So no POTCAR is in what is packed, gathered or reported.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from al_driver.errors import ConfigError, Problem
from al_driver.layout import WorkFolder
from al_driver.schema.suggest import nearest_file

FOLDER = ".potcar"
LINK = "POTCAR"
_TITLE = re.compile(r"TITEL\s*=\s*(.*\S)")
_ELEMENT = re.compile(r"VRHFIN\s*=\s*([A-Z][a-z]?)")
_NUMBER = r"{}\s*=\s*([-+.\d]+(?:[EeDd][-+]?\d+)?)"


@dataclass(frozen=True)
class Potential:
    """What the head of a POTCAR says.

    Attributes
    ----------
    title
        TITEL, such as ``PAW_PBE Fe_pv 02Aug2007``.
    functional
        LEXCH, such as ``PE``.
    n_electrons
        ZVAL.
    enmax
        The cutoff it was made for, eV.
    """

    element: str
    title: str
    functional: str
    n_electrons: float
    enmax: float
    sha256: str


def read_potential(path: Path) -> Potential:
    """Read one potential.

    Raises
    ------
    ConfigError
        If there is none in the file, or more than one.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(Problem(f"cannot be read: {error.strerror}", file=path)) from error
    text = data.decode("latin-1")
    titles = _TITLE.findall(text)
    if len(titles) > 1:
        raise ConfigError(Problem(f"holds {len(titles)} potentials ({', '.join(titles)}); one was expected", file=path))
    words = titles[0].split() if titles else []
    named = _ELEMENT.search(text)
    element = named[1] if named else re.split(r"[^A-Za-z]", words[1])[0] if len(words) > 1 else ""
    if not element:
        raise ConfigError(Problem("is no POTCAR: no TITEL names an element", file=path))
    numbers = [re.search(_NUMBER.format(name), text) for name in ("ZVAL", "ENMAX")]
    if None in numbers:
        raise ConfigError(Problem("is no POTCAR: it has no ZVAL or no ENMAX", file=path))
    zval, enmax = (float(match[1].replace("D", "E")) for match in numbers if match is not None)
    functional = re.search(r"LEXCH\s*=\s*(\S+)", text)
    titled = re.split(r"[^A-Za-z]", words[1])[0] if len(words) > 1 else element
    if titled != element:
        raise ConfigError(Problem(f"contradicts itself: TITEL {titles[0]!r}, but VRHFIN names {element}", file=path))
    return Potential(
        element, titles[0], functional[1] if functional else "", zval, enmax, hashlib.sha256(data).hexdigest()
    )


def read_of_element(path: Path, symbol: str) -> Potential:
    """Read the potential of an element.

    Raises
    ------
    ConfigError
        If it is not one, or is of another element.
    """
    key = f"potcar.{symbol}"
    if not path.is_file():
        raise ConfigError(Problem(f"{path} does not exist{nearest_file(path)}", key))
    try:
        potential = read_potential(path)
    except ConfigError as error:
        raise ConfigError([Problem(f"{path} {each.message}", key) for each in error.problems]) from error
    if potential.element != symbol:
        raise ConfigError(
            Problem(f"{path} is for {potential.element} (TITEL {potential.title}), not for {symbol}", key)
        )
    return potential


def link_joined(paths: Sequence[Path], directory: Path) -> None:
    """Link ``POTCAR`` in a calculation's folder to the joined file of its potentials, which is made if need be."""
    contents = [path.read_bytes() for path in paths]
    joined = b"".join(data if data.endswith(b"\n") else data + b"\n" for data in contents)
    folder = _find_root(directory) / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / hashlib.sha256(joined).hexdigest()[:32]
    if not target.exists():
        temporary = folder / f".{target.name}.{os.getpid()}.tmp"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:  # noqa: PTH123  (born private)
            stream.write(joined)
        temporary.replace(target)
    link = directory / LINK
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(target, directory))


def _find_root(directory: Path) -> Path:
    """Return the work folder that a calculation lies in, or its own folder."""
    return next((parent for parent in directory.absolute().parents if WorkFolder(parent).history.exists()), directory)
