"""Reference calculations with PWmat: one SCF, a relaxation, or dynamics; with plane waves or DFTB. eV, eV/Å, eV.

The user's own ``etot.input`` is the base, one for everything or one for each calculation; only what belongs to one
structure, to where files lie, or to the calculation that is asked for is set by the driver. DFTB inside PWmat
(``USE_DFTB``) reads Slater–Koster files from the folder ``IN.SKF`` instead of pseudopotentials; the first number of
``DFTB_DETAIL`` chooses the model (3 needs no files). Its other numbers are described in PWmat's own manual, which is
not public as text: they are the user's, as they are. Source: pwact/utils/app_lib/pwmat.py and the inputs of
example/si_dftb of github.com/LonxunQuantum/PWact.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from ase import Atoms
from pydantic import Field

from al_driver.data.formats.pwmat import ETOT, read_etot, told_in
from al_driver.data.frames import Array, Label
from al_driver.engines.base import Calculation, Dynamics, Engine, InputFiles, Relaxation
from al_driver.engines.kpoints import kpoint_grid
from al_driver.engines.motion import draw_velocities
from al_driver.engines.pwmat.atom_config import ATOM_CONFIG, starts_with_spin, write_atom_config
from al_driver.engines.pwmat.check import (
    KNOWN,
    check_input,
    check_k_points,
    check_numbered,
    check_slater_koster,
    elements_of,
)
from al_driver.engines.pwmat.etot import (
    BY_POTENTIAL,
    SCRATCH_OUTPUTS,
    EtotInput,
    format_etot_input,
    numbers_of,
    read_etot_input,
    renumber,
    start_elsewhere,
    thresholds_of,
    write_changed,
)
from al_driver.engines.pwmat.motion import JOBS, MDOPT, WORDS, make_dynamics, make_relaxation, mdopt_text, search_of
from al_driver.engines.pwmat.params import Dftb
from al_driver.engines.pwmat.result import STDOUT, has_ended, read_relaxed, read_scf, read_trajectory
from al_driver.engines.upf import check_upf
from al_driver.errors import ConfigError, EngineError, Problem
from al_driver.schema.base import PositiveFloat, PositiveInt, UserPath, cross_check, identity
from al_driver.schema.elements import Element
from al_driver.schema.suggest import nearest
from al_driver.units import Unit

_SKF = "in_skf"
_OF_MOTION = ("RELAX_DETAIL", "MD_DETAIL", "MD_SPECIAL", MDOPT, "IN.RELAXOPT")
_KEEPS_SYMMETRY = (["0"], ["1"])  # last number of MP_N123; 0 where there is none
_SYMMETRY: dict[Calculation, int] = {
    "label": 0,
    "relax": 0,
    "aimd": 3,
}  # 3: time reversal only; velocities break others


class Pwmat(Engine):
    """Reference calculation with PWmat."""

    engine: Literal["pwmat"]
    """PWmat."""
    input: InputFiles
    """Your own etot.input, or one for each of label, relax and aimd; structure, potentials and JOB are replaced."""
    pseudopotentials: dict[Element, UserPath] = Field(default={})
    """A UPF file for each element."""
    dftb: Dftb | None = None
    """Tight binding in place of plane waves."""
    kspacing: Annotated[PositiveFloat, Unit("1/Å")] | None = None
    """Largest distance of neighbouring k-points, 2π included. This, ``kpoints``, or MP_N123 in the input."""
    kpoints: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    """The same Monkhorst-Pack grid, without a shift, for every structure."""

    can: ClassVar[frozenset[Calculation]] = frozenset({"label", "relax", "aimd"})
    default_command: ClassVar[str] = "PWmat"
    program: ClassVar[str] = "pwmat"
    by_name: ClassVar[frozenset[str]] = frozenset({"pseudopotentials"})
    output_name: ClassVar[str] = STDOUT
    scratch: ClassVar[tuple[str, ...]] = (
        "*.UPF", _SKF, "IN.*", "OUT.[!M]*", "OUT.M[!L]*", "*STEPS", "final.config", "ORIGIN.INDEX", "bpsiiofil*",
        STDOUT,  # repeats REPORT; its last line is told where something went wrong
    )  # fmt: skip

    @cross_check
    def _check_across(self) -> "Pwmat":
        if self.kspacing is not None and self.kpoints is not None:
            raise ValueError("`kspacing` and `kpoints` both choose k-points; keep one")
        if not self.pseudopotentials and self.dftb is None:
            raise ValueError("needs `pseudopotentials`, a UPF file for each element, or `dftb`")
        return self

    def arguments(self) -> tuple[str, ...]:
        return ()

    def write_inputs(self, atoms: Atoms, directory: Path) -> None:
        """Write ``etot.input``, ``atom.config``, and links to the potentials.

        Raises
        ------
        ConfigError
            If the frame has an element without a potential, or no cell; PWmat is always periodic.
        """
        self._write(atoms, directory, "label", read_etot_input(self.input.label), {})

    def other_start(self) -> str | None:
        return "half of KERK_AMIX, another RANDOM_SEED" if self.dftb is None else None

    def write_other_start(self, atoms: Atoms, directory: Path) -> None:
        user = read_etot_input(self.input.label)
        self._write(atoms, directory, "label", user, start_elsewhere(user))

    def write_relaxation(self, atoms: Atoms, relaxation: Relaxation, directory: Path) -> None:
        """Write the input of a relaxation.

        Raises
        ------
        ConfigError
            As `write_inputs`; or if a cell is to be relaxed that is not periodic in three directions.
        """
        user = read_etot_input(self.input.of("relax"))
        self._write(atoms, directory, "relax", user, make_relaxation(user, atoms, relaxation))

    def write_dynamics(self, atoms: Atoms, dynamics: Dynamics, directory: Path) -> None:
        """Write the input of molecular dynamics.

        Raises
        ------
        ConfigError
            As `write_inputs`; or if there is one atom only.
        """
        velocities = draw_velocities(atoms, dynamics)
        user = read_etot_input(self.input.of("aimd"))
        self._write(atoms, directory, "aimd", user, make_dynamics(dynamics), velocities)
        (directory / MDOPT).write_text(mdopt_text(dynamics), encoding="utf-8")

    def is_complete(self, directory: Path) -> bool:
        return has_ended(directory)

    def read_label(self, directory: Path) -> Label:
        return read_scf(directory)

    def read_relaxation(self, directory: Path, relaxation: Relaxation) -> Label:
        return read_relaxed(directory, relaxation)

    def read_dynamics(self, directory: Path, dynamics: Dynamics) -> list[tuple[int, Label | EngineError]]:
        return read_trajectory(directory, dynamics)

    def check(self, type_map: Sequence[str]) -> Iterator[Problem]:
        for symbol in type_map if self.dftb is None else ():
            if symbol not in self.pseudopotentials:
                yield self._no_potential(symbol)
        for symbol, path in self.pseudopotentials.items():
            yield from check_upf(symbol, path)
        if self.dftb is not None and self.dftb.slater_koster is not None:
            yield from check_slater_koster(self.dftb.slater_koster, type_map)
        for calculation in JOBS:
            if calculation == "label" or getattr(self.input, calculation) is not None:
                yield from self._check_input(calculation)

    def set_by_driver(self, calculation: Calculation = "label") -> tuple[str, ...]:
        try:
            user = read_etot_input(self.input.of(calculation))
        except ConfigError:
            user = EtotInput()
        potentials = (
            "USE_DFTB = T, DFTB_DETAIL and IN.SKF" if self.dftb else "IN.PSP1, IN.PSP2 … in its elements' order"
        )
        grid = f"; MP_N123 with {_SYMMETRY[calculation]} for symmetry"
        if "MP_N123" in user.keys:
            grid = "; 3 at the end of your MP_N123, since velocities break symmetry" if calculation == "aimd" else ""
        removed = sorted(key for key in user.keys if key in _OF_MOTION and calculation == "label")
        lines = [
            *WORDS[calculation],
            f"IN.ATOM, from each structure, with the first moments of its atoms; {potentials}{grid}",
            f"OUT.FORCE and OUT.STRESS = T; {', '.join(SCRATCH_OUTPUTS)} = F",
            *([f"{', '.join(removed)} removed: nothing moves in an SCF"] if removed else []),
        ]
        return tuple(lines)

    def tags(self) -> frozenset[str]:
        return KNOWN | read_etot_input(self.input.label).keys.keys()

    def with_tags(self, tags: Mapping[str, str], directory: Path) -> Self:
        path = write_changed(self.input.label, tags, directory, self.tags())
        return self.model_copy(update={"input": self.input.model_copy(update={"label": path})})

    def accuracy(self, calculation: Calculation = "label") -> dict[str, float]:
        return thresholds_of(read_etot_input(self.input.of(calculation)))

    def told_reference(self) -> dict[str, str]:
        return told_in(read_etot(self.input.of("label"))) if self.dftb is None else {"USE_DFTB": "T"}

    def settings(self, calculation: Calculation = "label") -> dict[str, Any]:
        user = read_etot_input(self.input.of(calculation))
        grid: Any = user.words("MP_N123")[:6] or self.kpoints
        return {
            "engine": self.engine,
            "input": numbers_of(user, elements_of(user, self.pseudopotentials), moves=calculation != "label"),
            "pseudopotentials": identity(self.pseudopotentials) if self.dftb is None else {},
            "dftb": identity(self.dftb and self.dftb.slater_koster),
            "dftb_detail": "" if self.dftb is None else self.dftb.detail_of(user).replace(",", " ").split(),
            "kpoints": list(grid) if grid else self.kspacing,
            **(search_of(user) if calculation == "relax" else {}),
        }

    def _check_input(self, calculation: Calculation) -> Iterator[Problem]:
        key, path = self.input.key_of(calculation, "input"), self.input.of(calculation)
        try:
            user = read_etot_input(path)
        except ConfigError as error:
            yield from (Problem(problem.message, key=key) for problem in error.problems)
            return
        grid = "kspacing" if self.kspacing is not None else "kpoints" if self.kpoints is not None else None
        uses_dftb = self.dftb is not None
        for message, severity in (
            *check_input(user, calculation, is_own=not self.input.is_one, uses_dftb=uses_dftb),
            *check_k_points(user, grid),
            *check_numbered(user, self.pseudopotentials),
        ):
            yield Problem(f"{path}: {message}", key=key, severity=severity)
        if self.dftb is not None and not self.dftb.detail_of(user):
            yield Problem(f"nothing says DFTB_DETAIL; give `detail`, or the line in {path}", key="dftb.detail")
        elif self.dftb is not None and self.dftb.slater_koster is None and self.dftb.needs_files(user):
            message = f"DFTB_DETAIL = {self.dftb.detail_of(user)} needs Slater–Koster files; name their folder"
            yield Problem(message, key="dftb.slater_koster")

    def _no_potential(self, symbol: str) -> Problem:
        hint = nearest(symbol, self.pseudopotentials, otherwise="there are")
        return Problem(f"no pseudopotential for {symbol} of the type_map{hint}", key="pseudopotentials")

    def _write(
        self,
        atoms: Atoms,
        directory: Path,
        calculation: Calculation,
        user: EtotInput,
        motion: dict[str, str],
        velocities: Array | None = None,
    ) -> None:
        species = list(dict.fromkeys(atoms.get_chemical_symbols()))
        missing = [symbol for symbol in species if symbol not in self.pseudopotentials]
        if missing and self.dftb is None:
            raise ConfigError(self._no_potential(missing[0]))
        if atoms.cell.rank < 3:
            raise ConfigError("a structure for PWmat has no cell; put a molecule into a box, with vacuum around it.")
        keys = {"JOB": JOBS[calculation], "IN.ATOM": ATOM_CONFIG, **motion}
        if self.dftb is None:
            for number, symbol in enumerate(species, 1):
                keys[f"IN.PSP{number}"] = f"{symbol}.UPF"
                (directory / f"{symbol}.UPF").symlink_to(self.pseudopotentials[symbol])
            keys |= renumber(user, elements_of(user, self.pseudopotentials), species)
        else:
            keys |= {"USE_DFTB": "T", "DFTB_DETAIL": self.dftb.detail_of(user)}
            if self.dftb.slater_koster is not None and self.dftb.needs_files(user):
                keys["IN.SKF"] = f"./{_SKF}/"
                _link_files(self.dftb.slater_koster, directory / _SKF)
        keys["MP_N123"] = self._grid(atoms, calculation, user)
        keys |= {"OUT.MLMD": "T" if calculation == "label" else "F", "OUT.FORCE": "T", "OUT.STRESS": "T"}
        keys |= dict.fromkeys(SCRATCH_OUTPUTS, "F")
        kept = {key: value for key, value in user.keys.items() if key not in _OF_MOTION and not _is_place(key)}
        has_moments = starts_with_spin(user.value("SPIN"), atoms, self.input.key_of(calculation, "input"))
        write_atom_config(directory / ATOM_CONFIG, atoms, velocities, has_moments=has_moments)
        (directory / ETOT).write_text(format_etot_input(user.nodes, kept | keys), encoding="utf-8")

    def _grid(self, atoms: Atoms, calculation: Calculation, user: EtotInput) -> str:
        own = user.words("MP_N123")
        if own:
            breaks = calculation == "aimd" and own[6:] in ([], *_KEEPS_SYMMETRY)
            return " ".join([*own[:6], str(_SYMMETRY["aimd"])] if breaks else own)
        if self.kpoints is None and self.kspacing is None:
            raise ConfigError(Problem("nothing chooses k-points; give `kspacing` or `kpoints`", key="kspacing"))
        grid = self.kpoints or kpoint_grid(atoms, self.kspacing or np.inf)
        return f"{grid[0]} {grid[1]} {grid[2]} 0 0 0 {_SYMMETRY[calculation]}"


def _is_place(key: str) -> bool:
    """Say whether a key names files of the user's, or counts potentials in the user's order."""
    return key == "IN.SKF" or key.startswith("IN.PSP") or bool(BY_POTENTIAL.fullmatch(key))


def _link_files(folder: Path, target: Path) -> None:
    """Make a folder of links to the files of another; a link to the folder itself would not go with the attempt."""
    target.mkdir()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            link = target / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
