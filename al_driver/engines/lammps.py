"""Reference calculation with LAMMPS: any pair style as the truth. Energies eV, forces eV/Å, virial eV (units metal).

It stands for DFT where a laptop must do, and labels with a potential one trusts. A potential file that is not given is
taken from the ``lammps`` package's own. The virial is −stress × volume, configurational: what ``compute pressure NULL
virial`` gives in bar, times the volume, over LAMMPS' own conversion factor.
"""

import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from al_driver.data.frames import Label
from al_driver.data.lammps import boundary, read_dump, read_rotation, write_data
from al_driver.data.lammps_script import find_refused, has_ended, last_lines, read_error, read_version
from al_driver.engines.base import Calculation, Engine
from al_driver.errors import EngineError, Problem
from al_driver.files import hash_json, hash_path
from al_driver.jobs.processes import find_program
from al_driver.schema.base import UserPath
from al_driver.schema.elements import TypeMap
from al_driver.templates import render, templates_dir
from al_driver.units import LAMMPS_METAL_NKTV2P

UNWRAPPED = """\
libraries=$1 program=$2
shift 2
if [ "$(command -v "$1")" -ef "$0" ]; then
  shift
  export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$libraries"
  exec "$program" "$@"
fi
exec "$@"
"""
"""Starts what a wrapper ($0) wraps, if that wrapper is what the task's own PATH finds; otherwise what it finds."""
INPUT_FILE = "in.lammps"
DATA_FILE = "structure.data"
FORCES_FILE = "forces.lammpstrj"


class LammpsEngine(Engine):
    """LAMMPS with a pair style of the user's choice."""

    default_command: ClassVar[str] = "lmp"

    engine: Literal["lammps"]
    pair_style: str
    """Arguments of ``pair_style``, e.g. "sw"."""
    pair_coeff: tuple[str, ...] = ()
    """Arguments of each ``pair_coeff``, e.g. "* * Si.sw Si"; elements in the order of ``type_map``."""
    files: tuple[UserPath, ...] = ()
    """Potential files that ``pair_coeff`` names; one that is not given is taken from the lammps package."""
    elements: TypeMap | None = None
    """The element of each atom type, where ``pair_coeff`` does not end in their names."""
    commands: tuple[str, ...] = ()
    """Lines for the input after ``pair_coeff``, e.g. "pair_modify tail yes"."""

    def write_inputs(self, atoms: Atoms, directory: Path) -> None:
        """Write the data file and the input.

        Raises
        ------
        EngineError
            ``species_mismatch`` if the frame has an element that the pair style was not given.
        """
        unknown = sorted(set(atoms.get_chemical_symbols()) - set(self._types))
        if unknown:
            message = f"the frame has {', '.join(unknown)}, the pair style only {' '.join(self._types)}"
            raise EngineError("species_mismatch", directory, message)
        values = {
            "boundary": boundary(atoms.pbc),
            "data_file": DATA_FILE,
            "forces_file": FORCES_FILE,
            "pair_style": self._with_paths(self.pair_style),
            "pair_coeff": [self._with_paths(line) for line in self.pair_coeff],
            "commands": [self._with_paths(line) for line in self.commands],
        }
        write_data(directory / DATA_FILE, atoms, self._types)
        text = render(templates_dir() / "lammps" / "label.in.j2", values)
        (directory / INPUT_FILE).write_text(text, encoding="utf-8")

    def arguments(self) -> tuple[str, ...]:
        return ("-in", INPUT_FILE, "-log", "none", "-nocite")

    def command(self, launcher: Sequence[str]) -> tuple[str, ...]:
        """Return the command line; the wheel's ``lmp`` is replaced by the program that it wraps.

        The wrapper is a Python script that loads every plugin, 2 s of 2.1 for a small frame, and a pair style of
        LAMMPS' own needs none. Whether the wrapper is meant is asked again where the task runs, in its environment.
        """
        unwrapped = _unwrap(launcher[-1]) if "deepmd" not in self.pair_style else ()
        return super().command((*launcher[:-1], *unwrapped, launcher[-1]))

    def is_complete(self, directory: Path) -> bool:
        return has_ended(directory / self.output_name)

    def read_label(self, directory: Path) -> Label:
        output = directory / self.output_name
        if not has_ended(output):
            error = read_error(output)
            reason = last_lines(output)
            raise EngineError("engine_error" if error else "no_output", directory, error or f"LAMMPS stopped: {reason}")
        frames = list(read_dump(directory / FORCES_FILE, None, self._types))
        numbers = dict(re.findall(r"^al_(\w+) (.+)$", output.read_text(errors="replace"), re.MULTILINE))
        if len(frames) != 1 or not {"energy", "pressure", "volume"} <= set(numbers):
            raise EngineError("no_output", directory, f"LAMMPS ended without forces or energy: {last_lines(output)}")
        rotation = read_rotation(directory / DATA_FILE)
        atoms = rotation.restore(frames[0][1])
        forces = atoms.arrays.pop("forces")
        xx, yy, zz, xy, xz, yz = (float(word) for word in numbers["pressure"].split())
        pressure = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        virial = rotation.restore_tensor(pressure * float(numbers["volume"]) / LAMMPS_METAL_NKTV2P)
        energy = float(numbers["energy"])
        if not (np.isfinite(energy) and np.isfinite(forces).all() and np.isfinite(virial).all()):
            raise EngineError("not_finite", directory, "energy, a force or the virial is not a finite number")
        info = {"program": "LAMMPS", "version": read_version(output)}
        return Label(atoms, energy, forces, virial if all(rotation.pbc) else None, info)

    def check(self, type_map: Sequence[str]) -> Iterator[Problem]:
        named = self._types
        if not named:
            yield Problem(
                f'`pair_coeff` names no elements; say which they are: "elements": {_quoted(type_map)}', "elements"
            )
        elif tuple(type_map) != named:
            message = f"`{self._names_key}` names the elements {' '.join(named)}, type_map is {' '.join(type_map)}"
            yield Problem(f"{message}; both need the same elements in the same order", self._names_key)
        for index, path in enumerate(self.files):
            if not path.is_file():
                yield Problem(f"potential file {path} does not exist", f"files[{index}]")
        for index, line in enumerate(self.pair_coeff):
            yield from self._check_words(line, f"pair_coeff[{index}]")
        for key, lines in (("pair_style", (f"pair_style {self.pair_style}",)), ("commands", self.commands)):
            for refused in find_refused("\n".join(lines)):
                yield Problem(f"the line {refused!r} may run other programs, and is refused", key)

    def set_by_driver(self, calculation: Calculation = "label") -> tuple[str, ...]:  # noqa: ARG002
        return ("units metal, atom_style atomic, boundary, box, masses, run 0 and what is printed",)

    def identity(self) -> str:
        """Return a hash of the pair style with the content of its potential files, wherever they lie."""
        words = {word for line in (self.pair_style, *self.pair_coeff, *self.commands) for word in line.split()}
        paths = {word: path for word in sorted(words) if (path := self._find(word)) is not None}
        content = {
            "engine": self.engine,
            "pair_style": self.pair_style,
            "pair_coeff": self.pair_coeff,
            "commands": self.commands,
            "elements": self._types,
            "files": {word: hash_path(path) for word, path in paths.items()},
        }
        return hash_json(content)

    @property
    def _types(self) -> tuple[str, ...]:
        """The element of each atom type, in order."""
        if self.elements is not None:
            return self.elements
        endings = [_trailing_names(line) for line in self.pair_coeff]
        longest = max((len(names) for names in endings), default=0)
        columns = zip(*(names for names in endings if len(names) == longest), strict=True)
        chosen = [next((name for name in column if name != "NULL"), "NULL") for column in columns]
        return tuple(chosen) if "NULL" not in chosen and len(set(chosen)) == len(chosen) else ()

    @property
    def _names_key(self) -> str:
        return "pair_coeff" if self.elements is None else "elements"

    def _find(self, word: str) -> Path | None:
        """Return the file that a word of ``pair_coeff`` means."""
        given = {path.name: path for path in self.files}
        if word in given:
            return given[word]
        folder = potentials_dir()
        path = folder / word if folder is not None and Path(word).name == word else None
        return path if path is not None and path.is_file() else None

    def _with_paths(self, line: str) -> str:
        paths = ((word, self._find(word)) for word in line.split())
        return " ".join(word if path is None else f'"{path}"' for word, path in paths)

    def _check_words(self, line: str, key: str) -> Iterator[Problem]:
        tail = _trailing_names(line)[-len(self._types) :]
        fits = len(tail) == len(self._types) and all(a in ("NULL", b) for a, b in zip(tail, self._types, strict=True))
        if tail and not fits:
            yield Problem(f"{line!r} ends in {' '.join(tail)}; expected {' '.join(self._types)}", key)
        for word in line.split():
            if _is_file_name(word) and word not in self.pair_style.split() and self._find(word) is None:
                yield Problem(f"potential file {word!r} is neither in `files` nor in the lammps package", key)


def potentials_dir() -> Path | None:
    """Return the folder of potentials in the ``lammps`` package, which is found without importing it."""
    spec = importlib.util.find_spec("lammps")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "share" / "lammps" / "potentials"
    return folder if folder.is_dir() else None


def _trailing_names(line: str) -> tuple[str, ...]:
    """Return the element names (or NULL) at the end of a ``pair_coeff * *`` line."""
    words = line.split()
    if words[:2] != ["*", "*"]:
        return ()
    names: list[str] = []
    while words and (words[-1] == "NULL" or atomic_numbers.get(words[-1], 0) > 0):
        names.insert(0, words.pop())
    return tuple(names)


def _is_file_name(word: str) -> bool:
    """Say whether a word looks like a file: it has a slash, or a dot and is no number."""
    try:
        float(word)
    except ValueError:
        return "/" in word or "." in word
    return False


def _quoted(names: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def _unwrap(name: str) -> tuple[str, ...]:
    """Return what to put before a program's name to start what the lammps wheel's ``lmp`` script wraps."""
    found, wrapper, folder = find_program(name), Path(sys.executable).parent / "lmp", potentials_dir()
    if found is None or folder is None or Path(found) != wrapper:
        return ()
    program, libraries = folder.parents[2] / "lmp", Path(sys.prefix) / "lib"
    if not program.is_file() or not (libraries / "libmpi.so.12").exists():
        return ()
    return "/bin/sh", "-c", UNWRAPPED, str(wrapper), str(libraries), str(program)
