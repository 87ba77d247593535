"""Structures on which a model is judged and that nearly equal one it was trained on, whatever their groups say.

Two structures of one formula are compared atom by atom: each atom's distances to its nearest neighbours of each
element, sorted. That is the same under rotation, translation, reflection, exchange of equal atoms and choice of the
cell's images, and changes by no more than atoms move. Atoms are paired so that they differ least (Hungarian method);
what is left, root mean square, is the distance of the structures.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from scaling.data.mixing import uniform
from scaling.data.neighbors import neighbor_list
from scaling.data.preparation.parallel import in_order
from scaling.data.shards import ShardSet, StoredStructure
from scaling.data.source import slices
from scaling.data.split import split
from scaling.structure import FloatArray, IntArray

#: Neighbours of each element that an atom is known by.
NUM_NEIGHBORS = 8
#: Nearer structures are nearly equal: atoms displaced at random by about 0.02 angstrom, or strained by half a percent.
TOLERANCE_ANG = 0.03
#: Training structures that each judged one is compared with, the likeliest first.
MAX_CANDIDATES = 8
#: Judged structures that are looked at, evenly over each set.
MAX_JUDGED = 5000
_STRUCTURES_PER_TASK = 256
_FRAME_SALT = 3


@dataclass(frozen=True)
class SplitConfig:
    """The split of which leaks are sought, by the keys of `data`."""

    val_share: float = 0.1
    test_share: float = 0.1
    split_seed: int = 0


@dataclass(frozen=True)
class Leaks:
    """Of one judged set: how many structures were looked at, and the near-equal pairs found (at most one each).

    pairs: judged structure, training structure, distance in angstrom.
    """

    num_judged: int
    pairs: Sequence[tuple[int, int, float]] = field(default_factory=tuple)

    @property
    def share(self) -> float:
        """Of the judged structures that nearly equal a training structure."""
        return len(self.pairs) / self.num_judged if self.num_judged else 0.0


def leaks_of_splits(shards: ShardSet, config: SplitConfig, num_processes: int = 1) -> dict[str, Leaks]:
    """Leaks of the split by group, for each judged set; and beside it of a split by frame of the same shares."""
    parts = split(shards, val_share=config.val_share, test_share=config.test_share, seed=config.split_seed)
    judged = {"val": parts.val, "test": parts.test, **parts.extra_tests}
    found = {f"by group, {name}": find_leaks(shards, parts.train, part, num_processes) for name, part in judged.items()}
    place = uniform(np.arange(shards.num_structures), config.split_seed, _FRAME_SALT)
    in_test = place < (config.test_share or config.val_share)
    train, test = np.flatnonzero(~in_test), np.flatnonzero(in_test)
    return {**found, "by frame, test": find_leaks(shards, train, test, num_processes)}


def find_leaks(
    shards: ShardSet,
    train: IntArray,
    judged: IntArray,
    num_processes: int = 1,
    *,
    tolerance_ang: float = TOLERANCE_ANG,
) -> Leaks:
    """Look for each judged structure among the training structures of its formula."""
    from scipy.spatial import cKDTree  # takes half a second, which a preparation need not wait for

    judged = judged[:: max(1, -(-len(judged) // MAX_JUDGED))]
    formulas = shards.formula[judged]
    near = train[np.isin(shards.formula[train], np.unique(formulas))]
    known: dict[int, list[tuple[int, FloatArray]]] = {}
    for index, print_ in _fingerprints(shards, near, num_processes):
        known.setdefault(int(shards.formula[index]), []).append((index, print_))
    pairs = []
    trees = {f: (cKDTree(np.stack([p for _, p in rows])), [i for i, _ in rows]) for f, rows in known.items()}
    for index, print_ in _fingerprints(shards, judged, num_processes):
        if (formula := int(shards.formula[index])) not in trees:
            continue
        tree, indices = trees[formula]
        # Means over atoms differ by no more than the atoms do, in the root of the mean square.
        reach = 1.5 * tolerance_ang * np.sqrt(len(print_))
        _, rows = tree.query(print_, k=min(MAX_CANDIDATES, len(indices)), distance_upper_bound=reach)
        candidates = [indices[row] for row in np.atleast_1d(rows) if row < len(indices)]
        own = _environments(shards.read(index), shards.manifest.cutoff_ang)
        for candidate in candidates:
            distance = _distance(own, _environments(shards.read(candidate), shards.manifest.cutoff_ang))
            if distance < tolerance_ang:
                pairs.append((index, candidate, distance))
                break
    return Leaks(len(judged), tuple(pairs))


def _fingerprints(shards: ShardSet, structures: IntArray, num_processes: int) -> Iterator[tuple[int, FloatArray]]:
    """Of each structure: its environments' means over the atoms of each element, flat."""
    tasks: Iterable[IntArray] = (structures[a:b] for a, b in slices(len(structures), _STRUCTURES_PER_TASK))
    several = num_processes if len(structures) > 4 * _STRUCTURES_PER_TASK else 1
    for part in in_order(partial(_fingerprints_of, shards), tasks, several):
        yield from part


def _fingerprints_of(shards: ShardSet, structures: IntArray) -> list[tuple[int, FloatArray]]:
    found = []
    for index in structures.tolist():
        environments = _environments(shards.read(index), shards.manifest.cutoff_ang)
        found.append((index, np.concatenate([rows.mean(axis=0) for rows in environments])))
    return found


def _environments(structure: StoredStructure, cutoff_ang: float) -> list[FloatArray]:
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


def _distance(one: list[FloatArray], other: list[FloatArray]) -> float:
    """Root mean square of what is left when atoms are paired best, angstrom."""
    from scipy.optimize import linear_sum_assignment  # as above

    squares, count = 0.0, 0
    for a, b in zip(one, other, strict=True):
        cost = ((a[:, None] - b[None]) ** 2).sum(axis=2)
        squares += float(cost[linear_sum_assignment(cost)].sum())
        count += a.size
    return float(np.sqrt(squares / count))
