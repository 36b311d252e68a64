"""The nearest legal name to one that does not exist."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

MOST_TOLD = 24  # names that are listed where none is near
_ASE = "ase.calculators"
CALCULATORS = {
    "emt": f"{_ASE}.emt.EMT", "eam": f"{_ASE}.eam.EAM", "lj": f"{_ASE}.lj.LennardJones",
    "tersoff": f"{_ASE}.tersoff.Tersoff.from_lammps", "gpaw": "gpaw.GPAW", "dftb": f"{_ASE}.dftb.Dftb",
    "dftb+": f"{_ASE}.dftb.Dftb", "abinit": f"{_ASE}.abinit.Abinit", "chgnet": "chgnet.model.dynamics.CHGNetCalculator",
    "sevennet": "sevenn.calculator.SevenNetCalculator", "sevenn": "sevenn.calculator.SevenNetCalculator",
    "tblite": "tblite.ase.TBLite", "xtb": "tblite.ase.TBLite", "mace": "mace.calculators.mace_mp",
}  # fmt: skip
"""Import paths of calculators whose names people write for an engine's."""
_SCHEDULERS = ("pbs", "torque", "openpbs", "lsf", "sge", "uge", "cobalt", "htcondor", "flux", "ssh")
"""Words that people write for an executor and that none is for."""
_VASP_FILES = ("POSCAR", "POTCAR", "CONTCAR", "INCAR", "OUTCAR", "KPOINTS")


def nearest(word: str, legal: Iterable[str], otherwise: str = "legal are", cutoff: float = 0.6) -> str:
    """Return ``; did you mean 'x'?``, or what is legal where nothing is near.

    >>> nearest("Kspacing", ["kspacing", "input"])
    "; did you mean 'kspacing'?"
    >>> nearest("magic", ["kspacing", "input"])
    '; legal are input, kspacing'
    """
    names = sorted(legal)
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=cutoff)
    if close:
        return f"; did you mean {by_lower[close[0]]!r}?"
    if not names:
        return "; there is none"
    return f"; {otherwise} {', '.join(names)}" if len(names) <= MOST_TOLD else ""


def hint_at_ase(engine: str) -> str:
    """Return how a calculator is named where its name stands for an engine's; nothing where it is none."""
    word = engine.lower()
    if word not in CALCULATORS:
        return ""
    return f'; as an ASE calculator: {{"engine": "ase", "calculator": "{CALCULATORS[word]}"}}'


def hint_at_executor(word: str) -> str:
    """Return what to do on a machine whose scheduler no executor speaks to; nothing where the word is no such."""
    if word.lower() not in _SCHEDULERS:
        return ""
    return f'; {word} is not spoken here: within one of its jobs, "local" starts `workers` tasks side by side'


def nearest_file(path: Path) -> str:
    """Return ``; did you mean 'POSCAR'?`` from what lies beside a path that does not exist.

    A name that begins with the same word is nearer than any other: POSCAR to poscar.vasp, Si.pbe.UPF to si.upf.
    """
    if not path.parent.is_dir():
        return f"; there is no folder {path.parent}"
    names = sorted(file.name for file in path.parent.iterdir())
    likely = [name for name in names if _may_stand_for(name, path.name)]
    alike = [name for name in likely if _first_word(name) == _first_word(path.name)]
    hint = nearest(path.name, alike, cutoff=0.0) if alike else nearest(path.name, likely)
    if "mean" in hint or not names:
        return hint
    return f"; the folder holds {', '.join(names)}" if len(names) <= MOST_TOLD else ""


def _first_word(name: str) -> str:
    """Return what a name begins with, up to a point, a line or a space, in small letters."""
    return re.split(r"[._\s-]", name.lower(), maxsplit=1)[0]


def _may_stand_for(name: str, wanted: str) -> bool:
    """Say whether a file may be meant by a name: of VASP's files none is another, nor one of another element."""
    kind, own = (next((one for one in _VASP_FILES if one in text.upper()), None) for text in (name, wanted))
    if own is None or kind is None:
        return True
    ending, own_ending = (text.partition(".")[2] for text in (name, wanted))
    is_near = not own_ending or bool(difflib.get_close_matches(own_ending, [ending]))
    is_near |= not ending and kind != "POTCAR"  # POSCAR for poscar.vasp; a POTCAR without an element is not another's
    return kind == own and is_near
