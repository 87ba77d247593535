"""Blocks of consecutive structures: training keeps its distance, old ones stay put, others are as before."""

import json
from dataclasses import asdict, replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.config import DataConfig
from scaling.data.blocks import count_blocks, split_units
from scaling.data.manifest import Blocks, CutGroup
from scaling.data.preparation.cutting import UNCORRELATED, SplitConfig, correlations, try_split
from scaling.data.preparation.leaks import leaks_of_splits
from scaling.data.preparation.pipeline import prepare, verify
from scaling.data.shards import ShardSet
from scaling.data.sources.extxyz import Extxyz
from scaling.data.sources.mixed import Mixed
from scaling.data.split import choose, nested_fraction, split
from scaling.errors import ConfigError, DataError
from scaling.structure import Structure

SEEDS = st.integers(0, 2**40)
SHARES = {"val_share": 0.2, "test_share": 0.2}


def grouped(groups, blocks, *, source=None, holdout=None):
    """What a split looks at, without files."""
    groups = np.asarray(groups, dtype=np.int64)
    zeros = np.zeros(len(groups), np.uint8)
    return SimpleNamespace(
        group=groups,
        source=zeros if source is None else np.asarray(source, np.uint8),
        holdout=zeros if holdout is None else np.asarray(holdout, np.uint8),
        manifest=SimpleNamespace(holdouts=("", "test"), blocks=blocks),
        path="data",
        num_structures=len(groups),
    )


def cut_groups(lengths_and_gaps):
    """Blocks of the groups 0, 1, 2, ..."""
    return Blocks(tuple(CutGroup(k, length, gap, None) for k, (length, gap) in enumerate(lengths_and_gaps)), 0)


def trajectory(count, memory, *, seed=0, num_atoms=6, group="one molecule", start=0):
    """Frames whose displacements from a fixed molecule keep the share `memory` of the frame before (0: independent)."""
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(7).permutation(np.stack(np.meshgrid(*[np.arange(2.0)] * 3), -1).reshape(-1, 3))
    base = 1.5 * base[:num_atoms] + np.random.default_rng(8).uniform(-0.2, 0.2, (num_atoms, 3))
    step = rng.normal(0, 0.05, (num_atoms, 3))
    frames = []
    for number in range(count):
        frames.append(
            Structure(
                numbers=np.array([6, 1, 8, 1, 6, 1, 7, 1][:num_atoms]),
                positions=base + step,
                cell=np.zeros((3, 3)),
                pbc=np.zeros(3, dtype=bool),
                energy=float(number),
                forces=rng.normal(size=(num_atoms, 3)),
                group=group,
                record=f"{group}#{number}",
            )
        )
        step = memory * step + np.sqrt(1 - memory**2) * rng.normal(0, 0.05, (num_atoms, 3))
    return frames[start:]


CUTS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 12)), min_size=1, max_size=3)


@given(cuts=CUTS, seed=SEEDS, size=st.integers(100, 300), order=SEEDS)
def test_no_structure_of_one_set_stands_in_the_gap_of_another(cuts, seed, size, order):
    groups = np.random.default_rng(order).integers(0, len(cuts) + 1, size)  # the last group is not cut
    try:
        parts = split(grouped(groups, cut_groups(cuts)), **SHARES, seed=seed)
    except ConfigError:
        return
    together = np.concatenate([parts.train, parts.val, parts.test, parts.gap])
    assert sorted(together) == list(range(size)), "every structure is somewhere, once"
    judged = np.concatenate([parts.val, parts.test])
    for number, (_, gap) in enumerate(cuts):
        place = np.cumsum(groups == number)
        ours = {
            name: place[part[groups[part] == number]]
            for name, part in vars(parts).items()
            if name != "extra_tests" and name != "units"
        }
        marks = place[judged[groups[judged] == number]]
        for name in ("train", "gap"):
            distance = np.abs(ours[name][:, None] - marks).min(axis=1, initial=10**6)
            assert (distance > gap).all() if name == "train" else (distance <= gap).all()
        assert (np.abs(ours["val"][:, None] - ours["test"]) > gap).all()


def test_without_a_gap_training_would_stand_beside_what_is_judged():
    parts = split(grouped([0] * 400, cut_groups([(10, 0)])), **SHARES, seed=0)
    assert not len(parts.gap)
    assert np.abs(parts.train[:, None] - parts.test).min() == 1
    assert np.abs(parts.val[:, None] - parts.test).min() == 1
    kept = split(grouped([0] * 400, cut_groups([(10, 3)])), **SHARES, seed=0)
    assert np.abs(kept.train[:, None] - kept.test).min() == 4
    assert np.abs(kept.train[:, None] - kept.val).min() == 4
    assert np.abs(kept.val[:, None] - kept.test).min() == 4
    assert kept.test.tolist() == parts.test.tolist(), "a gap takes nothing from the test set"


def test_validation_that_stands_in_the_gaps_of_the_test_set_alone_is_refused():
    blocks, shares = cut_groups([(2, 2)]), {"val_share": 0.05, "test_share": 0.8}
    messages = set()
    for seed in range(40):
        try:
            split(grouped([0] * 60, blocks), **shares, seed=seed)
        except ConfigError as error:
            messages.add(str(error).partition(" with ")[0])
    assert "no structure outside of the gaps of data fell to the val set" in messages


@given(cuts=CUTS, seed=SEEDS, old=st.integers(1, 200), new=st.integers(1, 100), order=SEEDS)
def test_structures_added_at_the_end_move_no_old_block(cuts, seed, old, new, order):
    groups = np.random.default_rng(order).integers(0, len(cuts) + 1, old + new)
    blocks = cut_groups(cuts)
    before, after = (split_units(grouped(some, blocks), blocks) for some in (groups[:old], groups))
    assert before.tolist() == after[:old].tolist()
    sets = []
    for some in (groups[:old], groups):
        try:
            sets.append(split(grouped(some, blocks), **SHARES, seed=seed))
        except ConfigError:
            return
    assert set(sets[0].val) <= {*sets[1].val, *sets[1].gap}, "those near a new test block are left out"
    assert set(sets[0].test) <= set(sets[1].test)


def test_group_that_grows_beyond_a_block_keeps_its_first():
    blocks = cut_groups([(5, 1)])
    uncut, cut = split_units(grouped([0] * 5, None), None), split_units(grouped([0] * 12, blocks), blocks)
    assert cut[:5].tolist() == uncut.tolist() == [0] * 5
    assert len(set(cut.tolist())) == count_blocks(grouped([0] * 12, blocks), blocks) == 3
    assert split_units(grouped([7] * 12, blocks), blocks).tolist() == [7] * 12, "others are whole"


@given(cuts=CUTS, seed=SEEDS, fractions=st.lists(st.floats(0.05, 1), min_size=2, max_size=4))
@settings(max_examples=50)
def test_fractions_of_blocks_are_nested_and_whole(cuts, seed, fractions):
    groups = np.arange(400) % (len(cuts) + 1)
    try:
        parts = split(grouped(groups, cut_groups(cuts)), **SHARES, seed=seed)
        picked = [set(nested_fraction(parts.units[parts.train], f, seed=seed).tolist()) for f in sorted(fractions)]
    except ConfigError:
        return
    assert all(smaller <= larger for smaller, larger in pairwise(picked))
    units = parts.units[parts.train]
    for some in picked:
        rows = np.zeros(len(units), dtype=bool)
        rows[list(some)] = True
        assert not set(units[rows]) & set(units[~rows])


def test_longer_file_of_the_same_trajectory_keeps_what_was_judged(prepared):
    frames = trajectory(240, 0.5)
    frames[20] = replace(frames[3], record="again")
    frames[40] = replace(frames[40], energy=np.nan)
    short, long = (prepared(frames[:count], f"{count}", block=4) for count in (150, 240))
    before, after = (split(shards, **SHARES, seed=1) for shards in (short, long))
    assert set(before.test) == {k for k in after.test if k < len(short)}
    assert set(before.val) >= {k for k in after.val if k < len(short)} >= set(before.val) - set(after.gap)


def test_two_parts_of_a_mixed_set_are_cut_at_the_same_places():
    blocks = cut_groups([(4, 2)])
    shards = grouped([0] * 40, blocks, source=[0] * 20 + [1] * 20)
    units = split_units(shards, blocks)
    assert units[:20].tolist() == units[20:].tolist()
    seeds = [seed for seed in range(40) if _splits(shards, seed)]
    for seed in seeds:
        parts = split(shards, **SHARES, seed=seed)
        judged = np.concatenate([parts.val, parts.test])
        assert np.abs(parts.train[:, None] % 20 - judged % 20).min() > 2
    assert seeds


def _splits(shards, seed):
    try:
        split(shards, **SHARES, seed=seed)
    except ConfigError:
        return False
    return True


def test_training_keeps_its_distance_from_what_the_source_holds_out():
    holdout = np.zeros(200)
    holdout[100:105] = 1
    parts = split(grouped([0] * 200, cut_groups([(5, 3)]), holdout=holdout), val_share=0.2, test_share=0.2, seed=0)
    assert parts.test.tolist() == list(range(100, 105))
    assert not set(range(97, 108)) & {*parts.train.tolist(), *parts.val.tolist()}


def test_a_molecule_is_cut_by_itself_and_many_groups_are_not(prepared):
    cut = prepared(trajectory(400, 0.5), "one", block=None)
    assert cut.manifest.num_groups == 1
    assert cut.manifest.blocks.num_blocks > 40
    parts, train = choose(DataConfig(path=str(cut.path)), cut)
    assert all(map(len, (train, parts.val, parts.test, parts.gap)))
    assert verify(cut.path) == cut.manifest
    never = prepared(trajectory(400, 0.5), "never", block=0)
    assert never.manifest.blocks is None
    assert never.manifest.digest != cut.manifest.digest, "another split is another data set"
    frames = [replace(frame, group=f"{k // 20}") for k, frame in enumerate(trajectory(400, 0.5))]
    many, whole = (prepared(frames, f"many {block}", block=block) for block in (None, 0))
    assert many.manifest.blocks is None
    assert many.manifest.digest == whole.manifest.digest


def test_digest_where_nothing_is_cut_is_that_of_before(make_structure, prepared):
    shards = prepared([make_structure(seed) for seed in range(6)], block=None)
    assert shards.manifest.digest == "011cc46122e144560285eb863f4a19956e16efa707b2e639797832c27facd3bf"


def test_one_group_that_dominates_is_cut_and_small_ones_stay_whole(prepared):
    small = [
        replace(f, group=f"small {k}", positions=f.positions * 1.1) for k, f in enumerate(trajectory(60, 0, seed=3))
    ]
    blocks = prepared([*small, *trajectory(400, 0.5)], block=None).manifest.blocks
    assert len(blocks.groups) == 1


@pytest.mark.parametrize("memory", [0.8, 0.95])
def test_correlation_is_that_of_the_process(memory, prepared):
    shards = prepared(trajectory(700, memory))
    (found,) = correlations(shards, np.unique(shards.group))
    for lag in (1, 2, 4, 8, 16):
        assert found[lag] == pytest.approx(memory**lag, abs=0.2)


def test_vibration_that_comes_back_is_not_taken_for_forgotten(prepared):
    """A wave of twelve frames is at its mean after three, and itself again after twelve."""
    move = np.random.default_rng(3).normal(0, 0.1, (6, 3))
    frames = [
        replace(frame, positions=frame.positions + np.sin(2 * np.pi * k / 12) * move)
        for k, frame in enumerate(trajectory(400, 0.0))
    ]
    shards = prepared(frames, block=None)
    (found,) = correlations(shards, np.unique(shards.group))
    assert found[4] < 0.2 < found[1], "or else there would be nothing to be fooled by"
    assert min(found[8], found[32]) > 0.2
    (entry,) = shards.manifest.blocks.groups
    assert entry.gap == entry.length // 2, "as wide as so few frames allow"


def test_shuffled_trajectory_shows_no_correlation(prepared):
    shards = prepared(np.random.default_rng(0).permutation(trajectory(300, 0.95)))
    (found,) = correlations(shards, np.unique(shards.group))
    assert abs(found[1]) < 0.15


def test_slower_trajectories_have_wider_gaps_and_longer_blocks(prepared):
    fast, slow = (
        prepared(trajectory(700, memory), f"{memory}", block=None).manifest.blocks.groups[0] for memory in (0.0, 0.6)
    )
    assert fast.gap == 1
    assert slow.gap in (4, 8), "0.6**2 is 0.36, 0.6**4 is 0.13"
    assert slow.length > fast.length
    assert max(fast.correlation, slow.correlation) < UNCORRELATED


def test_trajectory_that_is_too_slow_is_told(prepared):
    shards = prepared(trajectory(400, 0.995), block=None)
    (entry,) = shards.manifest.blocks.groups
    assert entry.gap == entry.length // 2
    problem, _ = try_split(shards, SplitConfig())
    assert "test errors may flatter" in problem
    assert try_split(prepared(trajectory(400, 0.2), "fast", block=None), SplitConfig())[0] == ""


def test_too_few_structures_are_not_cut_and_the_way_out_is_told(prepared):
    shards = prepared(trajectory(60, 0.5), block=None)
    assert shards.manifest.blocks is None
    problem, _ = try_split(shards, SplitConfig())
    assert "only 1 free groups, 100% of the structures in the largest" in problem
    assert "source.group_block=K" in problem
    assert "source.group_key=KEY" in problem
    with pytest.raises(ConfigError, match=r"only 1 free groups.*source\.group_block=K"):
        choose(DataConfig(path=str(shards.path)), shards)


def test_blocks_that_were_asked_for_must_be_enough(prepared):
    with pytest.raises(ConfigError, match=r"source\.group_block=60 leaves 2 blocks of 120 structures.*use at most 3"):
        prepared(trajectory(120, 0.5), block=60)
    shards = prepared(trajectory(120, 0.5), "fewer", block=3)
    assert {entry.length for entry in shards.manifest.blocks.groups} == {3}
    assert shards.manifest.blocks.num_blocks == 40


def test_negative_blocks_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match=r"source\.group_block=-1 must be"):
        prepare(Extxyz(path="nowhere", group_block=-1), tmp_path / "data", progress=False)


def test_what_was_prepared_before_there_were_blocks_is_known_again(make_structure, listed, prepared, tmp_path):
    many = [make_structure(seed) for seed in range(60)]
    for name, entries in (("many", many), ("one", trajectory(200, 0.5))):
        shards = prepared(entries, name, block=0)
        path = shards.path / "manifest.json"
        old = json.loads(path.read_text())
        assert old.pop("blocks", "") is None
        path.write_text(json.dumps(old))
    assert prepare(listed(many, block=None), tmp_path / "many", progress=False).already
    with pytest.raises(DataError, match=r"not cut and source\.group_block is null.*give source\.group_block=0 to keep"):
        prepare(listed(trajectory(200, 0.5), block=None), tmp_path / "one", progress=False)
    assert prepare(listed(trajectory(200, 0.5), block=0), tmp_path / "one", progress=False).already


def test_cut_sets_are_known_again_by_their_blocks(listed, prepared, tmp_path):
    frames = trajectory(200, 0.5)
    blocks = prepared(frames, "auto", block=None).manifest.blocks
    length = blocks.groups[0].length
    for block in (None, length):
        assert prepare(listed(frames, block=block), tmp_path / "auto", progress=False).already
    for block in (0, 2 * length):
        with pytest.raises(DataError, match=rf"cut into blocks of {length} and .* is {block} here"):
            prepare(listed(frames, block=block), tmp_path / "auto", progress=False)


def test_mixed_set_is_cut_as_its_parts_are(prepared, make_structure, tmp_path):
    one = prepared(trajectory(200, 0.5, group="a"), "one", block=4)
    two = prepared(trajectory(200, 0.9, group="b", num_atoms=5), "two", block=3)
    many = prepared([make_structure(seed) for seed in range(60)], "many", block=None)
    paths = [str(part.path) for part in (one, two, many)]
    prepare(Mixed(paths=paths), tmp_path / "mixed", progress=False)
    mixed = ShardSet(tmp_path / "mixed")
    expected = sorted([*one.manifest.blocks.groups, *two.manifest.blocks.groups], key=lambda entry: entry.group)
    assert list(mixed.manifest.blocks.groups) == expected
    assert mixed.manifest.blocks.num_blocks == one.manifest.blocks.num_blocks + two.manifest.blocks.num_blocks
    parts = split(mixed, **SHARES, seed=0)
    alone = split(one, **SHARES, seed=0)
    assert set(alone.test) == set(parts.test[parts.test < 200]), "a part is split as it is alone"
    assert prepare(Mixed(paths=paths), tmp_path / "mixed", progress=False).already
    low, high = (prepared(trajectory(200, 0.5), name, block=block) for name, block in (("low", 2), ("high", 8)))
    levels = Mixed(paths=[str(low.path), str(high.path)]).group_blocks()
    assert [entry.length for entry in levels.groups] == [8]
    for order in (paths := [str(low.path), str(high.path)]), paths[::-1]:
        gaps = [part.manifest.blocks.groups[0].gap for part in (low, high)]
        assert gaps[0] != gaps[1], "the control"
        assert [entry.gap for entry in Mixed(paths=order).group_blocks().groups] == [max(gaps)]


def test_leaks_tell_a_split_by_block_from_one_by_frame(prepared):
    shards = prepared(trajectory(500, 0.9), block=None)
    found = leaks_of_splits(shards, SplitConfig())
    by_frame, by_block, far = (
        found[name].nearest_ang for name in ("by frame, test", "by block, test", "far apart, test")
    )
    assert by_frame < 0.8 * by_block
    assert by_block == pytest.approx(far, rel=0.1)
    independent = prepared(trajectory(500, 0.0), "independent", block=None)
    found = leaks_of_splits(independent, SplitConfig())
    assert found["by frame, test"].nearest_ang == pytest.approx(found["by block, test"].nearest_ang, rel=0.2)


def test_blocks_come_back_from_the_manifest(prepared):
    shards = prepared(trajectory(200, 0.5), block=None)
    raw = json.loads((shards.path / "manifest.json").read_text())["blocks"]
    assert raw == json.loads(json.dumps(asdict(shards.manifest.blocks)))
    assert ShardSet(shards.path).manifest.blocks == shards.manifest.blocks
