"""Numbers at fixed places of a text table, read eight characters at a time.

Eight digits are one 64-bit word; three multiplications turn it into their number (D. Lemire, Softw. Pract. Exper. 51,
1700 (2021), arXiv 2101.11408). A mantissa of seven digits and a power of ten up to 10²² are exact in binary, so that
one product or quotient rounds as ``float`` does: the numbers are equal to the bit.
"""

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Words = NDArray[np.uint64]

_POWERS = 10.0 ** np.arange(23)
_BLANKS = np.uint64(0x2020202020202020)
_ZEROS = np.uint64(0x3030303030303030)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


def number_fields(name: str, end: int) -> dict[str, tuple[str, int]]:
    """Return the fields, each a format and an offset, that `read_numbers` needs of a number that ends at ``end``."""
    return {
        name: ("S12", end - 12),
        f"{name}_blank": ("<u4", end - 16),
        f"{name}_mantissa": ("<u8", end - 12),
        f"{name}_exponent": ("<u4", end - 4),
    }


def read_numbers(table: NDArray[np.void], name: str) -> tuple[NDArray[np.float64], Bools]:
    """Read a column of numbers of the form ``d.dddddde±dd``.

    Returns
    -------
    The numbers, and where a row has one of this form; elsewhere the number means nothing. Both of shape (n,).
    """
    word: Words = np.ascontiguousarray(table[f"{name}_mantissa"])
    seven = (word & np.uint64(0xFFFFFFFFFFFF0000)) | ((word & np.uint64(0xFF)) << np.uint64(8)) | np.uint64(0x30)
    point = (word & np.uint64(0xFF00)) == np.uint64(0x2E00)
    tail = np.ascontiguousarray(table[f"{name}_exponent"])
    letter, sign, tens, units = (tail >> np.uint32(shift) & np.uint32(0xFF) for shift in (0, 8, 16, 24))
    usual = (table[f"{name}_blank"] == np.uint32(0x20202020)) & _are_digits(seven) & point & (letter == ord("e"))
    usual &= ((sign == ord("+")) | (sign == ord("-"))) & _is_digit(tens) & _is_digit(units)
    size = 10 * tens.astype(np.int64) + units.astype(np.int64) - 11 * ord("0")
    exponent = np.where(sign == ord("-"), -size, size) - 6
    usual &= np.abs(exponent) < len(_POWERS)
    power = _POWERS[np.minimum(np.abs(exponent), len(_POWERS) - 1)]
    mantissa = _to_number(seven).astype(float)
    return np.where(exponent < 0, mantissa / power, mantissa * power), usual


def read_integers(high: NDArray[np.uint32], low: Words) -> tuple[NDArray[np.int64], Bools]:
    """Read integers that stand at the right of twelve characters and have at most eight digits.

    Parameters
    ----------
    high, low
        The first four and the last eight characters, shape (n,).

    Returns
    -------
    The integers, and where a row has one of this form.
    """
    number = _to_number(low)
    length = np.ones(len(low), dtype=np.uint64)
    for power in range(1, 8):
        length += number >= np.uint64(10**power)
    kept = _ALL << (np.uint64(64) - np.uint64(8) * length)
    digits = _are_digits((low & kept) | (_ZEROS & ~kept))
    blank = ((low & ~kept) == (_BLANKS & ~kept)) & (high == np.uint32(0x20202020))
    return number.astype(np.int64), digits & blank


def _to_number(word: Words) -> Words:
    """Return the number that eight digits, the first in the lowest byte, stand for; a blank counts as 0."""
    word = word & np.uint64(0x0F0F0F0F0F0F0F0F)
    word = (word * np.uint64(10) + (word >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    word = (word * np.uint64(100) + (word >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    return (word * np.uint64(10_000) + (word >> np.uint64(32))) & np.uint64(0xFFFFFFFF)


def _are_digits(word: Words) -> Bools:
    high = np.uint64(0xF0F0F0F0F0F0F0F0)
    carried = (word + np.uint64(0x0606060606060606)) & high
    found: Bools = ((word & high) | (carried >> np.uint64(4))) == np.uint64(0x3333333333333333)
    return found


def _is_digit(character: NDArray[np.uint32]) -> Bools:
    return (character >= ord("0")) & (character <= ord("9"))
