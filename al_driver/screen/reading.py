"""What a user hands to a surrogate: files, folders, tables, with known properties where they hold some.

CIFs are read by pymatgen, which knows shared sites; everything else as elsewhere in this program (`structure_files`).
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from al_driver.data.sources import find_paths
from al_driver.data.structure_files import read_structure_file
from al_driver.errors import ConfigError, Problem
from al_driver.screen.crystals import make_crystal
from al_driver.screen.graph import Graph, make_graph
from al_driver.screen.graph_cache import GraphCache, make_graphs
from al_driver.screen.tables import TABLE, Line, find_numbers, parse_cif, read_id_prop, read_table

SUFFIXES = {".cif", ".vasp", ".poscar", ".extxyz", ".xyz"}
PREFIXES = ("POSCAR", "CONTCAR")
NAMES = ("id", "material_id", "name")  # a table's column with the ids, the first of these that there is
MOST_TOLD = 3
Progress = Callable[[int], None]
Part = Callable[[], list["Sample"]]


@dataclass(frozen=True)
class Sample:
    """A crystal by its graph.

    Attributes
    ----------
    name
        Its id in tables.
    path
        The file it is from.
    targets
        Known properties by name.
    """

    name: str
    path: Path
    graph: Graph
    targets: dict[str, float]


@dataclass
class Reading:
    """Crystals in the order of the inputs, and what could not be taken."""

    samples: list[Sample] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def raise_problems(self) -> None:
        """Raise a `ConfigError` with the first of the problems, where there are any."""
        if self.problems:
            more = len(self.problems) - MOST_TOLD
            told = self.problems[:MOST_TOLD] + ([Problem(f"and {more} more like these")] if more > 0 else [])
            raise ConfigError(told)


class Reader:
    """Reads inputs, and remembers the graphs of what it has read.

    Parameters
    ----------
    cache
        Where graphs are kept, by the content of a CIF or of a structure.
    progress
        Called with the number of crystals so far.
    """

    def __init__(self, cache: GraphCache | None = None, progress: Progress | None = None) -> None:
        self._cache = cache if cache is not None else GraphCache()
        self._progress = progress

    def read(self, inputs: Sequence[Path]) -> Reading:
        """Read every structure of files, folders and patterns.

        A folder with ``id_prop.csv`` (id, property, …; a first line may name them) gives ``ID.cif`` of each line; any
        other folder gives its structure files at any depth, sorted. A ``.csv`` or ``.csv.gz`` file has a column ``cif``
        with the text of each. Properties are the columns of tables, and the numbers in the comment of an extxyz frame.

        Raises
        ------
        ConfigError
            If an input is missing, or holds nothing.
        """
        reading = Reading()
        for path in (found for one in inputs for found in find_paths(one)):
            before = len(reading.samples) + len(reading.problems)
            for part in self._parts(path):
                try:
                    reading.samples += part()
                except ConfigError as error:
                    reading.problems += error.problems
                if self._progress:
                    self._progress(len(reading.samples))
            if before == len(reading.samples) + len(reading.problems):
                message = f"holds no structure ({', '.join(sorted(SUFFIXES))}, POSCAR, {TABLE})"
                raise ConfigError(Problem(message, file=path))
        return reading

    def _parts(self, path: Path) -> Iterator[Part]:
        """Yield, for each structure or file, what reads it."""
        if path.is_dir() and (path / TABLE).is_file():
            for line in read_id_prop(path / TABLE):
                yield partial(self._read_line, line)
        elif path.is_dir():
            for file in sorted(path.rglob("*")):
                if (file.suffix.lower() in SUFFIXES or file.name.startswith(PREFIXES)) and file.is_file():
                    yield partial(self._read_file, file)
        elif path.name.endswith((".csv", ".csv.gz")):
            for index, row in enumerate(read_table(path)):
                yield partial(self._read_row, path, index, row)
        else:
            yield partial(self._read_file, path)

    def _read_line(self, line: Line) -> list[Sample]:
        return self._read_cif(*line.check(), line.targets)

    def _read_row(self, file: Path, index: int, row: dict[str, str]) -> list[Sample]:
        name = next((row[column] for column in NAMES if row.get(column)), str(index))
        return self._read_cif(row["cif"] or "", file, name, find_numbers(row))

    def _read_file(self, file: Path) -> list[Sample]:
        if file.suffix.lower() == ".cif":
            return self._read_cif(file.read_text(encoding="utf-8", errors="replace"), file, file.stem, {})
        name = file.name if file.name.startswith(PREFIXES) else file.stem
        frames = read_structure_file(file, ())
        names = _number(name, len(frames))
        crystals = [make_crystal(atoms, one, file) for atoms, one in zip(frames, names, strict=True)]
        graphs = make_graphs(crystals, self._cache)
        return [
            Sample(one, file, graph, find_numbers(atoms.info))
            for one, graph, atoms in zip(names, graphs, frames, strict=True)
        ]

    def _read_cif(self, text: str, file: Path, name: str, targets: dict[str, float]) -> list[Sample]:
        key = hashlib.sha256(text.encode()).hexdigest()
        graphs = self._cache.get(key)
        if graphs is None:
            try:
                structures = parse_cif(text)
                graphs = [make_graph(make_crystal(one, name, file)) for one in structures]
            except ConfigError as error:
                where = "" if file.suffix.lower() == ".cif" else name
                raise ConfigError([replace(one, key=where, file=file) for one in error.problems]) from error
            self._cache.put(key, graphs)
        names = _number(name, len(graphs))
        return [Sample(one, file, graph, targets) for one, graph in zip(names, graphs, strict=True)]


def _number(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}:{index}" for index in range(count)]
