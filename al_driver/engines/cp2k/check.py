"""What `al check` finds in a user's input of CP2K before anything is submitted, by itself and by asking CP2K."""

import re
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from ase.data import atomic_numbers

from al_driver.engines.cp2k.base_input import find_kind, find_kinds, orbital_basis
from al_driver.engines.cp2k.result import find_abort
from al_driver.engines.cp2k.sections import Section, split_line
from al_driver.errors import Problem
from al_driver.jobs.processes import child_environment, find_program
from al_driver.schema.suggest import nearest, nearest_file

Finding = tuple[str, Literal["error", "warning"]]
"""What was found, and how bad it is."""
Kind = Literal["basis", "potential"]
FILES: Mapping[Kind, tuple[str, str]] = {
    "basis": ("BASIS_SET_FILE_NAME", "BASIS_SET"),
    "potential": ("POTENTIAL_FILE_NAME", "POTENTIAL"),
}
"""The keyword of &DFT that names the files, and the name that CP2K takes where there is none."""
_DENSITY_BASED = frozenset({"", "GPW", "GAPW", "GAPW_XC", "LRIGPW", "RIGPW", "OFGPW"})
_WHOLE_GRIDS = frozenset({"MONKHORST-PACK", "MACDONALD", "GAMMA", "NONE"})
_SPIN = frozenset({"UKS", "LSD", "UNRESTRICTED_KOHN_SHAM", "SPIN_POLARIZED"})
_LOOSE_SCF = 1e-5
_SECONDS = 60.0
_DATA_FOLDER = re.compile(r'__DATA_DIR="([^"]+)"')


def check_sections(user: Section, grid_key: str | None) -> Iterator[Finding]:
    """Yield what CP2K would refuse, or what would mean something else for another structure.

    Parameters
    ----------
    grid_key
        The key of ours that chooses k-points.
    """
    evaluations = [section for section in user.sections if section.name == "FORCE_EVAL"]
    if len(evaluations) != 1:
        yield f"there are {len(evaluations)} &FORCE_EVAL; one is needed", "error"
        return
    method = evaluations[0].value("METHOD", "QS").upper()
    if method not in {"QS", "QUICKSTEP"}:
        yield f"METHOD {method} is not read; labels are those of METHOD Quickstep", "error"
    dft = evaluations[0].find("DFT")
    if dft is None:
        yield "&DFT is missing in &FORCE_EVAL", "error"
        return
    yield from _check_dft(dft)
    yield from _check_scf(dft)
    yield from _check_k_points(dft, grid_key)
    for kind in find_kinds(user):
        name = kind.parameter
        if name.capitalize() not in atomic_numbers and name.upper() != "DEFAULT":
            yield f"&KIND {name} is not an element; all atoms of an element have its one &KIND", "error"


def check_elements(
    user: Section, symbols: Sequence[str], given: Mapping[Kind, Collection[str]], folder: Path
) -> Iterator[Problem]:
    """Yield elements that lack a basis set or a potential, and files that are not there.

    Parameters
    ----------
    given
        The elements of our own keys.
    folder
        The one of the user's input, from which its files are named.
    """
    dft = user.find("FORCE_EVAL", "DFT")
    if dft is None or not is_density_based(dft):
        return
    for kind, (keyword, _) in FILES.items():
        for symbol in symbols:
            if symbol not in given[kind] and not name_of(user, symbol, kind):
                where = f"&KIND {symbol} of the input"
                yield Problem(f"no {kind} for {symbol} of the type_map, here or in {where}", key=kind)
        for name in (value.strip("\"'") for value in dft.values(keyword)):
            path = folder / name
            if "/" in name and not path.is_file():
                yield Problem(f"{keyword} {path} does not exist{nearest_file(path)}", key="input")


def is_density_based(dft: Section) -> bool:
    """Say whether a method has basis sets and potentials, which semi-empirical ones have not."""
    quickstep = dft.find("QS")
    return quickstep is None or quickstep.value("METHOD").upper() in _DENSITY_BASED


def is_polarised(dft: Section) -> bool:
    """Say whether a calculation has spin."""
    asked = (split_line(line) for line in dft.lines)
    return any(name in _SPIN and value.upper().strip(".") not in {"F", "FALSE", "NO", "OFF"} for name, value in asked)


def name_of(user: Section, symbol: str, kind: Kind) -> str:
    """Return the basis set or potential that the user's &KIND names for an element; a section of its own as ``&``."""
    section = find_kind(user, symbol) or find_kind(user, "DEFAULT")
    if section is None:
        return ""
    if section.find("BASIS" if kind == "basis" else "POTENTIAL"):
        return "&"
    if kind == "basis":
        return next((name for line in section.lines if (name := orbital_basis(line))), "")
    words = (section.value("POTENTIAL") or section.value("POT")).split()
    return words[-1] if words else ""


def check_names(dft: Section, names: Mapping[Kind, Mapping[str, str]], folders: Sequence[Path]) -> Iterator[Problem]:
    """Yield basis sets and potentials, by element, that none of the files has; nothing where a file is not found."""
    for kind, (keyword, default) in FILES.items():
        files = [value.strip("\"'") for value in dft.values(keyword)] or [default]
        paths = [next((path for folder in folders if (path := folder / name).is_file()), None) for name in files]
        if None in paths:
            name = files[paths.index(None)]
            yield Problem(f"{keyword} {name} is neither beside the input nor in CP2K's data folder", key="input")
            continue
        known = [read_names(path) for path in paths if path is not None]
        for symbol, name in names[kind].items():
            legal = {name for entries in known for name in entries.get(symbol.upper(), ())}
            if name != "&" and name.upper() not in {other.upper() for other in legal}:
                hint = nearest(name, legal, otherwise="there are")
                yield Problem(f"{', '.join(files)} has no {kind} {name} for {symbol}{hint}", key=kind)


def read_names(path: Path) -> dict[str, set[str]]:
    """Return the names that a file of basis sets or potentials has for each element, in capitals."""
    found: dict[str, set[str]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.partition("#")[0].split()
        if len(words) > 1 and words[0].capitalize() in atomic_numbers:
            found.setdefault(words[0].upper(), set()).update(words[1:])
    return found


def ask_cp2k(launcher: Sequence[str], env: Mapping[str, str], text: str) -> Iterator[Problem]:
    """Yield what CP2K itself says of an input; it is not started by a launcher of MPI, or in a container.

    Where it says neither that it reads the input nor why not, the program may be at fault, and a warning tells so.
    """
    done = _run(launcher, env, "--check", text)
    if done is None or "the input could be parsed correctly" in done:
        return
    asked = f"`{launcher[0]} --check`"
    if reason := find_abort(done):
        yield Problem(f"{asked} refuses this input: {reason}", key="input")
    else:
        last = (done.strip().splitlines() or ["nothing"])[-1].strip()
        found = f"{asked} does not say whether it can read this input; it ends: {last}"
        yield Problem(found, key="input", severity="warning")


def find_data_folder(launcher: Sequence[str], env: Mapping[str, str]) -> Path | None:
    """Return the folder in which CP2K looks for basis sets and potentials."""
    named = child_environment(env).get("CP2K_DATA_DIR")
    if named:
        return Path(named)
    printed = _run(launcher, env, "--version", "")
    found = _DATA_FOLDER.search("".join(line[3:] for line in (printed or "").splitlines()))
    return Path(found[1]) if found else None


def _run(launcher: Sequence[str], env: Mapping[str, str], option: str, text: str) -> str | None:
    program = find_program(launcher[0], env)
    if program is None or len(launcher) > 1:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "check.inp")
        path.write_text(text, encoding="utf-8")
        argv = [program, option, *([path.name] if text else [])]
        try:
            done = subprocess.run(
                argv, cwd=folder, env=child_environment(env), capture_output=True, text=True, timeout=_SECONDS,
                check=False, errors="replace",
            )  # fmt: skip
        except (subprocess.TimeoutExpired, OSError):
            return None
    return done.stdout


def _check_dft(dft: Section) -> Iterator[Finding]:
    grids = dft.find("MGRID")
    if is_density_based(dft) and (grids is None or not grids.value("CUTOFF")):
        yield "CUTOFF (Ry) is missing in &DFT/&MGRID; it decides the quality of every label", "warning"
    for keyword in ("CHARGE", "MULTIPLICITY"):
        if dft.values(keyword):
            yield f"{keyword} {dft.value(keyword)} is kept as it is for structures of every size", "warning"
    if dft.value("MULTIPLICITY", "0") not in {"0", "1"} and not is_polarised(dft):
        yield f"MULTIPLICITY {dft.value('MULTIPLICITY')} needs UKS", "error"
    for keyword in ("WFN_RESTART_FILE_NAME", "RESTART_FILE_NAME"):
        if dft.values(keyword):
            yield f"{keyword} needs the files of another calculation; take it out", "error"


def _check_scf(dft: Section) -> Iterator[Finding]:
    scf = dft.find("SCF") or Section("SCF")
    limit = scf.value("EPS_SCF", str(_LOOSE_SCF)).lower().replace("d", "e")
    try:
        if float(limit) > _LOOSE_SCF:
            yield f"EPS_SCF {limit} is loose for forces; 1e-6 or less is usual", "warning"
    except ValueError:
        yield f"EPS_SCF {limit} is not a number", "error"
    if is_on(scf.find("SMEAR")):
        if is_on(scf.find("OT")):
            yield "&OT does not work with &SMEAR; use diagonalization", "error"
        if not scf.values("ADDED_MOS"):
            yield "&SMEAR needs empty orbitals: ADDED_MOS in &SCF", "error"


def _check_k_points(dft: Section, key: str | None) -> Iterator[Finding]:
    own, scheme = dft.find("KPOINTS"), ""
    if own is not None:
        scheme = (own.value("SCHEME") or "").partition(" ")[0].upper()
        if scheme and key:
            yield f"SCHEME in &KPOINTS and `{key}` both choose k-points; take one of them out", "error"
        elif not scheme and not key:
            yield "&KPOINTS has no SCHEME; give it, `kspacing` or `kpoints`", "error"
        elif scheme and scheme not in _WHOLE_GRIDS:
            yield f"&KPOINTS SCHEME {scheme} is a list for one cell; use `kspacing`, or MONKHORST-PACK", "error"
    if not key and scheme in {"", "GAMMA", "NONE"}:
        return
    smear = dft.find("SCF", "SMEAR")
    if is_on(dft.find("SCF", "OT")):
        yield f"&OT works at the gamma point only, and {key or '&KPOINTS'} asks for more; use diagonalization", "error"
    if smear is not None and is_on(smear) and smear.value("METHOD").upper() != "FERMI_DIRAC":
        yield "with k-points &SMEAR has METHOD FERMI_DIRAC; CP2K knows no other there", "error"


def is_on(section: Section | None) -> bool:
    """Say whether a section that may be switched off is there and on."""
    return section is not None and section.parameter.upper().strip(".") not in {"OFF", "F", "FALSE", "NO"}
