"""Which structures make up each optimisation step, and how a step is shared out over ranks and micro-batches.

The structures of step s follow from (seed, s) alone: not from the number of ranks, nor from the edge budget, nor from
where a run was interrupted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scaling.data.mixing import shuffled
from scaling.structure import IntArray

#: Steps over which the balance of ranks is measured.
IMBALANCE_STEPS = 200


@dataclass(frozen=True)
class MicroBatch:
    """What one rank computes at once.

    structures: indices into the shards. weight: 1.0, or 0.0 for a batch that only keeps a rank in step with the others.
    is_last: whether the optimiser steps after it. step: the optimisation step it belongs to.
    """

    structures: tuple[int, ...]
    weight: float
    is_last: bool
    step: int


def stream(num_structures: int, *, seed: int, start: int, length: int) -> IntArray:
    """Positions start .. start+length of an endless sequence of shuffled epochs, (length,) in 0 .. num_structures-1."""
    epoch, position = np.divmod(np.arange(start, start + length), num_structures)
    parts = [shuffled(position[epoch == e], num_structures, seed, int(e)) for e in np.unique(epoch)]
    return np.concatenate(parts)


def share_out(cost: IntArray, num_shares: int) -> list[list[int]]:
    """Split items into shares of nearly equal cost: the dearest first, each to the cheapest share so far.

    Args:
        cost: (B,) cost of each item.
    Returns:
        for each share the sorted positions of its items; a share may be empty.
    """
    shares: list[list[int]] = [[] for _ in range(num_shares)]
    totals = np.zeros(num_shares, dtype=np.int64)
    for item in np.argsort(-cost, kind="stable"):
        cheapest = int(totals.argmin())
        shares[cheapest].append(int(item))
        totals[cheapest] += int(cost[item])
    return [sorted(share) for share in shares]


def fill(items: list[int], cost: IntArray, budget: int) -> list[list[int]]:
    """Cut a list of items into runs whose cost stays within the budget; an item dearer than that stands alone."""
    if budget <= 0:
        return [items] if items else []
    runs: list[list[int]] = []
    room = 0
    for item in items:
        if not runs or cost[item] > room:
            runs.append([])
            room = budget
        runs[-1].append(item)
        room -= int(cost[item])
    return runs


def micro_batches(
    structures: IntArray, cost: IntArray, *, step: int, rank: int, num_ranks: int, max_edges: int
) -> list[MicroBatch]:
    """One rank's part of a step; every rank gets the same number of micro-batches, padded with weightless ones.

    Args:
        structures: (B,) the step's structures. cost: (B,) edges of each.
    """
    per_rank = [fill(share, cost, max_edges) for share in share_out(cost, num_ranks)]
    count = max(len(runs) for runs in per_rank)
    parts = [(tuple(int(structures[i]) for i in run), 1.0) for run in per_rank[rank]]
    parts += [((int(structures[int(cost.argmin())]),), 0.0)] * (count - len(parts))
    return [MicroBatch(part, weight, k == count - 1, step) for k, (part, weight) in enumerate(parts)]


@dataclass(frozen=True)
class TrainSampler:
    """All micro-batches of one rank, or of a group of ranks that shares them, from step `start` to `stop`.

    structures: (D,) indices the run learns from. cost: (S,) edges of every structure of the set.
    """

    structures: IntArray
    cost: IntArray
    batch_size: int
    seed: int
    rank: int
    num_ranks: int
    max_edges: int
    start: int
    stop: int

    def imbalance(self) -> float:
        """Edges of the rank with most over the ranks' mean, on average over up to IMBALANCE_STEPS steps from the first.

        The others wait for that rank at every step.
        """
        ratios = []
        for step in range(min(self.stop, IMBALANCE_STEPS)):
            cost = self.cost[self._structures(step)].astype(np.int64)
            shares = [int(cost[share].sum()) for share in share_out(cost, self.num_ranks)]
            ratios.append(max(shares) * len(shares) / sum(shares))
        return float(np.mean(ratios)) if ratios else 1.0

    def __iter__(self) -> Iterator[MicroBatch]:
        for step in range(self.start, self.stop):
            structures = self._structures(step)
            yield from micro_batches(
                structures,
                self.cost[structures],
                step=step,
                rank=self.rank,
                num_ranks=self.num_ranks,
                max_edges=self.max_edges,
            )

    def _structures(self, step: int) -> IntArray:
        size = self.batch_size
        return self.structures[stream(len(self.structures), seed=self.seed, start=step * size, length=size)]


@dataclass(frozen=True)
class EvaluationSampler:
    """Every structure once, in batches of at most max_edges edges, shared out over the ranks; cost: (S,) edges."""

    structures: IntArray
    cost: IntArray
    rank: int
    num_ranks: int
    max_edges: int

    def __iter__(self) -> Iterator[MicroBatch]:
        cost = self.cost[self.structures]
        yield from micro_batches(
            self.structures, cost, step=0, rank=self.rank, num_ranks=self.num_ranks, max_edges=self.max_edges
        )
