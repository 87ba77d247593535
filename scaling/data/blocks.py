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
    where, rank, cut = _ranks(shards, blocks)
    units = np.array(shards.group)
    number = rank // np.array([entry.length for entry in blocks.groups])[cut]
    later = number > 0
    mixed = keyed(units[where[later]]) ^ keyed(number[later])
    units[where[later]] = keyed(mixed.view(np.int64)).view(np.int64)
    return units


def near_judged(shards: Grouped, blocks: Blocks | None, judged: IntArray) -> NDArray[np.bool_]:
    """(S,) which structures stand in a group that is cut within its gap of a judged one, themselves included."""
    near = np.zeros(len(shards.group), dtype=bool)
    if blocks is None:
        return near
    place, number, _ = places(shards, blocks)
    marks = np.unique(place[judged])
    marks = marks[marks >= 0]
    if len(marks):
        cut = np.flatnonzero(place >= 0)
        after = np.searchsorted(marks, place[cut])
        to_next = np.abs(marks[np.minimum(after, len(marks) - 1)] - place[cut])
        to_last = np.abs(place[cut] - marks[np.maximum(after - 1, 0)])
        near[cut] = np.minimum(to_next, to_last) <= np.array([entry.gap for entry in blocks.groups])[number[cut]]
    return near


def places(shards: Grouped, blocks: Blocks) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Each structure's place on a line on which the groups that are cut lie one after another, farther apart than any
    of them is long and any gap wide. Structures of two parts of a mixed set that have the same place in the same group
    have the same place here.

    Returns:
        (S,) place, and (S,) index into blocks.groups, both -1 where the group is not cut; (G,) lengths of the groups.
    """
    place, number = (np.full(len(shards.group), -1, dtype=np.int64) for _ in range(2))
    where, rank, cut = _ranks(shards, blocks)
    lengths = np.zeros(len(blocks.groups), dtype=np.int64)
    np.maximum.at(lengths, cut, rank + 1)
    apart = 2 * int(lengths.max()) + max(entry.gap for entry in blocks.groups)
    place[where], number[where] = cut * apart + rank, cut
    return place, number, lengths


def count_blocks(shards: Grouped, blocks: Blocks) -> int:
    """Into how many blocks the groups are cut; those of two parts of a mixed set count once."""
    where, _, _ = _ranks(shards, blocks)
    return len(np.unique(split_units(shards, blocks)[where]))


def _ranks(shards: Grouped, blocks: Blocks) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Structures of groups that are cut; of each its place among those of its group and part, and its group's index."""
    ids = np.array([entry.group for entry in blocks.groups], dtype=np.int64)
    where = np.flatnonzero(np.isin(shards.group, ids))
    cut, part = np.searchsorted(ids, shards.group[where]), np.asarray(shards.source)[where]
    order = np.lexsort([part, cut])  # stable: stored order within
    starts = np.ones(len(where), dtype=bool)
    starts[1:] = (cut[order][1:] != cut[order][:-1]) | (part[order][1:] != part[order][:-1])
    here = np.arange(len(where))
    rank = np.empty(len(where), dtype=np.int64)
    rank[order] = here - np.maximum.accumulate(np.where(starts, here, 0))
    return where, rank, cut
