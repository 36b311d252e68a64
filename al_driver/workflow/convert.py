"""``al convert``: output files of programs, in any number and format, to one dataset. eV, eV/Å.

Files are read side by side, and their frames written in the order of the files. What cannot be learned from is left
out, and told; a file that cannot be read is refused with its reason, and the others are converted. All frames are in
memory at once: as much as the dataset takes on the disk.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ase import Atoms

from al_driver.data.blocks import Block, take, write_blocks
from al_driver.data.dataset import formula_name
from al_driver.data.formats.load import Loaded, Source, find_sources, refused
from al_driver.data.frames import write_frames
from al_driver.data.ledger import Row, told_of, way_to, write_ledger
from al_driver.data.sources import find_paths
from al_driver.errors import ConfigError, Problem
from al_driver.schema.elements import check_type_map
from al_driver.schema.suggest import nearest
from al_driver.words import many
from al_driver.workflow.convert_files import load_sources
from al_driver.workflow.convert_hints import elements_of, hint_at_gather, hint_at_lost, hint_at_mixed
from al_driver.workflow.duplicates import count_duplicates, drop_duplicates, drop_twins
from al_driver.workflow.split import Split, split_frames
from al_driver.workflow.target import check_target

NPY, EXTXYZ = "deepmd/npy", "extxyz"
EXTXYZ_FILE = "frames.extxyz"
Progress = Callable[[int, int], None]


@dataclass
class Conversion:
    """What `convert` wrote, and what it did not.

    Attributes
    ----------
    written
        Frames by folder below ``out`` (``H4O2``, ``train/H4O2``); by file name where ``out`` is one file.
    files
        What each source holds, in the order of the input.
    aside
        Files that are not needed, with the reason: an OUTCAR and a vasprun.xml tell of the same run.
    gap
        Frames between training and validation blocks, on neither side.
    repeated
        Frames that equal one before them, and were written all the same since nothing is held back.
    refused
        Files that were not converted, with the reason.
    hints
        What may not be as its user wants it.
    """

    out: Path
    type_map: list[str] = field(default_factory=list)
    written: dict[str, int] = field(default_factory=dict)
    files: list[Loaded] = field(default_factory=list)
    aside: list[tuple[Path, str]] = field(default_factory=list)
    gap: int = 0
    repeated: int = 0
    refused: list[Problem] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    @property
    def left_out(self) -> Counter[str]:
        """Frames left out, by reason."""
        return Counter(reason for loaded in self.files for reason, _ in loaded.left_out)


def convert(
    inputs: Sequence[Path | str] | Path | str,
    out: Path | str,
    *,
    format: str | None = None,
    to: str | None = None,
    every: int = 1,
    valid: float = 0.0,
    seed: int = 0,
    type_map: Sequence[str] = (),
    workers: int | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Convert files to ``out/<formula>/``, or to ``out/train/<formula>/`` and ``out/valid/<formula>/``.

    Parameters
    ----------
    inputs
        Files, patterns, or folders, which are searched for files whose format is recognised.
    format
        Of all inputs, where it is not to be recognised: a name of `data.formats.registry` or of dpdata.
    to
        "deepmd/npy" or "extxyz" (``out/<formula>/frames.extxyz``, or one file if ``out`` ends in ``.extxyz``); by the
        ending of ``out`` when None.
    every
        Take each n-th step of each file, beginning with the first.
    valid
        Share of frames held back: of each trajectory a block at its end, behind a gap; single frames by drawing. Of
        equal frames the first is taken, so that none is on both sides; what alone holds an element is not held back.
    type_map
        Elements in the order of the dataset's types, and of a LAMMPS dump's that does not name them; in alphabetical
        order when empty.
    workers
        Files read side by side; as many as there are processors when None.
    progress
        Called with the number of files read and their count; first with 0, when all processes have been started.

    Raises
    ------
    ConfigError
        If an input is missing, nothing can be converted, or ``out`` exists already.
    """
    out = Path(out).expanduser()
    to = _checked_options(out, to, every, valid, type_map)
    result = Conversion(out)
    sources = _collect([inputs] if isinstance(inputs, (str, Path)) else inputs, format, result)
    _sort_out(load_sources(sources, type_map, every, workers, progress), result)
    result.hints += hint_at_mixed(result.files)
    result.repeated = 0 if valid else count_duplicates(result.files)
    if valid:
        drop_duplicates(result.files)
    blocks = [block for loaded in result.files for block in loaded.blocks]
    if not blocks:
        raise ConfigError(result.refused or _nothing_left(result))
    result.type_map = list(type_map) or sorted({name for loaded in result.files for name in loaded.elements})
    parts = {"": blocks}
    if valid:
        split = _split(result, blocks, valid, seed)
        result.hints += filter(None, [hint_at_lost(split, blocks, result.type_map)])
        parts = {"train": take(blocks, split.train), "valid": take(blocks, split.valid)}
    _write(parts, to, result)
    return result


def _checked_options(out: Path, to: str | None, every: int, valid: float, type_map: Sequence[str]) -> str:
    """Return the format to write."""
    is_file = out.suffix in {".extxyz", ".xyz"}
    to = to or (EXTXYZ if is_file else NPY)
    if to not in (NPY, EXTXYZ):
        raise ConfigError(f"--to {to}: can write {NPY} and {EXTXYZ}{nearest(to, [NPY, EXTXYZ])}")
    if every < 1:
        raise ConfigError(f"--every {every}: expected 1 or more")
    if not 0 <= valid < 1:
        raise ConfigError(f"--valid {valid:g}: expected a share from 0 to below 1")
    if is_file and (valid or to == NPY):
        raise ConfigError(f"-o {out} is one extxyz file; {'--valid' if valid else to} needs a folder")
    try:
        check_type_map(type_map)
    except ValueError as error:
        raise ConfigError(f"--type-map {','.join(type_map)}: {error}") from error
    check_target(out)
    if out.is_symlink() or (out.exists() and (out.is_file() or any(out.iterdir()))):
        raise ConfigError(f"-o {out} exists already, and is not overwritten.\n  Move it away, or name another.")
    return to


def _collect(inputs: Sequence[Path | str], format: str | None, result: Conversion) -> list[Source]:
    """Return what is to be read, each file once; refuse files that nobody recognises."""
    if not inputs:
        raise ConfigError("no input; expected files, folders or patterns")
    sources: dict[Path, Source] = {}
    paths = [path for given in inputs for path in find_paths(Path(given).expanduser())]
    for path in paths:
        found = find_sources(path, format)
        if not found:
            what = f"holds no file in the format {format}" if format else "holds no file in a format that is recognised"
            message = what if path.is_dir() else "is in no format that is recognised"
            result.refused.append(Problem(f"{message}; say by --from what it is", file=path))
        for source in found:
            sources.setdefault(source.path.resolve(), source)
    if not sources:
        raise ConfigError(result.refused)
    result.hints += hint_at_gather(paths, [source.path for source in sources.values()])
    return list(sources.values())


def _sort_out(files: Sequence[Loaded], result: Conversion) -> None:
    """Keep what can be converted together."""
    result.refused += [refused(loaded) for loaded in files if loaded.problem]
    result.files, aside = drop_twins([loaded for loaded in files if not loaded.problem])
    result.aside += aside
    _part_unlabelled(result)


def _part_unlabelled(result: Conversion) -> None:
    """Keep bare structures out of a set with labels; those that were only found in a folder are no error."""
    if not any(loaded.is_labelled for loaded in result.files):
        return
    for loaded in [loaded for loaded in result.files if loaded.blocks and not loaded.is_labelled]:
        result.files.remove(loaded)
        loaded.problem = "holds structures without energies, and other inputs hold labels; convert it by itself"
        if loaded.source.is_named:
            result.refused.append(refused(loaded))
        else:
            result.aside.append((loaded.source.path, "structures without energies"))


def _nothing_left(result: Conversion) -> Problem:
    reasons = ", ".join(f"{reason} {count}" for reason, count in result.left_out.items())
    first = next((detail for loaded in result.files for _, detail in loaded.left_out), "")
    n_steps, path = sum(loaded.n_steps for loaded in result.files), result.files[0].source.path
    return Problem(
        f"nothing to convert: all of {many(n_steps, 'step')} left out ({reasons})\n  first {first}", file=path
    )


def _split(result: Conversion, blocks: Sequence[Block], valid: float, seed: int) -> Split:
    infos = [
        {"entry": 0, "file": file, "moment": moment}
        for file, loaded in enumerate(result.files)
        for moment in loaded.moments
    ]
    try:
        split = split_frames(infos, valid, seed, elements_of(blocks))
    except ConfigError as error:
        raise ConfigError(f"--valid {error.problems[0].message}") from error
    if not split.valid:
        message = f"--valid {valid:g} of {len(infos)} {'frame' if len(infos) == 1 else 'frames'} holds none back"
        left_out = f" ({result.left_out['duplicate']} equal ones are left out)" if result.left_out["duplicate"] else ""
        raise ConfigError(
            f"{message}{left_out}.\n  Give more frames (some of each element train), raise it, or leave it out."
        )
    result.gap = len(split.left_out)
    return split


def _write(parts: dict[str, list[Block]], to: str, result: Conversion) -> None:
    """Write everything beside ``out``, then put it in its place."""
    out = result.out
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix in {".extxyz", ".xyz"}:
        for info in (info for block in parts[""] for info in block.infos):
            if not Path(info["source"]).is_absolute():  # `al explain` starts from where the frames lie
                info["source"] = way_to(str(info["source"]), out.parent)
        write_frames(out, (atoms for block in parts[""] for atoms in block.frames()))
        result.written = {out.name: sum(map(len, parts[""]))}
        return
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # left by one that was killed
    write = write_blocks if to == NPY else _write_extxyz
    try:
        rows: list[Row] = []
        for part, blocks in parts.items():
            (temporary / part).mkdir(parents=True)
            places = write(temporary / part, blocks, result.type_map)
            rows += _make_rows(part, places, blocks, out)
        result.written = dict(Counter(row["system"] for row in rows))
        write_ledger(temporary, rows, {})
        if out.is_dir():
            out.rmdir()  # it is empty
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # of one that is interrupted


def _make_rows(part: str, places: Sequence[tuple[str, int]], blocks: Sequence[Block], out: Path) -> Iterator[Row]:
    """Yield the lines of the ledger; a source that is there is told by its way from ``out``."""
    ways: dict[str, str] = {}
    infos = (info for block in blocks for info in block.infos)
    for (name, index), info in zip(places, infos, strict=True):
        source = str(info["source"])
        if source not in ways:
            ways[source] = way_to(source, out)
        where = {"system": f"{part}/{name}".lstrip("/"), "index": index}
        yield where | told_of(info) | {"source": ways[source]}


def _write_extxyz(folder: Path, blocks: Sequence[Block], type_map: Sequence[str]) -> list[tuple[str, int]]:
    groups: dict[str, list[Block]] = {}
    counts: Counter[str] = Counter()
    places = []
    for block in blocks:
        name = formula_name(Atoms(block.numbers), type_map)
        groups.setdefault(name, []).append(block)
        places += [(name, counts[name] + index) for index in range(len(block))]
        counts[name] += len(block)
    for name, group in groups.items():
        (folder / name).mkdir()
        write_frames(folder / name / EXTXYZ_FILE, (atoms for block in group for atoms in block.frames()))
    return places
