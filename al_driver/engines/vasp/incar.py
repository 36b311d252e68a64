"""VASP's INCAR: read as VASP reads it, compared by meaning, written with what the driver sets after the user's tags.

Which tags move atoms, which only say how a calculation runs, and which decide its numbers stands here. Source: the
VASP wiki, category "INCAR tag".
"""

import re
from collections.abc import Mapping
from pathlib import Path

from al_driver.errors import ConfigError, Problem
from al_driver.schema.suggest import nearest

Tags = dict[str, str]
"""Tags in upper case with their values as written."""


def words(text: str) -> frozenset[str]:
    """Return a table of words as a set."""
    return frozenset(text.split())


IONIC = words(
    "NSW IBRION ISIF POTIM EDIFFG SMASS MDALGO TEBEG TEEND NBLOCK KBLOCK NFREE PMASS LANGEVIN_GAMMA LANGEVIN_GAMMA_L "
    "ANDERSEN_PROB CSVR_PERIOD NHC_NCHAINS NHC_PERIOD NHC_NRESPA NHC_NS TSUBSYS PSUBSYS NSUBSYS RANDOM_SEED SCALEE "
    "IOPT MAXMOVE TIMESTEP IMAGES SPRING LCLIMB ICHAIN PSTRESS IWAVPR LBLUEOUT HILLS_H HILLS_W HILLS_BIN"
)
"""How atoms move."""
_OF_A_RUN = words(
    "SYSTEM ISTART ICHARG INIWAV NWRITE LWAVE LCHARG LVTOT LVHAR LELF LAECHG LORBIT LPARD NEDOS EMIN EMAX "
    "LOPTICS NPAR NCORE KPAR NSIM LPLANE LSCALU LSCALAPACK LASYNC NCORE_IN_IMAGE1 LH5 KPOINT_BSE MAXMEM EDIFF "
    "ALGO IALGO NELM NELMIN NELMDL LDIAG TIME WEIMIN EBREAK DEPER IMIX AMIX BMIX AMIX_MAG BMIX_MAG AMIN MIXPRE MAXMIX "
    "INIMIX WC LSUBROT ISYM SYMPREC LMAXMIX LDAUPRINT"
)
"""How a calculation is run, how it converges, and what it writes: two that differ in these give the same numbers."""
_MORE_TAGS = words(
    "IVDW KSPACING KGAMMA LASPH METAGGA MDALGO NCORE KPAR LMAXMIX PRECFOCK SYSTEM KERNEL_TRUNCATION/LTRUNCATE "
    "KERNEL_TRUNCATION/IDIMENSIONALITY KERNEL_TRUNCATION/ISURFACE KERNEL_TRUNCATION/LCOARSEN KERNEL_TRUNCATION/FACTOR"
)
"""That ASE does not list."""
EDIFF = 1e-4
"""VASP's own threshold of the energy, eV."""
_DEFAULTS = {
    "ISPIN": "1", "PREC": "NORMAL", "LREAL": "F", "ISMEAR": "1", "SIGMA": "0.2", "ADDGRID": "F",
    "LASPH": "F", "LHFCALC": "F", "LSORBIT": "F", "LNONCOLLINEAR": "F", "LDAU": "F", "IVDW": "0", "KGAMMA": "T",
}  # fmt: skip
_ASSIGNMENT = re.compile(r"\s*([A-Za-z_][\w/]*)\s*=\s*(\"[^\"]*\"|[^;]*)", re.DOTALL)
_BLOCK = re.compile(r"([A-Za-z_]\w*)\s*\{([^{}]*)\}")
_TRUE, _FALSE = re.compile(r"\.?T(RUE)?\.?", re.IGNORECASE), re.compile(r"\.?F(ALSE)?\.?", re.IGNORECASE)


def read_incar(path: Path) -> Tags:
    """Read an INCAR.

    Raises
    ------
    ConfigError
        If it is not there, holds no tag, or gives one tag two values.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(Problem(f"cannot be read: {error.strerror}", file=path)) from error
    return parse_incar(text, path)


def parse_incar(text: str, path: Path) -> Tags:
    """Return the tags of an INCAR's text; comments start with ``#`` or ``!``, ``;`` separates, ``\\`` goes on.

    A block ``NAME { TAG = value }`` gives the tag ``NAME/TAG``.
    """
    tags: Tags = {}
    for piece in _pieces(text):
        match = _ASSIGNMENT.match(piece)
        if match is None:
            continue
        name, value = match[1].upper(), match[2].strip()
        if name in tags and canonical(tags[name]) != canonical(value):
            raise ConfigError(Problem(f"{name} stands twice, as {tags[name]!r} and as {value!r}; keep one", file=path))
        tags[name] = value
    if not tags:
        raise ConfigError(Problem("holds no tag; an INCAR of VASP was expected", file=path))
    return tags


def find_ignored(path: Path) -> list[str]:
    """Return the pieces of an INCAR that are no tag with a value: VASP passes over them without a word."""
    pieces = _pieces(path.read_text(encoding="utf-8", errors="replace"))
    return [" ".join(piece.split()) for piece in pieces if piece.strip() and _ASSIGNMENT.match(piece) is None]


def _pieces(text: str) -> list[str]:
    """Return what ``;`` and line ends separate, without comments; a block's tags with its name before them."""
    bare = "\n".join(re.split("[#!]", line, maxsplit=1)[0] for line in text.splitlines())
    bare = re.sub(r"\\\s*\n", " ", bare)
    bare = _BLOCK.sub(lambda block: "\n".join(f"{block[1]}/{tag.strip()}" for tag in _split(block[2])), bare)
    return _split(bare)


def _split(text: str) -> list[str]:
    return [piece for piece in re.findall(r"(?:\"[^\"]*\"|[^;\n\"])+", text) if piece.strip()]


def canonical(value: str) -> str:
    """Return a value such that two ways to write it are one: numbers, truth values, letters of either case."""
    return " ".join(_canonical_word(word) for word in value.split())


def number(tags: Mapping[str, str], name: str, default: float) -> float:
    """Return a tag's number; the default where it is not there, NaN where it is none."""
    if name not in tags:
        return default
    try:
        return float(tags[name].split()[0].lower().replace("d", "e"))
    except (ValueError, IndexError):
        return float("nan")


def is_true(tags: Mapping[str, str], name: str, default: bool = False) -> bool:
    """Return a tag's truth value: its first word's, as VASP reads it."""
    return _meaning(tags[name]) == "T" if name in tags else default


def _meaning(value: str) -> str:
    """Return a value's canonical form; of a truth value with words behind it, which VASP passes over, that alone."""
    words = canonical(value).split()
    is_one = bool(words) and words[0] in {"T", "F"} and not {"T", "F"}.issuperset(words)
    return words[0] if is_one else " ".join(words)


def electronic(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that decide energy, forces and stress of a frame, by meaning; VASP's defaults stand for none."""
    found = {
        name: _meaning(value)
        for name, value in tags.items()
        if name not in IONIC and name not in _OF_A_RUN and not name.startswith("ML_")
    }
    found["PREC"] = {"A": "ACCURATE", "N": "NORMAL", "L": "LOW"}.get(found.get("PREC", ""), found.get("PREC", "NORMAL"))
    defaults = {name: canonical(value) for name, value in _DEFAULTS.items()}
    return {name: value for name, value in sorted(found.items()) if defaults.get(name) != value}


def known_tags() -> frozenset[str]:
    """Return every tag that VASP is known to have."""
    from ase.calculators.vasp import create_input  # imports matplotlib, which other runs need not pay for

    lists = (name for name in dir(create_input) if name.endswith("_keys"))
    return frozenset(word.upper() for name in lists for word in getattr(create_input, name)) | IONIC | _MORE_TAGS


def write_changed(user: Path, tags: Mapping[str, str], directory: Path) -> Path:
    """Write a copy of an INCAR into a folder, with other values of some tags; return its path.

    Raises
    ------
    ConfigError
        If VASP has no such tag.
    """
    known = known_tags()
    for name in tags:
        if name.upper() not in known:
            raise ConfigError(Problem(f"VASP has no such tag{nearest(name.upper(), known)}", name))
    path = directory / "INCAR"
    path.write_text(format_incar(read_incar(user), {name.upper(): tags[name] for name in tags}), encoding="utf-8")
    return path


def _canonical_word(word: str) -> str:
    if _TRUE.fullmatch(word) or _FALSE.fullmatch(word):
        return "T" if _TRUE.fullmatch(word) else "F"
    try:
        return f"{float(word.lower().replace('d', 'e')):.12g}"
    except ValueError:
        return word.upper()


def format_incar(user: Mapping[str, str], own: Mapping[str, str], comments: tuple[str, ...] = ()) -> str:
    """Return the text of an INCAR: the user's tags, then those the driver sets, after comments of its own."""
    lines = [f"! {comment}" for comment in comments]
    lines += [f"{name} = {value}" for name, value in user.items() if name not in own]
    lines += ["! set by the driver", *(f"{name} = {value}" for name, value in own.items())]
    return "\n".join(lines) + "\n"
