"""Random-looking numbers that are functions of integers alone: the same on every machine and in every version."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One step of splitmix64, one-to-one.

    Source: Steele, Lea, Flood, Fast splittable pseudorandom number generators, OOPSLA 2014, figure 18.
    """
    z = state + np.uint64(0x9E3779B97F4A7C15)  # arrays wrap around without a warning
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def keyed(values: NDArray[Any], *key: int) -> NDArray[np.uint64]:
    """A hash of each value and the key; one-to-one in the value, so that no two values tie."""
    state = np.zeros(1, dtype=np.uint64)
    for part in key:
        state = mix(state ^ np.array([part % 2**64], dtype=np.uint64))
    return mix(mix(np.asarray(values).astype(np.int64).view(np.uint64)) ^ state)


def uniform(values: NDArray[Any], *key: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each value and the key."""
    return (keyed(values, *key) >> np.uint64(11)) * 2.0**-53


def shuffled(positions: NDArray[np.int64], count: int, *key: int) -> NDArray[np.int64]:
    """Where a permutation of 0 .. count - 1 takes these positions; no table of the permutation is made.

    A balanced Feistel network over the next power of four, walked again from wherever it leaves the range.

    Source: Black, Rogaway, Ciphers with arbitrary finite domains, CT-RSA 2002 (cycle-walking, method 2).
    """
    half = max(1, -(-int(count - 1).bit_length() // 2))
    bits, mask = np.uint64(half), np.uint64(2**half - 1)
    out = np.asarray(positions, dtype=np.int64).astype(np.uint64)
    todo = np.arange(len(out))
    while len(todo):
        left, right = out[todo] >> bits, out[todo] & mask
        for turn in range(4):
            left, right = right, left ^ (keyed(right, *key, turn) & mask)
        out[todo] = (left << bits) | right
        todo = todo[out[todo] >= count]
    return out.astype(np.int64)
