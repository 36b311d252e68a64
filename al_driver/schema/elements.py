"""Element symbols as a user writes them."""

from collections.abc import Sequence
from typing import Annotated

from ase.data import atomic_numbers
from pydantic import AfterValidator, Field

from al_driver.schema.suggest import nearest


def _check_element(symbol: str) -> str:
    if atomic_numbers.get(symbol, 0) == 0:
        raise ValueError(f"{symbol!r} is not an element{nearest(symbol, [s for s in atomic_numbers if s != 'X'])}")
    return symbol


def _check_distinct(symbols: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({symbol for symbol in symbols if symbols.count(symbol) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stands more than once")
    return symbols


def check_type_map(symbols: Sequence[str]) -> None:
    """Check what may be empty as a `TypeMap` is checked.

    Raises
    ------
    ValueError
        If a symbol is no element, or stands there more than once.
    """
    for symbol in symbols:
        _check_element(symbol)
    _check_distinct(tuple(symbols))


Element = Annotated[str, AfterValidator(_check_element)]
TypeMap = Annotated[tuple[Element, ...], Field(min_length=1), AfterValidator(_check_distinct)]
