"""What `tasks/ase_calculation.py` wrote: a line for each frame, and a last line that says how it ended. eV, Å."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from al_driver.data.frames import Label
from al_driver.data.lammps_script import last_lines
from al_driver.errors import EngineError
from al_driver.files import read_tail

INPUT_FILE = "calculation.json"
RESULT_FILE = "result.jsonl"
_LONGEST_END = 8192  # bytes of the last line, which holds a few words

Line = Mapping[str, Any]


def read_end(directory: Path) -> Line | None:
    """Return the last line if it says how the program ended. Cheap: a result may be long."""
    last = read_tail(directory / RESULT_FILE, _LONGEST_END).splitlines()[-1:]
    end = _parse(last[0].decode(errors="replace")) if last else None
    return end if end is not None and "end" in end else None


def require_end(directory: Path, output_name: str) -> Line:
    """Return the last line.

    Raises
    ------
    EngineError
        ``no_output``, with what was printed, where the program did not reach its end.
    """
    end = read_end(directory)
    if end is None:
        detail = f"the calculation did not reach its end; it printed: {last_lines(directory / output_name)}"
        raise EngineError("no_output", directory, detail)
    return end


def read_frames(directory: Path) -> list[Line]:
    """Return the lines of frames, as they were written."""
    text = (directory / RESULT_FILE).read_text(encoding="utf-8", errors="replace")
    parsed = (_parse(line) for line in text.splitlines())
    return [line for line in parsed if line is not None and "step" in line]


def failure(end: Line, directory: Path) -> EngineError:
    """Return what a last line says of a calculation that failed."""
    steps = end.get("steps")
    after = f" (after step {steps})" if steps else ""
    return EngineError(end["reason"], directory, f"{end['detail']}{after}")


def read_sent(directory: Path) -> Atoms:
    """Return the structure that was sent, with the moments and tags that it brought."""
    return Atoms(**json.loads((directory / INPUT_FILE).read_text(encoding="utf-8"))["atoms"])


def make_label(sent: Atoms, line: Line, end: Line, directory: Path) -> Label:
    """Return a frame's label; the virial is −stress × volume.

    Raises
    ------
    EngineError
        ``not_finite``, where a number is none.
    """
    atoms = sent.copy()
    atoms.set_cell(line["cell"])
    atoms.positions = line["positions"]
    energy, forces = float(line["energy"]), np.array(line["forces"], dtype=float)
    virial = None
    if line["stress"] is not None and atoms.pbc.all():
        virial = -atoms.get_volume() * np.array(line["stress"], dtype=float)
    if not (np.isfinite(energy) and np.isfinite(forces).all() and (virial is None or np.isfinite(virial).all())):
        raise EngineError("not_finite", directory, "energy, a force or the stress is not a finite number")
    info = {"program": end["program"], "version": end["version"]}
    if "magmoms" in line:
        info["magmoms"] = line["magmoms"]
    return Label(atoms, energy, forces, virial, info)


def _parse(line: str) -> Line | None:
    """Return a line's content; None of half a line, of a program that was killed."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
