"""The user's ``etot.input``: a line of two numbers (nodes), then lines ``KEY = value``. The order does not matter.

Keys are not case-sensitive; what follows ``#`` or ``!`` is a comment. Energies of cutoffs are in Rydberg, forces in
eV/Å. Source: the PWmat group's "Input Files" (github.com/zzzever/dft-doc), and the inputs of github.com/LonxunQuantum.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from al_driver.errors import ConfigError, Problem
from al_driver.schema.suggest import nearest

SCRATCH_OUTPUTS = ("OUT.WG", "OUT.RHO", "OUT.VR")
"""Large files that nobody reads."""
BY_POTENTIAL = re.compile(r"(LDAU_PSP|IN\.PSP_RCUT)(\d+)")
"""Keys that are numbered as ``IN.PSPn`` is."""
_POTENTIAL = re.compile(r"IN\.PSP(\d+)")
_NOT_NUMBERS = re.compile(
    r"JOB|IN\.ATOM|IN\.PSP\d+|IN\.SKF|IN\.MDOPT|IN\.RELAXOPT|OUT\..*|MD_.*|RELAX_DETAIL|NODE[12]|NUM_MPI_PER_GPU"
    r"|NUM_GPU|NUM_BLOCKED_PSI|WF_STORE2DISK|RANDOM_SEED|ENERGY_DECOMP.*|CHARGE_DECOMP.*|MP_N123|USE_DFTB|DFTB_DETAIL"
)
"""Keys that say where files lie, how atoms move or how it runs, or that `settings` tells by themselves."""
_THRESHOLDS = ("WG_ERROR", "E_ERROR", "RHO_ERROR", "RHO_RELATIVE_ERROR")
_OF_THE_WAY = re.compile(r"SCF_ITER[01]_\d+|KERK_.*|PULAY_.*|LDAU_MIX|" + "|".join(_THRESHOLDS))
"""Keys that say how self-consistency is reached, and how near."""
_KERK_AMIX = 0.4  # PWmat's own


@dataclass(frozen=True)
class EtotInput:
    """An ``etot.input``, as read.

    Attributes
    ----------
    nodes
        The two numbers of the first line: processors for the plane waves, and groups of k-points.
    keys
        Values as they were written, by upper-case key.
    """

    nodes: tuple[int, int] = (1, 1)
    keys: Mapping[str, str] = field(default_factory=dict)

    def value(self, key: str) -> str:
        """Return a value in upper case; nothing where the key is not there."""
        return self.keys.get(key, "").upper()

    def words(self, key: str) -> list[str]:
        """Return the words of a value; commas separate as spaces do."""
        return self.value(key).replace(",", " ").split()

    @property
    def potentials(self) -> dict[int, str]:
        """File names of ``IN.PSPn``, by n."""
        found = ((_POTENTIAL.fullmatch(key), value) for key, value in self.keys.items())
        return {int(match[1]): Path(value.strip("'\"")).name for match, value in found if match}


def read_etot_input(path: Path) -> EtotInput:
    """Read an ``etot.input``.

    Raises
    ------
    ConfigError
        With every line that is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(Problem(f"{path}: cannot be read ({error})", key="input")) from error
    problems = []
    lines = [re.split("[#!]", line)[0].strip() for line in text.splitlines()]
    head = next(((number, line) for number, line in enumerate(lines, 1) if line), (1, ""))
    words = head[1].replace(",", " ").split()
    if len(words) < 2 or not all(word.isdecimal() and int(word) for word in words[:2]):
        problems.append(f"line {head[0]}: two numbers were expected, as in '4 1'; found {head[1]!r}")
        words = ["1", "1"]
    keys: dict[str, str] = {}
    for number, line in list(enumerate(lines, 1))[head[0] :]:
        key, equals, value = (part.strip() for part in line.partition("="))
        if line and not (key and equals and value):
            problems.append(f"line {number}: KEY = value was expected; found {line!r}")
        elif key.upper() in keys:
            problems.append(f"line {number}: {key.upper()} is set twice")
        elif key:
            keys[key.upper()] = value
    for key in keys:
        first = keys[key].replace(",", " ").split()[0]
        if key.startswith("SCF_ITER") and not first.isdecimal():
            problems.append(f"{key} begins with a number of steps; found {first!r}")
    if problems:
        raise ConfigError([Problem(f"{path}: {problem}", key="input") for problem in problems])
    return EtotInput((int(words[0]), int(words[1])), keys)


def format_etot_input(nodes: Sequence[int], keys: Mapping[str, str]) -> str:
    """Return the text of an ``etot.input``."""
    width = max(map(len, keys), default=0)
    return f"{nodes[0]} {nodes[1]}\n" + "".join(f"{key:<{width}} = {value}\n" for key, value in keys.items())


def write_changed(user: Path, tags: Mapping[str, str], directory: Path, known: Collection[str]) -> Path:
    """Write a copy of an input into a folder, with other values of some keys; return its path.

    Raises
    ------
    ConfigError
        If a key is none of those that are known.
    """
    for tag in tags:
        if tag.upper() not in known:
            raise ConfigError(Problem(f"PWmat has no such key that is known here{nearest(tag.upper(), known)}", tag))
    old = read_etot_input(user)
    path = directory / "etot.input"
    keys = {**old.keys, **{tag.upper(): value for tag, value in tags.items()}}
    path.write_text(format_etot_input(old.nodes, keys), encoding="utf-8")
    return path


def renumber(user: EtotInput, elements: Mapping[int, str], species: Iterable[str]) -> dict[str, str]:
    """Return the keys that are numbered by potentials, for the potentials of one structure.

    Parameters
    ----------
    elements
        The element of each ``IN.PSPn`` of the user's.
    species
        Elements in the order of the structure's own ``IN.PSPn``.
    """
    numbers = {symbol: number for number, symbol in enumerate(species, 1)}
    found = {}
    for key, value in user.keys.items():
        match = BY_POTENTIAL.fullmatch(key)
        number = numbers.get(elements.get(int(match[2]), "")) if match else None
        if match and number:
            found[f"{match[1]}{number}"] = value
    return found


def numbers_of(user: EtotInput, elements: Mapping[int, str], *, moves: bool = False) -> dict[str, list[float | str]]:
    """Return, in a form that spelling does not change, the keys that decide energies and forces.

    Of the lines ``SCF_ITERx_n`` only the smearing does, the last two words of the last one: of ``SCF_ITER0_n`` for a
    frame by itself, of ``SCF_ITER1_n`` once atoms move. Where an input gives only the former, the smearing of a
    relaxation or dynamics is PWmat's own, which is not known here and counts as another.
    """
    found: dict[str, list[float | str]] = {}
    for key in sorted(user.keys):
        match = BY_POTENTIAL.fullmatch(key)
        name = f"{match[1]} {elements.get(int(match[2]), match[2])}" if match else key
        if match or not (_NOT_NUMBERS.fullmatch(key) or _OF_THE_WAY.fullmatch(key)):
            found[name] = [_number(word) for word in user.words(key)]
    first, later = (
        sorted((key for key in user.keys if key.startswith(name)), key=lambda key: (len(key), key))
        for name in ("SCF_ITER0_", "SCF_ITER1_")
    )
    if moves and first and not later:
        return found | {"smearing": ["PWmat's own: no SCF_ITER1_1"]}
    lines = later if moves else first
    smearing = user.words(lines[-1])[4:6] if lines else []
    return found | ({"smearing": [_number(word) for word in smearing]} if smearing else {})


def thresholds_of(user: EtotInput) -> dict[str, float]:
    """Return the thresholds that the input gives, below which self-consistency ends."""
    found = {key: _number((user.words(key) or [""])[0]) for key in _THRESHOLDS if key in user.keys}
    return {key: value for key, value in found.items() if isinstance(value, float)}


def start_elsewhere(user: EtotInput) -> dict[str, str]:
    """Return the keys with which half as much of each new density is mixed, and random numbers are others."""
    mixing = _number((user.words("KERK_AMIX") or [""])[0])
    seed = _number((user.words("RANDOM_SEED") or [""])[0])
    return {
        "KERK_AMIX": f"{(mixing if isinstance(mixing, float) else _KERK_AMIX) / 2:.6g}",
        "RANDOM_SEED": f"{(seed if isinstance(seed, float) else 0.0) + 1:.0f}",
    }


def _number(word: str) -> float | str:
    try:
        return float(word.replace("D", "E"))
    except ValueError:
        return word
