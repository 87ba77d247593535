"""How the labels of a data set are spread."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from scaling.data.manifest import ElementStatistics, Spread, Statistics

_MAX_Z = 255


@dataclass(frozen=True)
class LabelStatistics:
    """The statistics a manifest holds, and the atomic numbers that occur, ascending."""

    labels: Statistics
    atomic_numbers: tuple[int, ...]


def label_statistics(shards: Iterable[Mapping[str, NDArray[Any]]]) -> LabelStatistics:
    """Gather the spread of energies per atom (eV/atom) and forces (eV/angstrom), holding one shard at a time."""
    num_atoms, num_structures, squares = (np.zeros(_MAX_Z + 1) for _ in range(3))
    norms, energies = _RunningSpread(), _RunningSpread()
    for columns in shards:
        sizes, numbers = np.diff(columns["offsets"]), columns["numbers"]
        energies.add(columns["energy"] / sizes)
        squared = (columns["forces"].astype(np.float64) ** 2).sum(axis=1)
        norms.add(np.sqrt(squared))
        num_atoms += np.bincount(numbers, minlength=_MAX_Z + 1)
        squares += np.bincount(numbers, squared, minlength=_MAX_Z + 1)
        for z in np.flatnonzero(np.bincount(numbers, minlength=_MAX_Z + 1)).tolist():
            num_structures[z] += np.logical_or.reduceat(numbers == z, columns["offsets"][:-1]).sum()
    present = tuple(np.flatnonzero(num_atoms).tolist())
    elements = {
        chemical_symbols[z]: ElementStatistics(
            int(num_structures[z]), int(num_atoms[z]), float(np.sqrt(squares[z] / num_atoms[z] / 3))
        )
        for z in present
    }
    rms = float(np.sqrt(squares.sum() / num_atoms.sum() / 3))
    return LabelStatistics(Statistics(energies.spread(), norms.spread(), rms, elements), present)


class _RunningSpread:
    """Mean, standard deviation and extremes of values that come in portions."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, 0.0, 0.0
        self._min, self._max = np.inf, -np.inf

    def add(self, values: NDArray[np.float64]) -> None:
        """Source: Chan, Golub, LeVeque, Am. Stat. 37, 242 (1983), equation 2.1 (pairwise update)."""
        count, mean = len(values), float(values.mean())
        delta = mean - self._mean
        total = self._count + count
        self._squares += float(((values - mean) ** 2).sum()) + delta**2 * self._count * count / total
        self._mean += delta * count / total
        self._count = total
        self._min, self._max = min(self._min, float(values.min())), max(self._max, float(values.max()))

    def spread(self) -> Spread:
        return Spread(self._mean, float(np.sqrt(self._squares / self._count)), self._min, self._max)
