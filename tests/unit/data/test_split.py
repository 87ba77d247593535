"""Groups stay whole, old groups stay put, fractions nest."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.data.split import nested_fraction, split
from scaling.errors import ConfigError

GROUPS = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=60).flatmap(
    lambda ids: st.lists(st.sampled_from(ids), min_size=1, max_size=200)
)
SEEDS = st.integers(0, 2**40)


def some_shards(groups, holdout=None, holdouts=("", "test", "multinary")):
    """What split looks at, without files."""
    groups = np.asarray(groups, dtype=np.int64)
    held_out = np.zeros(len(groups), np.uint8) if holdout is None else np.asarray(holdout, np.uint8)
    return SimpleNamespace(
        group=groups,
        holdout=held_out,
        manifest=SimpleNamespace(holdouts=holdouts, blocks=None),
        path="data",
        num_structures=len(groups),
    )


def many_groups(num_groups=300, seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(-(2**63), 2**63 - 1, num_groups)
    return np.repeat(ids, rng.integers(1, 6, num_groups))


@given(seed=SEEDS)
def test_sets_are_disjoint_whole_groups_and_cover_everything(seed):
    groups = many_groups()
    parts = split(some_shards(groups), val_share=0.2, test_share=0.2, seed=seed)
    together = np.concatenate([parts.train, parts.val, parts.test])
    assert sorted(together) == list(range(len(groups)))
    owners = [set(groups[part]) for part in (parts.train, parts.val, parts.test)]
    assert sum(map(len, owners)) == len(set(groups))
    assert 0.08 < len(parts.val) / len(groups) < 0.35


@given(seed=SEEDS)
def test_adding_a_source_moves_no_old_group(seed):
    old, new = many_groups(300, 0), many_groups(200, 1)
    before = split(some_shards(old), val_share=0.2, test_share=0.2, seed=seed)
    after = split(some_shards(np.concatenate([new, old])), val_share=0.2, test_share=0.2, seed=seed)
    for part in ("train", "val", "test"):
        assert set(getattr(before, part) + len(new)) <= set(getattr(after, part))


def test_another_seed_is_another_split():
    shards = some_shards(many_groups())
    first, same, other = (split(shards, val_share=0.2, test_share=0.2, seed=seed).val for seed in (0, 0, 1))
    assert first.tolist() == same.tolist()
    assert first.tolist() != other.tolist()


def test_held_out_test_set_takes_the_place_of_free_groups():
    groups = many_groups()
    holdout = np.zeros(len(groups))
    holdout[:30], holdout[30:40] = 1, 2
    parts = split(some_shards(groups, holdout), val_share=0.2, test_share=0.2, seed=0)
    assert parts.test.tolist() == list(range(30))
    assert {name: rows.tolist() for name, rows in parts.extra_tests.items()} == {"multinary": list(range(30, 40))}
    assert not set(range(40)) & {*parts.train, *parts.val}
    elsewhere = np.flatnonzero(~np.isin(groups, groups[:40]))
    assert sorted([*parts.train, *parts.val]) == elsewhere.tolist(), "a group held out anywhere is trained on nowhere"


def test_validation_set_is_the_same_with_and_without_a_held_out_test_set():
    groups = many_groups()
    alone = split(some_shards(groups), val_share=0.2, test_share=0.2, seed=0)
    held_out = some_shards(np.concatenate([groups, [1, 2]]), [0] * len(groups) + [1, 1])
    assert split(held_out, val_share=0.2, test_share=0.2, seed=0).val.tolist() == alone.val.tolist()


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.1), (1.0, 0.0), (0.5, 0.5), (float("nan"), 0.1)])
def test_shares_out_of_range_are_refused(val, test):
    with pytest.raises(ConfigError, match=r"data\.val_share"):
        split(some_shards(many_groups()), val_share=val, test_share=test, seed=0)


def test_set_that_no_group_falls_to_is_refused_with_the_number_of_groups():
    with pytest.raises(ConfigError, match=r"val set .* only 1 free groups"):
        split(some_shards([7, 7, 7]), val_share=0.01, test_share=0.0, seed=0)


def test_split_reads_prepared_shards(make_structure, prepared):
    entries = [replace(make_structure(seed), holdout="test" if seed > 50 else "") for seed in range(60)]
    shards = prepared(entries)
    parts = split(shards, val_share=0.3, test_share=0.3, seed=0)
    assert parts.test.tolist() == list(range(51, 60))
    assert len(parts.train) + len(parts.val) == 51


@pytest.mark.parametrize("seed", range(3))
def test_fractions_of_many_groups_are_nested(seed):
    groups = many_groups()
    picked = [set(nested_fraction(groups, fraction, seed=seed)) for fraction in (0.03, 0.1, 0.3, 0.5, 0.7, 1.0)]
    assert all(smaller < larger for smaller, larger in pairwise(picked))


@given(groups=GROUPS, first=st.floats(0.01, 1), second=st.floats(0.01, 1), seed=SEEDS)
def test_smaller_fraction_is_subset_of_larger(groups, first, second, seed):
    picked = []
    for fraction in sorted((first, second)):
        try:
            picked.append(nested_fraction(np.array(groups), fraction, seed=seed))
        except ConfigError:
            picked.append(np.array([], dtype=int))
    assert set(picked[0]) <= set(picked[1])


@given(groups=GROUPS, fraction=st.floats(0.01, 1), seed=SEEDS)
def test_fraction_takes_whole_groups_and_comes_within_half_a_group(groups, fraction, seed):
    groups = np.array(groups)
    try:
        picked = nested_fraction(groups, fraction, seed=seed)
    except ConfigError:
        picked = np.array([], dtype=int)
    assert picked.tolist() == sorted(set(picked))
    assert set(groups[picked]).isdisjoint(np.delete(groups, picked))
    largest = np.unique(groups, return_counts=True)[1].max()
    assert abs(len(picked) - fraction * len(groups)) <= largest / 2 + 1e-6


@given(groups=GROUPS, seed=SEEDS)
def test_full_fraction_is_everything(groups, seed):
    assert nested_fraction(np.array(groups), 1.0, seed=seed).tolist() == list(range(len(groups)))


@given(seed=SEEDS)
def test_fraction_picks_the_same_groups_in_any_order_of_the_structures(seed):
    groups = many_groups(50)
    order = np.random.default_rng(seed).permutation(len(groups))
    picked, shuffled = (nested_fraction(some, 0.3, seed=seed) for some in (groups, groups[order]))
    assert set(groups[picked]) == set(groups[order][shuffled])


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, float("nan")])
def test_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(ConfigError, match=r"data\.fraction=.* must be in \(0, 1\]; use 1\.0 for the full set"):
        nested_fraction(np.array([1, 2]), fraction, seed=0)


def test_fraction_that_picks_nothing_is_refused_with_the_smallest_that_would():
    groups = np.repeat([1, 2, 3], 7)
    with pytest.raises(ConfigError, match=r"picks no group .* use at least (\S+)$") as caught:
        nested_fraction(groups, 0.01, seed=0)
    smallest = float(str(caught.value).split()[-1])
    assert len(nested_fraction(groups, smallest, seed=0)) == 7


def test_empty_training_set_is_refused():
    with pytest.raises(ConfigError, match="empty training set"):
        nested_fraction(np.array([], dtype=np.int64), 0.5, seed=0)


@given(groups=GROUPS, fraction=st.floats(0.2, 1), seed=SEEDS)
def test_fraction_may_be_of_atoms(groups, fraction, seed):
    groups = np.array(groups)
    sizes = 1 + np.arange(len(groups)) % 7
    try:
        picked = nested_fraction(groups, fraction, seed=seed, sizes=sizes)
    except ConfigError:
        return
    largest = np.bincount(np.unique(groups, return_inverse=True)[1], sizes).max()
    assert abs(sizes[picked].sum() - fraction * sizes.sum()) <= largest / 2 + 1e-9
    assert set(groups[picked]).isdisjoint(np.delete(groups, picked))
