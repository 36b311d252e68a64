"""Tables of crystals with their properties, and the CIFs they name or hold."""

import csv
import gzip
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from al_driver.errors import ConfigError, Problem
from al_driver.screen.properties import INSTALL

TABLE = "id_prop.csv"
SAME_COMPOSITION = 0.01  # of the atoms: occupancies are rounded
_FORMULA = re.compile(r"^_chemical_formula_sum[ \t]*\n?[ \t]*(?:'([^'\n]+)'|([A-Za-z0-9.]+))", re.MULTILINE)


@dataclass(frozen=True)
class Line:
    """A line of an ``id_prop.csv``: the id of a CIF beside it, and its properties; what is wrong is told by `check`."""

    table: Path
    name: str
    targets: dict[str, float]
    problem: Problem | None

    def check(self) -> tuple[str, Path, str]:
        """Return the CIF's text, its path and the id.

        Raises
        ------
        ConfigError
            If the line is not in order, or its CIF is missing.
        """
        if self.problem:
            raise ConfigError(self.problem)
        file = self.table.parent / f"{self.name}.cif"
        return file.read_text(encoding="utf-8", errors="replace"), file, self.name


def read_id_prop(table: Path) -> list[Line]:
    """Read ``id, property[, property …]``; the properties are called 1, 2 … where no first line names them."""
    with table.open(encoding="utf-8", newline="") as stream:
        rows = [(number, [cell.strip() for cell in row]) for number, row in enumerate(csv.reader(stream), 1) if row]
    names = list[str]()
    if rows and len(rows[0][1]) > 1 and not any(map(is_number, rows[0][1][1:])):
        names = rows.pop(0)[1][1:]
    return [_read_line(table, number, row, names) for number, row in rows]


def _read_line(table: Path, number: int, row: list[str], names: list[str]) -> Line:
    own = names or [str(index) for index in range(1, len(row))]
    cells = dict(zip(own, row[1:], strict=False))
    wrong = next((f"{cell!r} in the column {name} is no finite number" for name, cell in cells.items()
                  if cell and not is_number(cell)), "")  # fmt: skip
    if names and len(row) - 1 != len(names):
        wrong = f"has {len(row)} columns, and the first line has {len(names) + 1}"
    elif not row[0] or Path(row[0]).name != row[0] or not (table.parent / f"{row[0]}.cif").is_file():
        wrong = f"there is no {row[0]}.cif in the folder"
    problem = Problem(wrong, f"line {number}", table) if wrong else None
    return Line(table, row[0], find_numbers(cells), problem)


def read_table(file: Path) -> list[dict[str, str]]:
    """Read the rows of a ``.csv`` or ``.csv.gz`` with the text of a CIF in the column ``cif``.

    Raises
    ------
    ConfigError
        If it cannot be read, or has no such column.
    """
    rows = read_rows(file)
    if rows and "cif" not in rows[0]:
        there = ", ".join(str(name) for name in rows[0])[:200]
        raise ConfigError(Problem(f"has no column cif, which would hold the structures; it has {there}", file=file))
    return rows


def read_rows(file: Path) -> list[dict[str, str]]:
    """Read the rows of a ``.csv`` or ``.csv.gz`` whose first line names the columns.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    csv.field_size_limit(10**8)
    try:
        with (
            gzip.open(file, "rt", encoding="utf-8", newline="")
            if file.suffix == ".gz"
            else file.open(encoding="utf-8", newline="") as stream
        ):
            return list(csv.DictReader(stream))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(Problem(f"cannot be read as a table ({error})", file=file)) from error


def parse_cif(text: str) -> list[Any]:
    """Return the pymatgen structures of a CIF, which may have shared sites.

    Raises
    ------
    ConfigError
        If it cannot be read, or its sites do not make up the formula that it states.
    """
    try:
        from pymatgen.io.cif import CifParser
    except ImportError:
        raise ConfigError(f"reading CIFs needs pymatgen: {INSTALL}") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rounded coordinates, and how space groups are spelt
        try:
            structures = list(CifParser.from_str(text).parse_structures(primitive=False, on_error="raise"))
        except Exception as error:
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise ConfigError(f"cannot be read as a CIF ({reason})") from error
    for structure in structures:
        _check_sites(structure, _FORMULA.search(text) if len(structures) == 1 else None)
    return structures


def _check_sites(structure: Any, stated: re.Match[str] | None) -> None:
    """Raise where a CIF has sites of no element, or states another composition than its sites make up."""
    from pymatgen.core import Composition, DummySpecies

    for species in structure.composition:
        if isinstance(species, DummySpecies):
            raise ConfigError(f"has {species.symbol}, which is no element")
    try:
        formula = Composition((stated[1] or stated[2]).replace(" ", "")) if stated else None
    except ValueError:
        return  # D, deuterium in words, "?": nothing to compare with
    found = structure.composition.element_composition
    if formula and any(
        abs(formula.get_atomic_fraction(one) - found.get_atomic_fraction(one)) > SAME_COMPOSITION
        for one in {*formula, *found}
    ):
        raise ConfigError(f"its sites are {found.reduced_formula}, its formula is {formula.reduced_formula}: sites are "
                          "missing, or are too many")  # fmt: skip


def find_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return what is a finite number, by name."""
    return {
        str(name): float(value)
        for name, value in values.items()
        if isinstance(value, str | int | float) and is_number(value)
    }


def is_number(value: Any) -> bool:
    """Return whether it reads as a finite number."""
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False
