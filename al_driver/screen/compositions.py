"""How many atoms of what: substitutions, vacancies and partial occupancies in whole numbers, and what is neutral."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated

from pydantic import BeforeValidator, Field

from al_driver.errors import ConfigError, Problem
from al_driver.schema.base import Float, Int, as_list

Amount = Int | Annotated[Float, Field(ge=0, le=1)]
"""A whole number counts atoms; a number with a point is a share of them."""
Amounts = Annotated[
    tuple[Amount, ...], BeforeValidator(as_list, json_schema_input_type=Amount | list[Amount]), Field(min_length=1)
]
Charges = Annotated[
    tuple[Int, ...], BeforeValidator(as_list, json_schema_input_type=Int | list[Int]), Field(min_length=1)
]
"""The oxidation states that an element may have."""
VACANCY = "vacancy"
NEARLY_WHOLE = 0.05  # atoms: 0.333 of 12 is 4


@dataclass(frozen=True)
class Composition:
    """What is done to a crystal to reach one composition.

    Attributes
    ----------
    substituted
        How many atoms of an element become another.
    emptied
        How many atoms of an element are taken away, after that.
    """

    substituted: dict[tuple[str, str], int]
    emptied: dict[str, int]

    def describe(self) -> str:
        """Return it in words; empty where nothing is done."""
        parts = [f"{n} {source} → {target}" for (source, target), n in self.substituted.items() if n]
        return ", ".join(parts + [f"{n} {element} away" for element, n in self.emptied.items() if n])

    def count(self, present: Mapping[str, int]) -> dict[str, int]:
        """Return how many atoms of each element are left, of those that were there before."""
        counts = dict(present)
        for (source, target), n in self.substituted.items():
            counts[source] -= n
            counts[target] = counts.get(target, 0) + n
        for element, n in self.emptied.items():
            counts[element] -= n
        return counts


def find_compositions(
    present: Mapping[str, int],
    substitute: Mapping[str, Mapping[str, Sequence[int | float]]],
    vacancies: Mapping[str, Sequence[int | float]],
) -> list[Composition]:
    """Return every combination of the amounts asked for, without what asks for more atoms than there are.

    Parameters
    ----------
    present
        Atoms of each element.
    substitute, vacancies
        As in `candidates.CandidateEntry`; shares are of the atoms before anything is done.

    Raises
    ------
    ConfigError
        If an element is not there, a share is no whole number of atoms, or no combination has enough atoms.
    """
    pairs = [(source, target) for source, targets in substitute.items() for target in targets]
    swaps = [
        _count_all(substitute[source][target], present, source, f"substitute.{source}.{target}")
        for source, target in pairs
    ]
    holes = [_count_all(amounts, present, element, f"vacancies.{element}") for element, amounts in vacancies.items()]
    found = [
        Composition(
            dict(zip(pairs, numbers[: len(pairs)], strict=True)),
            dict(zip(vacancies, numbers[len(pairs) :], strict=True)),
        )
        for numbers in product(*swaps, *holes)
    ]
    possible = [one for one in found if min(one.count(present).values()) >= 0]
    if not possible:
        have = ", ".join(f"{n} {element}" for element, n in present.items())
        raise ConfigError(Problem(f"every combination takes more atoms than there are ({have})", "substitute"))
    return possible


def _count_all(amounts: Sequence[int | float], present: Mapping[str, int], element: str, key: str) -> list[int]:
    return list(dict.fromkeys(_count_atoms(amount, present, element, key) for amount in amounts))


def _count_atoms(amount: int | float, present: Mapping[str, int], element: str, key: str) -> int:
    n_sites = present.get(element, 0)
    if not n_sites:
        raise ConfigError(Problem(f"there is no {element}; there are {', '.join(present)}", key))
    if isinstance(amount, int):
        if not 0 <= amount <= n_sites:
            raise ConfigError(Problem(f"{amount} of {n_sites} {element} atoms", key))
        return amount
    exact = amount * n_sites
    if abs(exact - round(exact)) > NEARLY_WHOLE or (0 < amount < 1 and round(exact) in (0, n_sites)):
        below = int(exact)
        near = f"{below / n_sites:.4g} ({below}) or {(below + 1) / n_sites:.4g} ({below + 1})"
        raise ConfigError(Problem(f"{amount:g} of {n_sites} {element} atoms is {exact:.4g}; take {near}", key))
    return round(exact)


def round_occupancies(occupancies: Mapping[str, float], n_sites: int, tolerance: float) -> dict[str, int]:
    """Return how many of a disordered site's copies each species takes; `VACANCY` takes the rest.

    Numbers are cut, and the copies left over go to the species that lost most.

    Parameters
    ----------
    occupancies
        Share of each species, of one site.
    tolerance
        The largest difference between a share that is given and one that results.

    Raises
    ------
    ConfigError
        If it is larger.
    """
    shares = dict(occupancies)
    if (empty := 1.0 - sum(shares.values())) > 1e-3:
        shares[VACANCY] = empty
    exact = {species: share * n_sites for species, share in shares.items()}
    counts = {species: int(number + 1e-6) for species, number in exact.items()}
    by_loss = sorted(exact, key=lambda species: (counts[species] - exact[species], species))
    for species in by_loss[: n_sites - sum(counts.values())]:
        counts[species] += 1
    species = max(shares, key=lambda species: abs(counts[species] / n_sites - shares[species]))
    if abs(counts[species] / n_sites - shares[species]) > tolerance:
        message = (
            f"{n_sites} sites with {shares[species]:.3g} {species} would get {counts[species]}, "
            f"a share of {counts[species] / n_sites:.3g}; take a larger supercell, or a larger occupancy_tolerance"
        )
        raise ConfigError(Problem(message, "supercell"))
    return counts


def can_be_neutral(counts: Mapping[str, int], charges: Mapping[str, Sequence[int]]) -> bool:
    """Return whether oxidation states can be given to the atoms so that their sum is zero."""
    sums = {0}
    for element, n in counts.items():
        sums = {total + more for total in sums for more in _sums(n, charges[element])}
    return 0 in sums


def _sums(n: int, states: Sequence[int]) -> set[int]:
    """Return every sum of ``n`` states."""
    sums = {0}
    for _ in range(n):
        sums = {total + state for total in sums for state in states}
    return sums
