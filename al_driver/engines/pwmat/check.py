"""What `al check` finds in the input of PWmat before anything is submitted.

PWmat's manual is not public as text: `KNOWN` are the keys of the public documents and inputs that other modules here
name, so that a key outside it is a warning.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from al_driver.engines.base import Calculation
from al_driver.engines.pwmat.etot import BY_POTENTIAL, SCRATCH_OUTPUTS, EtotInput
from al_driver.engines.pwmat.motion import JOBS
from al_driver.errors import Problem
from al_driver.schema.suggest import nearest, nearest_file

Finding = tuple[str, Literal["error", "warning"]]
"""What was found, and how bad it is."""
_KNOWN = """
    JOB ACCURACY PRECISION CONVERGENCE NUM_MPI_PER_GPU NUM_BLOCKED_PSI WF_STORE2DISK USE_GAUSSIAN NUM_GPU
    USE_DFTB DFTB_DETAIL IN.SKF SYMM_PREC RANDOM_SEED ECUT ECUT2 ECUT2L ECUTP N123 NS123 N123L P123 MP_N123 NQ123
    SPIN NUM_ELECTRON NUM_BAND XCFUNCTIONAL VDW DFTD3_VERSION HSE_DETAIL RELAX_HSE HSE_OMEGA HSE_ALPHA HSE_BETA
    WG_ERROR E_ERROR RHO_ERROR RHO_RELATIVE_ERROR FERMIDE SCF_SPECIAL KERK_AMIN KERK_AMIX KERK_AMIX_MAG KERK_BMIX
    LDAU_MIX
    RELAX_DETAIL MD_DETAIL MD_SPECIAL STRESS_CORR EGG_DETAIL EGG_CORR VFF_DETAIL
    CONSTRAINT_MAG SPIN222_MAGDIR_STEPFIX COULOMB CHARGE_DECOMP ENERGY_DECOMP ENERGY_DECOMP_SPECIAL
    ENERGY_DECOMP_SPECIAL1 ENERGY_DECOMP_SPECIAL2 ENERGY_DECOMP_COULOMB IN.ATOM IN.WG IN.RHO IN.VR IN.VEXT IN.KPT
    IN.SYMM IN.OCC IN.OCC_ADIA IN.SOLVENT IN.NONSCF IN.MDOPT IN.RELAXOPT OUT.WG OUT.RHO OUT.VR OUT.VATOM
    OUT.FORCE OUT.STRESS OUT.MLMD OUT.RHOATOM NUM_DOS_GRID
"""
KNOWN = frozenset(_KNOWN.split())
_NUMBERED = re.compile(r"IN\.PSP\d+|SCF_ITER[01]_\d+")
_TRUE = ("T", "TRUE", ".TRUE.")


def check_slater_koster(folder: Path, type_map: Sequence[str]) -> Iterator[Problem]:
    """Yield pairs of elements that no file is for; ``Si-C.skf`` and ``SiC.skf`` are both the pair of Si and C."""
    key = "dftb.slater_koster"
    if not folder.is_dir():
        yield Problem(f"{folder} is not a folder{nearest_file(folder)}", key=key)
        return
    names = {path.stem.lower().replace("_", "-") for path in folder.rglob("*.skf")}
    for first in type_map:
        for second in type_map:
            if not {f"{first}-{second}".lower(), f"{first}{second}".lower()} & names:
                yield Problem(f"{folder} has no Slater–Koster file {first}-{second}.skf", key=key)


def check_input(user: EtotInput, calculation: Calculation, *, is_own: bool, uses_dftb: bool) -> Iterator[Finding]:
    """Yield what PWmat would refuse, or what means something else for another structure.

    Parameters
    ----------
    is_own
        The file was given for this calculation alone.
    uses_dftb
        The engine has the key ``dftb``.
    """
    job, jobs = user.value("JOB"), list(JOBS.values())
    if job and job not in jobs:
        yield f"JOB = {job} is none that the driver can ask for{nearest(job, jobs)}", "error"
    elif job and is_own and job != JOBS[calculation]:
        yield f"JOB = {job}, but this is the input of {calculation}, which is {JOBS[calculation]}", "error"
    for key in user.keys:
        if key not in KNOWN and not _NUMBERED.fullmatch(key) and not BY_POTENTIAL.fullmatch(key):
            yield f"{key} is no key of PWmat that is known here{nearest(key, KNOWN)}", "warning"
        if key.startswith("IN.") and key != "IN.MDOPT" and user.value(key) in _TRUE:
            yield f"{key} = T needs a file of another calculation; take it out", "error"
    if not uses_dftb and user.value("USE_DFTB") in _TRUE:
        yield 'USE_DFTB = T: say where its files are, "dftb": {"slater_koster": "folder"}', "error"
    if not uses_dftb and "ECUT" not in user.keys:
        yield "ECUT (Ry) is missing: PWmat takes it from the potentials; say it, it decides every label", "warning"
    for key in ("NUM_ELECTRON", "NUM_BAND", "N123", "N123L", "P123"):
        if key in user.keys:
            yield f"{key} = {user.keys[key]} is kept as it is for structures of every size", "warning"
    for key in SCRATCH_OUTPUTS:
        if user.value(key) in _TRUE:
            yield f"{key} = T is set to F: nobody reads it", "warning"


def check_k_points(user: EtotInput, key: str | None) -> Iterator[Finding]:
    """Yield what is wrong where MP_N123 and one of our keys, or neither, choose k-points."""
    words = user.words("MP_N123")
    if words and key:
        yield f"MP_N123 and `{key}` both choose k-points; take one of them out", "error"
    elif not words and key is None:
        yield "nothing chooses k-points; give `kspacing`, `kpoints`, or MP_N123 in the input", "error"
    elif words and (len(words) < 6 or not all(word.isdecimal() for word in words)):
        yield f"MP_N123 needs six or seven integers; found {user.keys['MP_N123']!r}", "error"


def elements_of(user: EtotInput, potentials: Mapping[str, Path]) -> dict[int, str]:
    """Return the element of each ``IN.PSPn`` that names a file of ``pseudopotentials``."""
    by_name = {path.name: symbol for symbol, path in potentials.items()}
    return {number: by_name[name] for number, name in user.potentials.items() if name in by_name}


def check_numbered(user: EtotInput, potentials: Mapping[str, Path]) -> Iterator[Finding]:
    """Yield keys that are numbered by potentials where no line says whose they are."""
    elements = elements_of(user, potentials)
    for number, name in user.potentials.items():
        if number not in elements and potentials:
            yield f"IN.PSP{number} names {name}, which is not of `pseudopotentials`; those are used", "warning"
    for key in user.keys:
        match = BY_POTENTIAL.fullmatch(key)
        if match and int(match[2]) not in elements:
            line = f"IN.PSP{match[2]}"
            yield f"{key}: no line {line} names a file of `pseudopotentials`, so nothing says whose it is", "error"
