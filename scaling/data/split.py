"""Which structures a run may learn from, and which it is judged on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from scaling.config import DataConfig
from scaling.data.blocks import near_judged, split_units
from scaling.data.manifest import Blocks
from scaling.data.mixing import keyed, uniform
from scaling.data.shards import ShardSet
from scaling.errors import ConfigError, DataError
from scaling.structure import LABELS, IntArray

TEST = "test"
_SPLIT_SALT, _ORDER_SALT = 1, 2


@dataclass(frozen=True)
class Split:
    """Sorted indices of structures; no group of the freely split ones is in two of train, val and test.

    extra_tests: further held-out sets by name, of which errors are reported too.
    units: (S,) what was kept together, of every structure: its group, or its block of a group that is cut.
    gap: structures in none of the sets, since they stand too near to a test structure, or to one of validation that is
        kept, of a group that is cut.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    units: NDArray[np.int64]
    gap: NDArray[np.int64]
    extra_tests: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


def split(shards: ShardSet, *, val_share: float, test_share: float, seed: int) -> Split:
    """Split by group: each group goes where its own hash says, so that adding data never moves an old group.

    Groups that the manifest's `blocks` cut are split by block; validation keeps a gap from test structures, since the
    best weights are chosen by it, and training from both.
    Structures the source holds out as "test" are the test set, and then no free group goes there; other held-out
    names are extra test sets.

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

    blocks = shards.manifest.blocks
    units = split_units(shards, blocks)
    # A group that is held out anywhere is trained on nowhere.
    guarded = np.isin(units, np.unique(units[shards.holdout > 0]))
    free = np.flatnonzero((shards.holdout == 0) & ~guarded)
    place = uniform(units[free], seed, _SPLIT_SALT)
    in_val = place < val_share
    in_test = ~in_val & (place < val_share + test_share)
    chosen = {"val": free[in_val], "test": free[in_test], "train": free[~in_val & ~in_test]}
    fell, gaps = {name: len(found) > 0 for name, found in chosen.items()}, []
    judged = np.concatenate([chosen["test"], *held_out.values()])
    for name in ("val", "train"):
        near = near_judged(shards, blocks, judged)[chosen[name]]
        gaps.append(chosen[name][near])
        chosen[name] = chosen[name][~near]
        judged = np.concatenate([judged, chosen[name]])
    gap = np.sort(np.concatenate(gaps))
    for name, share in (("val", val_share), ("test", test_share), ("train", 1.0)):
        if share > 0 and not len(chosen[name]):
            settings = f"data.val_share={val_share}, data.test_share={test_share} and data.split_seed={seed}"
            raise ConfigError(
                f"no {'structure outside of the gaps' if fell[name] else 'group'} of {shards.path} fell to the {name} "
                f"set with {settings}: {_too_few(units[free], blocks)}"
            )
    test = held_out.pop(TEST, None)
    if test is not None and len(test):
        chosen["test"] = test
    return Split(chosen["train"], chosen["val"], chosen["test"], units, gap, held_out)


def _too_few(units: IntArray, blocks: Blocks | None) -> str:
    """Why structures that may be split cannot be, and the ways out."""
    _, sizes = np.unique(units, return_counts=True)
    share = f", {sizes.max() / sizes.sum():.0%} of the structures in the largest" if len(sizes) else ""
    kind = "groups" if blocks is None else "groups and blocks"
    return (
        f"it has only {len(sizes)} free {kind}{share}, and none is divided; change the shares or the seed, or prepare "
        "it again with source.group_block=K (blocks of K consecutive structures; for trajectories), "
        "source.group_key=KEY (where frames are independent, or a key names what belongs together), or more data"
    )


def choose(
    data: DataConfig, shards: ShardSet, labels: Mapping[str, str] = MappingProxyType({})
) -> tuple[Split, IntArray]:
    """Split the data and take the fraction of the training structures; strata are formulas.

    Args:
        labels: those that the loss asks for, each with the setting that does (`TrainConfig.labels`). Structures that
            have none of them are neither trained nor judged on, but for those of extra test sets.

    Raises:
        ConfigError, DataError: if a set would be empty, lack an element on which the run is judged, or a label.
    """
    parts = split(shards, val_share=data.val_share, test_share=data.test_share, seed=data.split_seed)
    _require_labels(shards, labels, {"training": parts.train, "validation": parts.val, "test": parts.test})
    parts = _with_labels(parts, shards, labels)
    if not len(parts.test):
        raise ConfigError(
            f"data.test_share={data.test_share} leaves no test set, and {shards.path} names none: raise it"
        )
    chosen = nested_fraction(
        parts.units[parts.train],
        data.fraction,
        seed=data.split_seed,
        strata=shards.formula[parts.train] + _of_part(shards.source[parts.train]),
        sizes=None if data.fraction_of == "structures" else shards.rows[f"num_{data.fraction_of}"][parts.train],
    )
    train = parts.train[chosen]
    _require_labels(shards, labels, {f"training (data.fraction={data.fraction:g})": train})
    has_energy = shards.has("energy")
    kinds = {"": np.ones(len(has_energy), dtype=bool)}
    if "energy" in labels and not has_energy.all():
        kinds[" that has an energy"] = has_energy  # an element's reference energy comes from such structures alone
    for words, there in kinds.items():
        seen = _elements(shards, train[there[train]])
        for judged in (parts.val, parts.test, *parts.extra_tests.values()):
            _require_elements(shards, seen, judged[there[judged]], words, fraction=data.fraction)
    return parts, train


def _with_labels(parts: Split, shards: ShardSet, labels: Mapping[str, str]) -> Split:
    """The same split without structures that the loss can make nothing of."""
    useful = np.logical_or.reduce([shards.has(label) for label in labels]) if labels else np.ones(len(shards), bool)
    if useful.all():
        return parts
    return replace(
        parts, **{name: getattr(parts, name)[useful[getattr(parts, name)]] for name in ("train", "val", TEST)}
    )


def _require_labels(shards: ShardSet, labels: Mapping[str, str], sets: Mapping[str, IntArray]) -> None:
    """Refuse a loss that asks for a label which no structure of a set has.

    Raises:
        ConfigError: naming the setting that asks, and the way out.
    """
    for label, setting in labels.items():
        there = shards.has(label)
        key = setting.partition("=")[0]
        for name, chosen in sets.items():
            if len(chosen) and not there[chosen].any():
                others = [other for other in LABELS if other != label and shards.has(other)[chosen].any()]
                remedy = f"set {key}=0" if not there.any() else f"set {key}=0, or change the split"
                raise ConfigError(
                    f"{setting} asks for {label}, which no {name} structure of {shards.path} has (they have "
                    f"{' and '.join(others)}); {remedy}"
                )


def _require_elements(
    shards: ShardSet, seen: NDArray[np.bool_], judged: IntArray, words: str, *, fraction: float
) -> None:
    """Refuse a training subset that lacks an element, of any part of a mixed set, on which the run would be judged.

    Args:
        words: what structures must be to be seen, for the error.

    Raises:
        DataError: naming the elements.
    """
    missing = np.argwhere(_elements(shards, judged) & ~seen)
    if len(missing):
        parts, elements = shards.manifest.parts, shards.manifest.elements
        names = ", ".join(f"Z={elements[k]}" + (f" of {parts[p].name}" if len(parts) > 1 else "") for p, k in missing)
        raise DataError(
            f"data.fraction={fraction} leaves no training structure{words} with {names}, which validation or test "
            "structures contain; use a larger fraction or another data.split_seed"
        )


def _of_part(source: IntArray) -> NDArray[np.int64]:
    """A number for each part, 0 for the first: formulas of different parts are different strata."""
    return np.where(source > 0, keyed(source).view(np.int64), 0)


def _elements(shards: ShardSet, structures: IntArray) -> NDArray[np.bool_]:
    """(num_parts, num_elements) which of the manifest's elements occur in which part."""
    occurs = np.zeros((len(shards.manifest.parts), len(shards.manifest.elements)), dtype=bool)
    for some, counts in shards.compositions(structures):
        source = shards.source[some]
        for part in np.unique(source):
            occurs[part] |= (counts[source == part] > 0).any(axis=0)
    return occurs


def nested_fraction(
    groups: IntArray,
    fraction: float,
    *,
    seed: int,
    strata: IntArray | None = None,
    sizes: IntArray | None = None,
) -> NDArray[np.int64]:
    """Pick whole groups until `fraction` of all structures is reached; smaller fractions are subsets of larger ones.

    Within a stratum groups are taken in the order of their hash; strata advance together, so that every fraction has
    about the same mixture of them and the data axis measures size, not composition.

    Args:
        groups: (S,) group id of each training structure.
        fraction: share of the whole, in (0, 1].
        seed: another seed, another order.
        strata: (S,) stratum of each structure, e.g. its formula; None: one for all.
        sizes: (S,) what the share is of, e.g. atoms; None: structures.

    Returns:
        (S',) sorted positions in `groups`.

    Raises:
        ConfigError: if the fraction is outside (0, 1], or picks no group.
    """
    if not 0.0 < fraction <= 1.0:
        raise ConfigError(f"data.fraction={fraction} must be in (0, 1]; use 1.0 for the full set")
    if not len(groups):
        raise ConfigError(f"data.fraction={fraction:g} of an empty training set is empty; lower the other shares")
    ids, first, group_of = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    of_group = np.bincount(group_of, sizes).astype(np.int64)
    stratum = np.zeros(len(ids), np.int64) if strata is None else np.asarray(strata)[first]
    order = _stratified_order(ids, of_group, stratum, seed)
    rank = np.empty(len(ids), np.int64)
    rank[order] = np.arange(len(ids))
    reached = np.concatenate([[0], np.cumsum(of_group[order])])
    target = fraction * reached[-1]
    # Half the next group must fit: the nearest count, and monotone in the target, so that fractions nest.
    num_picked = int(np.searchsorted((reached[:-1] + reached[1:]) / 2, target * (1 + 1e-12), side="right"))
    if num_picked == 0:
        share = of_group[order[0]] / reached[-1]
        raise ConfigError(
            f"data.fraction={fraction:g} picks no group of the {len(group_of)} training structures "
            f"(the first group is a share of {share:.3g}); use at least {share / 2:.6f}"
        )
    return np.flatnonzero(rank[group_of] < num_picked)


def _stratified_order(ids: IntArray, sizes: IntArray, stratum: IntArray, seed: int) -> NDArray[np.int64]:
    """Systematic sampling: a group stands where its stratum's running share, begun at a random phase, has come to."""
    by_hash = np.argsort(keyed(ids, seed, _ORDER_SALT), kind="stable")
    by_stratum = by_hash[np.argsort(stratum[by_hash], kind="stable")]
    names, start, count = np.unique(stratum[by_stratum], return_index=True, return_counts=True)
    ordered = sizes[by_stratum].astype(np.float64)
    before = np.cumsum(ordered) - ordered
    of_stratum = np.repeat(np.arange(len(names)), count)
    total = np.add.reduceat(ordered, start)
    phase = uniform(names, seed, _ORDER_SALT)[of_stratum]
    place = (before - before[start][of_stratum] + phase * ordered) / total[of_stratum]
    return by_stratum[np.argsort(place, kind="stable")]
