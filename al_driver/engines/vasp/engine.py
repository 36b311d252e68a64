"""Reference calculations with VASP: one SCF, a relaxation, or dynamics. eV, eV/Å, eV.

The user's INCAR is the base; only what belongs to one structure, to where files lie, or to the calculation that is
asked for is set by the driver. VASP is always periodic.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from ase import Atoms
from pydantic import Field

from al_driver.data.frames import Array, Label
from al_driver.engines.base import Calculation, CalculationFiles, Dynamics, Engine, InputFiles, Relaxation
from al_driver.engines.motion import check_relaxable, draw_velocities
from al_driver.engines.sites import Site, check_sites, check_tags
from al_driver.engines.vasp import grid as kgrid
from al_driver.engines.vasp import motion
from al_driver.engines.vasp.incar import EDIFF, Tags, format_incar, known_tags, number, read_incar, write_changed
from al_driver.engines.vasp.lint import functionals, lint, lint_apart, lint_ldau, lint_potentials, lint_size, lint_spin
from al_driver.engines.vasp.poscar import Layout, make_layout, write_poscar
from al_driver.engines.vasp.potentials import FOLDER, LINK, Potential, link_joined, read_of_element
from al_driver.engines.vasp.result import VASPRUN, choose_output, is_done, read_relaxed, read_single, read_trajectory
from al_driver.engines.vasp.sites import Hubbard, charge_tags, has_spin, hubbard_tags, magnetic_tags, split_sites
from al_driver.engines.vasp.told import told_of
from al_driver.errors import ConfigError, EngineError, Problem
from al_driver.files import hash_path
from al_driver.schema.base import Float, Name, PositiveFloat, UserPath, cross_check, identity
from al_driver.schema.elements import Element
from al_driver.schema.suggest import nearest, nearest_file
from al_driver.units import Unit


class Vasp(Engine):
    """Reference calculation with VASP."""

    engine: Literal["vasp"]
    """VASP."""
    incar: InputFiles
    """Your own INCAR, or one each for label, relax and aimd; its tags are kept but for those of motion."""
    incar_of: dict[Name, InputFiles] = Field(default={})
    """Other INCARs for the frames of some structures, by the name of their entry in ``structures``."""
    potcar: Annotated[dict[Element, UserPath], Field(min_length=1)]
    """A POTCAR of one potential for each element; they are joined in the order of each structure."""
    kspacing: Annotated[PositiveFloat, Unit("1/Å")] | None = None
    """Largest distance of neighbouring k-points, 2π included. This, ``kpoints``, or KSPACING in the INCAR."""
    kpoints: UserPath | None = None
    """Your own KPOINTS, the same for every structure."""
    magmoms: dict[Site, Float] = Field(default={})
    """First magnetic moment of an element's atoms, μ_B; ``Fe1`` are atoms with the tag 1. A moment that a structure
    file gives an atom comes first."""
    ldau: dict[Site, Hubbard] = Field(default={})
    """Hubbard U of an element's atoms; ``Fe1`` are atoms with the tag 1."""
    charge: Annotated[Float, Unit("e")] | None = None
    """Charge of each cell; NELECT follows from the potentials."""

    can: ClassVar[frozenset[Calculation]] = frozenset({"label", "relax", "aimd"})
    default_command: ClassVar[str] = "vasp_std"
    program: ClassVar[str] = "vasp"
    by_name: ClassVar[frozenset[str]] = frozenset({"potcar", "incar_of"})
    output_name: ClassVar[str] = "vasp.out"
    scratch: ClassVar[tuple[str, ...]] = (
        LINK, FOLDER, kgrid.NAME, VASPRUN, "OSZICAR", "CONTCAR", "XDATCAR", "CHG", "CHGCAR",
        "WAVECAR", "DOSCAR", "EIGENVAL", "IBZKPT", "PCDAT", "PROCAR", "REPORT", "HILLSPOT", "ICONST", "PENALTYPOT",
        "LOCPOT", "ELFCAR", "AECCAR*", "vaspout.h5", "vaspwave.h5", "STOPCAR", "ML_*",
    )  # fmt: skip

    @cross_check
    def _check_across(self) -> "Vasp":
        if self.kspacing is not None and self.kpoints is not None:
            raise ValueError("`kspacing` and `kpoints` both choose k-points; keep one")
        return self

    def arguments(self) -> tuple[str, ...]:
        return ()

    def write_inputs(self, atoms: Atoms, directory: Path) -> None:
        """Write INCAR, POSCAR and KPOINTS, and link POTCAR.

        Raises
        ------
        ConfigError
            If the frame has an element without a potential or no cell, or a potential is of another element.
        """
        self._write(atoms, directory, "label", dict(motion.LABEL))

    def other_start(self) -> str:
        return "INIWAV = 0 (1 where yours is 0), half of AMIX"

    def write_other_start(self, atoms: Atoms, directory: Path) -> None:
        self._write(atoms, directory, "label", motion.other_start_tags(self._read_incar("label", atoms)))

    def write_relaxation(self, atoms: Atoms, relaxation: Relaxation, directory: Path) -> None:
        """Write the input of a relaxation.

        Raises
        ------
        ConfigError
            As `write_inputs`; or if a cell is to be relaxed that is not periodic in three directions.
        """
        check_relaxable(atoms, relaxation)
        self._write(atoms, directory, "relax", motion.relaxation_tags(self._read_incar("relax", atoms), relaxation))

    def write_dynamics(self, atoms: Atoms, dynamics: Dynamics, directory: Path) -> None:
        """Write the input of molecular dynamics.

        Raises
        ------
        ConfigError
            As `write_inputs`; or if there is one atom only.
        """
        velocities = draw_velocities(atoms, dynamics) / 1000  # Å/fs
        self._write(atoms, directory, "aimd", motion.dynamics_tags(atoms, dynamics), velocities)

    def is_complete(self, directory: Path) -> bool:
        return is_done(directory)

    def find_scratch(self, directory: Path) -> list[Path]:
        """Leave a vasprun.xml where it serves for the OUTCAR."""
        read = choose_output(directory)
        return [path for path in super().find_scratch(directory) if path != read]

    def read_label(self, directory: Path) -> Label:
        return read_single(directory, self.output_name)

    def read_relaxation(self, directory: Path, relaxation: Relaxation) -> Label:
        return read_relaxed(directory, self.output_name, relaxation)

    def read_dynamics(self, directory: Path, dynamics: Dynamics) -> list[tuple[int, Label | EngineError]]:
        return read_trajectory(directory, self.output_name, dynamics)

    def check(self, type_map: Sequence[str]) -> Iterator[Problem]:
        potentials: dict[str, Potential] = {}
        for symbol in type_map:
            if symbol not in self.potcar:
                yield self._no_potential(symbol)
        for symbol in self.potcar:
            try:
                potentials[symbol] = read_of_element(self.potcar[symbol], symbol)
            except ConfigError as error:
                yield from error.problems
        for message, severity in functionals(potentials) if potentials else ():
            yield Problem(message, "potcar", severity=severity)
        yield from check_sites(self.magmoms, "magmoms", type_map)
        yield from check_sites(self.ldau, "ldau", type_map)
        yield from self._check_incars(type_map, potentials)
        if self.kpoints is not None:
            try:
                kgrid.read_grid(self.kpoints)
            except ConfigError as error:
                yield from (Problem(f"{self.kpoints}: {each.message}", "kpoints") for each in error.problems)

    def check_frames(self, frames: Mapping[Calculation, Sequence[Atoms]]) -> Iterator[Problem]:
        smallest: dict[Path, int] = {}
        for calculation, own in frames.items():
            for atoms in own:
                path = self._incar(calculation, self.variant(atoms))
                smallest[path] = min(len(atoms), smallest.get(path, len(atoms)))
        for path, (key, *_) in self._each_incar().items():
            for message, severity in lint_size(read_incar(path), smallest[path]) if path in smallest else ():
                yield Problem(f"{path}: {message}", key, severity=severity)

    def set_by_driver(self, calculation: Calculation = "label") -> tuple[str, ...]:
        lines = [*motion.WORDS[calculation]]
        lines.append("INCAR: ISTART = 0, ICHARG = 2, LWAVE and LCHARG = .FALSE.; your other tags of motion removed")
        own = {"ISPIN and MAGMOM": self.magmoms, "LDAU, LDAUL, LDAUU and LDAUJ": self.ldau}
        lines += [f"INCAR: {tags}, of each structure's atoms" for tags, values in own.items() if values]
        if self.charge is not None:
            lines.append(f"INCAR: NELECT, for a charge of {self.charge:g} e")
        lines.append("INCAR: LORBIT = 11 with spin, unless yours prints moments")
        lines.append("POSCAR: atoms grouped by element; POTCAR: joined in that order, a link that goes after the run")
        return tuple(lines)

    def tags(self) -> frozenset[str]:
        return known_tags()

    def with_tags(self, tags: Mapping[str, str], directory: Path) -> Self:
        changed: dict[str, CalculationFiles] = {}
        for name in self.incar_of:
            (directory / name).mkdir(exist_ok=True)
            changed[name] = CalculationFiles(label=write_changed(self._incar("label", name), tags, directory / name))
        incar = CalculationFiles(label=write_changed(self._incar("label"), tags, directory))
        return self.model_copy(update={"incar": incar, "incar_of": changed})

    def named_structures(self) -> Mapping[str, str]:
        return {f"incar_of.{name}": name for name in self.incar_of}

    def variant(self, atoms: Atoms) -> str | None:
        name = str(atoms.info.get("structure"))
        return name if name in self.incar_of else None

    def accuracy(self, calculation: Calculation = "label") -> dict[str, float]:
        files = {"EDIFF": self._incar(calculation)}
        files |= {f"EDIFF of {name}": self._incar(calculation, name) for name in self.incar_of}
        return {name: number(read_incar(path), "EDIFF", EDIFF) for name, path in files.items()}

    def told_reference(self) -> dict[str, str]:
        incars = [read_incar(self._incar("label", name)) for name in (None, *self.incar_of)]
        potentials = {symbol: read_of_element(path, symbol) for symbol, path in self.potcar.items()}
        return told_of(incars, potentials, self.magmoms, self.ldau)

    def settings(self, calculation: Calculation = "label") -> dict[str, Any]:
        return {
            "engine": "vasp",
            "incar": motion.what_decides(self._incar(calculation), calculation),
            "incar_of": {
                name: motion.what_decides(self._incar(calculation, name), calculation) for name in sorted(self.incar_of)
            },
            "potcar": {
                symbol: {"titel": potential.title, "sha256": potential.sha256}
                for symbol, potential in sorted(
                    (each, read_of_element(self.potcar[each], each)) for each in self.potcar
                )
            },
            "kspacing": self.kspacing,
            "kpoints": None if self.kpoints is None else {"sha256": hash_path(self.kpoints)},
            "magmoms": identity(dict(self.magmoms)),
            "ldau": identity(dict(self.ldau)),
            "charge": self.charge or 0.0,
        }

    def _incar(self, calculation: Calculation, variant: str | None = None) -> Path:
        return (self.incar if variant is None else self.incar_of[variant]).of(calculation)

    def _incar_key(self, calculation: Calculation, variant: str | None) -> str:
        key, files = ("incar", self.incar) if variant is None else (f"incar_of.{variant}", self.incar_of[variant])
        return files.key_of(calculation, key)

    def _read_incar(self, calculation: Calculation, atoms: Atoms) -> Tags:
        return read_incar(self._incar(calculation, self.variant(atoms)))

    def _each_incar(self) -> dict[Path, tuple[str, Calculation, Path]]:
        """Return, by file, the key that first names it, the calculation, and what other structures have for that."""
        found: dict[Path, tuple[str, Calculation, Path]] = {}
        for name in (None, *self.incar_of):
            for calculation in get_args(Calculation):
                key = self._incar_key(calculation, name)
                found.setdefault(self._incar(calculation, name), (key, calculation, self._incar(calculation)))
        return found

    def _check_incars(self, type_map: Sequence[str], potentials: dict[str, Potential]) -> Iterator[Problem]:
        grid = "kspacing" if self.kspacing is not None else "kpoints" if self.kpoints is not None else None
        for path, (key, calculation, main) in self._each_incar().items():
            try:
                user = read_incar(path)
            except ConfigError as error:
                hint = "" if path.exists() else nearest_file(path)
                yield from (Problem(f"{path}: {each.message}{hint}", key) for each in error.problems)
                continue
            findings = [*lint(path, calculation, type_map), *lint_ldau(user, self.ldau), *lint_spin(user, self.magmoms)]
            findings += kgrid.check_source(user, grid)
            findings += lint_apart(user, read_incar(main)) if main.is_file() else ()
            findings += lint_potentials(user, potentials) if potentials else ()
            for message, severity in findings:
                yield Problem(f"{path}: {message}", key, severity=severity)

    def _no_potential(self, symbol: str) -> Problem:
        hint = nearest(symbol, self.potcar, otherwise="there are")
        return Problem(f"no POTCAR for {symbol} of the type_map{hint}", key="potcar")

    def _write(
        self, atoms: Atoms, directory: Path, calculation: Calculation, own: Tags, velocities: Array | None = None
    ) -> None:
        missing = sorted(set(atoms.get_chemical_symbols()) - set(self.potcar))
        if missing:
            raise ConfigError(self._no_potential(missing[0]))
        if atoms.cell.rank < 3:
            raise ConfigError("a structure for VASP has no cell; put a molecule into a box, with vacuum around it.")
        check_tags(self.magmoms, "magmoms", atoms)
        check_tags(self.ldau, "ldau", atoms)
        user = self._read_incar(calculation, atoms)
        layout = make_layout(atoms, list(self.potcar), split_sites(self.ldau))
        symbols = [symbol for (symbol, _), _ in layout.groups]
        potentials = {symbol: read_of_element(self.potcar[symbol], symbol) for symbol in symbols}
        key = self._incar_key(calculation, self.variant(atoms))
        own = own | self._structure_tags(user, atoms, layout, potentials, key)
        grid, source = kgrid.choose_grid(atoms, user, self.kspacing, self.kpoints)
        comment = kgrid.describe_grid(grid, source)
        kgrid.check_tetrahedra(user, grid, f"{len(atoms)} atoms have {comment}", key)
        kgrid.write_kpoints(grid, comment, directory, kspacing=self.kspacing, file=self.kpoints)
        write_poscar(atoms, layout, directory, velocities)
        (directory / "INCAR").write_text(format_incar(motion.without_motion(user), own, (comment,)), encoding="utf-8")
        link_joined([self.potcar[symbol] for symbol in symbols], directory)

    def _structure_tags(
        self, user: Tags, atoms: Atoms, layout: Layout, potentials: dict[str, Potential], key: str
    ) -> Tags:
        """Return the tags that belong to a structure's atoms; ``key`` names the INCAR."""
        tags = magnetic_tags(user, atoms, layout, self.magmoms, key)
        tags |= hubbard_tags(user, layout, self.ldau) | charge_tags(self.charge, layout, potentials)
        return tags | (motion.MOMENTS if has_spin(user | tags) and number(user, "LORBIT", 0) < 10 else {})
