"""The user's input of CP2K as a base: what is kept of it, and what of one structure or calculation is put in its place.

Kept are the settings that decide the numbers: &FORCE_EVAL with &DFT and each &KIND, and what &GLOBAL says of libraries.
What belongs to one structure, moves atoms, reads another calculation's files or only prints is taken out.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ase import Atoms

from al_driver.data.frames import Array
from al_driver.engines.cp2k.sections import Section, read_sections, split_line

PROJECT = "cp2k"
"""The beginning of the names of all files that CP2K makes."""
REMOVED: Mapping[tuple[str, ...], tuple[str, ...]] = {
    (): ("EXT_RESTART", "MOTION", "VIBRATIONAL_ANALYSIS", "TEST", "DEBUG"),
    ("FORCE_EVAL",): ("PRINT", "PROPERTIES"),
    ("FORCE_EVAL", "DFT"): ("PRINT",),
    ("FORCE_EVAL", "DFT", "SCF"): ("PRINT",),
    ("FORCE_EVAL", "SUBSYS"): ("CELL", "COORD", "CORE_COORD", "SHELL_COORD", "TOPOLOGY", "VELOCITY", "PRINT"),
}
"""Sections that are taken out of the user's input, by the path of the one that holds them."""
_FORCE_DIGITS = 12


def read_base(path: Path) -> Section:
    """Read the user's input, without what is replaced or not of an energy.

    Raises
    ------
    ConfigError
        As `read_sections`.
    """
    root = read_sections(path)
    for names, removed in REMOVED.items():
        section = root.find(*names)
        if section is not None:
            section.drop(*removed)
    return root


def map_files(root: Section, folder: Path, change: Callable[[Path], str]) -> Section:
    """Return a copy in which each ``…FILE_NAME`` that lies in the input's folder, or at a path from there, is changed.

    Names of other files are those of CP2K's own data folder, and stay.
    """

    def changed(line: str) -> str:
        keyword, value = split_line(line)
        path = folder / value.strip("\"'") if keyword.endswith("FILE_NAME") and value else None
        return f"{keyword} {change(path)}" if path is not None and path.is_file() else line

    return root.map_lines(changed)


def find_kind(root: Section, symbol: str) -> Section | None:
    """Return the user's &KIND of an element."""
    return next((kind for kind in find_kinds(root) if kind.parameter.upper() == symbol.upper()), None)


def find_kinds(root: Section) -> Iterator[Section]:
    """Yield every &KIND."""
    subsys = root.find("FORCE_EVAL", "SUBSYS")
    yield from (kind for kind in (subsys.sections if subsys else ()) if kind.name == "KIND")


def take_kinds(root: Section) -> dict[str, Section]:
    """Take the &KIND of each element out of an input; leave all where one is for whatever has none of its own."""
    kinds = {kind.parameter.capitalize(): kind for kind in find_kinds(root)}
    subsys = root.find("FORCE_EVAL", "SUBSYS")
    if subsys is None or "Default" in kinds:
        return {}
    subsys.drop("KIND")
    return kinds


def set_kind(root: Section, symbol: str, basis: str | None, potential: str | None) -> None:
    """Put basis set and potential of our keys in place of those of an element's &KIND, of which the rest is kept."""
    kind = find_kind(root, symbol)
    if kind is None:
        default = find_kind(root, "DEFAULT")
        kind = Section("KIND", symbol, list(default.items) if default else [])
        root.at("FORCE_EVAL", "SUBSYS").items.append(kind)
    if basis is not None:
        kind.items = [item for item in kind.items if not isinstance(item, str) or orbital_basis(item) is None]
        kind.drop("BASIS")
        kind.items.append(f"BASIS_SET {basis}")
    if potential is not None:
        kind.drop("POTENTIAL")
        kind.set("POTENTIAL", potential, "POT")


def orbital_basis(line: str) -> str | None:
    """Return the orbital basis set that a line of a &KIND names.

    >>> orbital_basis("BASIS_SET ORB SZV-GTH"), orbital_basis("BASIS_SET AUX_FIT cFIT3")
    ('SZV-GTH', None)
    """
    keyword, value = split_line(line)
    words = value.split()
    if keyword not in {"BASIS_SET", "ORBITAL_BASIS_SET", "ORB_BASIS"} or not words:
        return None
    return words[-1] if len(words) == 1 or words[0].upper() == "ORB" else None


def set_structure(root: Section, atoms: Atoms) -> None:
    """Put a frame in place, with every digit of its numbers, Å."""
    subsys = root.at("FORCE_EVAL", "SUBSYS")
    axes = "".join(axis for axis, periodic in zip("XYZ", atoms.pbc, strict=True) if periodic) or "NONE"
    rows = [f"{name} {_row(vector)}" for name, vector in zip("ABC", atoms.cell.array, strict=True)]
    symbols = atoms.get_chemical_symbols()
    subsys.replace(Section("CELL", items=[*rows, f"PERIODIC {axes}"]))
    coordinates = (f"{symbol} {_row(position)}" for symbol, position in zip(symbols, atoms.positions, strict=True))
    subsys.replace(Section("COORD", items=list(coordinates)))
    present = {symbol.upper() for symbol in symbols} | {"DEFAULT"}
    others = [kind for kind in find_kinds(root) if kind.parameter.upper() not in present]
    subsys.items = [item for item in subsys.items if not any(item is kind for kind in others)]
    if axes != "XYZ" or root.find("FORCE_EVAL", "DFT", "POISSON"):
        root.at("FORCE_EVAL", "DFT", "POISSON").set("PERIODIC", axes)


def set_output(root: Section, run_type: str, *, has_stress: bool) -> None:
    """Ask for one kind of run, for forces and stress in the log, and for no file that nobody reads."""
    general, force_eval = root.at("GLOBAL"), root.at("FORCE_EVAL")
    general.set("PROJECT", PROJECT, "PROJECT_NAME")
    general.set("RUN_TYPE", run_type)
    general.set("PRINT_LEVEL", "MEDIUM", "IOLEVEL")
    own = force_eval.value("STRESS_TENSOR").upper()
    force_eval.set("STRESS_TENSOR", ("NUMERICAL" if own == "NUMERICAL" else "ANALYTICAL") if has_stress else "NONE")
    printed: list[Section | str] = [Section("FORCES", "ON", [f"NDIGITS {_FORCE_DIGITS}"])]
    if has_stress:
        printed.append(Section("STRESS_TENSOR", "ON"))
    force_eval.replace(Section("PRINT", items=printed))
    scf = root.at("FORCE_EVAL", "DFT", "SCF")
    if scf.value("SCF_GUESS").upper() in {"RESTART", "HISTORY_RESTART"}:
        scf.set("SCF_GUESS", "ATOMIC")
    scf.replace(Section("PRINT", items=[Section("RESTART", "OFF"), Section("RESTART_HISTORY", "OFF")]))


def set_grid(root: Section, grid: tuple[int, int, int]) -> None:
    """Choose a Monkhorst-Pack grid; at Γ alone CP2K calculates with real numbers."""
    dft = root.at("FORCE_EVAL", "DFT")
    if grid == (1, 1, 1):
        dft.drop("KPOINTS")
        return
    dft.at("KPOINTS").set("SCHEME", f"MONKHORST-PACK {grid[0]} {grid[1]} {grid[2]}")


def _row(vector: Array) -> str:
    return " ".join(f"{number:.17g}" for number in vector)
