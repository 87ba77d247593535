"""Blocks of consecutive structures of a group, which are split like groups of their own, and the gaps around them.

A trajectory of one molecule is one group, and no split could judge a model on it. Its structures, in the order in which
they are stored, are cut into blocks; each block goes where its own hash says, so that structures added at the end move
no old block. Structures on two sides of a cut are as alike as neighbours are: those of the training set that stand
within `gap` of a judged one are left out of training.

Stored order has no place for what was rejected or was a duplicate, so two structures lie at least as far apart in the
trajectory as they do here.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scaling.data.manifest import Blocks
from scaling.data.mixing import keyed
from scaling.structure import IntArray


class Grouped(Protocol):
    """S structures in stored order, with the group and the part of each."""

    @property
    def group(self) -> NDArray[np.int64]: ...

    @property
    def source(self) -> NDArray[np.uint8]: ...


def split_units(shards: Grouped, blocks: Blocks | None) -> NDArray[np.int64]:
    """(S,) id of what a split keeps together: the group, or the block of one that is cut.

    The first block has its group's id, so that a group which grows beyond a block moves nothing.
    """
    if blocks is None:
        return np.asarray(shards.group)
    where, rank = _ranks(shards, blocks)
    units = np.array(shards.group)
    number = rank // blocks.length
    later = number > 0
    mixed = keyed(units[where[later]]) ^ keyed(number[later])
    units[where[later]] = keyed(mixed.view(np.int64)).view(np.int64)
    return units


def near_judged(shards: Grouped, blocks: Blocks | None, judged: IntArray) -> NDArray[np.bool_]:
    """(S,) which structures stand in a group that is cut within its gap of a judged one, themselves included."""
    near = np.zeros(len(shards.group), dtype=bool)
    if blocks is None:
        return near
    line, _ = places(shards, blocks, 0.0)
    cut = np.flatnonzero(line >= 0)
    marks = np.unique(line[judged])
    marks = marks[marks >= 0]
    if len(marks):
        after = np.searchsorted(marks, line[cut])
        to_next = np.abs(marks[np.minimum(after, len(marks) - 1)] - line[cut])
        to_last = np.abs(line[cut] - marks[np.maximum(after - 1, 0)])
        near[cut] = np.minimum(to_next, to_last) <= blocks.gap
    return near


def places(shards: Grouped, blocks: Blocks, share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each structure's place on a line on which groups that are cut lie one after another, farther apart than their
    gaps and lengths; and that share of the length of its group.

    Structures of two parts of a mixed set that have the same place in the same group have the same place here.

    Returns:
        (S,) place, -1 where the group is not cut; (S,) distance, -1 there.
    """
    place, distance = (np.full(len(shards.group), -1, dtype=np.int64) for _ in range(2))
    where, rank = _ranks(shards, blocks)
    if len(where):
        _, number = np.unique(shards.group[where], return_inverse=True)
        lengths = np.zeros(int(number.max()) + 1, dtype=np.int64)
        np.maximum.at(lengths, number, rank + 1)
        place[where] = number * 2 * (int(lengths.max()) + blocks.gap) + rank
        distance[where] = (share * lengths[number]).astype(np.int64)
    return place, distance


def count_blocks(shards: Grouped, blocks: Blocks) -> int:
    """Into how many blocks the groups are cut; those of two parts of a mixed set count once."""
    where, _ = _ranks(shards, blocks)
    return len(np.unique(split_units(shards, blocks)[where]))


def _ranks(shards: Grouped, blocks: Blocks) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Structures of groups that are cut, and of each its place among those of its group and part."""
    where = np.flatnonzero(np.isin(shards.group, np.array(blocks.groups, dtype=np.int64)))
    group, part = np.asarray(shards.group)[where], np.asarray(shards.source)[where]
    order = np.lexsort([part, group])  # stable: stored order within
    starts = np.ones(len(where), dtype=bool)
    starts[1:] = (group[order][1:] != group[order][:-1]) | (part[order][1:] != part[order][:-1])
    here = np.arange(len(where))
    rank = np.empty(len(where), dtype=np.int64)
    rank[order] = here - np.maximum.accumulate(np.where(starts, here, 0))
    return where, rank
