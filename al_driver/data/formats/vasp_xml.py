"""VASP's vasprun.xml, element by element. Energy: ``e_fr_energy``; virial: ``stress`` (kbar, as "in kB") × volume.

A step counts as converged if it needed fewer electronic steps than NELM. What a killed run left is read up to where
it breaks off. Eight decimals.
"""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from al_driver.data.formats.steps import KBAR_TO_EV_PER_A3, Step, open_stream, parse_float, parse_floats
from al_driver.data.frames import Array, Label
from al_driver.errors import EngineError


def read_vasprun(path: Path) -> Iterator[Step]:
    """Yield each ionic step of a vasprun.xml.

    Raises
    ------
    ValueError
        If it is no vasprun.xml.
    """
    numbers: Array | None = None
    max_steps, number = 0, 0
    info = {"program": "vasp", "version": "unknown"}
    with open_stream(path) as stream:
        try:
            for _, element in ET.iterparse(stream):  # noqa: S314  (a user's own file)
                if element.tag == "generator":
                    info["version"] = _text(element, "i[@name='version']", "unknown")
                elif element.tag == "parameters":
                    max_steps = int(_text(element, ".//i[@name='NELM']", "0"))
                elif element.tag == "atominfo":
                    names = [_text(row, "c", "") for row in element.iterfind("array[@name='atoms']/set/rc")]
                    numbers = np.array([atomic_numbers[name] for name in names])
                elif element.tag == "calculation":
                    number += 1
                    if numbers is None or not max_steps:
                        raise ValueError("no vasprun.xml: it names no atoms or no NELM")
                    yield _read_step(element, numbers, max_steps, info, number, path)
                    element.clear()
        except ET.ParseError as error:
            if not number and numbers is None:
                raise ValueError(f"no XML ({error})") from error
            yield EngineError("no_output", path, f"breaks off in step {number + 1} ({error})")
    if number == 0 and numbers is not None:
        yield EngineError("no_output", path, "the run ended before its first energy")


def _text(element: ET.Element, path: str, otherwise: str) -> str:
    return (element.findtext(path) or otherwise).strip()


def _array(element: ET.Element, path: str) -> Array | None:
    found = element.find(path)
    if found is None:
        return None
    return parse_floats(" ".join(row.text or "" for row in found.iterfind("v")).encode()).reshape(-1, 3)


def _read_step(
    element: ET.Element, numbers: Array, max_steps: int, info: dict[str, str], number: int, path: Path
) -> Step:
    cell = _array(element, "structure/crystal/varray[@name='basis']")
    scaled = _array(element, "structure/varray[@name='positions']")
    forces = _array(element, "varray[@name='forces']")
    stress = _array(element, "varray[@name='stress']")
    energy = _text(element, "energy/i[@name='e_fr_energy']", "")
    n_steps = len(element.findall("scstep"))
    if cell is None or scaled is None or forces is None or not energy:
        return EngineError("no_output", path, f"step {number} lacks its structure, energy or forces")
    if not 0 < n_steps < max_steps:
        detail = f"step {number}: {n_steps} electronic steps, and NELM is {max_steps}"
        return EngineError("scf_unconverged", path, detail)
    atoms = Atoms(numbers, positions=scaled @ cell, cell=cell, pbc=True)
    virial = None if stress is None else stress * KBAR_TO_EV_PER_A3 * atoms.get_volume()
    return Label(atoms, parse_float(energy), forces, virial, dict(info))
