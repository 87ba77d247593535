"""The composition of a structure as a key: no trajectory, relaxation or supercell crosses it."""

import math
from collections import Counter

from ase.data import chemical_symbols

from scaling.structure import IntArray


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
