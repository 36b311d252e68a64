"""Units of everything a user writes, and the constants that convert what programs print.

Inside the program: eV, Å, eV/Å, K, ps, and bar only where LAMMPS reads or writes it. The constants are dpdata's, so
that a file read here and one read by dpdata agree to the last digit (ASE's differ in the year of CODATA).
"""

from dataclasses import dataclass
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

HARTREE_TO_EV = 27.211386245988034
RYDBERG_TO_EV = HARTREE_TO_EV / 2
BOHR_TO_ANGSTROM = 0.529177210903
LAMMPS_METAL_NKTV2P = 1.6021765e6
"""bar per eV/Å³ as LAMMPS itself converts in ``units metal``; dividing by it gives back LAMMPS's own virial."""


@dataclass(frozen=True)
class Unit:
    """The unit of a key: ``Annotated[float, Unit("eV/Å")]``. Shown in the JSON Schema and in every error."""

    symbol: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        json_schema = handler(schema)
        json_schema["unit"] = self.symbol
        return json_schema
