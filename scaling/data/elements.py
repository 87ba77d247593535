"""Atomic numbers, from the ways in which files write them, and formulas."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
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


def formula(symbols: Iterable[str]) -> str:
    """The atoms of each element, in the order of the symbols: `Cu107H1`."""
    return "".join(f"{symbol}{count}" for symbol, count in sorted(Counter(symbols).items()))


def reduced_formula(numbers: IntArray) -> str:
    """Name the elements and their smallest whole ratio, as `H2 O1`, in the order of the symbols.

    Equal for all frames of a trajectory that keeps its atoms, for all strains and supercells of a crystal, and for
    such frames in different files: the group to fall back on when a file does not say which structures are kin.

    Args:
        numbers: (N,) atomic numbers.
    """
    counts = Counter(chemical_symbols[z] if 0 <= z < len(chemical_symbols) else f"Z={z}" for z in numbers.tolist())
    divisor = math.gcd(*counts.values())
    return " ".join(f"{symbol}{count // divisor}" for symbol, count in sorted(counts.items()))
