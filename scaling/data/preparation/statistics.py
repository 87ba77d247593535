"""How the labels of a data set are spread."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from ase.units import GPa
from numpy.typing import NDArray

from scaling.data.index import has
from scaling.data.manifest import ElementStatistics, Spread, Statistics
from scaling.structure import OPTIONAL

_MAX_Z = 255


@dataclass(frozen=True)
class LabelStatistics:
    """The statistics a manifest holds, how many structures have which label, how many pairs of charge
    and spin there are, and the atomic numbers, ascending."""

    labels: Statistics
    counts: Mapping[str, int]
    num_states: int
    atomic_numbers: tuple[int, ...]


def label_statistics(shards: Iterable[Mapping[str, NDArray[Any]]]) -> LabelStatistics:
    """Gather the spread of energies per atom (eV/atom), forces (eV/angstrom) and pressures (GPa) of those that have
    them, holding one shard at a time."""
    num_atoms, num_structures, num_forces, squares = (np.zeros(_MAX_Z + 1) for _ in range(4))
    norms, energies, pressures = _RunningSpread(), _RunningSpread(), _RunningSpread()
    counts = dict.fromkeys(OPTIONAL, 0)
    states: set[tuple[int, int]] = set()
    for columns in shards:
        sizes, numbers = np.diff(columns["offsets"]), columns["numbers"]
        there = {name: has(columns, name) for name in OPTIONAL}
        counts = {name: counts[name] + int(there[name].sum()) for name in OPTIONAL}
        states |= set(zip(columns["charge"].tolist(), columns["spin"].tolist(), strict=True))
        energies.add((columns["energy"] / sizes)[there["energy"]])
        with_forces = np.repeat(there["forces"], sizes)
        squared = (columns["forces"][with_forces].astype(np.float64) ** 2).sum(axis=1)
        norms.add(np.sqrt(squared))
        traces = np.trace(columns["stress"][there["stress"]].astype(np.float64), axis1=1, axis2=2)
        pressures.add(-traces / 3 / GPa)
        num_atoms += np.bincount(numbers, minlength=_MAX_Z + 1)
        num_forces += np.bincount(numbers[with_forces], minlength=_MAX_Z + 1)
        squares += np.bincount(numbers[with_forces], squared, minlength=_MAX_Z + 1)
        for z in np.flatnonzero(np.bincount(numbers, minlength=_MAX_Z + 1)).tolist():
            num_structures[z] += np.logical_or.reduceat(numbers == z, columns["offsets"][:-1]).sum()
    present = tuple(np.flatnonzero(num_atoms).tolist())
    elements = {
        chemical_symbols[z]: ElementStatistics(
            int(num_structures[z]), int(num_atoms[z]), _root_mean(squares[z] / 3, num_forces[z])
        )
        for z in present
    }
    rms = _root_mean(squares.sum() / 3, num_forces.sum())
    spreads = Statistics(energies.spread(), norms.spread(), rms, elements, pressures.spread())
    return LabelStatistics(spreads, counts, len(states), present)


def _root_mean(total: float, count: float) -> float | None:
    return float(np.sqrt(total / count)) if count else None


class _RunningSpread:
    """Mean, standard deviation and extremes of values that come in portions."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, 0.0, 0.0
        self._min, self._max = np.inf, -np.inf

    def add(self, values: NDArray[np.float64]) -> None:
        """Source: Chan, Golub, LeVeque, Am. Stat. 37, 242 (1983), equation 2.1 (pairwise update)."""
        if not len(values):
            return
        count, mean = len(values), float(values.mean())
        delta = mean - self._mean
        total = self._count + count
        self._squares += float(((values - mean) ** 2).sum()) + delta**2 * self._count * count / total
        self._mean += delta * count / total
        self._count = total
        self._min, self._max = min(self._min, float(values.min())), max(self._max, float(values.max()))

    def spread(self) -> Spread | None:
        if not self._count:
            return None
        return Spread(self._mean, float(np.sqrt(self._squares / self._count)), self._min, self._max)
