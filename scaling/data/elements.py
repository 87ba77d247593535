"""Atomic numbers, from the ways in which files write them."""

from typing import Any

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from scaling.structure import IntArray


def whole_numbers(values: NDArray[Any]) -> IntArray:
    """Atomic numbers that may be stored as floats.

    Raises:
        ValueError: if one is not a whole number of a sane size.
    """
    if values.dtype.kind not in "iuf":
        raise ValueError(f"atomic numbers of type {values.dtype}")
    whole = np.isfinite(values) & (np.abs(values) < 1e6) & (values == np.rint(values))
    if not whole.all():
        raise ValueError(f"atomic number {values[~whole][0]} is not a whole number")
    return values.astype(np.int64)


def numbers_of_symbols(symbols: NDArray[np.bytes_]) -> IntArray:
    """Atomic numbers of chemical symbols.

    Raises:
        ValueError: if one is not a chemical element.
    """
    found = [atomic_numbers.get(symbol.decode("latin1").strip(), 0) for symbol in symbols.tolist()]
    if 0 in found:
        raise ValueError(f"{symbols[found.index(0)]!r} is not a chemical element")
    return np.array(found, dtype=np.int64)
