"""What in CP2K's &SCF decides the numbers, what only how they are reached, and how an SCF begins elsewhere.

Source: the CP2K manual, section FORCE_EVAL/DFT/SCF.
"""

from collections.abc import Mapping
from pathlib import Path

from al_driver.engines.cp2k.sections import Item, Section, format_sections, split_line
from al_driver.errors import ConfigError, Problem
from al_driver.schema.suggest import nearest

EPS_SCF = 1e-5
"""CP2K's own threshold."""
_SCF = ("FORCE_EVAL", "DFT", "SCF")
_LINES_THAT_DECIDE = frozenset({"ADDED_MOS", "ROKS", "ROKS_SCHEME", "LEVEL_SHIFT", "ELECTRONIC_TEMPERATURE"})
_SECTIONS_THAT_DECIDE = frozenset({"SMEAR", "MOM"})
_ALPHA = 0.4
"""CP2K's own share of a new density."""


def what_decides(scf: Section) -> Section:
    """Return a copy of &SCF with what decides what it converges to: smearing, and how many states there are."""

    def decides(item: Item) -> bool:
        if isinstance(item, Section):
            return item.name in _SECTIONS_THAT_DECIDE
        return split_line(item)[0] in _LINES_THAT_DECIDE

    return Section(scf.name, scf.parameter, [item for item in scf.items if decides(item)])


def thresholds_of(root: Section) -> dict[str, float]:
    """Return EPS_SCF of the inner and, where there is one, the outer loop."""
    scf = root.find(*_SCF) or Section("SCF")
    outer = scf.find("OUTER_SCF")
    found = {"EPS_SCF": _number(scf.value("EPS_SCF"), EPS_SCF)}
    return found | ({"OUTER_SCF/EPS_SCF": _number(outer.value("EPS_SCF"), EPS_SCF)} if outer is not None else {})


def start_elsewhere(root: Section) -> None:
    """Let the SCF of an input begin from random orbitals, and mix half as much of each new density.

    The other guesses are no choice: CORE is not implemented for k-points, and RESTART needs a file.
    """
    scf = root.at(*_SCF)
    scf.set("SCF_GUESS", "ATOMIC" if scf.value("SCF_GUESS").upper() == "RANDOM" else "RANDOM")
    mixing = scf.find("MIXING")
    if mixing is not None:
        mixing.set("ALPHA", f"{_number(mixing.value('ALPHA'), _ALPHA) / 2:.6g}")


def write_changed(root: Section, tags: Mapping[str, str], path: Path) -> Path:
    """Write an input with other values of keywords, each named with its sections: ``FORCE_EVAL/DFT/SCF/MAX_SCF``.

    Raises
    ------
    ConfigError
        If the input has no such section. Whether CP2K knows the keyword is asked of CP2K.
    """
    for tag, value in tags.items():
        *names, keyword = tag.upper().replace(".", "/").split("/")
        found = root
        for name in names:
            inner = found.find(name)
            if inner is None:
                there = [section.name for section in found.sections]
                raise ConfigError(Problem(f"the input has no section &{name} there{nearest(name, there)}", tag))
            found = inner
        if not names:
            raise ConfigError(Problem("name it with its sections, such as FORCE_EVAL/DFT/SCF/MAX_SCF", tag))
        found.set(keyword, value)
    path.write_text(format_sections(root), encoding="utf-8")
    return path


def keywords_of(section: Section, prefix: str = "") -> list[str]:
    """Return every keyword of an input with its sections."""
    found = [f"{prefix}{split_line(line)[0]}" for line in section.lines]
    for inner in section.sections:
        found += keywords_of(inner, f"{prefix}{inner.name}/")
    return found


def _number(text: str, default: float) -> float:
    try:
        return float(text.split()[0].lower().replace("d", "e"))
    except (ValueError, IndexError):
        return default
