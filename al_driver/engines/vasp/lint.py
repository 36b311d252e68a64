"""What `al check` finds in a user's INCAR before anything is submitted: what is wrong for labels, and what is risky.

Tags that are not there count with VASP's own default.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from al_driver.engines.base import Calculation
from al_driver.engines.vasp.incar import (
    EDIFF,
    Tags,
    canonical,
    electronic,
    find_ignored,
    is_true,
    known_tags,
    number,
    read_incar,
    words,
)
from al_driver.engines.vasp.potentials import Potential
from al_driver.engines.vasp.sites import Hubbard
from al_driver.schema.suggest import nearest

Finding = tuple[str, Literal["error", "warning"]]
"""What was found, and how bad it is."""
_NOT_METALS = words("H He B C N O F Ne Si P S Cl Ar Ge As Se Br Kr Te I Xe Rn At Sb")
_ENCUT_PER_ENMAX = 1.3
_MAX_EDIFF, _MIN_NELM = 1e-5, 100
_FEWEST_FOR_REAL_SPACE = 30  # atoms; VASP itself advises .FALSE. below some 20 to 30
_OF_ONE_CELL = ("NBANDS", "NGX", "NGY", "NGZ", "NGXF", "NGYF", "NGZF", "NUPDOWN", "EFIELD", "DIPOL", "ROPT", "FERWE")
_OF_ATOMS = {"NELECT": "charge", "MAGMOM": "magmoms", "LDAUL": "ldau", "LDAUU": "ldau", "LDAUJ": "ldau"}
_OF_A_STRUCTURE = words("ISMEAR SIGMA KSPACING KGAMMA ISPIN LDIPOL IDIPOL EPSILON LREAL ROPT AMIN")
"""What may differ between structures of one training set: k-points, smearing, whether spin is looked for."""
_D_AND_F = {2: 4, 3: 6}  # LMAXMIX for U on such electrons


def lint(incar: Path, calculation: Calculation, type_map: Sequence[str]) -> Iterator[Finding]:
    """Yield what is wrong with an INCAR."""
    tags = read_incar(incar)
    for text in find_ignored(incar):
        yield f"{text!r} is no TAG = VALUE, and VASP passes over it", "warning"
    yield from _check_accuracy(tags)
    yield from _check_kind(tags, calculation)
    for name in _OF_ONE_CELL:
        if name in tags:
            yield f"{name} = {tags[name]} is kept as it is for structures of every size", "warning"
    for name, key in _OF_ATOMS.items():
        if name in tags:
            yield f"{name} = {tags[name]} belongs to one structure; take it out and use `{key}`", "error"
    if number(tags, "ISMEAR", 1) == -5 and type_map and not _NOT_METALS.intersection(type_map):
        metals = " ".join(type_map)
        yield f"ISMEAR = -5 gives wrong forces in a metal ({metals}); use ISMEAR = 1 and a small SIGMA", "error"
    known = known_tags()
    for name in tags:
        if name not in known and not name.startswith("ML_"):
            yield (
                f"{name} is not known here, and VASP would ignore what it does not know{nearest(name, known)}",
                "warning",
            )


def lint_potentials(tags: Tags, potentials: Mapping[str, Potential]) -> Iterator[Finding]:
    """Yield what is wrong with an INCAR for these potentials."""
    encut = number(tags, "ENCUT", float("nan"))
    highest = max(potentials.values(), key=lambda potential: potential.enmax)
    if encut < highest.enmax:
        yield f"ENCUT = {encut:g} eV is below ENMAX of {highest.title}, {highest.enmax:g} eV", "warning"
    elif encut < _ENCUT_PER_ENMAX * highest.enmax:
        wanted = f"1.3 × ENMAX of {highest.title}, {_ENCUT_PER_ENMAX * highest.enmax:.0f} eV"
        yield f"ENCUT = {encut:g} eV is below {wanted}: the stress is not converged", "warning"


def lint_size(tags: Tags, n_atoms: int) -> Iterator[Finding]:
    """Yield what is wrong with an INCAR for a cell of so many atoms."""
    if canonical(tags.get("LREAL", "F")) != "F" and n_atoms < _FEWEST_FOR_REAL_SPACE:
        few = f"a cell of {n_atoms} atoms; below {_FEWEST_FOR_REAL_SPACE} take .FALSE."
        yield f"LREAL = {tags['LREAL']}: real-space projection is inaccurate in {few}", "warning"


def functionals(potentials: Mapping[str, Potential]) -> Iterator[Finding]:
    """Yield that potentials are of different functionals."""
    kinds = {symbol: (one.functional, one.title.split()[0]) for symbol, one in potentials.items()}
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{symbol}: {title} (LEXCH {lexch})" for symbol, (lexch, title) in kinds.items())
        yield f"the potentials are of different functionals: {told}", "warning"


def lint_spin(tags: Tags, magmoms: Mapping[str, float]) -> Iterator[Finding]:
    """Yield that moments are given, and the INCAR forbids them or wants vectors."""
    clash = next((f"{name} = {tags[name]}" for name in ("LNONCOLLINEAR", "LSORBIT") if is_true(tags, name)), None)
    clash = f"ISPIN = {tags['ISPIN']}" if number(tags, "ISPIN", 2) != 2 else clash
    if magmoms and clash:
        yield f"{clash}, but `magmoms` are given; take one of them out", "error"


def lint_apart(tags: Tags, main: Tags) -> Iterator[Finding]:
    """Yield in what a structure's INCAR differs from the others' such that their energies have no common zero."""
    own, others = electronic(tags), electronic(main)
    for name in sorted({*own, *others} - _OF_A_STRUCTURE):
        if own.get(name) != others.get(name):
            told, wanted = (f"{name} = {each[name]}" if name in each else f"no {name}" for each in (own, others))
            yield f"{told}, and {wanted} for other structures: labels of both do not belong into one training", "error"


def lint_ldau(tags: Tags, ldau: Mapping[str, Hubbard]) -> Iterator[Finding]:
    """Yield that the mixer leaves out the density that U acts on."""
    needed = max((_D_AND_F.get(one.l, 2) for one in ldau.values()), default=2)
    if number(tags, "LMAXMIX", 2) < needed:
        yield f"U converges badly with LMAXMIX = {number(tags, 'LMAXMIX', 2):g}; set LMAXMIX = {needed}", "warning"


def _check_accuracy(tags: Tags) -> Iterator[Finding]:
    if not number(tags, "ENCUT", float("nan")) > 0:
        yield "ENCUT (eV) is missing; without it each set of elements has a cutoff of its own", "error"
    ediff, nelm, isym = number(tags, "EDIFF", EDIFF), number(tags, "NELM", 60), number(tags, "ISYM", 2)
    if not ediff <= _MAX_EDIFF:
        yield f"EDIFF = {ediff:g}{_default(tags, 'EDIFF')}: forces are noisy above {_MAX_EDIFF:g}", "warning"
    if not nelm >= _MIN_NELM:
        yield f"NELM = {nelm:g}{_default(tags, 'NELM')}: a hard frame needs more; take {_MIN_NELM}", "warning"
    if isym > 0:
        yield f"ISYM = {isym:g}{_default(tags, 'ISYM')}: symmetry makes labels of one cell differ; take 0", "warning"


def _check_kind(tags: Tags, calculation: Calculation) -> Iterator[Finding]:
    if is_true(tags, "ML_LMLFF"):
        yield "ML_LMLFF = .TRUE.: frames of VASP's own force field are no DFT; take it out", "error"
    if "ISIF" in tags and not number(tags, "ISIF", 2) >= 2 and calculation == "label":
        yield f"ISIF = {tags['ISIF']} leaves out the stress, and virials train; take ISIF = 2", "error"
    if number(tags, "ICHARG", 2) >= 10:
        yield f"ICHARG = {tags['ICHARG']} keeps the density of another calculation; take it out", "error"
    if number(tags, "PSTRESS", 0.0) != 0:
        yield f"PSTRESS = {tags['PSTRESS']} is added to the stress; take it out", "error"
    if number(tags, "NSW", 0) > 0 and calculation == "label":
        yield f"NSW = {tags['NSW']}: a label is one frame, so it is set to 0", "warning"
    for name in ("LNONCOLLINEAR", "LSORBIT"):
        if is_true(tags, name):
            yield f"{name}: atoms carry one number for their moment, no vector; MAGMOM stays VASP's default", "warning"


def _default(tags: Tags, name: str) -> str:
    return "" if name in tags else " (VASP's default)"
