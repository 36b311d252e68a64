"""Reference calculations with CP2K's Quickstep: one energy, a relaxation, or dynamics. eV, eV/Å, eV.

The user's own input is the base; only what belongs to one structure, to where files lie, or to the calculation that is
asked for is set by the driver.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from ase import Atoms
from pydantic import Field

from al_driver.data.frames import Label
from al_driver.engines.base import Calculation, Dynamics, Engine, Relaxation
from al_driver.engines.cp2k import scf
from al_driver.engines.cp2k.base_input import (
    PROJECT,
    REMOVED,
    find_kind,
    find_kinds,
    map_files,
    read_base,
    set_grid,
    set_kind,
    set_output,
    set_structure,
    take_kinds,
)
from al_driver.engines.cp2k.check import (
    FILES,
    Kind,
    ask_cp2k,
    check_elements,
    check_names,
    check_sections,
    find_data_folder,
    is_density_based,
    is_polarised,
    name_of,
)
from al_driver.engines.cp2k.motion import WORDS, set_dynamics, set_relaxation, turn_upright
from al_driver.engines.cp2k.result import INPUT, OUTPUT, SENT, is_done, read_relaxed, read_single, read_trajectory
from al_driver.engines.cp2k.sections import Section, format_sections, read_sections
from al_driver.engines.cp2k.told import describe_told
from al_driver.engines.kpoints import kpoint_grid
from al_driver.errors import ConfigError, EngineError, Problem
from al_driver.files import hash_path
from al_driver.schema.base import PositiveFloat, PositiveInt, UserPath, cross_check
from al_driver.schema.elements import Element
from al_driver.units import Unit

_Name = Annotated[str, Field(pattern=r"^\S+$")]


class Cp2k(Engine):
    """Reference calculation with CP2K (Quickstep)."""

    engine: Literal["cp2k"]
    """CP2K."""
    input: UserPath
    """Your own input of CP2K; its &FORCE_EVAL is kept, structure, motion and print sections are replaced."""
    basis: dict[Element, _Name] = Field(default_factory=dict)
    """An orbital basis set for each element, of the files the input names; or &KIND in the input."""
    potential: dict[Element, _Name] = Field(default_factory=dict)
    """A potential for each element, of the files the input names; or &KIND in the input."""
    kspacing: Annotated[PositiveFloat, Unit("1/Å")] | None = None
    """Largest distance of neighbouring k-points, 2π included. This, ``kpoints``, or &KPOINTS in the input; without
    any the gamma point."""
    kpoints: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    """The same Monkhorst-Pack grid for every structure."""

    can: ClassVar[frozenset[Calculation]] = frozenset({"label", "relax", "aimd"})
    default_command: ClassVar[str] = "cp2k"
    program: ClassVar[str] = "cp2k"
    by_name: ClassVar[frozenset[str]] = frozenset({"kinds"})
    output_name: ClassVar[str] = OUTPUT
    scratch: ClassVar[tuple[str, ...]] = tuple(
        f"{PROJECT}-{pattern}"
        for pattern in ("*.bak-*", "*.Hessian", "*.ener", "*.wfn*", "*.kp*", "*.cell", "*.stress")
    )

    @cross_check
    def _check_one_grid(self) -> "Cp2k":
        if self.kspacing is not None and self.kpoints is not None:
            raise ValueError("`kspacing` and `kpoints` both choose k-points; keep one")
        return self

    def arguments(self) -> tuple[str, ...]:
        return ("-i", INPUT)

    def write_inputs(self, atoms: Atoms, directory: Path) -> None:
        """Write ``cp2k.inp``.

        Raises
        ------
        ConfigError
            If the frame has an element without basis set or potential, or no cell.
        """
        root = self._make_input(atoms)
        set_output(root, "ENERGY_FORCE", has_stress=bool(atoms.pbc.all()))
        _write(root, directory)

    def other_start(self) -> str:
        return "SCF_GUESS RANDOM (ATOMIC where yours is RANDOM), half of MIXING/ALPHA"

    def write_other_start(self, atoms: Atoms, directory: Path) -> None:
        root = self._make_input(atoms)
        set_output(root, "ENERGY_FORCE", has_stress=bool(atoms.pbc.all()))
        scf.start_elsewhere(root)
        _write(root, directory)

    def write_relaxation(self, atoms: Atoms, relaxation: Relaxation, directory: Path) -> None:
        """Write ``cp2k.inp`` of a relaxation.

        Raises
        ------
        ConfigError
            As `write_inputs`; or if a cell is to be relaxed that is not periodic in three directions.
        """
        is_cell = relaxation.what == "cell" and bool(atoms.pbc.all())
        turned = turn_upright(atoms) if is_cell else atoms
        root = self._make_input(turned)
        set_output(root, "CELL_OPT" if is_cell else "GEO_OPT", has_stress=bool(atoms.pbc.all()))
        set_relaxation(root, read_sections(self.input), turned, relaxation)
        numbers = " ".join(f"{number:.17g}" for number in atoms.cell.array.ravel())
        _write(root, directory, f"{SENT} {numbers}\n" if is_cell else "")

    def write_dynamics(self, atoms: Atoms, dynamics: Dynamics, directory: Path) -> None:
        """Write ``cp2k.inp`` of molecular dynamics.

        Raises
        ------
        ConfigError
            As `write_inputs`; or if there is one atom only.
        """
        root = self._make_input(atoms)
        set_output(root, "MD", has_stress=bool(atoms.pbc.all()))
        set_dynamics(root, atoms, dynamics)
        _write(root, directory)

    def is_complete(self, directory: Path) -> bool:
        return is_done(directory / OUTPUT)

    def read_label(self, directory: Path) -> Label:
        return read_single(directory)

    def read_relaxation(self, directory: Path, relaxation: Relaxation) -> Label:
        return read_relaxed(directory, relaxation)

    def read_dynamics(self, directory: Path, dynamics: Dynamics) -> list[tuple[int, Label | EngineError]]:
        return read_trajectory(directory, dynamics)

    def check(self, type_map: Sequence[str]) -> Iterator[Problem]:
        try:
            user = read_sections(self.input)
        except ConfigError as error:
            yield from error.problems
            return
        grid = "kspacing" if self.kspacing is not None else "kpoints" if self.kpoints is not None else None
        for message, severity in check_sections(user, grid):
            yield Problem(f"{self.input}: {message}", key="input", severity=severity)
        yield from check_elements(user, type_map, self._given, self.input.parent)

    def check_program(self, launcher: Sequence[str], env: Mapping[str, str]) -> Iterator[Problem]:
        try:
            user = read_sections(self.input)
        except ConfigError:
            return  # told by `check`
        names = {kind: self._names(user, kind) for kind in FILES}
        symbols = [symbol for symbol in names["basis"] if symbol in names["potential"]]
        dft = user.find("FORCE_EVAL", "DFT")
        if dft is None or (is_density_based(dft) and not symbols):
            return
        data = find_data_folder(launcher, env)
        if data is not None and is_density_based(dft):
            yield from check_names(dft, names, (self.input.parent, data))
        row = Atoms(symbols or ["H"], [(3.0 * index, 0, 0) for index in range(len(symbols) or 1)])
        row.set_cell([3.0 * len(row), 9, 9])
        row.pbc = True
        root = self._make_input(row)
        set_output(root, "ENERGY_FORCE", has_stress=True)
        yield from ask_cp2k(launcher, env, format_sections(root))

    def set_by_driver(self, calculation: Calculation = "label") -> tuple[str, ...]:
        try:
            user = read_sections(self.input)
        except (ConfigError, OSError):
            user = Section("")
        lines = [f"GLOBAL: PROJECT {PROJECT}, RUN_TYPE, PRINT_LEVEL MEDIUM"]
        lines.append("FORCE_EVAL: STRESS_TENSOR ANALYTICAL (yours if NUMERICAL) for cells periodic in three directions")
        lines.append("FORCE_EVAL/PRINT: FORCES and STRESS_TENSOR; DFT/SCF/PRINT: no restart files")
        lines.append("SUBSYS: CELL and COORD, from each structure; DFT/POISSON: PERIODIC likewise")
        if self.basis or self.potential:
            lines.append("SUBSYS/KIND: BASIS_SET and POTENTIAL, from `basis` and `potential`; the rest of yours kept")
        if self.kspacing is not None or self.kpoints is not None:
            lines.append("DFT/KPOINTS: SCHEME MONKHORST-PACK, from your keys; none where the grid is the gamma point")
        found = [
            "/".join((*names, name))
            for names, removed in REMOVED.items()
            for name in removed
            if user.find(*names, name)
            and name not in {"CELL", "COORD"}
            and (name != "MOTION" or calculation != "relax")
        ]
        if found:
            lines.append(f"removed: {', '.join(found)}")
        return (*lines, *WORDS[calculation])

    def tags(self) -> list[str]:
        return scf.keywords_of(read_sections(self.input))

    def with_tags(self, tags: Mapping[str, str], directory: Path) -> Self:
        root = map_files(read_sections(self.input), self.input.parent, lambda path: f'"{path}"')
        return self.model_copy(update={"input": scf.write_changed(root, tags, directory / self.input.name)})

    def accuracy(self, calculation: Calculation = "label") -> dict[str, float]:  # noqa: ARG002
        return scf.thresholds_of(read_base(self.input))

    def told_reference(self) -> dict[str, str]:
        root = read_base(self.input)
        names = {kind: self._names(root, kind) for kind in FILES}
        kinds = {symbol: find_kind(root, symbol) or find_kind(root, "DEFAULT") for symbol in names["potential"]}
        without_u = [symbol for symbol, kind in kinds.items() if kind is None or not kind.find("DFT_PLUS_U")]
        return describe_told(root.find("FORCE_EVAL", "DFT") or Section("DFT"), names, without_u)

    def settings(self, calculation: Calculation = "label") -> dict[str, Any]:
        """Return the user's &FORCE_EVAL as it is used, however it is written, with the content of files beside it."""
        root = read_base(self.input)
        found: dict[str, Any] = {"engine": self.engine, "kspacing": self.kspacing, "kpoints": self.kpoints}
        self._set_kinds(root, sorted({*self.basis, *self.potential}))
        dft = root.find("FORCE_EVAL", "DFT")
        if dft is not None and (own := dft.find("SCF")):
            dft.replace(scf.what_decides(own))
        hashed = map_files(root, self.input.parent, lambda path: f"sha256:{hash_path(path)}")
        found["kinds"] = {name: kind.as_json() for name, kind in take_kinds(hashed).items()}
        found["force_eval"] = (hashed.find("FORCE_EVAL") or Section("")).as_json()
        if calculation == "relax":
            motion = read_sections(self.input).find("MOTION") or Section("")
            found["search"] = {name: s.as_json() for name in ("CELL_OPT", "GEO_OPT") if (s := motion.find(name))}
        return found

    @property
    def _given(self) -> dict[Kind, Collection[str]]:
        return {"basis": self.basis.keys(), "potential": self.potential.keys()}

    def _names(self, user: Section, kind: Kind) -> dict[str, str]:
        """Return the basis set or potential of each element that a key or a &KIND of the input speaks of."""
        own = self.basis if kind == "basis" else self.potential
        kinds = [section.parameter.capitalize() for section in find_kinds(user)]
        symbols = [symbol for symbol in dict.fromkeys([*self.basis, *self.potential, *kinds]) if symbol != "Default"]
        return {symbol: name for symbol in symbols if (name := own.get(symbol) or name_of(user, symbol, kind))}

    def _set_kinds(self, root: Section, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            set_kind(root, symbol, self.basis.get(symbol), self.potential.get(symbol))

    def _make_input(self, atoms: Atoms) -> Section:
        """Return the user's input with a frame, its kinds and its k-points."""
        if atoms.cell.rank < 3:
            raise ConfigError("a structure for CP2K has no cell; put a molecule into a box, with vacuum around it.")
        root = read_base(self.input)
        if atoms.get_initial_magnetic_moments().any() and is_polarised(root.at("FORCE_EVAL", "DFT")):
            words = "a structure gives its atoms moments; CP2K has them by element here, as MAGNETIZATION in &KIND"
            raise ConfigError(Problem(f"{words}. Take them out of the structure file", key="input"))
        symbols = list(dict.fromkeys(atoms.get_chemical_symbols()))
        missing = list(check_elements(root, symbols, self._given, self.input.parent))
        if missing:
            raise ConfigError(missing)
        poisson = root.find("FORCE_EVAL", "DFT", "POISSON")
        if not atoms.pbc.all() and not (poisson and (poisson.values("POISSON_SOLVER") or poisson.values("PSOLVER"))):
            words = "a structure is not periodic in three directions; &DFT/&POISSON must name a POISSON_SOLVER for it"
            raise ConfigError(Problem(words, key="input"))
        self._set_kinds(root, symbols)
        set_structure(root, atoms)
        if self.kpoints is not None or self.kspacing is not None:
            set_grid(root, self.kpoints or kpoint_grid(atoms, self.kspacing or np.inf))
        return map_files(root, self.input.parent, lambda path: f'"{path}"')


def _write(root: Section, directory: Path, head: str = "") -> None:
    (directory / INPUT).write_text(head + format_sections(root), encoding="utf-8")
