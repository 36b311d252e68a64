"""Reference calculations with Quantum ESPRESSO's ``pw.x``: one SCF, a relaxation, or dynamics. eV, eV/Å, eV.

The user's own input is the base; only what belongs to one structure, to where files lie, or to the calculation that is
asked for is set by the driver.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from pydantic import Field

from al_driver.data.frames import Label
from al_driver.data.pw_output import is_done
from al_driver.engines.base import Calculation, Dynamics, Engine, Relaxation
from al_driver.engines.kpoints import kpoint_grid
from al_driver.engines.pw_check import (
    check_cards,
    check_given_twice,
    check_k_points,
    check_namelists,
    check_pseudopotential,
)
from al_driver.engines.pw_input import (
    PwInput,
    format_namelists,
    format_pw_input,
    quote,
    read_pw_input,
)
from al_driver.engines.pw_motion import Motion, make_dynamics, make_relaxation
from al_driver.engines.pw_namelists import PREFIX, describe_input, make_namelists
from al_driver.engines.pw_result import read_relaxed, read_scf, read_trajectory
from al_driver.engines.pw_settings import (
    OF_ONE_CELL,
    change_tags,
    describe_accuracy,
    describe_settings,
    start_elsewhere,
    tag_names,
)
from al_driver.engines.pw_sites import (
    Species,
    first_moments,
    has_spin,
    hubbard_card,
    hubbard_keys,
    make_species,
    moment_keys,
    named_sites,
    number_keys,
)
from al_driver.engines.pw_told import describe_told
from al_driver.engines.sites import Site, check_sites, check_tags
from al_driver.engines.upf import read_upf_valence
from al_driver.errors import ConfigError, EngineError, Problem
from al_driver.schema.base import Float, NonNegativeFloat, PositiveFloat, PositiveInt, UserPath, cross_check, identity
from al_driver.schema.elements import Element
from al_driver.schema.suggest import nearest
from al_driver.units import Unit

_INPUT = "pw.in"


class QuantumEspresso(Engine):
    """Reference calculation with Quantum ESPRESSO (pw.x)."""

    engine: Literal["qe"]
    """Quantum ESPRESSO."""
    input: UserPath
    """Your own input of pw.x; its namelists are kept, structure and cards are replaced."""
    pseudopotentials: Annotated[dict[Element, UserPath], Field(min_length=1)]
    """A UPF file for each element."""
    kspacing: Annotated[PositiveFloat, Unit("1/Å")] | None = None
    """Largest distance of neighbouring k-points, 2π included. This, ``kpoints``, or K_POINTS in the input."""
    kpoints: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    """The same Monkhorst-Pack grid, without a shift, for every structure."""
    magmoms: dict[Site, Float] = Field(default={})
    """First magnetic moment of an element's atoms, μ_B; ``Fe1`` are atoms with the tag 1. A moment that a structure
    file gives an atom comes first."""
    hubbard_u: dict[Site, NonNegativeFloat] = Field(default={})
    """Hubbard U of an element's atoms, eV; ``Fe1`` are atoms with the tag 1. For pw.x before 7.1; later ones read a
    card HUBBARD, of your input."""
    charge: Annotated[Float, Unit("e")] | None = None
    """Charge of each cell."""

    can: ClassVar[frozenset[Calculation]] = frozenset({"label", "relax", "aimd"})
    default_command: ClassVar[str] = "pw.x"
    program: ClassVar[str] = "pw.x"
    by_name: ClassVar[frozenset[str]] = frozenset({"pseudopotentials"})
    output_name: ClassVar[str] = "pw.out"
    scratch: ClassVar[tuple[str, ...]] = (f"{PREFIX}.*",)

    @cross_check
    def _check_one_grid(self) -> "QuantumEspresso":
        if self.kspacing is not None and self.kpoints is not None:
            raise ValueError("`kspacing` and `kpoints` both choose k-points; keep one")
        return self

    def arguments(self) -> tuple[str, ...]:
        return ("-in", _INPUT)

    def write_inputs(self, atoms: Atoms, directory: Path) -> None:
        """Write ``pw.in``.

        Raises
        ------
        ConfigError
            If the frame has an element without a pseudopotential, or no cell; pw.x is always periodic.
        """
        self._write(atoms, directory, read_pw_input(self.input), Motion())

    def other_start(self) -> str:
        return "random wave functions (atomic ones where yours are random), half of mixing_beta"

    def write_other_start(self, atoms: Atoms, directory: Path) -> None:
        self._write(atoms, directory, start_elsewhere(read_pw_input(self.input)), Motion())

    def write_relaxation(self, atoms: Atoms, relaxation: Relaxation, directory: Path) -> None:
        """Write ``pw.in`` of a relaxation.

        Raises
        ------
        ConfigError
            As `write_inputs`; or if a cell is to be relaxed that is not periodic in three directions.
        """
        user = read_pw_input(self.input)
        self._write(atoms, directory, user, make_relaxation(user, atoms, relaxation))

    def write_dynamics(self, atoms: Atoms, dynamics: Dynamics, directory: Path) -> None:
        """Write ``pw.in`` of molecular dynamics.

        Raises
        ------
        ConfigError
            As `write_inputs`; or if there is one atom only.
        """
        self._write(atoms, directory, read_pw_input(self.input), make_dynamics(atoms, dynamics))

    def is_complete(self, directory: Path) -> bool:
        return is_done(directory / self.output_name)

    def read_label(self, directory: Path) -> Label:
        return read_scf(directory / _INPUT, directory / self.output_name)

    def read_relaxation(self, directory: Path, relaxation: Relaxation) -> Label:
        return read_relaxed(directory / _INPUT, directory / self.output_name, relaxation)

    def read_dynamics(self, directory: Path, dynamics: Dynamics) -> list[tuple[int, Label | EngineError]]:
        return read_trajectory(directory / _INPUT, directory / self.output_name, dynamics)

    def check(self, type_map: Sequence[str]) -> Iterator[Problem]:
        for symbol in type_map:
            if symbol not in self.pseudopotentials:
                yield self._no_pseudopotential(symbol)
        for symbol, path in self.pseudopotentials.items():
            yield from check_pseudopotential(symbol, path, self._pseudo_dir())
        yield from check_sites(self.magmoms, "magmoms", type_map)
        yield from check_sites(self.hubbard_u, "hubbard_u", type_map)
        try:
            user = read_pw_input(self.input)
        except ConfigError as error:
            yield from error.problems
            return
        grid = "kspacing" if self.kspacing is not None else "kpoints" if self.kpoints is not None else None
        for message, severity in (
            *check_k_points(user, grid),
            *check_namelists(user),
            *check_cards(user, self.pseudopotentials),
            *check_given_twice(user, self.magmoms, self.hubbard_u, self.charge),
        ):
            yield Problem(f"{self.input}: {message}", key="input", severity=severity)

    def set_by_driver(self, calculation: Calculation = "label") -> tuple[str, ...]:
        try:
            user = read_pw_input(self.input)
        except (ConfigError, OSError):
            user = PwInput({}, {})
        lines = []
        if self.magmoms:
            lines.append(
                "SYSTEM: nspin = 2, unless yours is noncollinear; starting_magnetization(i), of each structure's atoms"
            )
        if self.hubbard_u:
            lines.append("SYSTEM: lda_plus_u = .true., Hubbard_U(i), of each structure's atoms")
        if self.charge is not None:
            lines.append(f"SYSTEM: tot_charge = {self.charge:g}")
        return describe_input(user, calculation, lines)

    def tags(self) -> list[str]:
        return tag_names()

    def with_tags(self, tags: Mapping[str, str], directory: Path) -> Self:
        path = directory / self.input.name
        path.write_text(format_pw_input(change_tags(read_pw_input(self.input), tags)), encoding="utf-8")
        return self.model_copy(update={"input": path})

    def settings(self, calculation: Calculation = "label") -> dict[str, Any]:
        return {
            "engine": self.engine,
            "input": describe_settings(read_pw_input(self.input), is_relaxation=calculation == "relax"),
            "pseudopotentials": identity(self.pseudopotentials),
            "kspacing": self.kspacing,
            "kpoints": identity(self.kpoints),
            "magmoms": identity(dict(self.magmoms)),
            "hubbard_u": identity(dict(self.hubbard_u)),
            "charge": self.charge or 0.0,
        }

    def told_reference(self) -> dict[str, str]:
        return describe_told(read_pw_input(self.input), self.pseudopotentials, self.hubbard_u)

    def accuracy(self, calculation: Calculation = "label") -> dict[str, float]:  # noqa: ARG002
        return describe_accuracy(read_pw_input(self.input))

    def _no_pseudopotential(self, symbol: str) -> Problem:
        hint = nearest(symbol, self.pseudopotentials, otherwise="there are")
        return Problem(f"no pseudopotential for {symbol} of the type_map{hint}", key="pseudopotentials")

    def _pseudo_dir(self) -> Path:
        """Return the deepest folder above every potential: one absolute path, and no copy in any task's folder."""
        paths = list(self.pseudopotentials.values())
        return next(folder for folder in paths[0].parents if all(path.is_relative_to(folder) for path in paths))

    def _write(self, atoms: Atoms, directory: Path, user: PwInput, motion: Motion) -> None:
        missing = sorted(set(atoms.get_chemical_symbols()) - set(self.pseudopotentials))
        if missing:
            raise ConfigError(self._no_pseudopotential(missing[0]))
        if atoms.cell.rank < 3:
            raise ConfigError("a structure for pw.x has no cell; put a molecule into a box, with vacuum around it.")
        check_tags(self.magmoms, "magmoms", atoms)
        check_tags(self.hubbard_u, "hubbard_u", atoms)
        moments = first_moments(user, atoms, self.magmoms)
        sites = named_sites(user, self.magmoms, self.hubbard_u)
        species, kinds = make_species(atoms, list(self.pseudopotentials), sites, moments)
        names, folder = [species[kind].name for kind in kinds], self._pseudo_dir()
        cards = {
            "ATOMIC_SPECIES": [
                f"{one.name} {atomic_masses[atomic_numbers[one.symbol]]:.4f} "
                + quote(str(self.pseudopotentials[one.symbol].relative_to(folder)))
                for one in species
            ],
            "CELL_PARAMETERS angstrom": [_row(vector) for vector in atoms.cell.array],
            "ATOMIC_POSITIONS angstrom": _table(names, atoms.positions),
        }
        if motion.velocities is not None:
            cards["ATOMIC_VELOCITIES a.u."] = _table(names, motion.velocities)
        if card := user.cards.get("HUBBARD"):
            cards[f"HUBBARD {card.option}"] = hubbard_card(card, species)
        k_points = self._k_points(atoms, user)
        blocks = [f"{name}\n" + "".join(f"{line}\n" for line in lines) for name, lines in cards.items() if lines]
        periodic = " ".join("FT"[int(direction)] for direction in atoms.pbc)
        system = self._system(user, species) | {"nat": str(len(atoms))}
        namelists = make_namelists(user, system, motion, pseudo_dir=folder, has_stress=bool(atoms.pbc.all()))
        text = format_namelists(namelists) + "".join(blocks) + k_points
        (directory / _INPUT).write_text(f"! periodic: {periodic}\n{text}", encoding="utf-8")

    def _system(self, user: PwInput, species: Sequence[Species]) -> dict[str, str]:
        """Return &SYSTEM: the user's, with what is of the frame's species, and of our keys."""
        own = user.namelists.get("system", {})
        system = {key: value for key, value in own.items() if not OF_ONE_CELL.fullmatch(key)}
        system = number_keys(system, user.types, species)
        if self.charge is not None:
            system["tot_charge"] = f"{self.charge:.10g}"
        if has_spin(user) or any(one.moment is not None for one in species):
            valences = {one.symbol: read_upf_valence(self.pseudopotentials[one.symbol]) for one in species}
            system |= moment_keys(user, system, species, valences)
        for key, value in hubbard_keys(system, species, self.hubbard_u).items():
            system = {name: old for name, old in system.items() if name != key}
            system |= {} if value is None else {key: value}
        return system | {"ibrav": "0", "ntyp": str(len(species))}

    def _k_points(self, atoms: Atoms, user: PwInput) -> str:
        card = user.cards.get("K_POINTS")
        if card is not None:
            return f"K_POINTS {card.option}\n" + "".join(f"{line}\n" for line in card.lines[:1])
        if self.kpoints is None and self.kspacing is None:
            raise ConfigError(Problem("nothing chooses k-points; give `kspacing` or `kpoints`", key="kspacing"))
        grid = self.kpoints or kpoint_grid(atoms, self.kspacing or np.inf)
        if grid == (1, 1, 1) and not user.is_true("system", "noncolin"):
            return "K_POINTS gamma\n"  # the same point with real wave functions, twice as fast
        return f"K_POINTS automatic\n{grid[0]} {grid[1]} {grid[2]} 0 0 0\n"


def _table(names: Sequence[str], rows: "np.ndarray") -> list[str]:
    return [f"{name} {_row(row)}" for name, row in zip(names, rows, strict=True)]


def _row(vector: "np.ndarray") -> str:
    return " ".join(f"{number:.17g}" for number in vector)
