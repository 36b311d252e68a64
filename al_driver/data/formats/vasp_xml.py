"""VASP's vasprun.xml, element by element. Energy: ``e_fr_energy``; virial: ``stress`` (kbar, as "in kB") × volume.

A step counts as converged if it needed fewer electronic steps than NELM, and the energy last changed by less than
EDIFF. Before NELM, VASP ends where the changes of energy and eigenvalues are below EDIFF, or where it is told to
(LABORT), which the change of the energy must exclude: that of the eigenvalues is not in this file (``bandstr`` is that
of the first and last step alone).
What a killed run left is read up to where it breaks off. Eight decimals.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from al_driver.data.formats.steps import KBAR_TO_EV_PER_A3, Step, open_stream, parse_float, parse_floats
from al_driver.data.formats.vasp_head import ML_STEP, NO_EDIFF, is_on, told_in_vasprun
from al_driver.data.frames import Array, Label
from al_driver.data.reference import REFERENCE, format_reference
from al_driver.errors import EngineError

_ROUNDED = 2e-8  # energies and EDIFF are printed with eight decimals


@dataclass
class _Run:
    """What stands at the head of a run."""

    numbers: Array | None = None
    max_steps: int = 0
    ediff: float | None = None
    has_learned: bool = False
    """Whether VASP learns, or uses, a force field."""
    info: dict[str, str] = field(default_factory=lambda: {"program": "vasp", "version": "unknown"})


def read_vasprun(path: Path) -> Iterator[Step]:
    """Yield each ionic step of a vasprun.xml.

    Raises
    ------
    ValueError
        If it is no vasprun.xml.
    """
    run, number, parameters = _Run(), 0, ET.Element("parameters")
    incar: ET.Element | None = None
    with open_stream(path) as stream:
        try:
            for _, element in ET.iterparse(stream):  # noqa: S314  (a user's own file)
                if element.tag == "generator":
                    run.info["version"] = _text(element, "i[@name='version']", "unknown")
                elif element.tag == "incar":
                    incar, run.has_learned = element, is_on(element, "ML_LMLFF")
                elif element.tag == "parameters":
                    run.has_learned |= is_on(element, "ML_LMLFF")
                    parameters = element
                    run.max_steps = int(_text(element, ".//i[@name='NELM']", "0"))
                    ediff = element.findtext(".//i[@name='EDIFF']")
                    run.ediff = parse_float(ediff) if ediff else None
                elif element.tag == "atominfo":
                    names = [_text(row, "c", "") for row in element.iterfind("array[@name='atoms']/set/rc")]
                    run.numbers = np.array([atomic_numbers[name] for name in names])
                    run.info[REFERENCE] = format_reference(told_in_vasprun(incar, parameters, element))
                elif element.tag == "calculation":
                    number += 1
                    if run.numbers is None or not run.max_steps:
                        raise ValueError("no vasprun.xml: it names no atoms or no NELM")
                    yield _read_step(element, run.numbers, run, number, path)
                    element.clear()
        except ET.ParseError as error:
            if not number and run.numbers is None:
                raise ValueError(f"no XML ({error})") from error
            yield EngineError("no_output", path, f"breaks off in step {number + 1} ({error})")
    if number == 0 and run.numbers is not None:
        yield EngineError("no_output", path, "the run ended before its first energy")


def _text(element: ET.Element, path: str, otherwise: str) -> str:
    return (element.findtext(path) or otherwise).strip()


def _array(element: ET.Element, path: str) -> Array | None:
    found = element.find(path)
    if found is None:
        return None
    return parse_floats(" ".join(row.text or "" for row in found.iterfind("v")).encode()).reshape(-1, 3)


def _read_step(element: ET.Element, numbers: Array, run: _Run, number: int, path: Path) -> Step:
    cell = _array(element, "structure/crystal/varray[@name='basis']")
    scaled = _array(element, "structure/varray[@name='positions']")
    forces = _array(element, "varray[@name='forces']")
    stress = _array(element, "varray[@name='stress']")
    energy = _text(element, "energy/i[@name='e_fr_energy']", "")
    if cell is None or scaled is None or forces is None or not energy:
        return EngineError("no_output", path, f"step {number} lacks its structure, energy or forces")
    if any(table is not None and table.shape != (3, 3) for table in (cell, stress)):
        return EngineError("no_output", path, f"step {number}: its cell or stress is not whole")
    if run.has_learned and element.find("scstep") is None:
        return EngineError("no_output", path, f"step {number}: {ML_STEP}")
    unconverged = _why_unconverged(element, run)
    if unconverged:
        return EngineError("scf_unconverged", path, f"step {number}: {unconverged}")
    atoms = Atoms(numbers, positions=scaled @ cell, cell=cell, pbc=True)
    virial = None if stress is None else stress * KBAR_TO_EV_PER_A3 * atoms.get_volume()
    return Label(atoms, parse_float(energy), forces, virial, dict(run.info))


def _why_unconverged(element: ET.Element, run: _Run) -> str:
    energies = [parse_float(_text(each, "energy/i[@name='e_fr_energy']", "nan")) for each in element.iterfind("scstep")]
    if not energies:
        return "no electronic step is told, so nothing shows that it converged"
    if not len(energies) < run.max_steps:
        return f"{len(energies)} electronic steps, and NELM is {run.max_steps}"
    if len(energies) < 2:
        return "one electronic step, which shows no change of the energy"
    if run.ediff is None:
        return NO_EDIFF
    change = abs(energies[-1] - energies[-2])
    if not change <= 1.1 * run.ediff + _ROUNDED:
        return f"the energy still changed by {change:.1e} eV; EDIFF is {run.ediff:g}"
    return ""
