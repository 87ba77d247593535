"""Which structures a run may learn from, and which it is judged on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scaling.config import DataConfig
from scaling.data.shards import ShardSet
from scaling.errors import ConfigError, DataError
from scaling.structure import IntArray

TEST = "test"
_SPLIT_SALT, _ORDER_SALT = 1, 2


@dataclass(frozen=True)
class Split:
    """Sorted indices of structures; no group of the freely split ones is in two of train, val and test.

    apart: further held-out sets by name, reported apart.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    apart: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


def split(shards: ShardSet, *, val_share: float, test_share: float, seed: int) -> Split:
    """Split by group: each group goes where its own hash says, so that adding data never moves an old group.

    Structures the source holds out as "test" are the test set, and then no free group goes there; other held-out
    names go to `apart`.

    Args:
        shards: S structures.
        val_share, test_share: expected shares of the free groups, in [0, 1); their sum < 1.
        seed: another seed, another split.

    Raises:
        ConfigError: if the shares are not allowed, or no group falls to a set that was asked for.
    """
    holdouts = shards.manifest.holdouts
    held_out = {name: np.flatnonzero(shards.holdout == k) for k, name in enumerate(holdouts) if k > 0}
    if len(held_out.get(TEST, ())):
        test_share = 0.0
    for name, share in (("val_share", val_share), ("test_share", test_share)):
        if not 0.0 <= share < 1.0:
            raise ConfigError(f"data.{name}={share} must be in [0, 1)")
    if val_share + test_share >= 1.0:
        raise ConfigError(f"data.val_share + data.test_share = {val_share + test_share:g} must leave some for training")

    free = np.flatnonzero(shards.holdout == 0)
    place = _uniform(shards.group[free], seed, _SPLIT_SALT)
    in_val = place < val_share
    in_test = ~in_val & (place < val_share + test_share)
    chosen = {"val": free[in_val], "test": free[in_test], "train": free[~in_val & ~in_test]}
    for name, share in (("val", val_share), ("test", test_share), ("train", 1.0)):
        if share > 0 and not len(chosen[name]):
            raise ConfigError(
                f"no group of {shards.path} fell to the {name} set with data.val_share={val_share}, "
                f"data.test_share={test_share} and this seed: it has only {len(np.unique(shards.group[free]))} free "
                "groups; change the shares, or prepare more data"
            )
    test = held_out.pop(TEST, None)
    return Split(chosen["train"], chosen["val"], chosen["test"] if test is None or not len(test) else test, held_out)


def choose(data: DataConfig, shards: ShardSet) -> tuple[Split, IntArray]:
    """Split the data and take the fraction of the training structures; strata are formulas.

    Raises:
        ConfigError, DataError: if a set would be empty, or lack an element on which the run is judged.
    """
    parts = split(shards, val_share=data.val_share, test_share=data.test_share, seed=data.split_seed)
    if not len(parts.test):
        raise ConfigError(
            f"data.test_share={data.test_share} leaves no test set, and {shards.path} names none: raise it"
        )
    formulas = np.unique(shards.composition(parts.train), axis=0, return_inverse=True)[1].ravel()
    groups = shards.group[parts.train]
    train = parts.train[nested_fraction(groups, data.fraction, seed=data.split_seed, strata=formulas)]
    for judged in (parts.val, parts.test, *parts.apart.values()):
        _require_elements(shards, train, judged, fraction=data.fraction)
    return parts, train


def _require_elements(shards: ShardSet, train: IntArray, judged: IntArray, *, fraction: float) -> None:
    """Refuse a training subset that lacks an element on which the run would be judged.

    Raises:
        DataError: naming the elements.
    """
    seen = (shards.composition(train) > 0).any(axis=0)
    needed = (shards.composition(judged) > 0).any(axis=0)
    missing = np.flatnonzero(needed & ~seen)
    if len(missing):
        names = ", ".join(f"Z={shards.manifest.elements[k]}" for k in missing)
        raise DataError(
            f"data.fraction={fraction} leaves no training structure with {names}, which validation or test structures "
            "contain; use a larger fraction or another data.split_seed"
        )


def nested_fraction(
    groups: IntArray, fraction: float, *, seed: int, strata: IntArray | None = None
) -> NDArray[np.int64]:
    """Pick whole groups until `fraction` of all structures is reached; smaller fractions are subsets of larger ones.

    Within a stratum groups are taken in the order of their hash; strata advance together, so that every fraction has
    about the same mixture of them and the data axis measures size, not composition.

    Args:
        groups: (S,) group id of each training structure.
        fraction: share of the S structures, in (0, 1].
        seed: another seed, another order.
        strata: (S,) stratum of each structure, e.g. its formula; None: one for all.

    Returns:
        (S',) sorted positions in `groups`.

    Raises:
        ConfigError: if the fraction is outside (0, 1], or picks no group.
    """
    if not 0.0 < fraction <= 1.0:
        raise ConfigError(f"data.fraction={fraction} must be in (0, 1]; use 1.0 for the full set")
    if not len(groups):
        raise ConfigError(f"data.fraction={fraction:g} of an empty training set is empty; lower the other shares")
    ids, first, group_of, sizes = np.unique(
        np.asarray(groups), return_index=True, return_inverse=True, return_counts=True
    )
    stratum = np.zeros(len(ids), np.int64) if strata is None else np.asarray(strata)[first]
    order = _stratified_order(ids, sizes, stratum, seed)
    rank = np.empty(len(ids), np.int64)
    rank[order] = np.arange(len(ids))
    reached = np.concatenate([[0], np.cumsum(sizes[order])])
    target = fraction * len(group_of)
    # Half the next group must fit: the nearest count, and monotone in the target, so that fractions nest.
    num_picked = int(np.searchsorted((reached[:-1] + reached[1:]) / 2, target * (1 + 1e-12), side="right"))
    if num_picked == 0:
        size = sizes[order[0]]
        smallest = size / 2 / len(group_of)
        raise ConfigError(
            f"data.fraction={fraction:g} picks no group of the {len(group_of)} training structures "
            f"(the first group has {size}); use at least {smallest:.6f}"
        )
    return np.flatnonzero(rank[group_of] < num_picked)


def _stratified_order(ids: IntArray, sizes: IntArray, stratum: IntArray, seed: int) -> NDArray[np.int64]:
    """Systematic sampling: a group stands where its stratum's running share, begun at a random phase, has come to."""
    by_hash = np.argsort(_hash(ids, seed, _ORDER_SALT), kind="stable")
    by_stratum = by_hash[np.argsort(stratum[by_hash], kind="stable")]
    names, start, count = np.unique(stratum[by_stratum], return_index=True, return_counts=True)
    ordered = sizes[by_stratum].astype(np.float64)
    before = np.cumsum(ordered) - ordered
    of_stratum = np.repeat(np.arange(len(names)), count)
    total = np.add.reduceat(ordered, start)
    phase = _uniform(names, seed, _ORDER_SALT)[of_stratum]
    place = (before - before[start][of_stratum] + phase * ordered) / total[of_stratum]
    return by_stratum[np.argsort(place, kind="stable")]


def _uniform(groups: IntArray, seed: int, salt: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each group, by its id and the seed alone."""
    return (_hash(groups, seed, salt) >> np.uint64(11)) * 2.0**-53


def _hash(groups: IntArray, seed: int, salt: int) -> NDArray[np.uint64]:
    """splitmix64 of (group, seed, salt): one-to-one in the group, so that no two groups tie.

    Source: Steele, Lea, Flood, Fast splittable pseudorandom number generators, OOPSLA 2014, figure 18.
    """
    key = np.array([seed % 2**64, salt], dtype=np.uint64)
    mixed = _mix(_mix(key[:1]) ^ key[1:])
    return _mix(_mix(np.asarray(groups).astype(np.int64).view(np.uint64)) ^ mixed)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = state + np.uint64(0x9E3779B97F4A7C15)  # arrays wrap around without a warning
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
