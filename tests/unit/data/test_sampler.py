"""Steps are made of the same structures whatever the ranks, the edge budget and the interruptions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scaling.data.loading.sampler import TrainSampler, fill, micro_batches, share_out, stream


def sampler(**changes):
    settings = {
        "structures": np.arange(100, 137),
        "cost": np.random.default_rng(0).integers(5, 60, 137),
        "batch_size": 8,
        "seed": 3,
        "rank": 0,
        "num_ranks": 1,
        "max_edges": 0,
        "start": 0,
        "stop": 12,
    }
    return TrainSampler(**{**settings, **changes})


def structures_of_steps(samplers):
    steps: dict[int, list[int]] = {}
    for one in samplers:
        for batch in one:
            if batch.weight:
                steps.setdefault(batch.step, []).extend(batch.structures)
    return {step: sorted(found) for step, found in steps.items()}


def test_every_epoch_sees_every_structure_once():
    order = stream(37, seed=0, start=0, length=74)
    assert sorted(order[:37]) == sorted(order[37:]) == list(range(37))
    assert list(order[:37]) != list(order[37:]), "shuffled anew"


def test_stream_can_be_entered_anywhere():
    whole = stream(37, seed=0, start=0, length=200)
    np.testing.assert_array_equal(stream(37, seed=0, start=61, length=90), whole[61:151])


@given(num_ranks=st.integers(1, 11), max_edges=st.sampled_from([0, 40, 100]))
def test_steps_hold_the_same_structures_for_any_ranks_and_budget(num_ranks, max_edges):
    ranks = [sampler(rank=r, num_ranks=num_ranks, max_edges=max_edges) for r in range(num_ranks)]
    assert structures_of_steps(ranks) == structures_of_steps([sampler()])


@given(start=st.integers(0, 11))
def test_resuming_gives_the_same_batches(start):
    whole = [batch for batch in sampler(max_edges=70) if batch.step >= start]
    assert list(sampler(max_edges=70, start=start)) == whole


@given(cost=st.lists(st.integers(1, 50), min_size=1, max_size=12), num_ranks=st.integers(1, 6))
def test_every_rank_has_as_many_micro_batches_and_exactly_one_last(cost, num_ranks):
    cost = np.array(cost)
    per_rank = [
        micro_batches(np.arange(len(cost)), cost, step=0, rank=r, num_ranks=num_ranks, max_edges=60)
        for r in range(num_ranks)
    ]
    assert len({len(batches) for batches in per_rank}) == 1
    assert all([b.is_last for b in batches] == [False] * (len(batches) - 1) + [True] for batches in per_rank)


def test_shares_are_balanced_by_cost():
    cost = np.random.default_rng(1).integers(1, 100, 64)
    totals = [cost[share].sum() for share in share_out(cost, 4)]
    assert max(totals) - min(totals) < cost.max()
    assert max(totals) < 1.05 * min(totals)


def test_micro_batches_keep_to_the_edge_budget_unless_one_structure_exceeds_it():
    cost = np.array([30, 80, 10, 20, 250, 5])
    runs = fill(list(range(6)), cost, 100)
    assert [i for run in runs for i in run] == list(range(6))
    assert all(cost[run].sum() <= 100 or len(run) == 1 for run in runs)
