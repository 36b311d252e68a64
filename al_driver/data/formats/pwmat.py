"""PWmat's MOVEMENT. Energy: Ep (without the kinetic energy of the ions); forces: minus the column "-force".

Virial: minus the column "stress (eV)", which is +dE/dstrain; the block "Pressure Internal" of the same file has the
other sign, and the programs of PWmat's makers turn it too. (dpdata 1.1 keeps the sign, and takes 1602 for 1602.18.)
The file says how many electronic steps a frame took, not how many it was allowed: that stands in an ``etot.input``
beside it, as cutoff and functional do; `MOST_STEPS` are PWmat's own limits.
A frame that says nothing of them is refused: nothing shows that it converged, or that there was an SCF at all, since
the force fields of PWmat's makers write the same file. OUT.MLMD, which an SCF writes, is one frame of the same kind, at
the time -1. Relaxations number their steps from 0, say "stress:" in older versions, "stress (eV/natom)" where it is of
an atom, and nothing of electronic steps.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms

from al_driver.data.formats.steps import Step, lines_after, open_bytes, parse_float, parse_floats
from al_driver.data.frames import Array, Label
from al_driver.data.reference import REFERENCE, Told, format_reference, round_number
from al_driver.errors import EngineError

ETOT = "etot.input"
MOST_STEPS = (100, 40)
"""Electronic steps PWmat allows in the first calculation of a run, and in each after it."""
_HEAD = re.compile(rb"^ *(\d+) +atoms, *Iteration[^=\n]*=\s*(\S+?),[^\n]*$", re.MULTILINE)
_ENERGIES = re.compile(rb"Etot,Ep,Ek[^=]*=\s*(\S+)\s+(\S+)\s+(\S+)")
_SCF = re.compile(rb"SCF\s*=\s*([1-9]\d*)")
_LIMITS = re.compile(r"^ *SCF_ITER([01])_\d+ *= *(\d+)", re.MULTILINE | re.IGNORECASE)
_TAG = r"(?mi)^ *{} *= *([^\s#!]+)"
_STRESS = re.compile(rb"stress[^:\n]*:")
_PER_ATOM = re.compile(rb"stress *\(eV/natom\)", re.IGNORECASE)


def read_movement(path: Path, *, needs_count: bool = True, method: str = "it") -> Iterator[Step]:
    """Yield each frame of a MOVEMENT; an ``etot.input`` beside it says how many electronic steps were allowed.

    Parameters
    ----------
    needs_count
        Refuse a frame that does not say how many it took.
    method
        What is to converge, for a message.

    Raises
    ------
    ValueError
        If it is none.
    """
    text, heads = _read_heads(path)
    etot = read_etot(path.with_name(ETOT))
    most_steps, told = limits_in(etot), format_reference(told_in(etot))
    for number, (head, end) in enumerate(
        zip(heads, [*(head.start() for head in heads[1:]), len(text)], strict=True), 1
    ):
        unconverged = _why_unconverged(head, most_steps, method if needs_count else "")
        step = _read_frame(head, text[head.end() : end], number, path)
        if unconverged and isinstance(step, Label):
            step = EngineError("scf_unconverged", path, f"step {number}: {unconverged}")
        yield replace(step, info=step.info | {REFERENCE: told}) if told and isinstance(step, Label) else step


def read_etot(path: Path) -> str:
    """Return the text of an ``etot.input``; nothing where there is none."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def limits_in(text: str) -> tuple[int, int]:
    """Return how many electronic steps an ``etot.input`` allows the first calculation of a run, and each after it;
    PWmat's own where it says nothing."""
    first, later = (
        sum(int(steps) for number, steps in _LIMITS.findall(text) if number == which) for which in ("0", "1")
    )
    return first or MOST_STEPS[0], later or MOST_STEPS[1]


def told_in(text: str) -> Told:
    """Return what an ``etot.input`` tells of the reference: cutoff (Ry), functional where it is named, whether DFTB."""
    if not text.strip():
        return {}
    found = {name: re.search(_TAG.format(name), text) for name in ("ECUT", "XCFUNCTIONAL", "USE_DFTB")}
    tags = {name: match[1].upper() for name, match in found.items() if match}
    if tags.get("USE_DFTB", "F").strip(".").startswith("T"):
        return {"USE_DFTB": "T"}
    waves = {"ECUT": round_number(tags.get("ECUT", ""), 1), "XCFUNCTIONAL": tags.get("XCFUNCTIONAL", "")}
    return {"USE_DFTB": "F"} | {name: value for name, value in waves.items() if value}


def read_times(path: Path) -> list[float]:
    """Return the time of each frame, fs; the number of the step where a relaxation wrote them.

    Raises
    ------
    ValueError
        If it is no MOVEMENT.
    """
    return [parse_float(head[2]) for head in _read_heads(path)[1]]


def _read_heads(path: Path) -> tuple[bytes, list[re.Match[bytes]]]:
    with open_bytes(path) as opened:
        text = bytes(opened)
    heads = list(_HEAD.finditer(text))
    if not heads:
        raise ValueError("no MOVEMENT: no line `N atoms,Iteration`")
    return text, heads


def _why_unconverged(head: re.Match[bytes], most_steps: tuple[int, int], method: str) -> str:
    electronic = _SCF.search(head[0])
    if electronic is None:
        words = f"no number of electronic steps is told, so nothing shows that {method} converged"
        return words if method else ""
    most = most_steps[parse_float(head[2]) > 0]
    return f"{int(electronic[1])} electronic steps, and PWmat's limit is {most}" if int(electronic[1]) >= most else ""


def _read_frame(head: re.Match[bytes], block: bytes, number: int, path: Path) -> Step:
    n_atoms = int(head[1])
    energies = _ENERGIES.search(head[0])
    lattice = _table(block, b"Lattice vector", 3)
    sites = _table(block, b"\n Position", n_atoms)
    forces = _table(block, b"\n Force", n_atoms)
    if energies is None or lattice is None or sites is None or forces is None:
        return EngineError("no_output", path, f"step {number} is not whole")
    if not (sites[:, 0] == forces[:, 0]).all():
        return EngineError("no_output", path, f"step {number}: its forces are not of the atoms of its positions")
    cell = lattice[:, :3]
    atoms = Atoms(sites[:, 0].astype(int), positions=sites[:, 1:4] @ cell, cell=cell, pbc=True)
    share = n_atoms if _PER_ATOM.search(block) else 1
    virial = -share * lattice[:, 3:6] if lattice.shape[1] >= 6 else None
    return Label(atoms, parse_float(energies[2]), -forces[:, 1:4], virial, {"program": "pwmat"})


def _table(block: bytes, title: bytes, n_rows: int) -> Array | None:
    """Return the numbers of the rows under a title; None where they are not all there, or more than they."""
    start = block.find(title)
    if start < 0:
        return None
    *rows, end = _STRESS.sub(b" ", lines_after(block, start + 1, 0, n_rows + 1)).split(b"\n", n_rows)
    lengths = {len(row.split()) for row in rows}
    if len(rows) < n_rows or len(lengths) > 1 or np.isfinite(parse_float(*end.split()[:1] or [b"end"])):
        return None
    values = parse_floats(b"\n".join(rows))
    return values.reshape(n_rows, -1) if values.size == n_rows * lengths.pop() else None
