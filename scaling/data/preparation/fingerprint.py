"""What a structure is known by when structures are compared: sorted distances of its atoms to their neighbours.

It is the same under rotation, translation, reflection, exchange of equal atoms and choice of the cell's images, and
changes by no more than atoms move.
"""

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from scaling.data.neighbors import neighbor_list
from scaling.data.preparation.parallel import in_order
from scaling.data.shards import ShardSet, StoredStructure
from scaling.data.source import slices
from scaling.structure import FloatArray, IntArray

#: Neighbours of each element that an atom is known by.
NUM_NEIGHBORS = 8
STRUCTURES_PER_TASK = 256


def fingerprints(
    shards: ShardSet, structures: IntArray, num_processes: int = 1
) -> Iterator[tuple[IntArray, list[FloatArray]]]:
    """The structures in portions; of each its environments' means over the atoms of each element, flat, angstrom."""
    tasks: Iterable[IntArray] = (structures[a:b] for a, b in slices(len(structures), STRUCTURES_PER_TASK))
    several = num_processes if len(structures) > 8 * STRUCTURES_PER_TASK else 1
    return in_order(partial(_fingerprints_of, shards), tasks, several)


def _fingerprints_of(shards: ShardSet, structures: IntArray) -> tuple[IntArray, list[FloatArray]]:
    found = []
    for index in structures.tolist():
        rows = environments(shards.read(index), shards.manifest.cutoff_ang)
        found.append(np.concatenate([of_element.mean(axis=0) for of_element in rows]))
    return structures, found


def environments(structure: StoredStructure, cutoff_ang: float) -> list[FloatArray]:
    """For each element: (atoms, elements * NUM_NEIGHBORS) sorted distances of each atom to neighbours of each element.

    Where there are fewer, the cut-off stands, so that nothing jumps when a neighbour crosses it.
    """
    numbers = structure.numbers
    elements, kind_N = np.unique(numbers, return_inverse=True)
    (source, centre), shifts = neighbor_list(structure.positions, structure.cell, structure.pbc, cutoff_ang)
    positions = structure.positions.astype(np.float64)
    distance_E = np.linalg.norm(positions[source] + shifts @ structure.cell - positions[centre], axis=1)
    slot_E = centre * len(elements) + kind_N[source]
    order = np.lexsort([distance_E, slot_E])
    slot_E, distance_E = slot_E[order], distance_E[order]
    first = np.searchsorted(slot_E, slot_E)
    rank_E = np.arange(len(slot_E)) - first
    rows = np.full((len(numbers) * len(elements), NUM_NEIGHBORS), cutoff_ang)
    kept = rank_E < NUM_NEIGHBORS
    rows[slot_E[kept], rank_E[kept]] = distance_E[kept]
    per_atom = rows.reshape(len(numbers), -1)
    return [per_atom[kind_N == k] for k in range(len(elements))]


def distance_ang(one: list[FloatArray], other: list[FloatArray]) -> float:
    """Root mean square of what is left when the atoms of two `environments` are paired best (Hungarian method)."""
    from scipy.optimize import linear_sum_assignment  # takes long to load, which a preparation need not wait for

    squares, count = 0.0, 0
    for a, b in zip(one, other, strict=True):
        cost = ((a[:, None] - b[None]) ** 2).sum(axis=2)
        squares += float(cost[linear_sum_assignment(cost)].sum())
        count += a.size
    return float(np.sqrt(squares / count))
